"""Everything in the account as JSON that is the same for the same account: sorted, without dates and request ids. Terminated
instances are left out, as they are in a person's eyes."""

import json
import urllib.parse

# Members that change by themselves, or say when something happened.
FLEETING = {
    "LaunchTime",
    "CreateDate",
    "CreatedTime",
    "AttachTime",
    "CreateTime",
    "CreatedAt",
    "LastModifiedDate",
    "RoleLastUsed",
    "UsageOperationUpdateTime",
    "Timestamp",
    "StateTransitionReason",
    "OwnerId",
    "LastModified",
}


def take(world, region):
    def call(service, operation, **params):
        return world.account.call(service, region, operation, params)

    def iam(operation, **params):
        return world.account.call("iam", "us-east-1", operation, params)

    reservations = call("ec2", "DescribeInstances")["Reservations"]
    instances = [each for reservation in reservations for each in reservation["Instances"]]
    living = [each for each in instances if each["State"]["Name"] != "terminated"]
    for each in living:
        data = (
            call("ec2", "DescribeInstanceAttribute", InstanceId=each["InstanceId"], Attribute="userData").get(
                "UserData"
            )
            or {}
        )
        each["UserData"] = data.get("Value")
    found = {
        "instances": keyed(living, "InstanceId"),
        "volumes": keyed(call("ec2", "DescribeVolumes")["Volumes"], "VolumeId"),
        "network_interfaces": keyed(
            call("ec2", "DescribeNetworkInterfaces")["NetworkInterfaces"], "NetworkInterfaceId"
        ),
        "vpcs": keyed(call("ec2", "DescribeVpcs")["Vpcs"], "VpcId"),
        "subnets": keyed(call("ec2", "DescribeSubnets")["Subnets"], "SubnetId"),
        "security_groups": keyed(call("ec2", "DescribeSecurityGroups")["SecurityGroups"], "GroupId"),
        "key_pairs": keyed(call("ec2", "DescribeKeyPairs")["KeyPairs"], "KeyPairId"),
        "addresses": keyed(call("ec2", "DescribeAddresses")["Addresses"], "AllocationId"),
        "instance_connect_endpoints": {
            identity: each["data"] for identity, each in world.state.endpoints.items() if each["region"] == region
        },
        "roles": {each["RoleName"]: role(iam, each["RoleName"]) for each in iam("ListRoles")["Roles"]},
        "instance_profiles": {
            each["InstanceProfileName"]: profile(iam, each) for each in iam("ListInstanceProfiles")["InstanceProfiles"]
        },
        "policies": sorted(each["Arn"] for each in iam("ListPolicies", Scope="Local")["Policies"]),
        "parameters": parameters(call),
        "buckets": {each["Name"]: bucket(call, each["Name"]) for each in call("s3", "ListBuckets")["Buckets"]},
    }
    return stable(found | balancing(call))


def keyed(entries, key):
    return {each[key]: each for each in entries}


def role(iam, name):
    found = iam("GetRole", RoleName=name)["Role"]
    found["AssumeRolePolicyDocument"] = document(found["AssumeRolePolicyDocument"])
    found["Inline"] = {
        each: document(iam("GetRolePolicy", RoleName=name, PolicyName=each)["PolicyDocument"])
        for each in iam("ListRolePolicies", RoleName=name)["PolicyNames"]
    }
    found["Attached"] = sorted(
        each["PolicyArn"] for each in iam("ListAttachedRolePolicies", RoleName=name)["AttachedPolicies"]
    )
    return found


def profile(iam, found):
    found = iam("GetInstanceProfile", InstanceProfileName=found["InstanceProfileName"])["InstanceProfile"]
    return found | {"Roles": sorted(each["RoleName"] for each in found["Roles"])}


def document(text):
    return json.loads(urllib.parse.unquote(text)) if isinstance(text, str) else text


def balancing(call):
    balancers = call("elbv2", "DescribeLoadBalancers")["LoadBalancers"]
    listeners, rules = {}, {}
    for balancer in balancers:
        for listener in call("elbv2", "DescribeListeners", LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
            listeners[listener["ListenerArn"]] = listener
            for rule in call("elbv2", "DescribeRules", ListenerArn=listener["ListenerArn"])["Rules"]:
                rules[rule["RuleArn"]] = rule
    groups = keyed(call("elbv2", "DescribeTargetGroups")["TargetGroups"], "TargetGroupArn")
    for arn, group in groups.items():
        attributes = call("elbv2", "DescribeTargetGroupAttributes", TargetGroupArn=arn)["Attributes"]
        group["Attributes"] = {each["Key"]: each["Value"] for each in attributes}
        health = call("elbv2", "DescribeTargetHealth", TargetGroupArn=arn)["TargetHealthDescriptions"]
        group["Targets"] = sorted(f"{each['Target']['Id']}:{each['Target'].get('Port')}" for each in health)
    for kind in (keyed(balancers, "LoadBalancerArn"), listeners, rules, groups):
        for arn, each in kind.items():
            tags = call("elbv2", "DescribeTags", ResourceArns=[arn])["TagDescriptions"][0]["Tags"]
            each["Tags"] = sorted(tags, key=lambda tag: tag["Key"])
    return {
        "load_balancers": keyed(balancers, "LoadBalancerArn"),
        "listeners": listeners,
        "rules": rules,
        "target_groups": groups,
    }


def parameters(call):
    """The account's own, not AWS's public ones."""
    found = {}
    token = {}
    while True:
        page = call("ssm", "DescribeParameters", **token)
        for each in page["Parameters"]:
            if each["Name"].startswith("/aws/"):
                continue
            value = call("ssm", "GetParameter", Name=each["Name"], WithDecryption=True)["Parameter"]
            tags = call("ssm", "ListTagsForResource", ResourceType="Parameter", ResourceId=each["Name"])["TagList"]
            found[each["Name"]] = {
                "Value": value["Value"],
                "Type": value["Type"],
                "Version": value["Version"],
                "Tags": tags,
            }
        if not page.get("NextToken"):
            return found
        token = {"NextToken": page["NextToken"]}


def bucket(call, name):
    objects = {}
    for each in call("s3", "ListObjectsV2", Bucket=name).get("Contents", []):
        objects[each["Key"]] = {"ETag": each["ETag"], "Size": each["Size"]}
    uploads = call("s3", "ListMultipartUploads", Bucket=name).get("Uploads", [])
    return {"Objects": objects, "Uploads": sorted(each["Key"] for each in uploads)}


def stable(value):
    """Without what is fleeting; lists of structures in an order of their own."""
    if isinstance(value, dict):
        return {key: stable(part) for key, part in sorted(value.items()) if key not in FLEETING}
    if isinstance(value, list):
        parts = [stable(part) for part in value]
        return sorted(parts, key=lambda part: json.dumps(part, sort_keys=True, default=str))
    return value
