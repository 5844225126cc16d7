"""What IAM must allow for a call: each action with the resource and the condition keys that AWS gives it, from the parameters and
from what stands in the account (Service Authorization Reference, a page a service). And the caller, who may no more than that."""

import models
import policies
from account import NUMBER
from encode import Refusal

# Calls that need no permission (API reference of GetCallerIdentity).
FREE = {"sts:GetCallerIdentity"}

# Whose role an account's first endpoint makes.
ENDPOINT_SERVICE = "ec2-instance-connect.amazonaws.com"


class Authority:
    """A caller's policies, and who the caller is to their variables."""

    def __init__(self, documents, principal):
        self.statements = [each for one in documents for each in policies.read(one)]
        # Keys of the principal: aws:username, aws:userid, aws:PrincipalTag/...
        self.principal = principal

    def decide(self, action, resource, context):
        return policies.decide(self.statements, action, resource, self.principal | context)

    def check(self, world, call, entry):
        """Refuses as AWS would, and notes in the journal what was needed and which statement allowed it."""
        entry["needs"] = []
        for action, resource, context in needs(world, call):
            decision, by = self.decide(action, resource, context)
            entry["needs"].append({"action": action, "resource": resource, "decision": decision, "by": by})
            if decision != "allowed":
                raise denied(call, action, resource)

    def simulate(self, params):
        """IAM's own answer to what-if: each action on each resource, with the context that is given and the caller's own."""
        given = {each["ContextKeyName"]: value(each) for each in params.get("ContextEntries", [])}
        found = []
        for action in params["ActionNames"]:
            for resource in params.get("ResourceArns", ["*"]):
                decision, _ = self.decide(action, resource, given)
                found.append(
                    {
                        "EvalActionName": action,
                        "EvalResourceName": resource,
                        "EvalDecision": decision,
                        "MatchedStatements": [],
                    }
                )
        return {"EvaluationResults": found, "IsTruncated": False}


def value(entry):
    values = entry["ContextKeyValues"]
    return values if entry["ContextKeyType"].endswith("List") else values[0]


def denied(call, action, resource):
    text = f"User: {call.caller} is not authorized to perform: {action} on resource: {resource}"
    text += f" because no identity-based policy allows the {action} action"
    code, status = {"ec2": ("UnauthorizedOperation", 403), "json": ("AccessDeniedException", 400)}.get(
        call.protocol, ("AccessDenied", 403)
    )
    return Refusal(code, text, status)


def needs(world, call):
    """[(action, resource, context)]"""
    if call.name in FREE:
        return []
    found = NEEDS.get(call.name)
    prefix = {"elbv2": "elasticloadbalancing"}.get(call.service, call.service)
    action = f"{prefix}:{call.operation}"
    if found is not None:
        return found(world, call, call.params, action)
    # What describes has no resource of its own.
    if call.operation.startswith("Describe"):
        return [(action, "*", {})]
    raise KeyError(f"what {call.name} needs is not known: authority.py")


# -- names and tags


def arn(call, service, rest, region=None, account=NUMBER):
    region = call.region if region is None else region
    return f"arn:{models.partition(call.region)}:{service}:{region}:{account}:{rest}"


def ec2(call, kind, identity="*"):
    return arn(call, "ec2", f"{kind}/{identity}", account="" if kind == "image" else NUMBER)


def tags(prefixes, given):
    return {f"{prefix}/{key}": text for prefix in prefixes for key, text in given.items()}


def of_ec2(world, call, identity):
    """The tags that a thing has."""
    entry = world.state.endpoints.get(identity)
    if entry is not None:
        given = entry["data"]["Tags"]
    else:
        filters = [{"Name": "resource-id", "Values": [identity]}]
        given = world.account.call("ec2", call.region, "DescribeTags", {"Filters": filters})["Tags"]
    return tags(("aws:ResourceTag", "ec2:ResourceTag"), {each["Key"]: each["Value"] for each in given})


def of_balancing(world, call, resource):
    given = world.account.call("elbv2", call.region, "DescribeTags", {"ResourceArns": [resource]})["TagDescriptions"]
    own = {each["Key"]: each["Value"] for one in given for each in one["Tags"]}
    return tags(("aws:ResourceTag", "elasticloadbalancing:ResourceTag"), own)


def requested(given):
    """The keys of tags in a request."""
    if not given:
        return {}
    found = {each["Key"]: each["Value"] for each in given}
    return tags(("aws:RequestTag",), found) | {"aws:TagKeys": sorted(found)}


def specified(params, kind):
    """The tags that a request of EC2 has for one kind of thing."""
    return [tag for spec in params.get("TagSpecifications", []) if spec["ResourceType"] == kind for tag in spec["Tags"]]


def tagged(call, params, kind):
    """CreateTags of something that is being made."""
    given = specified(params, kind)
    if not given:
        return []
    return [("ec2:CreateTags", ec2(call, kind), requested(given) | {"ec2:CreateAction": call.operation})]


# -- EC2


def run_instances(world, call, params, action):
    instance = requested(specified(params, "instance")) | {"ec2:InstanceType": params["InstanceType"]}
    found = [(action, ec2(call, "instance"), instance), (action, ec2(call, "image", params["ImageId"]), {})]
    for each in params.get("BlockDeviceMappings", []):
        context = requested(specified(params, "volume")) | {"ec2:Encrypted": str(each["Ebs"]["Encrypted"]).lower()}
        found.append((action, ec2(call, "volume"), context))
    for each in params["NetworkInterfaces"]:
        context = requested(specified(params, "network-interface"))
        found.append((action, ec2(call, "network-interface"), context))
        found.append((action, ec2(call, "subnet", each["SubnetId"]), of_ec2(world, call, each["SubnetId"])))
        found += [(action, ec2(call, "security-group", one), of_ec2(world, call, one)) for one in each["Groups"]]
    for kind in ("instance", "volume", "network-interface"):
        found += tagged(call, params, kind)
    return found + passed(world, call, params["IamInstanceProfile"]["Name"])


def passed(world, call, profile):
    """Whoever gives an instance a profile hands its role to EC2."""
    try:
        found = world.account.call("iam", "us-east-1", "GetInstanceProfile", {"InstanceProfileName": profile})
    except Refusal:
        return []  # There is none, which the operation itself says.
    roles = [each["RoleName"] for each in found["InstanceProfile"]["Roles"]]
    return [pass_role(call, role) for role in roles]


def pass_role(call, role):
    suffix = "amazonaws.com.cn" if models.partition(call.region) == "aws-cn" else "amazonaws.com"
    return ("iam:PassRole", iam(call, "role", role), {"iam:PassedToService": f"ec2.{suffix}"})


def create_group(world, call, params, action):
    own = requested(specified(params, "security-group"))
    vpc = params["VpcId"]
    found = [(action, ec2(call, "security-group"), own), (action, ec2(call, "vpc", vpc), of_ec2(world, call, vpc))]
    return found + tagged(call, params, "security-group")


def authorize(world, call, params, action):
    group = params["GroupId"]
    context = requested(specified(params, "security-group-rule"))
    found = [
        (action, ec2(call, "security-group", group), of_ec2(world, call, group)),
        (action, ec2(call, "security-group-rule"), context),
    ]
    return found + tagged(call, params, "security-group-rule")


def create_endpoint(world, call, params, action):
    subnet, groups = params["SubnetId"], params.get("SecurityGroupIds", [])
    own = requested(specified(params, "instance-connect-endpoint"))
    around = [(ec2(call, "subnet", subnet), of_ec2(world, call, subnet))]
    around += [(ec2(call, "security-group", one), of_ec2(world, call, one)) for one in groups]
    found = [(action, ec2(call, "instance-connect-endpoint"), own)]
    found += [(action, resource, context) for resource, context in around]
    # "Grant permissions to use EC2 Instance Connect Endpoint": the caller makes its network interface, and the role once.
    found.append(("ec2:CreateNetworkInterface", ec2(call, "network-interface"), {}))
    found += [("ec2:CreateNetworkInterface", resource, context) for resource, context in around]
    role = f"role/aws-service-role/{ENDPOINT_SERVICE}/AWSServiceRoleForEC2InstanceConnect"
    linked = (arn(call, "iam", role, region=""), {"iam:AWSServiceName": ENDPOINT_SERVICE})
    found.append(("iam:CreateServiceLinkedRole", *linked))
    return found + tagged(call, params, "instance-connect-endpoint")


KINDS = {"i-": "instance", "sg-": "security-group", "eice-": "instance-connect-endpoint", "sgr-": "security-group-rule"}


def create_tags(world, call, params, action):
    found = []
    for identity in params["Resources"]:
        kind = next(kind for prefix, kind in KINDS.items() if identity.startswith(prefix))
        found.append((action, ec2(call, kind, identity), requested(params["Tags"]) | of_ec2(world, call, identity)))
    return found


def on(kind, member):
    """An action on things of one kind, named in this member."""

    def found(world, call, params, action):
        named = policies.listed(params[member])
        return [(action, ec2(call, kind, one), of_ec2(world, call, one)) for one in named]

    return found


def associate(world, call, params, action):
    found = on("instance", "InstanceId")(world, call, params, action)
    return found + passed(world, call, params["IamInstanceProfile"]["Name"])


# -- IAM


def iam(call, kind, name):
    return arn(call, "iam", f"{kind}/{name}", region="")


def role(world, call, params, action):
    """A policy that is attached or detached is a key, and so are tags."""
    own, context = iam(call, "role", params["RoleName"]), requested(params.get("Tags"))
    if "PolicyArn" in params:
        context["iam:PolicyARN"] = params["PolicyArn"]
    found = [(action, own, context)]
    return found + ([("iam:TagRole", own, context)] if call.operation == "CreateRole" and params.get("Tags") else [])


def profile(world, call, params, action):
    own, context = iam(call, "instance-profile", params["InstanceProfileName"]), requested(params.get("Tags"))
    found = [(action, own, context)]
    if call.operation == "CreateInstanceProfile" and params.get("Tags"):
        found.append(("iam:TagInstanceProfile", own, context))
    if call.operation == "AddRoleToInstanceProfile":
        found.append(pass_role(call, params["RoleName"]))
    return found


# -- load balancing


def balancing(member):
    def found(world, call, params, action):
        return [(action, one, of_balancing(world, call, one)) for one in policies.listed(params[member])]

    return found


def create_target_group(world, call, params, action):
    own = arn(call, "elasticloadbalancing", f"targetgroup/{params['Name']}/*")
    return balanced(call, params, action, own, own)


def create_rule(world, call, params, action):
    listener = params["ListenerArn"]
    rule = listener.replace(":listener/", ":listener-rule/") + "/*"
    return balanced(call, params, action, listener, rule)


def balanced(call, params, action, resource, made):
    found = [(action, resource, requested(params.get("Tags")))]
    if params.get("Tags"):
        own = requested(params["Tags"]) | {"elasticloadbalancing:CreateAction": call.operation}
        found.append(("elasticloadbalancing:AddTags", made, own))
    return found


def add_tags(world, call, params, action):
    own = requested(params["Tags"])
    return [(action, one, own | of_balancing(world, call, one)) for one in params["ResourceArns"]]


# -- S3, Systems Manager, Instance Connect


def an_object(action):
    return lambda world, call, params, _: [
        (action, f"arn:{models.partition(call.region)}:s3:::{params['Bucket']}/{params['Key']}", {})
    ]


def parameter(member):
    def found(world, call, params, action):
        name = params[member]
        # AWS's own parameters are nobody's: their ARN has no account.
        account = "" if name.startswith("/aws/") else NUMBER
        return [(action, arn(call, "ssm", "parameter/" + name.removeprefix("/"), account=account), {})]

    return found


def start_session(world, call, params, action):
    """With a document the caller must be allowed to run it. Without one it is a shell, which no policy must name to allow it, unless
    it asks for that check ("Enforce a session document permission check"): then it is refused, here whatever else is allowed."""
    target, document = params["Target"], params.get("DocumentName")
    given = of_ec2(world, call, target)
    given |= {key.replace("aws:ResourceTag", "ssm:resourceTag"): text for key, text in given.items()}
    given["ssm:SessionDocumentAccessCheck"] = "false" if document is None else "true"
    found = [(action, ec2(call, "instance", target), given)]
    if document is not None:
        # Documents of AWS's own are nobody's.
        account = "" if document.startswith("AWS-") else NUMBER
        run = {"ssm:SessionDocumentAccessCheck": "true"}
        found.append((action, arn(call, "ssm", f"document/{document}", account=account), run))
    return found


def of_session(world, call, params, action):
    return [(action, arn(call, "ssm", f"session/{params['SessionId']}"), {})]


def send_key(world, call, params, action):
    context = of_ec2(world, call, params["InstanceId"]) | {"ec2:osuser": params["InstanceOSUser"]}
    return [(action, ec2(call, "instance", params["InstanceId"]), context)]



NEEDS = (
    {f"iam:{each}": role for each in ("GetRole", "CreateRole", "DeleteRole", "UpdateAssumeRolePolicy", "TagRole")}
    | {f"iam:{each}RolePolicy": role for each in ("Get", "Put", "Delete", "Attach", "Detach")}
    | {f"iam:List{each}RolePolicies": role for each in ("", "Attached")}
    | {
        f"iam:{each}": profile
        for each in (
            "GetInstanceProfile",
            "CreateInstanceProfile",
            "DeleteInstanceProfile",
            "TagInstanceProfile",
            "AddRoleToInstanceProfile",
            "RemoveRoleFromInstanceProfile",
        )
    }
    | {
        "iam:SimulatePrincipalPolicy": lambda world, call, params, action: [(action, params["PolicySourceArn"], {})],
        "ec2:RunInstances": run_instances,
        "ec2:CreateSecurityGroup": create_group,
        "ec2:AuthorizeSecurityGroupIngress": authorize,
        "ec2:AuthorizeSecurityGroupEgress": authorize,
        "ec2:RevokeSecurityGroupIngress": on("security-group", "GroupId"),
        "ec2:RevokeSecurityGroupEgress": on("security-group", "GroupId"),
        "ec2:CreateInstanceConnectEndpoint": create_endpoint,
        "ec2:DeleteInstanceConnectEndpoint": on("instance-connect-endpoint", "InstanceConnectEndpointId"),
        "ec2:DeleteSecurityGroup": on("security-group", "GroupId"),
        "ec2:CreateTags": create_tags,
        "ec2:StartInstances": on("instance", "InstanceIds"),
        "ec2:TerminateInstances": on("instance", "InstanceIds"),
        "ec2:GetConsoleOutput": on("instance", "InstanceId"),
        "ec2:ModifyInstanceMetadataOptions": on("instance", "InstanceId"),
        "ec2:AssociateIamInstanceProfile": associate,
        "elbv2:CreateTargetGroup": create_target_group,
        "elbv2:CreateRule": create_rule,
        "elbv2:AddTags": add_tags,
        "elbv2:DeleteRule": balancing("RuleArn"),
        "elbv2:ModifyRule": balancing("RuleArn"),
        "s3:HeadObject": an_object("s3:GetObject"),
        "s3:GetObject": an_object("s3:GetObject"),
        "ssm:GetParameter": parameter("Name"),
        "ssm:PutParameter": parameter("Name"),
        "ssm:DeleteParameter": parameter("Name"),
        "ssm:GetParametersByPath": parameter("Path"),
        "ssm:StartSession": start_session,
        "ssm:ResumeSession": of_session,
        "ssm:TerminateSession": of_session,
        "ec2-instance-connect:SendSSHPublicKey": send_key,
    }
    | {
        f"elbv2:{each}": balancing("TargetGroupArn")
        for each in (
            "DeleteTargetGroup",
            "ModifyTargetGroup",
            "ModifyTargetGroupAttributes",
            "RegisterTargets",
            "DeregisterTargets",
        )
    }
)
