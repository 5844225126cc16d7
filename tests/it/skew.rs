//! Laptop and bastion of different versions: it works, or one is told which command brings which to the other's version.

use serde_json::{Value, json};

use crate::channels::{Master, call_with};
use crate::support::other::Other;
use crate::support::process::Finished;
use crate::support::{Bastion, LIMIT, Remote, Service};

const UPGRADE: &str = "ephemwork bastion upgrade --live";

/// Words of a decoder, which nobody is to see.
const DECODER: [&str; 4] = ["missing field", "invalid type", "expected value", "at line"];

#[track_caller]
fn check(done: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(done.code(), code, "{done:?}");
    for part in parts {
        assert!(done.err.contains(part), "{part:?} is missing in {done:?}");
    }
    for word in DECODER {
        assert!(!done.err.contains(word), "{word:?} in {done:?}");
    }
}

#[test]
fn up_against_a_bastion_of_another_version() {
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    let other = Other::start();
    remote.ssm.instance(&remote.id, other.address, None);
    remote.publish(&other.host_key);
    let service = Service::saying("yes");
    let workshop = remote.workshop("carol", "", &[("api", service.port)]);
    let up = || remote.run(&workshop, &["up", "api", "--no-run"]);
    let own = ephemwork::protocol::VERSION;

    // An older one, as this release would be to the next: it says nothing but its refusal.
    other.answers(move |path, claim| {
        assert_eq!((path, &claim["protocol"]), ("/v1/claim", &json!(own)));
        let what = format!("this bastion speaks protocol {}, the laptop speaks {own}", own - 1);
        let refusal = json!({"what": what, "hint": "bring the bastion to the laptop's version"});
        (400, None, refusal)
    });
    check(&up(), 3, &["this bastion speaks protocol 0, the laptop speaks 1", UPGRADE]);

    // A newer one that refuses.
    other.answers(move |_, _| {
        let what = format!("this bastion speaks protocol {}, the laptop speaks {own}", own + 1);
        let refusal = json!({"what": what, "hint": "bring the laptop to the bastion's version", "more": [1]});
        (400, Some("2 0.9.0"), refusal)
    });
    let newer = [
        "the laptop speaks 1",
        "in a checkout of ephemwork 0.9.0: cargo install --path .",
    ];
    check(&up(), 3, &newer);

    // A newer one that answers in a form of its own.
    other.answers(|_, _| (200, Some("2 0.9.0 and more"), json!({"session": {"id": 7}})));
    let differs = [
        "the bastion is ephemwork 0.9.0 and speaks protocol 2",
        "ephemwork 0.9.0: cargo install",
    ];
    check(&up(), 3, &differs);
    other.answers(|_, _| (200, Some("0 0.0.9"), json!([])));
    check(&up(), 3, &["the bastion is ephemwork 0.0.9 and speaks protocol 0", UPGRADE]);

    // A newer one whose additions mean nothing to this laptop: it works, whatever it is told.
    other.answers(|path, _| match path {
        "/v1/claim" => {
            let claimed = json!({
                "tag": "carol:api", "token": "t", "lease_seconds": 60, "created": 1, "resumed": false, "region": {"name": "x"},
            });
            (200, Some("1 0.9.0"), claimed)
        }
        "/v1/release" => (200, Some("1 0.9.0"), json!({"released": true, "at": 1})),
        _ => (404, Some("1 0.9.0"), json!({"what": "there is nothing there"})),
    });
    let mut process = remote.up(&workshop, &["api"]);
    other.tell(json!({"event": "lunch", "minutes": 30}));
    assert_eq!(other.told.recv_timeout(LIMIT).unwrap(), 204);
    other.tell(json!({"event": "draining", "because": "lunch"}));
    assert_eq!(other.told.recv_timeout(LIMIT).unwrap(), 204);
    process.wait_for("about to stop");
    process.signal(rustix::process::Signal::INT);
    process.wait();

    // A verb that an older one does not have.
    other.answers(|_, _| (404, None, json!({"what": "there is nothing at \"/v1/audit\""})));
    check(
        &remote.run(&workshop, &["bastion", "audit"]),
        3,
        &["does not know /v1/audit", UPGRADE],
    );
}

#[test]
fn laptops_of_other_versions_against_this_bastion() {
    let bastion = Bastion::start();
    let master = Master::start(&bastion);
    let mut control = master.control();
    let mut stream = 1;
    let mut ask = |method: &str, path: &str, speaks: Option<&str>, body: Value| -> Value {
        let said: Vec<(&str, &str)> = speaks.map(|speaks| ("ephemwork-protocol", speaks)).into_iter().collect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = call_with(&mut control, stream, method, path, &body, &said);
        stream += 2;
        serde_json::from_str(&answer).unwrap_or_else(|why| panic!("{why}: {answer:?}"))
    };
    let whole = json!({"protocol": 1, "service": "api", "host": "test", "version": "0", "lane": 0});
    let refused = |answer: &Value, theirs: u32, whom: &str| {
        assert_eq!(
            answer["what"],
            format!("this bastion speaks protocol 1, the laptop speaks {theirs}"),
            "{answer}"
        );
        assert!(answer["hint"].as_str().unwrap().contains(whom), "{answer}");
        assert!(answer.get("why").is_none(), "{answer}");
    };
    // Newer and older ones, also with claims of another shape, and with other calls.
    let newer = json!({"protocol": 2, "tags": ["api"], "host": {"name": "x"}});
    refused(&ask("POST", "/v1/claim", None, newer.clone()), 2, "bring the bastion");
    refused(&ask("POST", "/v1/claim", Some("2 0.9.0"), newer), 2, "bring the bastion");
    refused(&ask("POST", "/v1/claim", None, json!({"protocol": 0})), 0, "bring the laptop");
    refused(
        &ask("GET", "/v1/sessions", Some("2 0.9.0"), Value::Null),
        2,
        "bring the bastion",
    );
    refused(&ask("GET", "/v1/lunch", Some("2 0.9.0"), Value::Null), 2, "bring the bastion");
    refused(
        &ask("GET", "/v1/sessions", Some("0 0.0.9"), Value::Null),
        0,
        "bring the laptop",
    );
    assert!(bastion.session("alice:api").is_none());
    // What is no claim of any version is told so.
    let nonsense = ask("POST", "/v1/claim", None, json!({"protocol": "one"}));
    assert_eq!(nonsense["what"], "the body is not the JSON of this call");
    // The same version with additions works.
    let mut more = whole.clone();
    more["mood"] = json!({"now": "fine"});
    assert_eq!(ask("POST", "/v1/claim", Some("1 0.1.7 more"), more)["tag"], "alice:api");
    let unknown = ask("GET", "/v1/lunch", Some("1 0.1.7"), Value::Null);
    assert_eq!(unknown["what"], "there is nothing at \"/v1/lunch\"");
    assert!(
        ask("DELETE", "/v1/claim", None, Value::Null)["what"]
            .as_str()
            .unwrap()
            .contains("is not a call")
    );
    // What was refused stands in the audit.
    let audit = bastion.admin("GET", "/v1/audit?user=alice").text();
    assert!(
        audit.contains("the laptop speaks 2") && audit.contains("the laptop speaks 0"),
        "{audit}"
    );
}
