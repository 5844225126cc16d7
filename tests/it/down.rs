//! `ephemwork down` for one service of several, and `logs`.

use crate::support::{Service, Workshop, get, lasting_address, until};

#[test]
fn one_service_of_two_goes_and_the_other_stays() {
    let (api, web) = (Service::saying("api"), Service::saying("web"));
    let services = format!("[service.api]\nport = {}\n[service.web]\nport = {}\n", api.port, web.port);
    let workshop = Workshop::new("alice", &services);
    let mut up = workshop.up(&["api", "web"], &["--no-run"]);
    let down = workshop.run(&["down", "api", "nothing"]);
    assert_eq!(down.code(), 0, "{down:?}");
    assert!(
        down.out.contains("api is down") && down.out.contains("nothing was not up"),
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
