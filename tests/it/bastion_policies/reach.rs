//! How far each policy reaches: call by call, what it allows and what it does not.

use serde_json::{Value, json};

use super::{ROLE, printed};
use crate::bastion_drift::seen;
use crate::support::Engineer;

/// A thing of another project's, and one of nobody's.
struct Others {
    instance: String,
    plain: String,
    group: String,
}

fn others(engineer: &Engineer) -> Others {
    let tags = json!([{ "Key": "ephemwork:project", "Value": "till" }, { "Key": "ephemwork:component", "Value": "bastion" }]);
    let image = engineer.instances()[0]["ImageId"].clone();
    let run = |tags: Option<&Value>| {
        let mut params = json!({ "ImageId": image, "MinCount": 1, "MaxCount": 1, "SubnetId": engineer.subnet() });
        if let Some(tags) = tags {
            params["TagSpecifications"] = json!([{ "ResourceType": "instance", "Tags": tags }]);
        }
        let made = engineer.world.aws("ec2", "RunInstances", params);
        made["Instances"][0]["InstanceId"].as_str().unwrap().to_owned()
    };
    let group = json!({
        "GroupName": "till", "Description": "till", "VpcId": engineer.id("vpc"),
        "TagSpecifications": [{ "ResourceType": "security-group", "Tags": tags }],
    });
    let made = engineer.world.aws("ec2", "CreateSecurityGroup", group);
    Others {
        instance: run(Some(&tags)),
        plain: run(None),
        group: made["GroupId"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn an_admin_of_one_project_may_nothing_with_others_things() {
    let Some(engineer) = Engineer::start() else { return };
    let alb = engineer.id("alb_group");
    engineer.write(&format!("alb_security_group_id = \"{alb}\""));
    engineer.works(&["init", "--live", "--yes", "--no-wait"]);
    let (policy, seen, others) = (printed(&engineer, "admin"), seen(&engineer), others(&engineer));
    let open = json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    let shop = json!([{ "Key": "ephemwork:project", "Value": "shop" }]);
    let till = json!([{ "Key": "ephemwork:project", "Value": "till" }]);
    let rule = |tags: &Value| json!([{ "ResourceType": "security-group-rule", "Tags": tags }]);
    let theirs = engineer.staging["rules"][0].as_str().unwrap();
    let role = |name: &str, policy: &str| json!({ "RoleName": name, "PolicyArn": policy });
    let core = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore";
    let put = |name: &str| json!({ "Name": name, "Value": "x", "Type": "String" });
    let check = |call: (&str, &str), params: Value, allowed: bool| {
        let refused = engineer.world.refused_by(&policy, &json!({}), call, params.clone());
        assert_eq!(refused.is_empty(), allowed, "{call:?} {params}: {refused:?}");
    };
    let ec2 = |operation: &'static str| ("ec2", operation);
    let of = |id: &str| json!({ "InstanceIds": [id] });
    check(ec2("TerminateInstances"), of(&seen.instance), true);
    check(ec2("TerminateInstances"), of(&others.instance), false);
    check(ec2("TerminateInstances"), of(&others.plain), false);
    check(
        ec2("TerminateInstances"),
        json!({ "InstanceIds": [seen.instance, others.plain] }),
        false,
    );
    check(ec2("GetConsoleOutput"), json!({ "InstanceId": others.instance }), false);
    // Nobody makes a thing of others their own, or gives one of theirs away, by its tags.
    let tag = |id: &str, tags: &Value| json!({ "Resources": [id], "Tags": tags });
    check(ec2("CreateTags"), tag(&seen.instance, &shop), true);
    check(
        ec2("CreateTags"),
        tag(&seen.instance, &json!([{ "Key": "ManagedBy", "Value": "ephemwork" }])),
        true,
    );
    check(ec2("CreateTags"), tag(&seen.instance, &till), false);
    check(ec2("CreateTags"), tag(&others.instance, &shop), false);
    check(ec2("CreateTags"), tag(&others.plain, &shop), false);
    let authorize =
        |group: &str, tags: &Value| json!({ "GroupId": group, "IpPermissions": open, "TagSpecifications": rule(tags) });
    check(ec2("AuthorizeSecurityGroupIngress"), authorize(&seen.group, &shop), true);
    check(ec2("AuthorizeSecurityGroupIngress"), authorize(alb, &shop), false);
    check(ec2("AuthorizeSecurityGroupIngress"), authorize(&others.group, &shop), false);
    check(ec2("AuthorizeSecurityGroupEgress"), authorize(alb, &till), false);
    check(ec2("AuthorizeSecurityGroupEgress"), authorize(&others.group, &shop), false);
    check(ec2("DeleteSecurityGroup"), json!({ "GroupId": others.group }), false);
    check(ec2("DeleteSecurityGroup"), json!({ "GroupId": alb }), false);
    check(("elbv2", "DeleteRule"), json!({ "RuleArn": seen.rules[0] }), true);
    check(("elbv2", "DeleteRule"), json!({ "RuleArn": theirs }), false);
    check(
        ("elbv2", "DeleteTargetGroup"),
        json!({ "TargetGroupArn": seen.target_group }),
        true,
    );
    check(
        ("elbv2", "DeleteTargetGroup"),
        json!({ "TargetGroupArn": engineer.id("target_group") }),
        false,
    );
    check(("elbv2", "AddTags"), json!({ "ResourceArns": [theirs], "Tags": shop }), false);
    check(("iam", "AttachRolePolicy"), role(ROLE, core), true);
    check(
        ("iam", "AttachRolePolicy"),
        role(ROLE, "arn:aws:iam::aws:policy/AdministratorAccess"),
        false,
    );
    check(
        ("iam", "AttachRolePolicy"),
        role("ephemwork-shop-bastion-eu-west-2", core),
        false,
    );
    check(("iam", "DeleteRole"), json!({ "RoleName": "admin" }), false);
    check(("ssm", "PutParameter"), put("/ephemwork/shop/host-key"), true);
    check(("ssm", "PutParameter"), put("/ephemwork/shop/database"), false);
    check(("ssm", "PutParameter"), put("/ephemwork/till/host-key"), false);
    check(("ssm", "GetParameter"), json!({ "Name": "/ephemwork/shop/database" }), false);
    check(
        ("s3", "GetObject"),
        json!({ "Bucket": engineer.id("bucket"), "Key": engineer.id("key") }),
        true,
    );
    check(
        ("s3", "GetObject"),
        json!({ "Bucket": engineer.id("bucket"), "Key": "other" }),
        false,
    );
}

#[test]
fn a_developer_may_reach_the_bastion_under_the_own_name_only() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes", "--no-wait"]);
    let (seen, others) = (seen(&engineer), others(&engineer));
    let policy = printed(&engineer, "developer");
    let alice = json!({ "aws:username": "alice", "aws:userid": "AIDAALICE", "aws:PrincipalTag/ephemwork:user": "alice" });
    let role = json!({ "aws:userid": "AROADEVELOPER:carol", "aws:PrincipalTag/ephemwork:user": "carol" });
    let untagged = json!({ "aws:username": "*", "aws:userid": "AIDASTAR" });
    let check = |who: &Value, call: (&str, &str), params: Value, allowed: bool| {
        let refused = engineer.world.refused_by(&policy, who, call, params.clone());
        assert_eq!(refused.is_empty(), allowed, "{who} {call:?} {params}: {refused:?}");
    };
    let push = ("ec2-instance-connect", "SendSSHPublicKey");
    let key =
        |instance: &str, user: &str| json!({ "InstanceId": instance, "InstanceOSUser": user, "SSHPublicKey": "ssh-ed25519 A" });
    check(&alice, push, key(&seen.instance, "alice"), true);
    check(&role, push, key(&seen.instance, "carol"), true);
    check(&alice, push, key(&seen.instance, "bob"), false);
    check(&alice, push, key(&seen.instance, "root"), false);
    check(&alice, push, key(&others.instance, "alice"), false);
    check(&alice, push, key(&others.plain, "alice"), false);
    // Who has no such tag has no name, not every name.
    check(&untagged, push, key(&seen.instance, "alice"), false);
    check(&untagged, push, key(&seen.instance, ""), false);

    let start = |instance: &str, document: Option<&str>| match document {
        Some(document) => json!({ "Target": instance, "DocumentName": document }),
        None => json!({ "Target": instance }),
    };
    let ssm = |operation: &'static str| ("ssm", operation);
    check(
        &alice,
        ssm("StartSession"),
        start(&seen.instance, Some("AWS-StartSSHSession")),
        true,
    );
    check(
        &alice,
        ssm("StartSession"),
        start(&others.instance, Some("AWS-StartSSHSession")),
        false,
    );
    check(
        &alice,
        ssm("StartSession"),
        start(&others.plain, Some("AWS-StartSSHSession")),
        false,
    );
    // A shell on the bastion is root's.
    check(&alice, ssm("StartSession"), start(&seen.instance, None), false);
    for other in [
        "SSM-SessionManagerRunShell",
        "AWS-StartPortForwardingSession",
        "AWS-StartInteractiveCommand",
    ] {
        check(&alice, ssm("StartSession"), start(&seen.instance, Some(other)), false);
    }
    let session = |id: &str| json!({ "SessionId": id });
    for operation in ["ResumeSession", "TerminateSession"] {
        check(&alice, ssm(operation), session("alice-0123456789abcdef0"), true);
        check(&alice, ssm(operation), session("bob-0123456789abcdef0"), false);
        check(&role, ssm(operation), session("AROADEVELOPER:carol-0123456789abcdef0"), true);
        check(&role, ssm(operation), session("alice-0123456789abcdef0"), false);
        // A name is a name, and no pattern.
        check(&untagged, ssm(operation), session("alice-0123456789abcdef0"), false);
    }
    let parameter = |name: &str| json!({ "Name": name });
    check(&alice, ssm("GetParameter"), parameter("/ephemwork/shop/host-key"), true);
    check(&alice, ssm("GetParameter"), parameter("/ephemwork/shop/database"), false);
    check(&alice, ssm("GetParameter"), parameter("/ephemwork/till/host-key"), false);
    check(
        &alice,
        ssm("PutParameter"),
        json!({ "Name": "/ephemwork/shop/host-key", "Value": "x" }),
        false,
    );
    check(
        &alice,
        ("ec2", "TerminateInstances"),
        json!({ "InstanceIds": [seen.instance] }),
        false,
    );

    // Where a document of the team's own is run it is that one.
    engineer.file("[tunnel]\ntype = \"ec2\"\nproject_name = \"shop\"\ndocument = \"Acme-SSH\"\n");
    let policy = printed(&engineer, "developer");
    let refused = |document| {
        engineer
            .world
            .refused_by(&policy, &alice, ssm("StartSession"), start(&seen.instance, Some(document)))
    };
    assert_eq!(refused("Acme-SSH"), [""; 0]);
    assert_eq!(refused("AWS-StartSSHSession").len(), 1);
}

#[test]
fn the_instance_may_read_its_binary_and_write_its_two_parameters() {
    let Some(engineer) = Engineer::start() else { return };
    let policy = printed(&engineer, "instance");
    let check = |call: (&str, &str), params: Value, allowed: bool| {
        let refused = engineer.world.refused_by(&policy, &json!({}), call, params.clone());
        assert_eq!(refused.is_empty(), allowed, "{call:?} {params}: {refused:?}");
    };
    let object = |key: &str| json!({ "Bucket": engineer.id("bucket"), "Key": key });
    check(("s3", "GetObject"), object(engineer.id("key")), true);
    check(("s3", "GetObject"), object("other"), false);
    check(("s3", "HeadObject"), object(engineer.id("key")), true);
    for (name, allowed) in [
        ("/ephemwork/shop/host-key", true),
        ("/ephemwork/shop/boot/i-1", true),
        ("/ephemwork/shop/database", false),
        ("/ephemwork/shop", false),
        ("/ephemwork/till/host-key", false),
    ] {
        check(("ssm", "PutParameter"), json!({ "Name": name, "Value": "x" }), allowed);
        check(("ssm", "GetParameter"), json!({ "Name": name }), allowed);
        check(("ssm", "DeleteParameter"), json!({ "Name": name }), false);
    }
    check(("ssm", "GetParametersByPath"), json!({ "Path": "/ephemwork/shop" }), false);
}
