"""EC2 as it behaves beyond moto: launches, states, groups that are in use, endpoints."""

import base64
import datetime
import secrets

import settling
from encode import Refusal

# EC2's limit of user data before base64, in bytes.
MAX_USER_DATA = 16 * 1024


def run_instances(world, call, params):
    region = call.region
    token = params.get("ClientToken")
    if token is not None and (region, token) in world.state.tokens:
        asked, identities, kept = world.state.tokens[region, token]
        if asked != repr(params):
            raise Refusal(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        found = world.pass_on(call, {"InstanceIds": identities}, "DescribeInstances")["Reservations"]
        return found[0] if found else kept
    check_launch(world, call, params)
    data = world.pass_on(call, with_defaults(params))
    identities = []
    for instance in data["Instances"]:
        identity = instance["InstanceId"]
        identities.append(identity)
        groups = settling.take_groups(region, identity)
        instance["SecurityGroups"] = [{"GroupId": each.id, "GroupName": each.name} for each in groups]
        world.state.instances.groups[region, identity] = [each.id for each in groups]
        state = world.state.instances.move(region, identity, "pending", "running", world.habits["settling"])
        instance["State"] = {"Code": settling.CODES[state], "Name": state}
    if token is not None:
        world.state.tokens[region, token] = (repr(params), identities, data)
    return data


def with_defaults(params):
    """An interface made at a launch, and the volumes of Amazon's images, go with their instance unless told otherwise."""
    params = dict(params)
    goes = {"DeleteOnTermination": True}
    if "NetworkInterfaces" in params:
        params["NetworkInterfaces"] = [
            each if "NetworkInterfaceId" in each else goes | each for each in params["NetworkInterfaces"]
        ]
    if "BlockDeviceMappings" in params:
        params["BlockDeviceMappings"] = [
            each | {"Ebs": goes | each["Ebs"]} if "Ebs" in each else each for each in params["BlockDeviceMappings"]
        ]
    return params


def check_launch(world, call, params):
    """What AWS refuses at a launch and moto does not."""
    known_profile(world, call, params.get("IamInstanceProfile"))
    data = params.get("UserData")
    if data is not None:
        try:
            size = len(base64.b64decode(data, validate=True))
        except ValueError:
            raise Refusal("InvalidParameterValue", "Invalid BASE64 encoding of user data.") from None
        if size > MAX_USER_DATA:
            raise Refusal("InvalidParameterValue", "User data is limited to 16384 bytes")
    kind = params.get("InstanceType", "m1.small")
    types = world.pass_on(call, {"InstanceTypes": [kind]}, "DescribeInstanceTypes")["InstanceTypes"]
    images = (
        world.pass_on(call, {"ImageIds": [params["ImageId"]]}, "DescribeImages")["Images"]
        if "ImageId" in params
        else []
    )
    for image in images:
        fits = [each for one in types for each in one["ProcessorInfo"]["SupportedArchitectures"]]
        if image["Architecture"] not in fits:
            text = (
                f"The architecture '{','.join(fits)}' of the specified instance type does not match the architecture "
                f"'{image['Architecture']}' of the specified AMI."
            )
            raise Refusal("InvalidParameterValue", text)
    interfaces = params.get("NetworkInterfaces", [])
    if interfaces and (params.get("SubnetId") or params.get("SecurityGroupIds")):
        raise Refusal(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request",
        )
    groups = [each for one in [params, *interfaces] for each in one.get("SecurityGroupIds", one.get("Groups", []))]
    subnets = [each["SubnetId"] for each in [params, *interfaces] if each.get("SubnetId")]
    if groups and subnets:
        vpc = world.pass_on(call, {"SubnetIds": subnets[:1]}, "DescribeSubnets")["Subnets"][0]["VpcId"]
        for group in world.pass_on(call, {"GroupIds": groups}, "DescribeSecurityGroups")["SecurityGroups"]:
            if group["VpcId"] != vpc:
                raise Refusal(
                    "InvalidParameter",
                    f"Security group {group['GroupId']} and subnet {subnets[0]} belong to different networks.",
                )


def known_profile(world, call, profile):
    """IAM tells EC2 of a new instance profile only after a while."""
    if not profile:
        return
    name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
    member = "name" if "Name" in profile else "arn"
    refusal = Refusal(
        "InvalidParameterValue",
        f"Value ({profile.get('Name') or profile.get('Arn')}) for parameter iamInstanceProfile.{member} is invalid. "
        f"Invalid IAM Instance Profile {'name' if member == 'name' else 'ARN'}",
    )
    left = world.state.propagation.get(name, 0)
    if left > 0:
        world.state.propagation[name] = left - 1
        raise refusal
    try:
        world.account.call("iam", "us-east-1", "GetInstanceProfile", {"InstanceProfileName": name})
    except Refusal:
        raise refusal from None


def describe_instances(world, call, params):
    world.state.instances.look(call.region)
    return world.pass_on(call, params)


def change(through, to, wanted, allowed):
    """A handler for Start-, Stop- and TerminateInstances."""

    def handler(world, call, params):
        before = {}
        for identity in params["InstanceIds"]:
            before[identity] = world.state.instances.state(call.region, identity)
            # An unknown one is refused by moto in AWS's words.
            if before[identity] is not None and before[identity] not in allowed:
                settling.refuse_state(identity, before[identity], wanted)
        # moto ends an instance twice; what is on its way or there already is left alone.
        moving = [identity for identity, state in before.items() if state not in (to, through)]
        if moving:
            world.pass_on(call, params | {"InstanceIds": moving})
        changes = []
        for identity, state in before.items():
            after = state
            if identity in moving:
                after = world.state.instances.move(call.region, identity, through, to, world.habits["settling"])
            changes.append({"InstanceId": identity} | settling.state_change(state, after))
            world.state.agents.forget(identity)
        key = {"running": "StartingInstances", "stopped": "StoppingInstances", "terminated": "TerminatingInstances"}[to]
        return {key: changes}

    return handler


def console_output(world, call, params):
    identity = params["InstanceId"]
    world.pass_on(call, {"InstanceIds": [identity]}, "DescribeInstances")
    text = world.state.console.get(identity)
    now = datetime.datetime.now(datetime.timezone.utc)
    data = {"InstanceId": identity, "Timestamp": now}
    return data if text is None else data | {"Output": base64.b64encode(text.encode()).decode()}


def delete_group(world, call, params):
    group = params.get("GroupId")
    if group is None:
        return world.pass_on(call, params)
    world.pass_on(call, {"GroupIds": [group]}, "DescribeSecurityGroups")
    users = world.state.instances.holds(call.region, group)
    wanted = {"Filters": [{"Name": "group-id", "Values": [group]}]}
    users += [
        each["NetworkInterfaceId"]
        for each in world.pass_on(call, wanted, "DescribeNetworkInterfaces")["NetworkInterfaces"]
    ]
    for each in world.pass_on(call, {}, "DescribeSecurityGroups")["SecurityGroups"]:
        rules = each["IpPermissions"] + each["IpPermissionsEgress"]
        if each["GroupId"] != group and any(
            pair.get("GroupId") == group for rule in rules for pair in rule["UserIdGroupPairs"]
        ):
            users.append(each["GroupId"])
    for balancer in world.account.call("elbv2", call.region, "DescribeLoadBalancers")["LoadBalancers"]:
        if group in balancer.get("SecurityGroups", []):
            users.append(balancer["LoadBalancerName"])
    if users:
        # A client that only tries again must come to its end too.
        world.state.instances.look(call.region)
        raise Refusal("DependencyViolation", f"resource {group} has a dependent object")
    world.pass_on(call, params)
    return {"Return": True, "GroupId": group}


def authorize(world, call, params):
    """AWS does not take a rule that is there already, whatever its description, nor one twice in one call."""
    group = params.get("GroupId")
    if group:
        key = "IpPermissionsEgress" if call.operation.endswith("Egress") else "IpPermissions"
        found = world.pass_on(call, {"GroupIds": [group]}, "DescribeSecurityGroups")["SecurityGroups"][0]
        known = {peer for rule in found[key] for peer in peers(rule)}
        asked = [peer for rule in params.get("IpPermissions", []) for peer in peers(rule)]
        for peer in asked:
            if peer in known or asked.count(peer) > 1:
                named = f"peer: {peer[3]}, {peer[0].upper()}, from port: {peer[1]}, to port: {peer[2]}, ALLOW"
                text = f'the specified rule "{named}" already exists'
                raise Refusal("InvalidPermission.Duplicate", text)
    return world.pass_on(call, params)


def peers(rule):
    """One (protocol, from, to, peer) for each peer of a permission."""
    base = (rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort"))
    for member, key in (
        ("IpRanges", "CidrIp"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("UserIdGroupPairs", "GroupId"),
        ("PrefixListIds", "PrefixListId"),
    ):
        for each in rule.get(member) or []:
            yield (*base, each.get(key))


def revoke(world, call, params):
    """AWS tells an unknown rule apart by InvalidPermission.NotFound, and says what it took away."""
    return world.pass_on(call, params) | {"Return": True}


# -- EC2 Instance Connect Endpoints, which moto lacks


def create_endpoint(world, call, params):
    store = world.state.endpoints
    token = params.get("ClientToken")
    for each in store.values():
        if token is not None and each["token"] == token and each["region"] == call.region:
            return {"InstanceConnectEndpoint": each["data"], "ClientToken": token}
    subnet = world.pass_on(call, {"SubnetIds": [params["SubnetId"]]}, "DescribeSubnets")["Subnets"][0]
    if any(each["data"]["VpcId"] == subnet["VpcId"] for each in store.values()):
        raise Refusal(
            "InstanceConnectEndpointLimitExceeded",
            "The maximum number of instance connect endpoints for this VPC has been reached.",
        )
    groups = params.get("SecurityGroupIds")
    interface = {"SubnetId": params["SubnetId"], "Description": "EC2 Instance Connect Endpoint", "Groups": groups}
    interface = {key: value for key, value in interface.items() if value is not None}
    made = world.pass_on(call, interface, "CreateNetworkInterface")["NetworkInterface"]
    identity = "eice-" + secrets.token_hex(9)[:17]
    tags = [tag for spec in params.get("TagSpecifications", []) for tag in spec.get("Tags", [])]
    data = {
        "OwnerId": made["OwnerId"],
        "InstanceConnectEndpointId": identity,
        "InstanceConnectEndpointArn": f"arn:aws:ec2:{call.region}:{made['OwnerId']}:instance-connect-endpoint/{identity}",
        "State": "create-in-progress",
        "StateMessage": "",
        "DnsName": endpoint_host(world, call, identity),
        "NetworkInterfaceIds": [made["NetworkInterfaceId"]],
        "VpcId": subnet["VpcId"],
        "AvailabilityZone": subnet["AvailabilityZone"],
        "CreatedAt": datetime.datetime.now(datetime.timezone.utc),
        "SubnetId": params["SubnetId"],
        "PreserveClientIp": params.get("PreserveClientIp", False),
        "SecurityGroupIds": [group["GroupId"] for group in made["Groups"]],
        "Tags": tags,
    }
    store[identity] = {"region": call.region, "token": token, "data": data, "left": world.habits["settling"]}
    return {"InstanceConnectEndpoint": data, "ClientToken": token}


def endpoint_host(world, call, identity):
    """Where its tunnels are: at the double, if there is one, whose port belongs to the name then."""
    if world.double is not None:
        return world.double.secure
    return f"{identity}.00000000.ec2-instance-connect-endpoint.{call.region}.amazonaws.com"


def describe_endpoints(world, call, params):
    world.state.look_at_endpoints(world, call)
    mine = {identity: each["data"] for identity, each in world.state.endpoints.items() if each["region"] == call.region}
    for identity in params.get("InstanceConnectEndpointIds", []):
        if identity not in mine:
            raise unknown_endpoint(identity)
    names = {
        "instance-connect-endpoint-id": "InstanceConnectEndpointId",
        "state": "State",
        "subnet-id": "SubnetId",
        "vpc-id": "VpcId",
    }
    found = []
    for data in mine.values():
        tags = {tag["Key"]: tag["Value"] for tag in data["Tags"]}
        fits = (
            not params.get("InstanceConnectEndpointIds")
            or data["InstanceConnectEndpointId"] in params["InstanceConnectEndpointIds"]
        )
        for each in params.get("Filters", []):
            name = each["Name"]
            if name in names:
                fits &= data[names[name]] in each["Values"]
            elif name.startswith("tag:"):
                fits &= tags.get(name[4:]) in each["Values"]
            elif name == "tag-key":
                fits &= bool(set(tags) & set(each["Values"]))
            else:
                raise Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
        if fits:
            found.append(data)
    return {"InstanceConnectEndpoints": found}


def delete_endpoint(world, call, params):
    entry = world.state.endpoints.get(params["InstanceConnectEndpointId"])
    if entry is None or entry["region"] != call.region:
        raise unknown_endpoint(params["InstanceConnectEndpointId"])
    entry["data"]["State"] = "delete-in-progress"
    entry["left"] = world.habits["settling"]
    return {"InstanceConnectEndpoint": entry["data"]}


def unknown_endpoint(identity):
    return Refusal(
        "InvalidInstanceConnectEndpointId.NotFound", f"The instance connect endpoint ID '{identity}' does not exist"
    )


def create_tags(world, call, params):
    """moto does not know the endpoints, which are kept here."""
    rest = []
    for identity in params["Resources"]:
        if identity in world.state.endpoints:
            tags = {tag["Key"]: tag for tag in world.state.endpoints[identity]["data"]["Tags"] + params["Tags"]}
            world.state.endpoints[identity]["data"]["Tags"] = list(tags.values())
        else:
            rest.append(identity)
    return world.pass_on(call, params | {"Resources": rest}) if rest else {}


def metadata_options(world, call, params):
    """What is not named stays as it is."""
    found = world.pass_on(call, {"InstanceIds": [params["InstanceId"]]}, "DescribeInstances")["Reservations"]
    kept = found[0]["Instances"][0].get("MetadataOptions", {})
    members = set(call.model.input_shape.members)
    return world.pass_on(call, {key: value for key, value in kept.items() if key in members} | params)


def associate_profile(world, call, params):
    known_profile(world, call, params["IamInstanceProfile"])
    return world.pass_on(call, params)


HANDLERS = {
    "ec2:RunInstances": run_instances,
    "ec2:DescribeInstances": describe_instances,
    "ec2:StartInstances": change("pending", "running", "started", ("pending", "running", "stopped")),
    "ec2:StopInstances": change("stopping", "stopped", "stopped", ("pending", "running", "stopping", "stopped")),
    "ec2:TerminateInstances": change("shutting-down", "terminated", "terminated", tuple(settling.CODES)),
    "ec2:GetConsoleOutput": console_output,
    "ec2:DeleteSecurityGroup": delete_group,
    "ec2:AuthorizeSecurityGroupIngress": authorize,
    "ec2:AuthorizeSecurityGroupEgress": authorize,
    "ec2:RevokeSecurityGroupIngress": revoke,
    "ec2:RevokeSecurityGroupEgress": revoke,
    "ec2:CreateInstanceConnectEndpoint": create_endpoint,
    "ec2:DescribeInstanceConnectEndpoints": describe_endpoints,
    "ec2:DeleteInstanceConnectEndpoint": delete_endpoint,
    "ec2:CreateTags": create_tags,
    "ec2:ModifyInstanceMetadataOptions": metadata_options,
    "ec2:AssociateIamInstanceProfile": associate_profile,
}
