"""AWS's habits, one by one: each does what habits.py says, and so many calls long."""

import base64
import hashlib

from accepts import AGENT, TAGS, TRUST, bastion, launch
from botocore.exceptions import ClientError
from client import clean, client, control, fresh, refused, run


def visibility():
    made = fresh(visibility=2)
    ec2 = client("ec2")
    ask = dict(GroupName="g", Description="d", VpcId=made["vpc"])
    group = ec2.create_security_group(**ask)["GroupId"]
    # Not seen by id, not in a list; but its name is taken.
    refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=[group])
    named = [{"Name": "group-name", "Values": ["g"]}]
    assert ec2.describe_security_groups(Filters=named)["SecurityGroups"] == []
    refused("InvalidGroup.Duplicate", ec2.create_security_group, **ask)
    assert ec2.describe_security_groups(Filters=named)["SecurityGroups"][0]["GroupId"] == group
    # A rule cannot be put into a group that is not seen yet.
    other = ec2.create_security_group(**(ask | {"GroupName": "h"}))["GroupId"]
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": group}]}]
    into = lambda: ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=rule)  # noqa: E731
    refused("InvalidGroup.NotFound", into)
    refused("InvalidGroup.NotFound", into)
    into()

    iam = client("iam")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    refused("NoSuchEntity", iam.get_role, RoleName="r")
    refused("EntityAlreadyExists", iam.create_role, RoleName="r", AssumeRolePolicyDocument=TRUST)
    refused("NoSuchEntity", iam.put_role_policy, RoleName="r", PolicyName="p", PolicyDocument=TRUST)
    iam.get_role(RoleName="r")
    iam.create_instance_profile(InstanceProfileName="r")
    refused("NoSuchEntity", iam.get_instance_profile, InstanceProfileName="r")
    refused("NoSuchEntity", iam.add_role_to_instance_profile, InstanceProfileName="r", RoleName="r")
    iam.add_role_to_instance_profile(InstanceProfileName="r", RoleName="r")

    elb = client("elbv2")
    target_group = elb.create_target_group(Name="t", Protocol="HTTP", Port=80, VpcId=made["vpc"], TargetType="ip")
    arn = target_group["TargetGroups"][0]["TargetGroupArn"]
    refused("TargetGroupNotFound", elb.describe_target_groups, Names=["t"])
    assert arn not in [each["TargetGroupArn"] for each in elb.describe_target_groups()["TargetGroups"]]
    refused("TargetGroupNotFound", elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": "10.20.0.5"}])
    assert arn in [each["TargetGroupArn"] for each in elb.describe_target_groups()["TargetGroups"]]
    clean()


def visibility_of_instances():
    made = fresh()
    instance, group = bastion(made)
    ec2 = client("ec2")
    control("habits", visibility=2)
    late = launch(ec2, made, instance["ImageId"], group, token="token-2")["Instances"][0]["InstanceId"]
    refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=[late])
    ids = lambda: {each["InstanceId"] for one in ec2.describe_instances()["Reservations"] for each in one["Instances"]}  # noqa: E731
    assert ids() == {instance["InstanceId"]}
    assert ids() == {instance["InstanceId"], late}
    # The same token is the same instance, seen or not.
    again = launch(ec2, made, instance["ImageId"], group, token="token-2")["Instances"][0]["InstanceId"]
    assert again == late
    changed = dict(token="token-2", InstanceInitiatedShutdownBehavior="stop")
    refused("IdempotentParameterMismatch", lambda: launch(ec2, made, instance["ImageId"], group, **changed))
    clean()


def propagation():
    made = fresh(propagation=2)
    ec2, iam = client("ec2"), client("iam")
    error = refused("InvalidParameterValue", lambda: bastion(made))
    assert "Invalid IAM Instance Profile name" in str(error), error
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["b"]}])["SecurityGroups"][0][
        "GroupId"
    ]
    image = client("ssm").get_parameter(Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64")
    again = lambda: launch(ec2, made, image["Parameter"]["Value"], group)  # noqa: E731
    refused("InvalidParameterValue", again)
    again()
    # A profile that does not exist at all is the same error, for ever.
    iam.remove_role_from_instance_profile(InstanceProfileName="b", RoleName="b")
    iam.delete_instance_profile(InstanceProfileName="b")
    refused("InvalidParameterValue", lambda: launch(ec2, made, image["Parameter"]["Value"], group, token="other"))
    clean()


def launches():
    """What a launch is refused for, and groups in use."""
    made = fresh(settling=2)
    instance, group = bastion(made)
    ec2 = client("ec2")
    intel = client("ssm").get_parameter(Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64")
    error = refused("InvalidParameterValue", lambda: launch(ec2, made, intel["Parameter"]["Value"], group, token="t"))
    assert "does not match the architecture 'x86_64'" in str(error), error
    refused("InvalidAMIID.NotFound", lambda: launch(ec2, made, "ami-0123456789abcdef0", group, token="t"))
    foreign = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    stranger = ec2.create_security_group(GroupName="s", Description="d", VpcId=foreign)["GroupId"]
    refused("InvalidParameter", lambda: launch(ec2, made, instance["ImageId"], stranger, token="t"))
    refused("DryRunOperation", lambda: launch(ec2, made, instance["ImageId"], group, token="t", DryRun=True))
    big = dict(
        ImageId=instance["ImageId"], InstanceType="t4g.nano", MinCount=1, MaxCount=1, SubnetId=made["subnets"][0]
    )
    refused("InvalidParameterValue", ec2.run_instances, UserData="x" * (16 * 1024 + 1), **big)
    # The group is held until the instance is terminated, not only until it is told to.
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    # Trying again is a look like any other: it ends.
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.delete_security_group(GroupId=group)
    clean()


def documented_rules():
    """What AWS refuses though its models do not say so."""
    made = fresh()
    ec2, elb, ssm = client("ec2"), client("elbv2"), client("ssm")
    ask = dict(GroupName="g", VpcId=made["vpc"])
    refused("InvalidParameterValue", ec2.create_security_group, Description="the team's own", **ask)
    refused("InvalidParameterValue", ec2.create_security_group, Description="d", **(ask | {"GroupName": "sg-g"}))
    group = ec2.create_security_group(Description="d", **ask)["GroupId"]
    pair = [{"GroupId": made["alb_group"], "Description": "ALB → bastion"}]
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": pair}]
    refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=rule)
    refused("InvalidParameterValue", ec2.create_tags, Resources=[group], Tags=[{"Key": "aws:x", "Value": "y"}])
    instance = dict(ImageId="ami-0123456789abcdef0", InstanceType="t4g.nano", MinCount=1, MaxCount=1)
    refused("InvalidParameterValue", ec2.run_instances, ClientToken="t" * 65, **instance)
    has = {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X", "Values": list("abcdef")}}
    forward = [{"Type": "forward", "TargetGroupArn": made["target_group"]}]
    many = dict(ListenerArn=made["listener"], Priority=7, Conditions=[has], Actions=forward)
    refused("ValidationError", elb.create_rule, **many)
    inside, outside = {"Id": "10.20.0.9", "Port": 80}, {"Id": "10.99.0.9", "Port": 80}
    for target in (inside | {"AvailabilityZone": "all"}, outside, {"Id": "i-0123456789abcdef0"}):
        refused("ValidationError", elb.register_targets, TargetGroupArn=made["target_group"], Targets=[target])
    both = [inside, outside | {"AvailabilityZone": "all"}]
    elb.register_targets(TargetGroupArn=made["target_group"], Targets=both)
    long = dict(Protocol="HTTP", Port=80, VpcId=made["vpc"], TargetType="ip")
    refused("ValidationError", elb.create_target_group, Name="t" * 33, **long)
    refused("ValidationError", elb.create_target_group, Name="-t", **long)
    tags = [{"Key": "a", "Value": "b"}]
    refused("ValidationException", ssm.put_parameter, Name="/p", Value="v", Type="String", Overwrite=True, Tags=tags)
    clean()


def pages():
    made = fresh(page=2)
    ec2, iam, elb, ssm = client("ec2"), client("iam"), client("elbv2"), client("ssm")
    groups = {
        ec2.create_security_group(GroupName=f"g{n}", Description="d", VpcId=made["vpc"])["GroupId"] for n in range(5)
    }
    first = ec2.describe_security_groups()
    assert len(first["SecurityGroups"]) == 2 and first["NextToken"], first
    assert len(ec2.describe_security_groups(MaxResults=100)["SecurityGroups"]) == 2
    refused("InvalidNextToken", ec2.describe_security_groups, NextToken="nonsense")
    # A token belongs to the question it was given for.
    named = [{"Name": "group-name", "Values": ["g1"]}]
    refused("InvalidNextToken", ec2.describe_security_groups, NextToken=first["NextToken"], Filters=named)
    refused("InvalidParameterCombination", ec2.describe_security_groups, GroupIds=list(groups), MaxResults=5)
    assert len(ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]) == 5
    seen = [
        each["GroupId"]
        for page in ec2.get_paginator("describe_security_groups").paginate()
        for each in page["SecurityGroups"]
    ]
    assert groups < set(seen) and len(seen) == len(set(seen)), seen

    rules = elb.describe_rules(ListenerArn=made["listener"])
    assert len(rules["Rules"]) == 2 and rules["NextMarker"], rules
    rest = elb.describe_rules(ListenerArn=made["listener"], Marker=rules["NextMarker"])
    assert len(rest["Rules"]) == 1 and "NextMarker" not in rest, rest
    refused("ValidationError", elb.describe_rules, ListenerArn=made["listener"], Marker="nonsense")

    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    for name in "abc":
        iam.put_role_policy(RoleName="r", PolicyName=name, PolicyDocument=AGENT)
    found = iam.list_role_policies(RoleName="r")
    assert found["IsTruncated"] and found["PolicyNames"] == ["a", "b"], found
    found = iam.list_role_policies(RoleName="r", Marker=found["Marker"])
    assert not found["IsTruncated"] and found["PolicyNames"] == ["c"], found

    for name in "abc":
        ssm.put_parameter(Name=f"/p/{name}", Value="v", Type="String")
    pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path="/p"))
    assert [len(page["Parameters"]) for page in pages] == [2, 1], pages
    clean()


def pages_of_uploads():
    made = fresh(page=2)
    s3 = client("s3")
    at = dict(Bucket=made["bucket"])
    ids = {(key, s3.create_multipart_upload(Key=key, **at)["UploadId"]) for key in ("a", "a", "b", "c", "d")}
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(**at))
    assert [len(page["Uploads"]) for page in pages] == [2, 2, 1], pages
    assert {(each["Key"], each["UploadId"]) for page in pages for each in page["Uploads"]} == ids
    assert len(s3.list_multipart_uploads(MaxUploads=1, **at)["Uploads"]) == 1
    rest = s3.list_multipart_uploads(KeyMarker="b", **at)["Uploads"]
    assert [each["Key"] for each in rest] == ["c", "d"], rest
    key, upload = min(ids)
    for number in (3, 1, 2, 5):
        s3.upload_part(Key=key, UploadId=upload, PartNumber=number, Body=b"x" * number, **at)
    pages = list(s3.get_paginator("list_parts").paginate(Key=key, UploadId=upload, **at))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [3, 5]], pages
    assert pages[0]["Parts"][1]["Size"] == 2 and pages[0]["UploadId"] == upload, pages
    clean()


def checksums():
    made = fresh()
    s3 = client("s3")
    put = dict(Bucket=made["bucket"], Key="k", Body=b"text")
    refused("BadDigest", s3.put_object, ChecksumSHA256="A" * 43 + "=", **put)
    refused("InvalidDigest", s3.put_object, ChecksumSHA256="short", **put)
    refused("BadDigest", s3.put_object, ContentMD5="A" * 22 + "==", **put)
    s3.put_object(ChecksumSHA256=base64.b64encode(hashlib.sha256(b"text").digest()).decode(), **put)
    refused("PreconditionFailed", s3.put_object, IfNoneMatch="*", **put)
    clean()


def throttling():
    fresh(throttle_every=4, throttle_length=2)
    ec2 = client("ec2")
    outcomes = ""
    for _ in range(12):
        try:
            ec2.describe_vpcs()
            outcomes += "."
        except ClientError as error:
            assert error.response["Error"]["Code"] == "RequestLimitExceeded", error
            outcomes += "x"
    assert outcomes == "...xx..xx..x", outcomes
    clean()


def faults_in_every_protocol():
    made = fresh()
    calls = {
        "ec2": (client("ec2").describe_vpcs, {}, "RequestLimitExceeded", "InternalError"),
        "iam": (client("iam").list_roles, {}, "Throttling", "InternalFailure"),
        "elbv2": (client("elbv2").describe_rules, {"ListenerArn": made["listener"]}, "Throttling", "InternalFailure"),
        "ssm": (client("ssm").get_parameter, {"Name": "n"}, "ThrottlingException", "InternalServerError"),
        "s3": (client("s3").get_object, {"Bucket": made["bucket"], "Key": made["key"]}, "SlowDown", "InternalError"),
    }
    for function, params, throttled, broken in calls.values():
        for kind, code in (("throttle", throttled), ("http_500", broken)):
            control("fail_from", after=0, kind=kind)
            refused(code, function, **params)
            control("heal")
    for function, code in (
        (client("iam").list_roles, "AccessDenied"),
        (client("sts").get_caller_identity, "AccessDenied"),
    ):
        control("deny", actions=["iam:ListRoles", "sts:GetCallerIdentity"])
        refused(code, function)
    clean()


def regions():
    made = fresh()
    control("staging", region="us-east-1", bucket="elsewhere")
    s3 = client("s3")
    # boto3 follows a redirect by itself.
    s3.list_objects_v2(Bucket="elsewhere")
    assert [each["outcome"] for each in control("calls")][:1] == ["PermanentRedirect"], control("calls")
    assert s3.get_bucket_location(Bucket="elsewhere")["LocationConstraint"] is None
    assert made["region"] == "eu-west-1"
    clean()


def inventory():
    """Equal for an equal account, whatever was asked and whatever came and went; different for any change."""
    made = fresh()
    before = control("inventory")
    assert before == control("inventory")
    ec2, elb = client("ec2"), client("elbv2")
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=made["vpc"])["GroupId"]
    assert before != control("inventory")
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": group}]}]
    ec2.authorize_security_group_egress(GroupId=made["alb_group"], IpPermissions=rule)
    target_group = elb.create_target_group(Name="t", Protocol="HTTP", Port=80, VpcId=made["vpc"], TargetType="ip")
    arn = target_group["TargetGroups"][0]["TargetGroupArn"]
    has = [{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Ephemwork", "Values": ["*"]}}]
    actions = [{"Type": "forward", "TargetGroupArn": arn}]
    made_rule = elb.create_rule(ListenerArn=made["listener"], Priority=5, Conditions=has, Actions=actions, Tags=TAGS)
    elb.delete_rule(RuleArn=made_rule["Rules"][0]["RuleArn"])
    elb.delete_target_group(TargetGroupArn=arn)
    ec2.revoke_security_group_egress(GroupId=made["alb_group"], IpPermissions=rule)
    ec2.delete_security_group(GroupId=group)
    assert before == control("inventory")
    elb.set_rule_priorities(RulePriorities=[{"RuleArn": made["rules"][0], "Priority": 2}])
    assert before != control("inventory")
    clean()


if __name__ == "__main__":
    run(
        [
            visibility,
            visibility_of_instances,
            propagation,
            launches,
            documented_rules,
            pages,
            pages_of_uploads,
            checksums,
            throttling,
            faults_in_every_protocol,
            regions,
            inventory,
        ]
    )
