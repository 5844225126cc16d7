//! `ephemwork down` for one service of several, and `logs`.

use crate::support::{Service, Workshop, get, lasting_address, until};

#[test]
fn one_service_of_two_goes_and_the_other_stays() {
    let (api, web) = (Service::saying("api"), Service::saying("web"));
    let services = format!("[service.api]\nport = {}\n[service.web]\nport = {}\n", api.port, web.port);
    let workshop = Workshop::new("alice", &services);
    let mut up = workshop.up(&["api", "web"], &["--no-run"]);
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "api");
    let down = workshop.run(&["down", "api", "nothing"]);
    assert_eq!(down.code(), 0, "{down:?}");
    assert!(
        down.out.contains("api is down")
            && down.out.contains("nothing was not up (")
            && down.out.contains("ephemwork.toml has: api, web)"),
        "{down:?}"
    );
    assert_eq!(get(workshop.edge, "alice:api", "/").status(), 404);
    assert_eq!(get(workshop.edge, "alice:web", "/").text(), "web");
    let status = workshop.run(&["status", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let states: Vec<&str> = object["here"][0]["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["stopped", "ready"], "{status:?}");
    // What it answered is not forgotten with it.
    assert_eq!(object["here"][0]["services"][0]["requests"], 1, "{status:?}");
    // What is down can come up again beside it.
    let _api = workshop.up(&["api"], &["--no-run"]);
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "api");
    let last = workshop.run(&["down", "web", "--json"]);
    let ended: serde_json::Value = serde_json::from_str(&last.out).unwrap();
    assert_eq!(ended["ended"], serde_json::json!(["web"]), "{last:?}");
    assert_eq!(up.wait().code(), Some(0), "{}", up.said());
}

#[test]
fn logs_follow_and_say_what_there_is() {
    let port = lasting_address().port();
    let services = format!(
        "[service.api]\nport = {port}\nrun_command = \"echo first; until [ -e go ]; do sleep 0.05; done; echo second; sleep 600\"\n"
    );
    let workshop = Workshop::new("alice", &services);
    let none = workshop.run(&["logs", "api"]);
    assert_eq!(none.code(), 2, "{none:?}");
    let mut up = workshop.start(&["up", "api"]);
    up.wait_for("first");
    let mut follow = workshop.start(&["logs", "api", "-f"]);
    follow.wait_for("first");
    std::fs::write(workshop.project().join("go"), "").unwrap();
    follow.wait_for("second");
    let other = workshop.run(&["logs", "web"]);
    assert!(other.err.contains("there are logs of api"), "{other:?}");
    let down = workshop.run(&["down"]);
    assert_eq!(down.code(), 0, "{down:?}");
    // It was asked to end before it was ready, which is no failure.
    assert_eq!(until("up to end", || up.ended()).code(), Some(0), "{}", up.said());
}

/// `up -d && curl ...` went on with a service that was not there.
#[test]
fn a_detached_up_that_is_ended_before_it_is_ready_is_no_success() {
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!("[service.api]\nport = {port}\nrun_command = \"echo begun; sleep 600\"\n"),
    );
    let mut up = workshop.start(&["up", "-d", "api"]);
    up.wait_for("begun");
    assert_eq!(workshop.run(&["down"]).code(), 0);
    let up = up.finish();
    assert_eq!(up.code(), 130, "{up:?}");
    assert!(up.err.contains("before everything was ready"), "{up:?}");
}

/// Ctrl-C, and then ten seconds without a word.
#[test]
fn a_slow_end_is_told() {
    let port = lasting_address().port();
    let services = format!(
        "[service.api]\nport = {port}\nstop_timeout_seconds = 3\nrun_command = \"trap '' TERM; echo begun; while :; do sleep 1; done\"\n"
    );
    let workshop = Workshop::new("alice", &services);
    let mut up = workshop.start(&["up", "api"]);
    up.wait_for("begun");
    up.signal(rustix::process::Signal::INT);
    up.wait_for("api: waiting for it to end, 1.");
    let up = up.finish();
    assert_eq!(up.code(), 130, "{up:?}");
    assert!(up.out.contains("it is killed after 3.0 s"), "{up:?}");
}
