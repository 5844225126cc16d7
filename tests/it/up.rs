//! `ephemwork up`: what it refuses, what it prints, and how it finds or makes its bastion.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Process, Service, Workshop, get, lasting_address, until};

fn tunnel_to(service: &Service) -> String {
    format!("[service.api]\nport = {}\n", service.port)
}

#[test]
fn every_verb_has_help_with_an_example() {
    let workshop = Workshop::new("alice", "");
    let top = workshop.run(&["--help"]);
    for verb in ["up", "down", "status", "logs", "init", "demo", "completions", "bastiond"] {
        assert!(top.out.contains(&format!("\n  {verb} ")), "{verb}: {top:?}");
        if verb == "bastiond" {
            continue;
        }
        let help = workshop.run(&[verb, "--help"]);
        assert_eq!(help.code(), 0, "{verb}");
        let (_, examples) = help.out.split_once("Examples:\n").unwrap_or_else(|| panic!("{help:?}"));
        assert!(examples.contains(&format!("ephemwork {verb}")), "{help:?}");
    }
    let version = workshop.run(&["--version"]);
    assert!(
        version.out.starts_with("ephemwork ") && version.out.contains("protocol 1"),
        "{version:?}"
    );
    for wrong in [&["upp"][..], &["up", "--tunnel"], &[], &["up", "api", "--restart", "always"]] {
        let done = workshop.run(wrong);
        assert_eq!((done.code(), done.out.as_str()), (2, ""), "{done:?}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_next_step() {
    let check = |services: &str, arguments: &[&str], code: i32, parts: &[&str]| {
        let workshop = Workshop::new("alice", services);
        let done = workshop.run(arguments);
        assert_eq!(done.code(), code, "{done:?}");
        parts
            .iter()
            .for_each(|part| assert!(done.err.contains(part), "{part:?} is missing in {done:?}"));
        assert_eq!(done.out, "", "{done:?}");
    };
    let api = "[service.api]\nport = 8000\n";
    check(
        "",
        &["up", "api"],
        2,
        &["it has no [service.NAME] yet", "write one into", "ephemwork init --stdout"],
    );
    check("", &["up"], 2, &["no service is named", "ephemwork init --stdout"]);
    check(api, &["up"], 2, &["no service is named", "it has: api", "ephemwork up api"]);
    check(
        api,
        &["up", "apj"],
        2,
        &["there is no service \"apj\"", "did you mean: ephemwork up api"],
    );
    check(api, &["up", "a:b"], 2, &["there is no service"]);
    check(api, &["up", "api"], 3, &["has no run_command", "--no-run"]);
    check("[service.api]\nprot = 8000\n", &["up", "api"], 3, &["prot", "port"]);
    check(
        "[service.api]\nport = 8000\nrun_command = \"true\"\nenv_file = \"missing.env\"\n",
        &["up", "api"],
        3,
        &["env_file", "missing.env"],
    );
    check(
        "[service.api]\nport = 8000\nrun_command = \"true\"\nworking_directory = \"missing\"\n",
        &["up", "api"],
        3,
        &["working_directory", "missing"],
    );
}

#[test]
fn missing_files_and_bad_users_are_config_errors() {
    let workshop = Workshop::new("alice", "");
    let file = workshop.project().join("ephemwork.toml");
    std::fs::write(&file, "[service.api]\nport = 8000\n").unwrap();
    let mut command = workshop.command(&["up", "api", "--no-run", "--json"]);
    let bad = Process::run("up", command.env("EPHEMWORK_USER", "Alice"));
    let object: serde_json::Value = serde_json::from_str(&bad.out).unwrap();
    assert_eq!((bad.code(), object["error"]["code"].as_u64()), (3, Some(3)), "{bad:?}");
    assert!(
        object["error"]["why"].as_str().unwrap().contains("'A' at position 1"),
        "{bad:?}"
    );

    std::fs::remove_file(&file).unwrap();
    let none = workshop.run(&["up", "api"]);
    assert_eq!(none.code(), 3, "{none:?}");
    assert!(none.err.contains("ephemwork init"), "{none:?}");
}

#[test]
fn json_is_one_bare_object() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let mut up = workshop.start(&["up", "api", "--no-run", "--json"]);
    up.wait_for("\"ready\"");
    let object: serde_json::Value = until("a whole object", || serde_json::from_str(&up.out()).ok());
    assert_eq!(object["services"][0]["header"], "X-Ephemwork: alice:api");
    assert_eq!(object["url"], format!("http://{}", workshop.edge));
    let twice = workshop.run(&["up", "api", "--no-run", "--json"]);
    let refused: serde_json::Value = serde_json::from_str(&twice.out).unwrap();
    assert_eq!((twice.code(), refused["error"]["code"].as_u64()), (6, Some(6)), "{twice:?}");
    assert!(
        refused["error"]["why"].as_str().unwrap().contains(&up.pid().to_string()),
        "{twice:?}"
    );
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&up.out()).is_ok(), "{}", up.out());
}

#[test]
fn an_output_that_nobody_reads_ends_nothing() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let mut child = workshop
        .command(&["up", "api", "--no-run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    until("the session to serve", || {
        std::net::TcpStream::connect(workshop.edge).ok()?;
        (get(workshop.edge, "alice:api", "/").status() == 200).then_some(())
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[test]
fn the_word_of_a_bastion_that_was_killed_is_not_believed() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let up = workshop.up(&["api"], &["--no-run"]);
    let old = workshop.bastion_pid().unwrap();
    drop(up);
    rustix::process::kill_process(rustix::process::Pid::from_raw(old).unwrap(), Signal::KILL).unwrap();
    let _up = workshop.up(&["api"], &["--no-run"]);
    assert_ne!(workshop.bastion_pid(), Some(old));
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
}

#[test]
fn a_bastion_that_is_told_to_end_is_followed_by_another() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let mut up = workshop.up(&["api"], &["--no-run"]);
    let old = workshop.bastion_pid().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(old).unwrap(), Signal::TERM).unwrap();
    up.wait_for("connected again after");
    assert_ne!(workshop.bastion_pid(), Some(old));
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
}

#[test]
fn an_edge_whose_address_is_taken_is_said_with_its_holder() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let _holder = TcpListener::bind(workshop.edge).unwrap();
    let done = workshop.run(&["up", "api", "--no-run"]);
    assert_eq!(done.code(), 6, "{done:?}");
    assert!(done.err.contains(&workshop.edge.to_string()), "{done:?}");
    assert!(done.err.contains(&format!("process {}", std::process::id())), "{done:?}");
    assert!(done.err.contains("listen ="), "{done:?}");
}

#[test]
fn a_home_with_a_long_path_works() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    let home = workshop.home().join("x".repeat(120));
    let run = |arguments: &[&str]| {
        let mut command = workshop.command(arguments);
        command.env("EPHEMWORK_HOME", &home);
        command
    };
    let mut up = Process::start("up", &mut run(&["up", "api", "--no-run"]));
    up.wait_for("X-Ephemwork: alice:api");
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
    let status = Process::run("status", &mut run(&["status", "--json"]));
    let seen: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(seen["here"][0]["services"][0]["state"], "ready", "{status:?}");
    let down = Process::run("down", &mut run(&["down"]));
    assert_eq!(down.code(), 0, "{down:?}");
    assert_eq!(up.wait().code(), Some(0));
    // This bastion has another home than the workshop's, which ends only its own.
    let pid = i32::try_from(seen["bastions"][0]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
}

#[test]
fn untagged_requests_go_to_the_staging_of_the_last_up() {
    let (service, first, second) = (
        Service::saying("here"),
        Service::saying("staging one"),
        Service::saying("staging two"),
    );
    let workshop = Workshop::new("alice", &tunnel_to(&service));
    for staging in [&first, &second] {
        workshop.write(
            &format!("staging_url = \"http://localhost:{}\"", staging.port),
            &tunnel_to(&service),
        );
        let mut up = workshop.up(&["api"], &["--no-run"]);
        assert_eq!(get(workshop.edge, "alice:api", "/").text(), "here");
        let untagged = crate::support::fetch(workshop.edge, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let expected = if staging.port == first.port {
            "staging one"
        } else {
            "staging two"
        };
        assert_eq!(untagged.text(), expected);
        up.signal(Signal::INT);
        up.wait();
    }
}

#[test]
fn detach_that_fails_says_why_and_with_which_code() {
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!("[service.api]\nport = {port}\nbuild_command = \"echo not today; exit 3\"\nrun_command = \"true\"\n"),
    );
    let done = workshop.run(&["up", "api", "--detach"]);
    assert_eq!(done.code(), 7, "{done:?}");
    let said = done.out + &done.err;
    assert!(
        said.contains("not today") && said.contains("build_command of service api failed"),
        "{said}"
    );
    let json = workshop.run(&["up", "api", "--detach", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&json.out).unwrap_or_else(|why| panic!("{why}: {json:?}"));
    assert_eq!(object["error"]["code"], 7);
    let early = workshop.run(&["up", "web", "-d"]);
    assert_eq!(early.code(), 2, "{early:?}");
    assert!((early.out + &early.err).contains("no service \"web\""));
    workshop.wait_no_orphan();
}

#[test]
fn ctrl_c_while_detaching_ends_both() {
    let port = lasting_address().port();
    let services = format!("[service.api]\nport = {port}\nrun_command = \"echo begun; sleep 600\"\n");
    let workshop = Workshop::new("alice", &services);
    let mut up = workshop.start(&["up", "api", "-d"]);
    up.wait_for("begun");
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130), "{}", up.said());
    workshop.wait_no_orphan();
}
