//! What a program tells of itself at its most talkative, of whole ways to a bastion in AWS: nothing that somebody else could use.

use rustix::process::Signal;

use crate::support::{Remote, Service, aws::ACCESS_KEY, get};

/// What no log may have in it: headers and queries that carry signatures, members of answers that carry tokens, keys.
const NEVER: [&str; 7] = [
    "Signature=",
    "X-Amz-Credential",
    "AWS4-HMAC",
    "TokenValue",
    "token\":",
    "PRIVATE KEY",
    "data-channel/",
];

fn check(said: &str, what: &str) {
    let find = |needle: &str| {
        let at = said.find(needle)?;
        let from = said[..at].char_indices().rev().nth(300).map_or(0, |(index, _)| index);
        Some(said[from..].chars().take(700).collect::<String>())
    };
    for needle in NEVER.into_iter().chain([ACCESS_KEY.1]) {
        if let Some(around) = find(needle) {
            panic!("{needle:?} stands in the log of {what}: {around}");
        }
    }
}

#[test]
fn no_log_level_tells_a_secret() {
    let Some(mut remote) = Remote::start(&[]) else { return };
    let Some(()) = remote.endpoint() else { return };
    remote.environment.push(("EPHEMWORK_LOG", "trace".to_owned()));
    let service = Service::saying("yes");
    for transport in ["ssm", "eice"] {
        let tunnel = format!("transport = \"{transport}\"");
        let workshop = remote.workshop("carol", &tunnel, &[("api", service.port)]);
        let mut up = remote.up(&workshop, &["api"]);
        assert_eq!(get(remote.edge(), "carol:api", "/").text(), "yes");
        up.signal(Signal::TERM);
        assert_eq!(up.wait().code(), Some(0), "{}", up.said());
        let said = up.said();
        assert!(said.contains("TRACE"), "{said}");
        check(&said, &format!("up by {transport}"));
    }
    let doctor = remote.run(
        &remote.workshop("carol", "", &[("api", service.port)]),
        &["doctor", "--transport"],
    );
    check(&format!("{}{}", doctor.out, doctor.err), "doctor");
}
