//! The double of a tunnel's AWS side behind the AWS gateway: signed calls by boto3 reach it, and its endpoint takes what
//! botocore signs. How it treats clients of data channels is tested in tests/doubles.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};

use crate::aws_gateway::ask;
use crate::support::{Process, Service, Ssm, aws::AwsWorld, need_module, peer, until};

/// An account with one instance whose agent is online at both the gateway and the double.
#[track_caller]
fn world() -> Option<(AwsWorld, Ssm, String)> {
    need_module("boto3")?;
    let (world, staging) = AwsWorld::with_staging()?;
    let parameter = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64";
    let image = world.aws("ssm", "GetParameter", json!({"Name": parameter}));
    let launch = json!({
        "ImageId": image["Parameter"]["Value"], "InstanceType": "t4g.nano", "MinCount": 1, "MaxCount": 1,
        "SubnetId": staging["subnets"][0],
    });
    let made = world.aws("ec2", "RunInstances", launch);
    let id = made["Instances"][0]["InstanceId"].as_str().unwrap().to_owned();
    world.agent_online(&id);
    let ssm = Ssm::start(&world, &[]);
    Some((world, ssm, id))
}

#[test]
fn signed_calls_make_sessions() {
    let Some((world, ssm, id)) = world() else { return };
    let start = json!({
        "Target": id, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["22"]}, "Reason": "a test",
    });
    // The double does not know the instance; then the agent is not there; then both.
    assert_eq!(
        ask(&world, "ssm", "StartSession", &start),
        Err("TargetNotConnected".to_owned())
    );
    let service = Service::saying("here");
    ssm.instance(&id, service.address(), None);
    world.agent(&id, "ConnectionLost");
    assert_eq!(
        ask(&world, "ssm", "StartSession", &start),
        Err("TargetNotConnected".to_owned())
    );
    world.agent_online(&id);
    let made = ask(&world, "ssm", "StartSession", &start).unwrap();
    let session = made["SessionId"].as_str().unwrap();
    let url = format!("wss://{}/v1/data-channel/{session}?role=publish_subscribe", ssm.secure);
    assert_eq!(made["StreamUrl"], url);

    let named = json!({"SessionId": session});
    let again = ask(&world, "ssm", "ResumeSession", &named).unwrap();
    assert_eq!(again["StreamUrl"], url);
    assert!(again["TokenValue"].is_string() && again["TokenValue"] != made["TokenValue"]);
    let sessions = |state: &str, filters: Value| {
        let found = ask(
            &world,
            "ssm",
            "DescribeSessions",
            &json!({"State": state, "Filters": filters}),
        )
        .unwrap();
        let of = |one: &Value| {
            (
                one["SessionId"].as_str().unwrap().to_owned(),
                one["Owner"].as_str().unwrap().to_owned(),
            )
        };
        found["Sessions"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let caller = ask(&world, "sts", "GetCallerIdentity", &json!({})).unwrap()["Arn"]
        .as_str()
        .unwrap()
        .to_owned();
    let mine = json!([{"key": "Owner", "value": caller}]);
    assert_eq!(sessions("Active", mine.clone()), [(session.to_owned(), caller.clone())]);
    assert_eq!(sessions("Active", json!([{"key": "Owner", "value": "arn:other"}])), []);

    ssm.fault(json!({"refuse_resume": true}));
    assert_eq!(ask(&world, "ssm", "ResumeSession", &named), Ok(json!({"SessionId": session})));
    ssm.fault(json!({"refuse_resume": false}));
    assert_eq!(ssm.open_sessions().len(), 1);
    assert_eq!(ask(&world, "ssm", "TerminateSession", &named), Ok(named.clone()));
    assert_eq!(ssm.open_sessions().len(), 0);
    assert_eq!(ask(&world, "ssm", "ResumeSession", &named), Ok(named.clone()));
    assert_eq!(
        (sessions("Active", mine.clone()), sessions("History", mine).len()),
        (vec![], 1)
    );
    let unknown = json!({"SessionId": "alice-0123456789abcdef0"});
    assert_eq!(
        ask(&world, "ssm", "ResumeSession", &unknown),
        Err("DoesNotExistException".to_owned())
    );

    // The gateway's own refusals and faults come before the double.
    world.deny(&["ssm:StartSession"]);
    assert_eq!(
        ask(&world, "ssm", "StartSession", &start),
        Err("AccessDeniedException".to_owned())
    );
    world.refuse("ssm:ResumeSession", "ThrottlingException", "Rate exceeded", 1);
    assert_eq!(
        ask(&world, "ssm", "ResumeSession", &named),
        Err("ThrottlingException".to_owned())
    );
    assert_eq!(ssm.sessions().len(), 1);
}

/// The endpoint's websocket by botocore: what it says for "hello" to a port that echoes.
#[track_caller]
fn tunnel(ssm: &Ssm, secure: SocketAddr, changes: &[&str]) -> String {
    let python = need_module("boto3").unwrap();
    let mut command = Command::new(python);
    command.arg(peer("aws/selftest/tunnel.py")).arg(secure.to_string());
    command.arg(ssm.authority()).arg("hello").args(changes);
    let finished = Process::run("tunnel.py", &mut command);
    assert!(finished.status.success(), "{}", finished.err);
    finished.out.trim().to_owned()
}

#[test]
fn presigned_tunnels() {
    let Some((_world, ssm, id)) = world() else { return };
    let echo = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            let mut to = stream.try_clone().unwrap();
            // A tunnel that ends ends it.
            std::io::copy(&mut { stream }, &mut to).ok();
        }
    });
    ssm.instance(&id, address, Some("10.0.0.5".parse().unwrap()));
    assert_eq!(tunnel(&ssm, ssm.secure, &[]), "hello");
    assert_eq!(tunnel(&ssm, ssm.secure, &["maxTunnelDuration"]), "hello");
    assert_eq!(ssm.violations(), Vec::<String>::new());

    let check = |changes: &[&str], expected: &str, violation: bool| {
        let said = tunnel(&ssm, ssm.secure, changes);
        assert!(said.starts_with("40") && said.contains(expected), "{changes:?}: {said}");
        assert_eq!(ssm.forgive().len(), usize::from(violation), "{changes:?}");
    };
    check(&["secret=other"], "signature we calculated does not match", true);
    check(&["remotePort=23"], "remotePort is", true);
    check(&["instanceConnectEndpointId=eice-1"], "instanceConnectEndpointId is", true);
    check(&["maxTunnelDuration=3601"], "not 1 to 3600", true);
    check(&["more=1"], "a parameter", true);
    check(&["privateIpAddress"], "privateIpAddress is missing", true);
    check(&["privateIpAddress=10.0.0.6"], "is not reachable", false);
    ssm.admin(
        "endpoint",
        json!({"refuse": {"status": 403, "message": "not allowed to perform OpenTunnel"}}),
    );
    check(&[], "not allowed to perform", false);
    ssm.admin("endpoint", json!({"refuse": null}));

    // Inside a tunnel.
    for (change, expected) in [
        ("opcode=1", "close 1003 a text message"),
        ("size=65001", "close 1009 a message of more"),
    ] {
        let said = tunnel(&ssm, ssm.secure, &[change]);
        assert!(said.starts_with(expected), "{change}: {said}");
        assert_eq!(ssm.forgive().len(), 1, "{change}");
    }
    // With an hour of 1.2 s a second is a third of a millisecond; an echo may still be quicker.
    ssm.settings(json!({"hour_ms": 1200}));
    until("a tunnel ends when its time is over", || {
        (tunnel(&ssm, ssm.secure, &["maxTunnelDuration=1"]) == "reset").then_some(())
    });

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    ssm.instance(&id, closed, None);
    assert_eq!(tunnel(&ssm, ssm.secure, &[]), "close 1011 Unable to connect to target");
    let tunnels = ssm.admin("tunnels", json!({}));
    let ends: Vec<&str> = tunnels
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["over"].as_str().unwrap_or("open"))
        .collect();
    assert_eq!(
        ends[ends.len() - 2..],
        ["maxTunnelDuration is over", "the target refused"],
        "{ends:?}"
    );
}
