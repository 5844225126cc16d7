"""Every operation that the product calls, asked by boto3 itself: accepted, without a violation, and answered with sense."""

import base64
import json
import urllib.request

from client import URL, clean, client, control, fresh, refused, run

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
AGENT = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["ssm:UpdateInstanceInformation"], "Resource": "*"}],
    }
)
TAGS = [{"Key": "ephemwork:project", "Value": "shop"}]


def bastion(made, ami=None):
    """Role, profile, group and instance, as the product makes them; gives the instance and the group."""
    iam, ec2 = client("iam"), client("ec2")
    iam.create_role(RoleName="b", AssumeRolePolicyDocument=TRUST, Tags=TAGS)
    iam.put_role_policy(RoleName="b", PolicyName="agent", PolicyDocument=AGENT)
    iam.create_instance_profile(InstanceProfileName="b", Tags=TAGS)
    iam.add_role_to_instance_profile(InstanceProfileName="b", RoleName="b")
    spec = lambda kind: [{"ResourceType": kind, "Tags": TAGS}]  # noqa: E731
    group = ec2.create_security_group(
        GroupName="b", Description="bastion", VpcId=made["vpc"], TagSpecifications=spec("security-group")
    )["GroupId"]
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    image = ami or client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    launched = launch(ec2, made, image, group)
    return launched["Instances"][0], group


def launch(ec2, made, image, group, token="token-1", **more):
    return ec2.run_instances(
        ImageId=image,
        InstanceType="t4g.nano",
        MinCount=1,
        MaxCount=1,
        ClientToken=token,
        UserData="#!/bin/sh\n",
        IamInstanceProfile={"Name": "b"},
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 8}}
        ],
        NetworkInterfaces=[
            {"DeviceIndex": 0, "SubnetId": made["subnets"][0], "Groups": [group], "AssociatePublicIpAddress": False}
        ],
        TagSpecifications=[{"ResourceType": kind, "Tags": TAGS} for kind in ("instance", "volume")],
        **more,
    )


def identity():
    fresh()
    found = client("sts").get_caller_identity()
    assert found["Account"] == "123456789012", found
    taken = client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="one")[
        "Credentials"
    ]
    session = client("sts", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    session.get_caller_identity()
    client("sts", "ASIAEPHEMWORKTEST000", "test-secret/of+a+session", "session-token==").get_caller_identity()
    clean()


def compute():
    made = fresh()
    ec2 = client("ec2")
    instance, group = bastion(made)
    identity = instance["InstanceId"]
    assert instance["State"]["Name"] == "pending", instance["State"]
    again = launch(ec2, made, instance["ImageId"], group)
    assert [each["InstanceId"] for each in again["Instances"]] == [identity], again
    seen = ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]
    assert seen["State"]["Name"] == "pending", seen["State"]
    seen = ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]
    assert seen["State"]["Name"] == "running", seen["State"]
    assert seen["MetadataOptions"]["HttpTokens"] == "required", seen["MetadataOptions"]
    assert seen["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, seen["MetadataOptions"]
    assert seen.get("PublicIpAddress") is None, seen["PublicIpAddress"]
    assert seen["PrivateIpAddress"].startswith("10.20."), seen["PrivateIpAddress"]
    assert seen["IamInstanceProfile"]["Arn"].endswith("instance-profile/b"), seen
    assert [each["GroupId"] for each in seen["SecurityGroups"]] == [group], seen["SecurityGroups"]
    assert seen["ClientToken"] == "token-1", seen["ClientToken"]
    assert seen["Architecture"] == "arm64", seen["Architecture"]
    assert TAGS[0] in seen["Tags"], seen["Tags"]
    volume = seen["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    volumes = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert volumes[0]["Encrypted"] and volumes[0]["VolumeType"] == "gp3", volumes
    data = ec2.describe_instance_attribute(InstanceId=identity, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(data) == b"#!/bin/sh\n", data
    assert ec2.describe_images(ImageIds=[instance["ImageId"]])["Images"][0]["Architecture"] == "arm64"
    kind = ec2.describe_instance_types(InstanceTypes=["t4g.nano"])["InstanceTypes"][0]
    assert kind["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"], kind
    assert ec2.describe_vpcs()["Vpcs"][0]["VpcId"] == made["vpc"]
    assert len(ec2.describe_subnets()["Subnets"]) == 2
    named = [{"Name": "instance-id", "Values": [identity]}]
    joined = ec2.describe_iam_instance_profile_associations(Filters=named)["IamInstanceProfileAssociations"]
    assert len(joined) == 1, joined
    assert (
        len(ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [group]}])["NetworkInterfaces"])
        == 1
    )
    changed = ec2.modify_instance_metadata_options(InstanceId=identity, HttpPutResponseHopLimit=2)
    assert changed["InstanceMetadataOptions"]["HttpPutResponseHopLimit"] == 2, changed
    seen = ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]
    assert seen["MetadataOptions"]["HttpPutResponseHopLimit"] == 2, seen["MetadataOptions"]
    assert seen["MetadataOptions"]["HttpTokens"] == "required", seen["MetadataOptions"]
    ec2.create_tags(Resources=[identity, group], Tags=[{"Key": "more", "Value": "x"}])
    assert "Output" not in ec2.get_console_output(InstanceId=identity)
    control("console", instance=identity, text="boot: fine")
    assert ec2.get_console_output(InstanceId=identity)["Output"] == "boot: fine"
    client("ec2-instance-connect").send_ssh_public_key(
        InstanceId=identity, InstanceOSUser="alice", SSHPublicKey="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "x" * 48
    )
    shown = metadata("managed-ssh-keys/active-keys/alice/")
    assert shown.startswith("#Timestamp=") and f"#Instance={identity}\n#Caller={found_caller()}\n" in shown, shown
    assert metadata("instance-id") == identity
    clean()


def found_caller():
    return client("sts").get_caller_identity()["Arn"]


def metadata(path):
    """As the only instance sees itself."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    ask = urllib.request.Request(f"{URL}/latest/api/token", method="PUT", headers=ttl)
    with urllib.request.urlopen(ask, timeout=60) as answer:
        token = {"X-aws-ec2-metadata-token": answer.read().decode()}
    ask = urllib.request.Request(f"{URL}/latest/meta-data/{path}", headers=token)
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return answer.read().decode()


def states():
    made = fresh()
    ec2 = client("ec2")
    instance, group = bastion(made)
    identity = instance["InstanceId"]
    state = lambda: ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]["State"]["Name"]  # noqa: E731
    assert [state(), state()] == ["pending", "running"]
    change = ec2.stop_instances(InstanceIds=[identity])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping"), change
    refused("IncorrectInstanceState", ec2.start_instances, InstanceIds=[identity])
    assert [state(), state()] == ["stopping", "stopped"]
    ec2.start_instances(InstanceIds=[identity])
    assert [state(), state()] == ["pending", "running"]
    ec2.terminate_instances(InstanceIds=[identity])
    assert control("inventory")["instances"] != {}
    assert [state(), state()] == ["shutting-down", "terminated"]
    ec2.terminate_instances(InstanceIds=[identity])
    assert state() == "terminated"
    ec2.delete_security_group(GroupId=group)
    assert control("inventory")["instances"] == {}
    assert control("inventory")["volumes"] == {}
    assert control("inventory")["network_interfaces"] == {}
    clean()


def groups():
    made = fresh()
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=made["vpc"])["GroupId"]
    refused("InvalidGroup.Duplicate", ec2.create_security_group, GroupName="g", Description="d", VpcId=made["vpc"])
    rule = [
        {
            "IpProtocol": "tcp",
            "FromPort": 80,
            "ToPort": 80,
            "UserIdGroupPairs": [{"GroupId": made["alb_group"], "Description": "why"}],
        }
    ]
    tags = [{"ResourceType": "security-group-rule", "Tags": TAGS}]
    added = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule, TagSpecifications=tags)[
        "SecurityGroupRules"
    ][0]
    assert added["ReferencedGroupInfo"]["GroupId"] == made["alb_group"], added
    refused("InvalidPermission.Duplicate", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=rule)
    outward = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": group}]}]
    sent = ec2.authorize_security_group_egress(GroupId=made["alb_group"], IpPermissions=outward)["SecurityGroupRules"][
        0
    ]
    assert sent["IsEgress"], sent
    refused(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_egress,
        GroupId=made["alb_group"],
        IpPermissions=outward,
    )
    found = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    assert {each["SecurityGroupRuleId"] for each in found} >= {added["SecurityGroupRuleId"]}, found
    mine = next(each for each in found if not each["IsEgress"])
    assert mine["Description"] == "why" and mine["Tags"] == TAGS, mine
    # In use by a rule of another group.
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.revoke_security_group_egress(GroupId=made["alb_group"], SecurityGroupRuleIds=[sent["SecurityGroupRuleId"]])
    refused(
        "InvalidPermission.NotFound", ec2.revoke_security_group_egress, GroupId=made["alb_group"], IpPermissions=outward
    )
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    ec2.delete_security_group(GroupId=group)
    refused("InvalidGroup.NotFound", ec2.delete_security_group, GroupId=group)
    refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=[group])
    clean()


def endpoints():
    made = fresh()
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="e", Description="d", VpcId=made["vpc"])["GroupId"]
    tags = [{"ResourceType": "instance-connect-endpoint", "Tags": TAGS}]
    ask = dict(
        SubnetId=made["subnets"][0],
        SecurityGroupIds=[group],
        PreserveClientIp=False,
        ClientToken="t",
        TagSpecifications=tags,
    )
    one = ec2.create_instance_connect_endpoint(**ask)["InstanceConnectEndpoint"]
    same = ec2.create_instance_connect_endpoint(**ask)["InstanceConnectEndpoint"]
    assert one["InstanceConnectEndpointId"] == same["InstanceConnectEndpointId"]
    by_tag = [{"Name": "tag:ephemwork:project", "Values": ["shop"]}]
    look = lambda: [
        each["State"] for each in ec2.describe_instance_connect_endpoints(Filters=by_tag)["InstanceConnectEndpoints"]
    ]  # noqa: E731
    assert [look(), look()] == [["create-in-progress"], ["create-complete"]]
    ids = [one["InstanceConnectEndpointId"]]
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.delete_instance_connect_endpoint(InstanceConnectEndpointId=ids[0])
    assert [look(), look()] == [["delete-in-progress"], []]
    refused(
        "InvalidInstanceConnectEndpointId.NotFound",
        ec2.describe_instance_connect_endpoints,
        InstanceConnectEndpointIds=ids,
    )
    ec2.delete_security_group(GroupId=group)
    clean()


def roles():
    fresh()
    iam = client("iam")
    refused("NoSuchEntity", iam.get_role, RoleName="r")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, Tags=TAGS)
    refused("EntityAlreadyExists", iam.create_role, RoleName="r", AssumeRolePolicyDocument=TRUST)
    iam.update_assume_role_policy(RoleName="r", PolicyDocument=TRUST)
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=AGENT)
    found = iam.get_role_policy(RoleName="r", PolicyName="p")["PolicyDocument"]
    assert found == json.loads(AGENT), found
    managed = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    iam.attach_role_policy(RoleName="r", PolicyArn=managed)
    assert iam.list_role_policies(RoleName="r")["PolicyNames"] == ["p"]
    assert iam.list_attached_role_policies(RoleName="r")["AttachedPolicies"][0]["PolicyArn"] == managed
    iam.tag_role(RoleName="r", Tags=[{"Key": "a", "Value": "b"}])
    found = iam.get_role(RoleName="r")["Role"]
    assert found["AssumeRolePolicyDocument"] == json.loads(TRUST), found
    assert len(found["Tags"]) == 2, found["Tags"]
    iam.create_instance_profile(InstanceProfileName="r", Tags=TAGS)
    iam.add_role_to_instance_profile(InstanceProfileName="r", RoleName="r")
    refused("LimitExceeded", iam.add_role_to_instance_profile, InstanceProfileName="r", RoleName="r")
    iam.tag_instance_profile(InstanceProfileName="r", Tags=[{"Key": "a", "Value": "b"}])
    found = iam.get_instance_profile(InstanceProfileName="r")["InstanceProfile"]
    assert found["Roles"][0]["RoleName"] == "r" and len(found["Tags"]) == 2, found
    refused("DeleteConflict", iam.delete_instance_profile, InstanceProfileName="r")
    refused("DeleteConflict", iam.delete_role, RoleName="r")
    iam.remove_role_from_instance_profile(InstanceProfileName="r", RoleName="r")
    refused("DeleteConflict", iam.delete_role, RoleName="r")
    iam.delete_instance_profile(InstanceProfileName="r")
    iam.detach_role_policy(RoleName="r", PolicyArn=managed)
    refused("DeleteConflict", iam.delete_role, RoleName="r")
    iam.delete_role_policy(RoleName="r", PolicyName="p")
    iam.delete_role(RoleName="r")
    caller = "arn:aws:iam::123456789012:user/moto"
    control("deny", actions=["ec2:RunInstances"])
    verdicts = iam.simulate_principal_policy(PolicySourceArn=caller, ActionNames=["ec2:RunInstances", "iam:GetRole"])
    verdicts = [each["EvalDecision"] for each in verdicts["EvaluationResults"]]
    assert verdicts == ["implicitDeny", "allowed"], verdicts
    clean()


def balancing():
    made = fresh()
    elb = client("elbv2")
    assert elb.describe_load_balancers(LoadBalancerArns=[made["alb"]])["LoadBalancers"][0]["SecurityGroups"] == [
        made["alb_group"]
    ]
    assert elb.describe_listeners(ListenerArns=[made["listener"]])["Listeners"][0]["Port"] == 80
    ask = dict(
        Name="t",
        Protocol="HTTP",
        Port=80,
        VpcId=made["vpc"],
        TargetType="ip",
        HealthCheckPath="/ephemwork-health",
        HealthCheckProtocol="HTTP",
        Matcher={"HttpCode": "200"},
        HealthCheckIntervalSeconds=10,
        Tags=TAGS,
    )
    group = elb.create_target_group(**ask)["TargetGroups"][0]["TargetGroupArn"]
    assert elb.create_target_group(**ask)["TargetGroups"][0]["TargetGroupArn"] == group
    refused("DuplicateTargetGroupName", elb.create_target_group, **(ask | {"Port": 81}))
    elb.modify_target_group(TargetGroupArn=group, HealthCheckIntervalSeconds=15)
    elb.modify_target_group_attributes(
        TargetGroupArn=group, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "30"}]
    )
    attributes = elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
    assert {"Key": "deregistration_delay.timeout_seconds", "Value": "30"} in attributes, attributes
    target = [{"Id": "10.20.0.9", "Port": 80}]
    elb.register_targets(TargetGroupArn=group, Targets=target)
    health = lambda: [
        each["TargetHealth"]["State"]
        for each in elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    ]  # noqa: E731
    assert health() == ["unused"]
    actions = [{"Type": "forward", "TargetGroupArn": group}]
    has = [{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Ephemwork", "Values": ["*"]}}]
    refused("PriorityInUse", elb.create_rule, ListenerArn=made["listener"], Priority=1, Conditions=has, Actions=actions)
    rule = elb.create_rule(ListenerArn=made["listener"], Priority=2, Conditions=has, Actions=actions, Tags=TAGS)[
        "Rules"
    ][0]["RuleArn"]
    assert [health(), health()] == [["initial"], ["healthy"]]
    control("target", id="10.20.0.9", state="unhealthy", reason="Target.Timeout")
    assert health() == ["unhealthy"]
    control("target", id="10.20.0.9")
    refused("ResourceInUse", elb.delete_target_group, TargetGroupArn=group)
    preflight = [
        {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["OPTIONS"]}},
        {
            "Field": "http-header",
            "HttpHeaderConfig": {
                "HttpHeaderName": "Access-Control-Request-Headers",
                "Values": ["*x-ephemwork*", "*X-Ephemwork*"],
            },
        },
    ]
    other = elb.create_rule(ListenerArn=made["listener"], Priority=3, Conditions=preflight, Actions=actions)["Rules"][
        0
    ]["RuleArn"]
    elb.modify_rule(RuleArn=other, Conditions=preflight, Actions=actions)
    elb.set_rule_priorities(RulePriorities=[{"RuleArn": rule, "Priority": 3}, {"RuleArn": other, "Priority": 2}])
    refused("PriorityInUse", elb.set_rule_priorities, RulePriorities=[{"RuleArn": rule, "Priority": 1}])
    seen = {each["RuleArn"]: each for each in elb.describe_rules(RuleArns=[rule, other])["Rules"]}
    assert (seen[rule]["Priority"], seen[other]["Priority"]) == ("3", "2"), seen
    assert seen[other]["Conditions"][1]["HttpHeaderConfig"]["Values"] == ["*x-ephemwork*", "*X-Ephemwork*"], seen[other]
    elb.add_tags(ResourceArns=[rule, group], Tags=[{"Key": "more", "Value": "x"}])
    tags = elb.describe_tags(ResourceArns=[rule, group])["TagDescriptions"]
    assert all(len(each["Tags"]) == 2 for each in tags), tags
    elb.deregister_targets(TargetGroupArn=group, Targets=target)
    assert [health(), health()] == [["draining"], []]
    for each in (rule, other):
        elb.delete_rule(RuleArn=each)
    refused("RuleNotFound", elb.describe_rules, RuleArns=[rule])
    elb.delete_target_group(TargetGroupArn=group)
    refused("TargetGroupNotFound", elb.describe_target_groups, Names=["t"])
    clean()


def objects():
    made = fresh()
    s3 = client("s3")
    at = dict(Bucket=made["bucket"])
    assert s3.get_bucket_location(**at)["LocationConstraint"] == "eu-west-1"
    head = s3.head_object(Key=made["key"], **at)
    assert head["Metadata"] == {"sha256": made["sha256"], "architecture": "arm64"}, head
    assert head["ContentLength"] == len(b"a binary"), head
    assert s3.get_object(Key=made["key"], **at)["Body"].read() == b"a binary"
    s3.put_object(Key="k e/y+1", Body=b"x" * 100_000, Metadata={"a": "b"}, **at)
    assert s3.get_object(Key="k e/y+1", Range="bytes=0-9", **at)["Body"].read() == b"x" * 10
    refused("404", s3.head_object, Key="none", **at)
    refused("NoSuchKey", s3.get_object, Key="none", **at)
    upload = s3.create_multipart_upload(Key="big", Metadata={"sha256": "0"}, **at)["UploadId"]
    part = b"y" * 5 * 1024 * 1024
    tags = [s3.upload_part(Key="big", UploadId=upload, PartNumber=n, Body=part, **at)["ETag"] for n in (1, 2, 3)]
    assert s3.list_multipart_uploads(**at)["Uploads"][0]["UploadId"] == upload
    parts = s3.list_parts(Key="big", UploadId=upload, MaxParts=2, **at)
    assert parts["IsTruncated"] and len(parts["Parts"]) == 2, parts
    parts = s3.list_parts(Key="big", UploadId=upload, PartNumberMarker=parts["NextPartNumberMarker"], **at)
    assert not parts["IsTruncated"] and [each["PartNumber"] for each in parts["Parts"]] == [3], parts
    whole = {"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]}
    s3.complete_multipart_upload(Key="big", UploadId=upload, MultipartUpload=whole, **at)
    assert s3.head_object(Key="big", **at)["ContentLength"] == 3 * len(part)
    upload = s3.create_multipart_upload(Key="none", **at)["UploadId"]
    s3.abort_multipart_upload(Key="none", UploadId=upload, **at)
    refused("NoSuchUpload", s3.list_parts, Key="none", UploadId=upload, **at)
    # boto3 follows a redirect in silence; there was none.
    assert "PermanentRedirect" not in [each["outcome"] for each in control("calls")]
    clean()


def parameters():
    fresh()
    ssm = client("ssm")
    ssm.put_parameter(Name="/ephemwork/shop/host-key", Value="ssh-ed25519 A", Type="String", Tags=TAGS)
    refused("ParameterAlreadyExists", ssm.put_parameter, Name="/ephemwork/shop/host-key", Value="b", Type="String")
    ssm.put_parameter(Name="/ephemwork/shop/host-key", Value="b", Type="String", Overwrite=True)
    assert ssm.get_parameter(Name="/ephemwork/shop/host-key")["Parameter"]["Value"] == "b"
    found = ssm.get_parameters_by_path(Path="/ephemwork/shop", Recursive=True)["Parameters"]
    assert [each["Name"] for each in found] == ["/ephemwork/shop/host-key"], found
    ssm.delete_parameter(Name="/ephemwork/shop/host-key")
    refused("ParameterNotFound", ssm.get_parameter, Name="/ephemwork/shop/host-key")
    refused("ParameterNotFound", ssm.delete_parameter, Name="/ephemwork/shop/host-key")
    clean()


def agents():
    made = fresh()
    ssm, ec2 = client("ssm"), client("ec2")
    instance, _ = bastion(made)
    identity = instance["InstanceId"]
    wanted = [{"Key": "InstanceIds", "Values": [identity]}]
    ping = lambda: [
        each["PingStatus"] for each in ssm.describe_instance_information(Filters=wanted)["InstanceInformationList"]
    ]  # noqa: E731
    # Not before it runs, and not at the first look.
    assert ping() == []
    refused("TargetNotConnected", ssm.start_session, Target=identity)
    for _ in range(2):
        ec2.describe_instances()
    assert [ping(), ping()] == [[], ["Online"]]
    session = ssm.start_session(
        Target=identity, DocumentName="AWS-StartPortForwardingSession", Parameters={"portNumber": ["22"]}
    )
    identity_of = session["SessionId"]
    assert ssm.resume_session(SessionId=identity_of)["TokenValue"] != session["TokenValue"]
    by_target = [{"key": "Target", "value": identity}]
    assert len(ssm.describe_sessions(State="Active", Filters=by_target)["Sessions"]) == 1
    ssm.terminate_session(SessionId=identity_of)
    assert ssm.describe_sessions(State="Active")["Sessions"] == []
    assert len(ssm.describe_sessions(State="History")["Sessions"]) == 1
    refused("DoesNotExistException", ssm.resume_session, SessionId=identity_of)
    control("agent", instance=identity, ping="ConnectionLost")
    assert ping() == ["ConnectionLost"]
    # Without the right to register an agent is never seen.
    client("iam").delete_role_policy(RoleName="b", PolicyName="agent")
    control("agent", instance=identity)
    assert ping() == []
    clean()


if __name__ == "__main__":
    run([identity, compute, states, groups, endpoints, roles, balancing, objects, parameters, agents])
