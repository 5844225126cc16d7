//! What is somebody else's stays as it is, whatever it is called; and two people who do the same at once do it once.

use serde_json::{Value, json};

use crate::support::engineer::difference;
use crate::support::{Engineer, Process};

const ROLE: &str = "ephemwork-shop-bastion-eu-west-1";
const NAME: &str = "ephemwork-shop-bastion";

/// Things that have the bastion's names, and these tags.
fn namesakes(engineer: &Engineer, tags: &Value) {
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    let policy =
        json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" }] });
    let call = |service: &str, operation: &str, params: Value| engineer.world.aws(service, operation, params);
    call(
        "iam",
        "CreateRole",
        json!({ "RoleName": ROLE, "AssumeRolePolicyDocument": trust, "Tags": tags }),
    );
    call(
        "iam",
        "PutRolePolicy",
        json!({ "RoleName": ROLE, "PolicyName": "theirs", "PolicyDocument": policy.to_string() }),
    );
    call(
        "iam",
        "CreateInstanceProfile",
        json!({ "InstanceProfileName": ROLE, "Tags": tags }),
    );
    call(
        "iam",
        "AddRoleToInstanceProfile",
        json!({ "InstanceProfileName": ROLE, "RoleName": ROLE }),
    );
    let mut group = json!({ "GroupName": NAME, "Description": "theirs", "VpcId": engineer.id("vpc") });
    if tags != &json!([]) {
        group["TagSpecifications"] = json!([{ "ResourceType": "security-group", "Tags": tags }]);
    }
    call("ec2", "CreateSecurityGroup", group);
    let mut group = json!({ "Name": NAME, "Protocol": "HTTP", "Port": 8000, "VpcId": engineer.id("vpc"), "TargetType": "ip" });
    if tags != &json!([]) {
        group["Tags"] = tags.clone();
    }
    call("elbv2", "CreateTargetGroup", group);
    call(
        "ssm",
        "PutParameter",
        json!({ "Name": "/ephemwork/shop/database", "Type": "String", "Value": "theirs" }),
    );
}

#[test]
fn a_namesake_is_neither_changed_nor_removed() {
    let Some(mut engineer) = Engineer::start() else { return };
    let other = json!([{ "Key": "ephemwork:project", "Value": "till" }, { "Key": "ephemwork:component", "Value": "bastion" }]);
    let terraform = json!([{ "Key": "ManagedBy", "Value": "terraform" }]);
    for (tags, whose) in [
        (&other, Some("belongs to the project \"till\"")),
        (&terraform, Some("is managed by \"terraform\"")),
        (&json!([]), None),
    ] {
        engineer.again();
        namesakes(&engineer, tags);
        let before = engineer.exact();
        let told = engineer.works(&["destroy", "--live", "--yes"]);
        assert!(told.contains("nothing to do"), "{tags}: {told}");
        for part in [
            "the IAM role ephemwork-shop-bastion-eu-west-1 stays",
            "the instance profile",
            "the security group",
            "the target group",
            "the SSM parameter /ephemwork/shop/database stays",
        ] {
            assert!(told.contains(part), "{tags}: {part} is not in\n{told}");
        }
        // What carries no tags may be the bastion's own and have lost them: the plan shows what would become of it.
        if let Some(whose) = whose {
            let finished = engineer.bastion(&["init", "--live", "--yes"]);
            assert_eq!(finished.code(), 6, "{finished:?}");
            assert!(finished.err.contains(whose), "{}", finished.err);
        }
        assert_eq!(difference(&before, &engineer.exact()), [""; 0], "{tags}");
    }
}

#[test]
fn a_group_of_that_name_in_another_vpc_is_in_nobodys_way() {
    let Some(engineer) = Engineer::start() else { return };
    let vpc = engineer.world.aws("ec2", "CreateVpc", json!({ "CidrBlock": "10.99.0.0/16" }));
    let params = json!({ "GroupName": NAME, "Description": "theirs", "VpcId": vpc["Vpc"]["VpcId"] });
    engineer.world.aws("ec2", "CreateSecurityGroup", params);
    let before = engineer.exact();
    engineer.works(&["init", "--live", "--yes"]);
    assert!(engineer.works(&["init"]).contains("nothing to do"));
    engineer.works(&["destroy", "--live", "--yes"]);
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}

/// A team sends one more path to the bastion, and a tenth of another service's requests.
#[test]
fn a_teams_own_rule_to_the_bastion_is_theirs() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let groups = engineer
        .world
        .aws("elbv2", "DescribeTargetGroups", json!({ "Names": [NAME] }));
    let bastion = groups["TargetGroups"][0]["TargetGroupArn"].as_str().unwrap();
    let all = json!([{ "TargetGroupArn": bastion, "Weight": 1 }]);
    let part =
        json!([{ "TargetGroupArn": bastion, "Weight": 1 }, { "TargetGroupArn": engineer.id("target_group"), "Weight": 9 }]);
    for (priority, path, targets) in [(70, "/debug/*", all), (71, "/canary/*", part)] {
        let params = json!({
            "ListenerArn": engineer.id("listener"), "Priority": priority,
            "Conditions": [{ "Field": "path-pattern", "PathPatternConfig": { "Values": [path] } }],
            "Actions": [{ "Type": "forward", "ForwardConfig": { "TargetGroups": targets } }],
        });
        engineer.world.aws("elbv2", "CreateRule", params);
    }
    let before = engineer.exact();
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(
        told.contains("nothing to do") && told.contains("the listener rule 71"),
        "{told}"
    );
    let told = engineer.works(&["destroy"]);
    assert!(
        !told.contains("delete listener rule 7") && told.contains("whoever made it removes it"),
        "{told}"
    );
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}

/// Starts the same command twice at the same time; both must end as `codes` say.
#[track_caller]
fn at_once(engineer: &Engineer, commands: [&[&str]; 2], codes: &[i32]) -> [String; 2] {
    let start = |arguments: &&[&str]| {
        let all: Vec<&str> = ["bastion"].iter().chain(*arguments).copied().collect();
        Process::start("bastion", &mut engineer.command(&all))
    };
    let running = commands.each_ref().map(start);
    running.map(|process| {
        let finished = process.finish_within(6 * crate::support::LIMIT);
        assert!(codes.contains(&finished.code()), "{commands:?}: {finished:?}");
        finished.err
    })
}

#[test]
fn two_at_once_make_one_bastion() {
    let Some(mut engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let whole = engineer.account();
    let init = ["init", "--live", "--yes"].as_slice();
    let upgrade = ["upgrade", "--live", "--yes"].as_slice();
    let destroy = ["destroy", "--live", "--yes"].as_slice();
    for settling in [0, 2] {
        engineer.again();
        let before = engineer.exact();
        engineer.world.habits(json!({ "settling": settling }));
        at_once(&engineer, [init, init], &[0]);
        engineer.world.habits(json!({ "settling": 0 }));
        engineer.works(init);
        assert_eq!(difference(&whole, &engineer.account()), [""; 0]);
        engineer.upload("another", "arm64");
        at_once(&engineer, [upgrade, upgrade], &[0]);
        assert_eq!(engineer.instances().len(), 1);
        engineer.upload("a binary", "arm64");
        engineer.works(upgrade);
        engineer.works(&["status"]);
        assert_eq!(difference(&whole, &engineer.account()), [""; 0]);
        // These two want opposite things, so one of them may say that what it made is gone; neither may leave a wreck.
        at_once(&engineer, [init, destroy], &[0, 5]);
        engineer.works(destroy);
        assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
    }
}

#[test]
fn what_an_instance_writes_does_not_reach_into_the_terminal() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let id = engineer.instances()[0]["InstanceId"].as_str().unwrap().to_owned();
    let name = format!("/ephemwork/shop/boot/{id}");
    for report in [
        json!({ "state": "ready", "version": "1\u{1b}]0;owned\u{7}", "host_key": "" }),
        json!({ "state": "failed", "why": "x\u{1b}[2Jy\r\nerror: z" }),
    ] {
        let params = json!({ "Name": name, "Type": "String", "Value": report.to_string(), "Overwrite": true });
        engineer.world.aws("ssm", "PutParameter", params);
        for verb in [&["status"][..], &["init"]] {
            let told = engineer.works(verb);
            assert!(!told.contains(['\u{1b}', '\u{7}', '\r']), "{told:?}");
        }
    }
}
