//! `type = "ec2"`: a whole `up` through the doubles of AWS, by each transport, with every way out.

use rustix::process::Signal;

use crate::support::{Remote, Service, get, until};

#[test]
fn requests_come_through_session_manager_and_nothing_is_left() {
    let Some(remote) = Remote::start(&[]) else { return };
    let service = Service::saying("the laptop's");
    let workshop = remote.workshop("carol", "", &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "the laptop's");
    let said = up.said();
    assert!(
        said.contains(&format!("ssm: Session Manager, {} in eu-west-1", remote.id)),
        "{said}"
    );
    let open = remote.ssm.open_sessions();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0]["document"], "AWS-StartSSHSession");
    assert_eq!(remote.count("ec2-instance-connect:SendSSHPublicKey"), 1);
    let status = remote.run(&workshop, &["status"]);
    assert!(
        status.out.contains("carol:api") && status.out.contains("Session Manager"),
        "{status:?}"
    );

    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130), "{}", up.said());
    assert_eq!(remote.ssm.open_sessions().len(), 0);
    assert!(remote.bastion.session("carol:api").is_none(), "the tag was not given back");
}

#[test]
fn tcp_for_who_is_in_the_vpn() {
    let Some(remote) = Remote::start(&[]) else { return };
    let service = Service::saying("by tcp");
    let tunnel = format!(
        "transport = \"tcp\"\nhost = \"{}\"\nport = {}",
        remote.bastion.ssh.ip(),
        remote.bastion.ssh.port()
    );
    let workshop = remote.workshop("carol", &tunnel, &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "by tcp");
    assert_eq!(remote.count("ssm:StartSession"), 0);
    assert_eq!(remote.run(&workshop, &["down"]).code(), 0);
    assert_eq!(up.wait().code(), Some(0), "{}", up.said());
}

#[test]
fn what_a_killed_up_left_is_ended_by_a_later_run() {
    let Some(remote) = Remote::start(&[]) else { return };
    let service = Service::saying("yes");
    let workshop = remote.workshop("carol", "", &[("api", service.port)]);
    for verb in ["status", "down", "up"] {
        let mut up = remote.up(&workshop, &["api"]);
        let left = remote.ssm.open_sessions();
        assert_eq!(left.len(), 1, "{left:?}");
        up.kill();
        let id = left[0]["id"].as_str().unwrap().to_owned();
        if verb == "up" {
            let mut next = remote.up(&workshop, &["api"]);
            until("the left session to end", || {
                remote
                    .ssm
                    .open_sessions()
                    .iter()
                    .all(|session| session["id"] != id.as_str())
                    .then_some(())
            });
            next.signal(Signal::TERM);
            assert_eq!(next.wait().code(), Some(0), "{}", next.said());
        } else {
            let done = remote.run(&workshop, &[verb]);
            assert!(done.err.contains(&format!("ended session {id}")), "{done:?}");
        }
        assert_eq!(remote.ssm.open_sessions().len(), 0, "after {verb}");
    }
}

#[test]
fn another_way_is_taken_when_the_first_does_not_lead_there() {
    let Some(remote) = Remote::start(&[]) else { return };
    let Some(()) = remote.endpoint() else { return };
    remote.world.agent(&remote.id, "ConnectionLost");
    let service = Service::saying("by the endpoint");
    let workshop = remote.workshop("carol", "", &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "by the endpoint");
    let said = up.said();
    for part in [
        "ssm: the agent of the bastion",
        "TargetNotConnected",
        "is reached by eice instead",
        "eice: EC2 Instance Connect Endpoint",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130));
}

#[test]
fn doctor_measures_every_way() {
    let Some(remote) = Remote::start(&[]) else { return };
    let workshop = remote.workshop("carol", "", &[("api", 9)]);
    let done = remote.run(&workshop, &["doctor", "--transport", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_else(|why| panic!("{why}: {done:?}"));
    let line = |name: &str| {
        let all = object["checks"].as_array().unwrap();
        all.iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("{object:#}"))
            .clone()
    };
    let ssm = line("ssm");
    assert_eq!(ssm["grade"], "ok", "{ssm}");
    let what = ssm["what"].as_str().unwrap();
    assert!(
        what.contains("connected in") && what.contains("round trip") && what.contains("MB/s down"),
        "{what}"
    );
    let eice = line("eice");
    assert_eq!(eice["grade"], "warn", "{eice}");
    assert!(
        eice["what"].as_str().unwrap().contains("no EC2 Instance Connect Endpoint"),
        "{eice}"
    );
    assert_eq!(remote.ssm.open_sessions().len(), 0);
}

#[test]
fn bastion_status_lists_who_is_there() {
    let Some(remote) = Remote::start(&[]) else { return };
    let service = Service::saying("yes");
    let workshop = remote.workshop("carol", "", &[("api", service.port)]);
    let _up = remote.up(&workshop, &["api"]);
    let status = remote.run(&workshop, &["bastion", "status"]);
    assert_eq!(status.code(), 0, "{status:?}");
    assert!(status.out.contains("carol:api: 1 lane from"), "{}", status.out);
    remote.world.agent(&remote.id, "ConnectionLost");
    let status = remote.run(&workshop, &["bastion", "status", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert!(object["sessions"].is_null(), "{object:#}");
    assert!(
        object["sessions_unknown"]
            .as_str()
            .unwrap()
            .contains("is not connected to Systems Manager"),
        "{object:#}"
    );
}
