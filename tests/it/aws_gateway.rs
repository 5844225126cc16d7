//! The gateway in front of moto, by boto3: what AWS takes it takes, what AWS refuses it refuses, and it fails as asked.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Process,
    aws::{ACCESS_KEY, AwsWorld, Fault},
    need_module, peer, until_within,
};

/// Runs one self-test of the gateway against a world of its own.
#[track_caller]
fn selftest(name: &str) {
    let Some(python) = need_module("boto3") else { return };
    let Some(world) = AwsWorld::start() else { return };
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(peer(&format!("aws/selftest/{name}.py")))
        .arg(world.url());
    let mut test = Process::start(name, &mut command);
    let limit = std::time::Duration::from_secs(120);
    until_within(limit, "the self-test to end", || test.ended());
    let finished = test.finish();
    assert!(
        finished.status.success() && finished.out.ends_with("all\n"),
        "{name}: {}\n{}{}",
        finished.status,
        finished.out,
        finished.err
    );
}

#[test]
fn accepts_what_boto3_sends() {
    selftest("accepts");
}

#[test]
fn refuses_what_aws_would_refuse() {
    selftest("refuses");
}

#[test]
fn has_the_habits_of_aws() {
    selftest("habits");
}

/// One call by boto3 with one try: its answer, or AWS's error code, or the name of botocore's own error.
#[track_caller]
pub(crate) fn ask(world: &AwsWorld, service: &str, operation: &str, params: &Value) -> Result<Value, String> {
    let python = need_module("boto3").unwrap();
    let mut command = Command::new(python);
    command.arg(peer("aws/selftest/ask.py")).arg(world.url());
    command.args([service, operation, &params.to_string()]);
    let finished = Process::run("ask", &mut command);
    match finished.status.success() {
        true => Ok(serde_json::from_str(&finished.out).unwrap()),
        false => Err(finished.err.trim().to_owned()),
    }
}

/// The harness itself: what a test says to a world is what its client meets.
#[test]
fn a_world_does_as_it_is_told() {
    let Some((world, staging)) = AwsWorld::with_staging() else {
        return;
    };
    assert_eq!(world.environment()[0], ("AWS_ENDPOINT_URL", world.url()));
    let before = world.inventory();
    let nothing = json!({});

    let vpcs = ask(&world, "ec2", "DescribeVpcs", &nothing).unwrap();
    assert_eq!(vpcs["Vpcs"][0]["VpcId"], staging["vpc"]);
    assert_eq!(world.count(), 1);
    let group = json!({"GroupName": "g", "Description": "d", "VpcId": staging["vpc"]});

    for fault in Fault::ALL {
        let expected = match fault {
            Fault::Http500 => "InternalError",
            Fault::Throttle => "RequestLimitExceeded",
            Fault::CutBefore | Fault::CutAfter => "ConnectionClosedError",
            Fault::CutInAnswer => "ResponseParserError",
        };
        let done = matches!(fault, Fault::CutAfter | Fault::CutInAnswer);
        world.fail_from(0, fault);
        assert_eq!(ask(&world, "ec2", "CreateSecurityGroup", &group).unwrap_err(), expected);
        world.heal();
        assert_eq!(world.inventory() != before, done, "{fault:?}");
        if done {
            let named = json!({"Filters": [{"Name": "group-name", "Values": ["g"]}]});
            let found = world.aws("ec2", "DescribeSecurityGroups", named);
            let id = &found["SecurityGroups"][0]["GroupId"];
            world.aws("ec2", "DeleteSecurityGroup", json!({"GroupId": id}));
        }
    }
    world.fail_some(1, 1, Fault::Http500);
    let outcomes = [(); 3].map(|()| ask(&world, "ec2", "DescribeVpcs", &nothing).is_ok());
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(world.inventory(), before);

    world.deny(&["ec2:DescribeVpcs"]);
    let denied = ask(&world, "ec2", "DescribeVpcs", &nothing).unwrap_err();
    assert_eq!(denied, "UnauthorizedOperation");
    world.deny(&[]);
    world.refuse("ec2:DescribeVpcs", "Odd", "never seen", 1);
    assert_eq!(ask(&world, "ec2", "DescribeVpcs", &nothing).unwrap_err(), "Odd");
    assert!(ask(&world, "ec2", "DescribeVpcs", &nothing).is_ok());

    let calls = world.calls();
    assert_eq!(calls.len() as u64, world.count());
    assert_eq!(
        (calls[0].name.as_str(), calls[0].outcome.as_str()),
        ("ec2:DescribeVpcs", "200")
    );
    assert_eq!(calls[1].params, group);
    let codes: Vec<_> = calls[1..=5].iter().map(|call| call.outcome.as_str()).collect();
    assert_eq!(
        codes,
        ["InternalError", "RequestLimitExceeded", "cut", "cut", "cut in the answer"]
    );

    world.reset();
    assert_eq!((world.count(), world.calls().len()), (0, 0));
}

/// What a test says of the things that moto knows nothing about.
#[test]
fn a_world_tells_what_the_test_said() {
    let Some((world, staging)) = AwsWorld::with_staging() else {
        return;
    };
    let parameter = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64";
    let image = world.aws("ssm", "GetParameter", json!({"Name": parameter}));
    let launch = json!({
        "ImageId": image["Parameter"]["Value"], "InstanceType": "t4g.nano", "MinCount": 1, "MaxCount": 1,
        "SubnetId": staging["subnets"][0], "SecurityGroupIds": [staging["app_group"]],
    });
    let made = world.aws("ec2", "RunInstances", launch);
    let instance = made["Instances"][0]["InstanceId"].as_str().unwrap();
    let one = json!({"InstanceId": instance});

    world.console(instance, "ephemwork: wrong digest");
    let console = ask(&world, "ec2", "GetConsoleOutput", &one).unwrap();
    assert_eq!(console["Output"], "ephemwork: wrong digest");

    let ping = || ask(&world, "ssm", "DescribeInstanceInformation", &json!({})).unwrap()["InstanceInformationList"].take();
    assert_eq!(ping(), json!([]), "an instance without a profile has no agent");
    world.agent(instance, "ConnectionLost");
    assert_eq!(ping()[0]["PingStatus"], "ConnectionLost");
    world.agent_online(instance);
    assert_eq!(ping()[0]["PingStatus"], "Online");

    world.stream_url("ws://127.0.0.1:1/data-channel");
    let session = ask(&world, "ssm", "StartSession", &json!({"Target": instance})).unwrap();
    assert_eq!(session["StreamUrl"], "ws://127.0.0.1:1/data-channel");

    let group = &staging["target_group"];
    let targets = json!({"TargetGroupArn": group, "Targets": [{"Id": "10.20.0.7"}]});
    world.aws("elbv2", "RegisterTargets", targets);
    world.target_health("10.20.0.7", "unhealthy", Some("Target.Timeout"));
    let health = ask(&world, "elbv2", "DescribeTargetHealth", &json!({"TargetGroupArn": group})).unwrap();
    assert_eq!(
        health["TargetHealthDescriptions"][0]["TargetHealth"],
        json!({"State": "unhealthy", "Reason": "Target.Timeout"})
    );

    // A key that AWS does not know is a violation, which this test means.
    world.access_key(ACCESS_KEY.0, "another secret", None);
    assert_eq!(ask(&world, "ec2", "DescribeVpcs", &json!({})).unwrap_err(), "AuthFailure");
    assert_eq!(world.violations().len(), 1);
    assert!(world.forgive()[0].contains("signature"));
    world.access_key(ACCESS_KEY.0, ACCESS_KEY.1, None);

    world.tiresome();
    let outcomes: Vec<_> = (0..7).map(|_| ask(&world, "ec2", "DescribeVpcs", &json!({}))).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
}

#[test]
#[should_panic(expected = "requests that AWS would not take")]
fn a_world_that_saw_a_wrong_request_fails_its_test() {
    let Some(world) = AwsWorld::start() else {
        panic!("requests that AWS would not take cannot be sent")
    };
    let parameters = json!({"TargetGroupArn": "arn", "Targets": [{"Id": "x", "Port": 70000}]});
    ask(&world, "elbv2", "RegisterTargets", &parameters).unwrap_err();
}
