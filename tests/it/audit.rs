//! Who claimed, took over, gave back and was refused: in the store, in the log, and asked for by an admin.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cloud::{claim, session};
use crate::support::{Bastion, Cloud, Process, Remote, Service, Wire, Workshop, get, library, until};

/// All entries, as the daemon answers them.
#[track_caller]
fn audit(bastion: &Bastion, query: &str) -> Vec<Value> {
    let answer = bastion.admin("GET", &format!("/v1/audit{query}"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    let page: Value = serde_json::from_slice(&answer.body).unwrap();
    page["entries"].as_array().unwrap().clone()
}

/// Events with whose they are.
fn events(entries: &[Value]) -> Vec<String> {
    let text = |entry: &Value| {
        let service = entry["service"].as_str().map(|name| format!(":{name}")).unwrap_or_default();
        format!(
            "{} {}{service}",
            entry["event"].as_str().unwrap(),
            entry["user"].as_str().unwrap()
        )
    };
    entries.iter().map(text).collect()
}

/// `ephemwork bastion audit` on the bastion.
#[track_caller]
fn cli(bastion: &Bastion, arguments: &[&str]) -> crate::support::process::Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    command
        .args(["bastion", "audit", "--control-socket"])
        .arg(bastion.path("state/control.sock"));
    Process::run("bastion audit", command.args(arguments))
}

#[test]
fn what_happens_to_a_tag_is_told_with_what_went_through_it() {
    let bastion = Bastion::local(&[]);
    let (mine, other) = (Service::saying("first"), Service::saying("second"));
    let ssh = bastion.laptop("alice", &[("api", mine.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send(
        "POST /orders?card=4111 HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nAuthorization: Bearer hunter2\r\n\
         Content-Length: 4\r\n\r\nbody",
    );
    assert_eq!(wire.answer("POST").text(), "first");
    let workshop = Workshop::beside(&bastion, "alice", &format!("[service.api]\nport = {}\n", other.port));
    for _ in 0..3 {
        assert_eq!(workshop.run(&["up", "api", "--no-run"]).code(), 6);
    }
    let mut up = workshop.up(&["api"], &["--no-run", "--takeover"]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "second");
    up.signal(Signal::INT);
    up.wait();
    until("the release", || bastion.session("alice:api").is_none().then_some(()));
    drop(ssh);

    let entries = audit(&bastion, "");
    let expected = [
        "claimed alice:api",
        "refused alice:api",
        "took-over alice:api",
        "released alice:api",
        "refused alice:api",
    ];
    assert_eq!(events(&entries), expected, "{entries:#?}");
    let [claimed, refused, took, released, again] = &entries[..] else {
        unreachable!()
    };
    assert_eq!(
        (&claimed["transport"], &claimed["host"]),
        (&json!("openssh"), &json!("openssh@127.0.0.1"))
    );
    assert!(claimed["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{claimed}");
    // Two more alike are one entry.
    assert!(
        refused["why"].as_str().unwrap().contains("held by openssh@127.0.0.1"),
        "{refused}"
    );
    assert_eq!((&refused["times"], &again["times"]), (&Value::Null, &json!(2)));
    assert_eq!(took["from"], "openssh@127.0.0.1");
    assert_eq!(took["used"], json!({"requests": 1, "bytes_in": 4, "bytes_out": 5}));
    assert_eq!(released["used"], json!({"requests": 1, "bytes_in": 0, "bytes_out": 6}));
    assert_eq!(released["transport"], took["transport"]);
    let numbers: Vec<u64> = entries.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted());
    for secret in ["4111", "orders", "hunter2", "Bearer"] {
        assert!(!entries.iter().any(|entry| entry.to_string().contains(secret)), "{secret}");
        assert!(!bastion.process.err().contains(secret), "{secret}");
    }

    // The log has the same, one object a line.
    let told: Vec<Value> = bastion
        .process
        .err()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.split_once(" AUDIT ")?.1).ok())
        .map(|line| line["audit"].clone())
        .collect();
    assert_eq!(told, entries);

    let printed = cli(&bastion, &["--json"]);
    let object: Value = serde_json::from_str(&printed.out).unwrap_or_else(|why| panic!("{why}: {printed:?}"));
    assert_eq!(object, json!({"version": 1, "entries": entries}));
    let lines = cli(&bastion, &["--user", "alice", "--since", "1h"]);
    assert_eq!((lines.code(), lines.out.lines().count()), (0, 5), "{lines:?}");
    let took = lines.out.lines().nth(2).unwrap();
    for part in [
        "took-over",
        "alice:api",
        "from openssh@127.0.0.1",
        "1 request, 4 B in, 5 B out",
    ] {
        assert!(took.contains(part), "{part}: {took}");
    }
    assert_eq!(cli(&bastion, &["--user", "bob"]).out, "");
    assert_eq!(cli(&bastion, &["--since", "2999-01-01"]).out, "");
    for wrong in [&["--since", "yesterday"][..], &["--user", "No Name"]] {
        let done = cli(&bastion, wrong);
        assert_eq!(done.code(), 2, "{done:?}");
    }
    assert_eq!(bastion.admin("GET", "/v1/audit?since=never").status(), 400);
    assert_eq!(bastion.admin("POST", "/v1/audit").status(), 405);
}

#[test]
fn callers_of_aws_are_named_and_strangers_too() {
    let Some(cloud) = Cloud::start(&["--lease", "1"]) else {
        return;
    };
    cloud.push("carol", "carol", &session("carol"));
    assert_eq!(cloud.claim("carol", "carol").unwrap(), "carol:api");
    cloud.push("mallory", "carol", &session("mallory"));
    cloud.claim("carol", "mallory").unwrap_err();
    until("the lease to end", || {
        cloud.bastion.session("carol:api").is_none().then_some(())
    });
    assert_eq!(cloud.cli(&["release", "carol"]).code(), 0);
    let entries = audit(&cloud.bastion, "?user=carol");
    // Whether the lease ended before Mallory came is the machine's business.
    let expected = [
        "name-given carol",
        "claimed carol:api",
        "refused carol",
        "lease-over carol:api",
        "name-freed carol",
    ];
    let all = events(&entries);
    let place = |one: &str| all.iter().position(|found| found == one);
    assert!(all.len() == expected.len(), "{entries:#?}");
    let entries = expected.map(|one| entries[place(one).unwrap_or_else(|| panic!("{one} in {all:?}"))].clone());
    let by = |index: usize| entries[index]["principal"].as_str();
    assert_eq!(by(0), Some(session("carol").as_str()));
    assert_eq!(
        (by(1), &entries[1]["transport"]),
        (Some(session("carol").as_str()), &json!("tcp"))
    );
    assert_eq!(by(2), Some(session("mallory").as_str()));
    assert!(entries[2]["why"].as_str().unwrap().contains("belongs to"), "{}", entries[2]);
    assert_eq!((by(3), &entries[3]["host"]), (None, &json!("laptop")));
    assert_eq!(entries[4]["transport"], "control-socket");
    assert_eq!(entries[4]["from"], session("carol"));
    // A member asks for what is the admins', and that is written down.
    library::run(async {
        let (link, _requests) = cloud.connect("alice", "alice").await.unwrap();
        link.users().await.unwrap_err();
        link.claim(&claim()).await.unwrap();
        link.close().await;
    });
    let entries = audit(&cloud.bastion, "?user=alice");
    assert_eq!(events(&entries)[..2], ["refused alice", "claimed alice:api"]);
    assert!(
        entries[0]["why"].as_str().unwrap().contains("for the bastion's admin"),
        "{}",
        entries[0]
    );
}

#[test]
fn nothing_that_was_answered_is_missing_after_a_kill() {
    let mut bastion = Bastion::lasting(&["--log-format", "journal"]);
    let service = Service::saying("yes");
    let mut ssh = bastion.laptop("alice", &[("api", service.port), ("web", service.port)]);
    bastion.process.kill();
    ssh.kill();
    let log = bastion.process.err();
    let told = log.lines().filter_map(|line| line.strip_prefix("<5>"));
    let told: Vec<Value> = told.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{log}");
    bastion.restart();
    assert_eq!(events(&audit(&bastion, "")), ["claimed alice:api", "claimed alice:web"]);
    // What went through a session is known also when the daemon was restarted in between.
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    bastion.process.signal(Signal::TERM);
    assert_eq!(bastion.process.wait().code(), Some(0));
    ssh.kill();
    bastion.restart();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    let mut wire = Wire::to_file(&bastion.path("state/control.sock")).unwrap();
    let body = r#"{"service": "alice:api"}"#;
    wire.send(format!(
        "POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(wire.answer("POST").status(), 200);
    let entries = audit(&bastion, "");
    let released = entries.last().unwrap();
    assert_eq!(
        (&released["event"], &released["transport"]),
        (&json!("released"), &json!("control-socket"))
    );
    assert_eq!(released["used"], json!({"requests": 2, "bytes_in": 0, "bytes_out": 6}));
    assert_eq!(released["host"], "openssh@127.0.0.1");
}

#[test]
fn an_admin_asks_from_a_laptop() {
    let pattern = "arn:aws:sts::123456789012:assumed-role/Admin/*";
    let Some(mut remote) = Remote::with(&["paced=false"], &["--admin", pattern]) else {
        return;
    };
    let service = Service::saying("carol's");
    let carol = remote.workshop("carol", "", &[("api", service.port)]);
    let up = remote.up(&carol, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "carol's");
    let refused = remote.run(&carol, &["bastion", "audit"]);
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.err.contains("no pattern of its admins fits"), "{refused:?}");

    let boss = "arn:aws:sts::123456789012:assumed-role/Admin/boss";
    remote.world.access_key_of(boss, "AKIABOSS", "the boss's", None);
    remote.environment = vec![
        ("AWS_ACCESS_KEY_ID", "AKIABOSS".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "the boss's".to_owned()),
    ];
    let workshop = remote.workshop("boss", "", &[("api", 9)]);
    let printed = remote.run(&workshop, &["bastion", "audit", "--user", "carol", "--json"]);
    let object: Value = serde_json::from_str(&printed.out).unwrap_or_else(|why| panic!("{why}: {printed:?}"));
    let entries = object["entries"].as_array().unwrap();
    assert_eq!(events(entries), ["name-given carol", "claimed carol:api", "refused carol"]);
    assert_eq!(entries[1]["transport"], "ssm");
    assert!(
        entries[1]["principal"].as_str().unwrap().starts_with("arn:aws:"),
        "{object:#}"
    );
    drop(up);
}
