//! `ephemwork bastion` against an account: dry, live, again, upgraded, removed; and what a platform engineer reads meanwhile.

use serde_json::{Value, json};

use crate::support::Engineer;
use crate::support::engineer::difference;

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    let Some(engineer) = Engineer::start() else { return };
    let before = engineer.exact();
    let told = engineer.works(&["init", "--verbose"]);
    for part in [
        "To do: 14 changes",
        "create the IAM role ephemwork-shop-bastion-eu-west-1",
        "| #!/bin/bash",
        "\"s3:GetObject\"",
        "cost a month: about 3.71 USD",
        "iam:PassRole",
        "to undo all of it: ephemwork bastion destroy --live",
        "nothing was changed. To do it: ephemwork bastion init --live",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let object: Value = serde_json::from_str(&engineer.works(&["init", "--json"])).unwrap();
    assert_eq!(object["changed"], false);
    assert_eq!(object["account"], "123456789012");
    assert_eq!(
        object["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|step| step["changes"] == true)
            .count(),
        14
    );
    assert!(object["rights"]["ec2:RunInstances"].is_array());
    assert!(object["steps"][0].get("documents").is_none());
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
    let calls = engineer.world.calls();
    let reads = |name: &str| {
        ["Describe", "Get", "List", "Head"]
            .iter()
            .any(|verb| name.split(':').nth(1).unwrap().starts_with(verb))
    };
    assert!(calls.iter().all(|call| reads(&call.name)), "{calls:?}");
}

#[test]
fn live_again_upgraded_and_removed_without_a_trace() {
    let Some(engineer) = Engineer::start() else { return };
    let before = engineer.exact();
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(told.contains("done: the bastion is i-"), "{told}");
    is_as_the_issue_says(&engineer);
    let whole = engineer.account();

    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(told.contains("nothing to do: the bastion is as it should be"), "{told}");
    assert_eq!(difference(&whole, &engineer.account()), [""; 0]);
    let told = engineer.works(&["upgrade", "--live", "--yes"]);
    assert!(
        told.contains("nothing to do: the bastion is of the newest binary and image"),
        "{told}"
    );

    let old = engineer.instances()[0]["InstanceId"].clone();
    engineer.upload("another", "arm64");
    let told = engineer.works(&["init"]);
    assert!(told.contains("is another binary than"), "{told}");
    let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
    assert_eq!(status["drift"], json!([]));
    assert!(status["newer"][0].as_str().unwrap().contains("the binary s3://"), "{status}");
    assert_eq!(status["instances"][0]["target"], "healthy");
    assert_eq!(status["instances"][0]["agent"], "Online");
    engineer.works(&["upgrade", "--live", "--yes"]);
    let now = engineer.instances();
    assert_eq!(now.len(), 1);
    assert_ne!(now[0]["InstanceId"], old);
    is_as_the_issue_says(&engineer);
    // The user data names the other digest.
    let others = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| !line.contains(".UserData = "))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(difference(&others(&whole), &others(&engineer.account())), [""; 0]);

    let told = engineer.works(&["destroy"]);
    assert!(told.contains("nothing was changed"), "{told}");
    assert_eq!(engineer.instances().len(), 1);
    let told = engineer.works(&["destroy", "--live", "--yes"]);
    assert!(
        told.contains("nothing is left; looked for listener rules, target groups"),
        "{told}"
    );
    engineer.upload("a binary", "arm64");
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
    let told = engineer.works(&["destroy", "--live", "--yes"]);
    assert!(told.contains("nothing to do"), "{told}");

    // EC2 still knows the token of the instance that was terminated; a new bastion needs a new one.
    engineer.works(&["init", "--live", "--yes", "--json"]);
    is_as_the_issue_says(&engineer);
}

/// The second section of what a bastion is, looked at from outside.
#[track_caller]
fn is_as_the_issue_says(engineer: &Engineer) {
    let instances = engineer.instances();
    assert_eq!(instances.len(), 1);
    let (instance, inventory) = (&instances[0], engineer.world.inventory());
    assert_eq!(instance["InstanceType"], "t4g.nano");
    assert_eq!(instance["MetadataOptions"]["HttpTokens"], "required");
    assert_eq!(instance["MetadataOptions"]["HttpPutResponseHopLimit"], 1);
    assert!(
        instance.get("KeyName").is_none_or(|key| key.is_null() || key == ""),
        "{instance}"
    );
    assert!(instance.get("PublicIpAddress").is_none_or(Value::is_null), "{instance}");
    let text = inventory.to_string();
    for tag in ["ephemwork:project", "ephemwork:component", "ManagedBy"] {
        assert!(instance["Tags"].to_string().contains(tag) && text.contains(tag));
    }
    let id = instance["InstanceId"].as_str().unwrap();
    let volumes = inventory["volumes"].as_object().unwrap().values();
    let own: Vec<&Value> = volumes
        .filter(|volume| volume["Attachments"].to_string().contains(id))
        .collect();
    assert_eq!(own.len(), 1);
    assert_eq!((&own[0]["Encrypted"], &own[0]["VolumeType"]), (&json!(true), &json!("gp3")));
    let groups = inventory["security_groups"].as_object().unwrap();
    let group = groups
        .values()
        .find(|group| group["GroupName"] == "ephemwork-shop-bastion")
        .unwrap();
    let inbound = group["IpPermissions"].as_array().unwrap();
    assert_eq!(inbound.len(), 1);
    assert_eq!((&inbound[0]["FromPort"], &inbound[0]["ToPort"]), (&json!(80), &json!(80)));
    assert_eq!(inbound[0]["UserIdGroupPairs"][0]["GroupId"], engineer.id("alb_group"));
    assert_eq!(inbound[0]["IpRanges"], json!([]));
    let key = &inventory["parameters"]["/ephemwork/shop/host-key"];
    assert!(key.to_string().contains(&format!("ssh-ed25519 {id}")), "{key}");
}

#[test]
fn with_aws_at_its_most_tiresome() {
    let Some(engineer) = Engineer::start() else { return };
    let before = engineer.exact();
    engineer.world.tiresome();
    let patient = |arguments: &[&str]| {
        let all: Vec<&str> = ["bastion"].iter().chain(arguments).copied().collect();
        let mut command = engineer.command(&all);
        let finished = crate::support::Process::start("bastion", command.env("AWS_MAX_ATTEMPTS", "5"))
            .finish_within(std::time::Duration::from_secs(240));
        assert_eq!(finished.code(), 0, "{arguments:?}\n{}\n{}", finished.out, finished.err);
        finished.out
    };
    patient(&["init", "--live", "--yes", "--eice"]);
    assert!(patient(&["init", "--live", "--yes"]).contains("nothing to do"));
    engineer.upload("another", "arm64");
    patient(&["upgrade", "--live", "--yes"]);
    patient(&["destroy", "--live", "--yes"]);
    engineer.upload("a binary", "arm64");
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}

#[test]
fn an_endpoint_of_its_own_or_the_one_that_is_there() {
    let Some(engineer) = Engineer::start() else { return };
    let before = engineer.exact();
    engineer.works(&["init", "--live", "--yes", "--eice"]);
    let inventory = engineer.world.inventory();
    assert_eq!(inventory["instance_connect_endpoints"].as_object().unwrap().len(), 1);
    // Without the flag what is there stays.
    assert!(engineer.works(&["init"]).contains("nothing to do"));
    engineer.write("eice = false");
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(told.contains("delete the EC2 Instance Connect Endpoint"), "{told}");
    assert_eq!(engineer.world.inventory()["instance_connect_endpoints"], json!({}));
    engineer.works(&["init", "--live", "--yes", "--eice"]);
    engineer.works(&["destroy", "--live", "--yes"]);
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}

#[test]
fn without_a_listener_the_team_gets_a_snippet() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.file(&format!(
        "[tunnel]\nproject_name = \"shop\"\ntype = \"ec2\"\n[bastion]\nsubnet_id = \"{}\"\nbastion_binary_s3_uri = \"{}\"",
        engineer.subnet(),
        engineer.id("uri")
    ));
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(
        told.contains("next, the load balancer in your own stack: ephemwork bastion snippet"),
        "{told}"
    );
    assert!(
        engineer.world.inventory()["target_groups"]
            .as_object()
            .is_none_or(|groups| groups.len() == 1)
    );
    let address = engineer.instances()[0]["PrivateIpAddress"].as_str().unwrap().to_owned();
    for language in ["cdk-python", "cdk-typescript", "terraform", "cloudformation"] {
        let text = engineer.works(&["snippet", language]);
        for part in [address.as_str(), engineer.id("vpc"), engineer.id("alb_group"), "Trap 4"] {
            assert!(text.contains(part), "{part} is not in {language}:\n{text}");
        }
    }
}

#[test]
fn policies_have_real_ids() {
    let Some(engineer) = Engineer::start() else { return };
    for whose in ["admin", "developer", "instance"] {
        let text = engineer.works(&["policy", whose]);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert!(document["Statement"].as_array().unwrap().len() >= 2);
        assert!(text.contains("123456789012") && !text.contains('<'), "{text}");
    }
    let developer = engineer.works(&["policy", "developer"]);
    for part in [
        "ssm:StartSession",
        "ssm:ResumeSession",
        "ssm:TerminateSession",
        "ec2:osuser",
        "/ephemwork/shop/host-key",
    ] {
        assert!(developer.contains(part), "{part}");
    }
}

#[test]
fn doctor_says_what_is_wrong_and_what_repairs_it() {
    let Some(engineer) = Engineer::start() else { return };
    let doctor = || {
        let mut command = engineer.command(&["doctor", "--json"]);
        // A wrong clock is corrected by a second attempt.
        command.env("AWS_MAX_ATTEMPTS", "2");
        let finished = crate::support::Process::run("doctor", &mut command);
        let report: Value = serde_json::from_str(&finished.out).unwrap_or_else(|why| panic!("{why}: {finished:?}"));
        let mut grades: Vec<String> = Vec::new();
        for check in report["checks"].as_array().unwrap() {
            grades.push(format!(
                "{} {}",
                check["name"].as_str().unwrap(),
                check["grade"].as_str().unwrap()
            ));
        }
        (finished.code(), grades, report)
    };
    let (code, grades, report) = doctor();
    assert_eq!(code, 5, "{report}");
    assert!(
        grades.contains(&"bastion fail".to_owned()) && grades.contains(&"credentials ok".to_owned()),
        "{report}"
    );
    assert!(
        !grades.contains(&"drift ok".to_owned()),
        "of nothing nothing drifts: {report}"
    );
    engineer.works(&["init", "--live", "--yes"]);
    let (code, grades, report) = doctor();
    assert_eq!(code, 0, "{report}");
    for line in [
        "user ok",
        "config ok",
        "region ok",
        "credentials ok",
        "clock ok",
        "bastion ok",
        "agent ok",
        "target ok",
        "drift ok",
    ] {
        assert!(grades.contains(&line.to_owned()), "{line}: {report}");
    }
    // The client's own correction lets everything else pass.
    for (ahead, expected) in [(600, "behind AWS's"), (-3600, "ahead of AWS's")] {
        engineer.world.habits(json!({ "clock_ahead": ahead }));
        let (code, grades, report) = doctor();
        assert_eq!(code, 0, "{report}");
        assert!(grades.contains(&"clock warn".to_owned()), "{report}");
        let clock = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == "clock")
            .unwrap();
        let what = clock["what"].as_str().unwrap();
        let off: i64 = what.split(' ').next().unwrap().parse().unwrap();
        let seconds = i64::from(ahead).abs();
        assert!(
            (seconds - 2..=seconds + 2).contains(&off) && what.ends_with(expected),
            "{what}"
        );
        assert!(clock["repair"].as_str().unwrap().contains("timedatectl"), "{report}");
    }
    engineer.world.habits(json!({ "clock_ahead": 0 }));
    let instance = engineer.instances()[0]["InstanceId"].as_str().unwrap().to_owned();
    engineer.world.agent(&instance, "ConnectionLost");
    let (code, grades, report) = doctor();
    assert_eq!(code, 5, "{report}");
    assert!(grades.contains(&"agent fail".to_owned()), "{report}");
    assert!(report.to_string().contains("ssmmessages"), "{report}");
}
