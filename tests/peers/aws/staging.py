"""A staging environment as a team has one, for the product to be set up in: a VPC with private subnets, a load balancer with a
listener and rules of the team's own, and a bucket. Made in moto itself, unseen by checks, faults and journal."""

import hashlib

REGION = "eu-west-1"

# Where a binary of the product lies, as `xtask release` puts it there.
KEY = "ephemwork/0.1.0/ephemwork-{}"


def make(
    world,
    region=REGION,
    name="shop",
    default_vpc=False,
    bucket="shop-releases",
    binary="a binary",
    architecture="arm64",
    listener_port=80,
):
    """Makes it, and gives all ids by name. Without `default_vpc` the account's default VPC is removed, as careful teams do."""

    def call(service, operation, **params):
        return world.account.call(service, region, operation, params)

    if not default_vpc:
        remove_default(call)
    tag = lambda kind, what: [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": what}]}]  # noqa: E731
    vpc = call("ec2", "CreateVpc", CidrBlock="10.20.0.0/16", TagSpecifications=tag("vpc", f"{name}-staging"))["Vpc"][
        "VpcId"
    ]
    subnets = [
        call(
            "ec2",
            "CreateSubnet",
            VpcId=vpc,
            CidrBlock=f"10.20.{number}.0/24",
            AvailabilityZone=region + zone,
            TagSpecifications=tag("subnet", f"{name}-private-{zone}"),
        )["Subnet"]["SubnetId"]
        for number, zone in enumerate("ab")
    ]

    def group(what, text):
        made = call("ec2", "CreateSecurityGroup", GroupName=f"{name}-{what}", Description=text, VpcId=vpc)["GroupId"]
        # Infrastructure code takes the open egress rule away; so the bastion's own rule is needed.
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        call("ec2", "RevokeSecurityGroupEgress", GroupId=made, IpPermissions=everything)
        return made

    alb_group, app_group = group("alb", "load balancer of staging"), group("app", "services of staging")
    pair = [{"UserIdGroupPairs": [{"GroupId": app_group}], "IpProtocol": "tcp", "FromPort": 8000, "ToPort": 8000}]
    call("ec2", "AuthorizeSecurityGroupEgress", GroupId=alb_group, IpPermissions=pair)
    call(
        "ec2",
        "AuthorizeSecurityGroupIngress",
        GroupId=alb_group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}],
    )
    balancer = call(
        "elbv2",
        "CreateLoadBalancer",
        Name=f"{name}-staging",
        Subnets=subnets,
        SecurityGroups=[alb_group],
        Scheme="internal",
    )
    balancer = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    services = call(
        "elbv2", "CreateTargetGroup", Name=f"{name}-api", Protocol="HTTP", Port=8000, VpcId=vpc, TargetType="ip"
    )
    services = services["TargetGroups"][0]["TargetGroupArn"]
    forward = [{"Type": "forward", "TargetGroupArn": services}]
    listener = call(
        "elbv2", "CreateListener", LoadBalancerArn=balancer, Protocol="HTTP", Port=listener_port, DefaultActions=forward
    )
    listener = listener["Listeners"][0]["ListenerArn"]
    rules = [
        call(
            "elbv2",
            "CreateRule",
            ListenerArn=listener,
            Priority=priority,
            Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [path]}}],
            Actions=forward,
        )["Rules"][0]["RuleArn"]
        for priority, path in ((1, "/api/*"), (10, "/static/*"))
    ]
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    call("s3", "CreateBucket", Bucket=bucket, **place)
    key, body = KEY.format(architecture), binary.encode()
    digest = hashlib.sha256(body).hexdigest()
    call(
        "s3", "PutObject", Bucket=bucket, Key=key, Body=body, Metadata={"sha256": digest, "architecture": architecture}
    )
    return {
        "region": region,
        "account": "123456789012",
        "vpc": vpc,
        "subnets": subnets,
        "alb": balancer,
        "alb_group": alb_group,
        "app_group": app_group,
        "listener": listener,
        "target_group": services,
        "rules": rules,
        "bucket": bucket,
        "key": key,
        "uri": f"s3://{bucket}/{key}",
        "sha256": digest,
    }


def remove_default(call):
    for vpc in call("ec2", "DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]:
        mine = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        for subnet in call("ec2", "DescribeSubnets", Filters=mine)["Subnets"]:
            call("ec2", "DeleteSubnet", SubnetId=subnet["SubnetId"])
        call("ec2", "DeleteVpc", VpcId=vpc["VpcId"])
