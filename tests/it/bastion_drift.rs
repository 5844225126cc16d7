//! Each kind of drift is shown as such and repaired by `bastion init --live`.

use serde_json::{Value, json};

use crate::support::Engineer;
use crate::support::engineer::difference;

const ROLE: &str = "ephemwork-shop-bastion-eu-west-1";

/// What somebody did, and a part of what the repair says.
pub(crate) type Drift = (fn(&Engineer, &Seen), &'static str);

/// Ids of the bastion's parts.
pub(crate) struct Seen {
    pub(crate) instance: String,
    pub(crate) group: String,
    pub(crate) target_group: String,
    pub(crate) rules: Vec<String>,
    address: String,
}

pub(crate) fn seen(engineer: &Engineer) -> Seen {
    let inventory = engineer.world.inventory();
    let instance = &engineer.instances()[0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |kind: &str, name: &str, value: &str, id: &str| {
        let all = inventory[kind].as_object().unwrap().values();
        text(&all.into_iter().find(|one| one[name] == value).unwrap()[id])
    };
    let target_group = of("target_groups", "TargetGroupName", "ephemwork-shop-bastion", "TargetGroupArn");
    let rules = inventory["listener_rules"]
        .as_object()
        .or(inventory["rules"].as_object())
        .unwrap()
        .values();
    Seen {
        instance: text(&instance["InstanceId"]),
        address: text(&instance["PrivateIpAddress"]),
        group: of("security_groups", "GroupName", "ephemwork-shop-bastion", "GroupId"),
        rules: rules
            .filter(|rule| rule["Actions"].to_string().contains(&target_group))
            .map(|rule| text(&rule["RuleArn"]))
            .collect(),
        target_group,
    }
}

pub(crate) const DRIFTS: &[Drift] = &[
    (
        |engineer, _| {
            let policy = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore";
            engineer
                .world
                .aws("iam", "DetachRolePolicy", json!({ "RoleName": ROLE, "PolicyArn": policy }));
        },
        "repair: attach arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
    ),
    (
        |engineer, _| {
            let params = json!({ "RoleName": ROLE, "PolicyName": "ephemwork-bastion" });
            engineer.world.aws("iam", "DeleteRolePolicy", params);
        },
        "repair: write the policy ephemwork-bastion",
    ),
    (
        |engineer, _| {
            let document =
                json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }] })
                    .to_string();
            let params = json!({ "RoleName": ROLE, "PolicyName": "extra", "PolicyDocument": document });
            engineer.world.aws("iam", "PutRolePolicy", params);
        },
        "repair: delete the policy extra",
    ),
    (
        |engineer, _| {
            let params = json!({ "InstanceProfileName": ROLE, "RoleName": ROLE });
            engineer.world.aws("iam", "RemoveRoleFromInstanceProfile", params);
        },
        "repair: put the role",
    ),
    (
        |engineer, seen| {
            let from = json!([{ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{ "GroupId": engineer.id("alb_group") }] }]);
            engineer.world.aws(
                "ec2",
                "RevokeSecurityGroupIngress",
                json!({ "GroupId": seen.group, "IpPermissions": from }),
            );
        },
        "repair: allow tcp/80 from",
    ),
    (
        |engineer, seen| {
            let open = json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
            engineer.world.aws(
                "ec2",
                "AuthorizeSecurityGroupIngress",
                json!({ "GroupId": seen.group, "IpPermissions": open }),
            );
        },
        "repair: no longer allow tcp/22 from 0.0.0.0/0",
    ),
    (
        |engineer, seen| {
            let to =
                json!([{ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{ "GroupId": seen.group }] }]);
            let params = json!({ "GroupId": engineer.id("alb_group"), "IpPermissions": to });
            engineer.world.aws("ec2", "RevokeSecurityGroupEgress", params);
        },
        "repair: allow tcp/80 to",
    ),
    (
        |engineer, seen| drop(engineer.world.aws("elbv2", "DeleteRule", json!({ "RuleArn": seen.rules[0] }))),
        "repair: create listener rule",
    ),
    (
        |engineer, seen| {
            let params = json!({ "TargetGroupArn": seen.target_group, "HealthCheckPath": "/" });
            engineer.world.aws("elbv2", "ModifyTargetGroup", params);
        },
        "repair: set the health check",
    ),
    (
        |engineer, seen| {
            let targets = json!([{ "Id": seen.address, "Port": 80 }]);
            let params = json!({ "TargetGroupArn": seen.target_group, "Targets": targets });
            engineer.world.aws("elbv2", "DeregisterTargets", params);
        },
        "repair: register i-",
    ),
    (
        |engineer, seen| {
            drop(
                engineer
                    .world
                    .aws("ec2", "StopInstances", json!({ "InstanceIds": [seen.instance] })),
            )
        },
        "repair: start i-",
    ),
    (
        |engineer, seen| {
            let params = json!({ "InstanceId": seen.instance, "HttpTokens": "optional", "HttpPutResponseHopLimit": 2 });
            engineer.world.aws("ec2", "ModifyInstanceMetadataOptions", params);
        },
        "repair: require IMDSv2",
    ),
    (
        |engineer, _| {
            drop(
                engineer
                    .world
                    .aws("ssm", "DeleteParameter", json!({ "Name": "/ephemwork/shop/host-key" })),
            )
        },
        "repair: write the SSM parameter /ephemwork/shop/host-key",
    ),
];

#[test]
fn each_is_shown_and_repaired() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let whole = engineer.account();
    for (drift, repair) in DRIFTS {
        drift(&engineer, &seen(&engineer));
        assert_ne!(engineer.account(), whole, "{repair}: nothing drifted");
        let told = engineer.works(&["init"]);
        assert!(
            told.contains(repair) && told.contains("differs from what it should be"),
            "{repair}:\n{told}"
        );
        let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
        let expected = repair.trim_start_matches("repair: ");
        assert!(status["drift"].to_string().contains(expected), "{status}");
        engineer.works(&["init", "--live", "--yes"]);
        assert_eq!(difference(&whole, &engineer.account()), [""; 0], "{repair}");
        assert!(engineer.works(&["init"]).contains("nothing to do"), "{repair}");
    }
}

#[test]
fn an_instance_that_is_gone_is_made_again() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let whole = engineer.account();
    let before = seen(&engineer);
    engineer
        .world
        .aws("ec2", "TerminateInstances", json!({ "InstanceIds": [before.instance] }));
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(told.contains("run an instance"), "{told}");
    assert_ne!(seen(&engineer).instance, before.instance);
    // Another host key stands where laptops look for it.
    assert_eq!(difference(&whole, &engineer.account()), [""; 0]);
}
