//! What stands between a laptop and its bastion in AWS: each with its own sentence and repair.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Remote, Service, get};

/// An `up` that cannot work says all of these and ends with this code.
#[track_caller]
fn check(remote: &Remote, user: &str, tunnel: &str, code: i32, parts: &[&str]) {
    let service = Service::saying("never");
    let workshop = remote.workshop(user, tunnel, &[("api", service.port)]);
    let done = remote.run(&workshop, &["up", "api", "--no-run"]);
    assert_eq!(done.code(), code, "{done:?}");
    for part in parts {
        assert!(done.err.contains(part), "{part:?} is missing in:\n{}", done.err);
    }
    let open = remote.ssm.open_sessions();
    assert_eq!(open.len(), 0, "{open:?}");
}

#[test]
fn before_anything_is_called() {
    let Some(remote) = Remote::start(&[]) else { return };
    let unfit = "the user name \"1alice\" cannot be used with a bastion in AWS";
    check(&remote, "1alice", "", 3, &[unfit, "begin with a letter", "EPHEMWORK_USER"]);
    assert_eq!(remote.world.count(), 0);
}

#[test]
fn no_bastion_or_none_that_runs() {
    let Some(remote) = Remote::start(&[]) else { return };
    let named = |state: &str| format!("the bastion {} is {state}", remote.id);
    remote.world.aws("ec2", "StopInstances", json!({"InstanceIds": [remote.id]}));
    check(&remote, "carol", "", 5, &[&named("stopped"), "ephemwork bastion init --live"]);
    remote
        .world
        .aws("ec2", "TerminateInstances", json!({"InstanceIds": [remote.id]}));
    check(
        &remote,
        "carol",
        "",
        5,
        &[&named("terminated"), "make another: ephemwork bastion init --live"],
    );
    let none = "there is no bastion for project \"shop\" in us-east-1";
    check(
        &remote,
        "carol",
        "region = \"us-east-1\"",
        5,
        &[none, "ephemwork bastion init"],
    );
}

const SSM: &str = "transport = \"ssm\"";

#[test]
fn a_host_key_that_is_not_published_or_not_its_own() {
    let Some(remote) = Remote::start(&[]) else { return };
    let name = "/ephemwork/shop/host-key";
    remote.world.aws("ssm", "DeleteParameter", json!({"Name": name}));
    check(
        &remote,
        "carol",
        SSM,
        5,
        &["host key is not known", name, "host_key under [tunnel]"],
    );
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wnYcAmzUcRT9dVd7BLhW/0NmeFKfMPoBuAi3B6M0t";
    remote.publish(other);
    let told = [
        "shows another host key",
        "pinned SHA256:",
        name,
        "shown SHA256:",
        "somebody is in between",
    ];
    check(&remote, "carol", SSM, 5, &told);
    assert!(remote.bastion.session("carol:api").is_none());
    remote.publish("nonsense");
    check(
        &remote,
        "carol",
        SSM,
        5,
        &["does not hold a host key", "ephemwork bastion upgrade"],
    );
    // Whoever names the key needs no parameter, and a wrong name is refused.
    let literal = |key: &str| format!("{SSM}\nhost_key = \"{key}\"");
    check(
        &remote,
        "carol",
        &literal(other),
        5,
        &["shows another host key", "tunnel.host_key"],
    );
    let service = Service::saying("named");
    let workshop = remote.workshop("carol", &literal(&remote.host_key()), &[("api", service.port)]);
    let _up = remote.up(&workshop, &["api"]);
}

#[test]
fn the_first_host_key_is_kept_when_asked_for() {
    let Some(remote) = Remote::start(&[]) else { return };
    remote.publish("nonsense");
    let service = Service::saying("first");
    let tunnel = format!("{SSM}\nhost_key = \"accept-new\"");
    let workshop = remote.workshop("carol", &tunnel, &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "first");
    up.signal(Signal::INT);
    up.wait();
    let kept = workshop.home().join("host-keys/shop_eu-west-1");
    assert_eq!(std::fs::read_to_string(&kept).unwrap().trim(), remote.host_key());
    std::fs::write(
        &kept,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wnYcAmzUcRT9dVd7BLhW/0NmeFKfMPoBuAi3B6M0t\n",
    )
    .unwrap();
    let done = remote.run(&workshop, &["up", "api", "--no-run"]);
    assert_eq!(done.code(), 5, "{done:?}");
    assert!(
        done.err.contains("shows another host key") && done.err.contains("host-keys/shop_eu-west-1"),
        "{done:?}"
    );
}

#[test]
fn rights_and_agents() {
    let Some(remote) = Remote::start(&[]) else { return };
    remote.world.agent(&remote.id, "ConnectionLost");
    let causes = [
        "is not connected to Systems Manager",
        "TargetNotConnected",
        "out of memory",
        "VPC endpoints",
        "its role",
    ];
    check(&remote, "carol", SSM, 5, &causes);
    remote.world.agent_online(&remote.id);
    remote.world.deny(&["ssm:StartSession"]);
    let line = "\"Effect\": \"Allow\", \"Action\": \"ssm:StartSession\", \"Resource\": ";
    check(&remote, "carol", SSM, 4, &["no right to ssm:StartSession", line]);
    remote.world.deny(&["ec2-instance-connect:SendSSHPublicKey"]);
    let send = "no right to ec2-instance-connect:SendSSHPublicKey";
    check(&remote, "carol", SSM, 4, &[send, "ec2:osuser", "EPHEMWORK_USER"]);
    remote.world.deny(&["ec2:DescribeInstances"]);
    check(&remote, "carol", SSM, 4, &["no right to ec2:DescribeInstances"]);
    remote.world.deny(&[]);
    let unfit = "The instance is in a state that does not take keys.";
    remote.world.refuse(
        "ec2-instance-connect:SendSSHPublicKey",
        "EC2InstanceStateInvalidException",
        unfit,
        9,
    );
    let told = [
        "EC2 Instance Connect does not take a key for user \"carol\"",
        unfit,
        "ephemwork bastion status",
    ];
    check(&remote, "carol", SSM, 5, &told);
    remote.world.heal();
    remote
        .world
        .refuse("ssm:StartSession", "InvalidDocument", "Document does not exist.", 9);
    check(
        &remote,
        "carol",
        SSM,
        3,
        &[
            "no Session Manager document \"AWS-StartSSHSession\"",
            "document under [tunnel]",
        ],
    );
}

#[test]
fn credentials() {
    let Some(mut remote) = Remote::start(&[]) else { return };
    remote.world.refuse(
        "ec2:DescribeInstances",
        "ExpiredToken",
        "The security token included in the request is expired",
        99,
    );
    check(
        &remote,
        "carol",
        SSM,
        4,
        &["the AWS credentials have expired", "aws sso login"],
    );
    remote.world.heal();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let text = "[profile work]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = dev\nregion = eu-west-1\n\
                [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://acme.awsapps.com/start\n";
    std::fs::write(&file, text).unwrap();
    remote.environment = vec![
        ("AWS_CONFIG_FILE", file.display().to_string()),
        ("AWS_PROFILE", "work".to_owned()),
        ("AWS_ACCESS_KEY_ID", String::new()),
        ("AWS_SECRET_ACCESS_KEY", String::new()),
    ];
    check(
        &remote,
        "carol",
        SSM,
        4,
        &["no SSO session for AWS profile work", "aws sso login --profile work"],
    );
}

#[test]
fn a_key_that_the_instance_does_not_see() {
    let Some(remote) = Remote::start(&[]) else { return };
    remote.world.metadata(json!({"fault": "off"}));
    let told = [
        "does not accept the key that EC2 Instance Connect was given for user \"carol\"",
        "clock",
        "metadata service",
    ];
    check(&remote, "carol", SSM, 5, &told);
    // Each attempt had a session of its own, and all are over.
    assert!(remote.ssm.sessions().len() > 1);
}

#[test]
fn websockets_that_do_not_get_through() {
    let Some(mut remote) = Remote::start(&[]) else { return };
    let proxy = format!("http://{}", remote.ssm.proxy);
    remote.environment = vec![("HTTPS_PROXY", proxy.clone())];
    remote.ssm.admin("proxy", json!({"mode": "refuse"}));
    let told = format!("the proxy {proxy} lets no connection to 127.0.0.1 through");
    check(&remote, "carol", SSM, 5, &[&told, "CONNECT", "NO_PROXY=127.0.0.1"]);
    remote.ssm.admin("proxy", json!({"mode": "strip"}));
    let told = format!("the proxy {proxy} lets no websocket to 127.0.0.1 through");
    check(&remote, "carol", SSM, 5, &[&told, "Upgrade: websocket", "NO_PROXY=127.0.0.1"]);
    // One that does its work is no trouble, and neither is one that is not asked.
    let service = Service::saying("through");
    let workshop = remote.workshop("carol", SSM, &[("api", service.port)]);
    remote.ssm.admin("proxy", json!({"mode": "allow"}));
    drop(remote.up(&workshop, &["api"]));
    remote.ssm.admin("proxy", json!({"mode": "refuse"}));
    remote.environment.push(("NO_PROXY", "127.0.0.1".to_owned()));
    drop(remote.up(&workshop, &["api"]));
    remote.run(&workshop, &["down"]);

    remote.environment.clear();
    remote.ssm.admin("upgrade", json!({"status": 403}));
    let told = [
        "lets no websocket to 127.0.0.1 through",
        "403: Web sockets are not allowed here.",
    ];
    check(&remote, "carol", SSM, 5, &told);
    remote.ssm.admin("upgrade", json!({"status": null}));

    // Session Manager's API is there, and the host of its channels is not.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    remote
        .world
        .stream_url(&format!("wss://{closed}/v1/data-channel/x?role=publish_subscribe"));
    let told = [
        "127.0.0.1 cannot be reached",
        "refused",
        "is this machine online?",
        "firewall must let port 443 of 127.0.0.1 through",
        "HTTPS_PROXY",
    ];
    check(&remote, "carol", SSM, 5, &told);
    remote
        .world
        .stream_url("wss://ssmmessages.invalid/v1/data-channel/x?role=publish_subscribe");
    check(
        &remote,
        "carol",
        SSM,
        5,
        &["ssmmessages.invalid cannot be reached", "port 443"],
    );
    assert!(remote.count("ssm:TerminateSession") >= 4);
}

#[test]
fn endpoints_that_do_not_get_through() {
    let Some(remote) = Remote::start(&[]) else { return };
    const EICE: &str = "transport = \"eice\"";
    check(
        &remote,
        "carol",
        EICE,
        5,
        &["there is no EC2 Instance Connect Endpoint", "ephemwork bastion init --eice"],
    );
    let Some(()) = remote.endpoint() else { return };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    remote
        .ssm
        .admin("instance", json!({"instance": remote.id, "address": closed.to_string()}));
    let told = [
        "does not get through to port 22",
        "Unable to connect to target",
        "security group",
        "init --eice --live",
    ];
    check(&remote, "carol", EICE, 5, &told);
    let refuse = json!({"refuse": {"status": 403, "message": "not allowed to perform OpenTunnel"}});
    remote.ssm.admin("endpoint", refuse);
    check(
        &remote,
        "carol",
        EICE,
        5,
        &[
            "does not open a tunnel",
            "not allowed to perform OpenTunnel",
            "policy developer",
        ],
    );
    // All ways closed: each is told.
    remote.world.agent(&remote.id, "ConnectionLost");
    check(
        &remote,
        "carol",
        "",
        5,
        &["TargetNotConnected", "by eice: ", "not allowed to perform OpenTunnel"],
    );
}
