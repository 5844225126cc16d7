"""Rules that AWS states in its documentation and not in its service models; each is refused as AWS refuses it."""

import ipaddress
import re

from encode import Refusal

# EC2 User Guide, "Security group rules" and CreateSecurityGroup: what names and descriptions may be made of.
GROUP_TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")

# EC2, "Ensuring idempotency": a client token in ASCII characters.
MAX_TOKEN = 64

# Elastic Load Balancing, "Quotas for your Application Load Balancers": values of all conditions of one rule.
MAX_CONDITION_VALUES = 5


def check(world, call):
    token = call.params.get("ClientToken")
    if call.service == "ec2" and token is not None and (len(token) > MAX_TOKEN or not token.isascii()):
        raise Refusal("InvalidParameterValue", f"Value ({token}) for parameter clientToken is invalid.")
    rule = RULES.get(call.name)
    if rule is not None:
        rule(world, call, call.params)


def group_name(world, call, params):
    for member in ("GroupName", "Description"):
        if not GROUP_TEXT.fullmatch(params[member]):
            refuse_text(params[member], "Group" + member.removeprefix("Group"))
    if params["GroupName"].startswith("sg-"):
        refuse_text(params["GroupName"], "GroupName")


def rule_descriptions(world, call, params):
    for permission in params.get("IpPermissions", []):
        for member in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds"):
            for peer in permission.get(member, []):
                text = peer.get("Description")
                if text is not None and not GROUP_TEXT.fullmatch(text):
                    refuse_text(text, "Description")


def refuse_text(text, member):
    raise Refusal(
        "InvalidParameterValue", f"Value ({text}) for parameter {member} is invalid. Invalid characters or length."
    )


def reserved_tags(world, call, params):
    tags = params.get("Tags", []) + [
        tag for spec in params.get("TagSpecifications", []) for tag in spec.get("Tags", [])
    ]
    for tag in tags:
        if tag.get("Key", "").lower().startswith("aws:"):
            raise Refusal("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")


def condition_values(world, call, params):
    values = 0
    for condition in params.get("Conditions", []):
        for member, part in condition.items():
            if member.endswith("Config"):
                values += len(part.get("Values", []))
            elif member == "Values":
                values += len(part)
    if values > MAX_CONDITION_VALUES:
        raise Refusal("ValidationError", "A rule can only have '5' condition values")


def target_zone(world, call, params):
    """An address inside the VPC has the zone of its subnet; one outside must say `all`."""
    group = world.pass_on(call, {"TargetGroupArns": [params["TargetGroupArn"]]}, "DescribeTargetGroups")[
        "TargetGroups"
    ][0]
    if group.get("TargetType") != "ip":
        return
    found = world.account.call("ec2", call.region, "DescribeVpcs", {"VpcIds": [group["VpcId"]]})["Vpcs"][0]
    blocks = [found["CidrBlock"]] + [each["CidrBlock"] for each in found.get("CidrBlockAssociationSet", [])]
    for target in params["Targets"]:
        try:
            address = ipaddress.ip_address(target["Id"])
        except ValueError:
            raise Refusal("ValidationError", f"The target ID '{target['Id']}' is not a valid IP address") from None
        inside = any(address in ipaddress.ip_network(block) for block in blocks)
        if inside and target.get("AvailabilityZone") == "all":
            text = f"You cannot specify the Availability Zone 'all' for the target '{address}', which is inside the VPC"
            raise Refusal("ValidationError", text)
        if not inside and target.get("AvailabilityZone") != "all":
            text = f"You must specify the Availability Zone 'all' for the target '{address}', which is outside the VPC"
            raise Refusal("ValidationError", text)


def parameter_tags(world, call, params):
    if params.get("Overwrite") and params.get("Tags"):
        text = "Invalid request: tags and overwrite can't be used together."
        raise Refusal("ValidationException", text)


RULES = {
    "ec2:CreateSecurityGroup": group_name,
    "ec2:AuthorizeSecurityGroupIngress": rule_descriptions,
    "ec2:AuthorizeSecurityGroupEgress": rule_descriptions,
    "ec2:CreateTags": reserved_tags,
    "ec2:RunInstances": reserved_tags,
    "elbv2:CreateRule": condition_values,
    "elbv2:ModifyRule": condition_values,
    "elbv2:RegisterTargets": target_zone,
    "ssm:PutParameter": parameter_tags,
}
