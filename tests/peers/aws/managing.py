"""Systems Manager and IAM beyond moto: agents, the policy simulator. Sessions: sessions.py; key pushes: instance_connect.py."""

import datetime
import json
import urllib.parse

import booting
from encode import Refusal

# What the agent must be allowed to call before it is ever seen.
AGENT_ACTION = "ssm:UpdateInstanceInformation"
AGENT_POLICY = "AmazonSSMManagedInstanceCore"


# -- agents


def instance_information(world, call, params):
    """Instances whose agent has ever come online, with its state."""
    reservations = world.account.call("ec2", call.region, "DescribeInstances")["Reservations"]
    found = []
    for instance in (each for reservation in reservations for each in reservation["Instances"]):
        if instance["State"]["Name"] == "terminated":
            continue
        ping = agent(world, instance)
        if ping == "Online":
            booting.boot(world, call.region, instance)
        if ping is not None:
            found.append(information(instance, ping))
    for each in params.get("Filters", []):
        if each["Key"] == "InstanceIds":
            found = [one for one in found if one["InstanceId"] in each["Values"]]
        elif each["Key"] == "PingStatus":
            found = [one for one in found if one["PingStatus"] in each["Values"]]
        else:
            raise Refusal("InvalidFilterKey", f"{each['Key']} is not served here")
    for each in params.get("InstanceInformationFilterList", []):
        member = {"InstanceIds": "InstanceId", "PingStatus": "PingStatus"}.get(each["key"])
        if member is None:
            raise Refusal("InvalidFilterKey", f"{each['key']} is not served here")
        found = [one for one in found if one[member] in each["valueSet"]]
    return {"InstanceInformationList": found}


def agent(world, instance):
    """The agent's PingStatus as the test said it, else by the habit; None for one never seen."""
    identity = instance["InstanceId"]
    said = world.state.pings.get(identity)
    if said is not None:
        return said
    running = instance["State"]["Name"] == "running"
    if not world.habits["agent"] or not running or not may_register(world, instance):
        return None
    return "Online" if world.state.agents.look(identity, world.habits["agent_after"]) else None


def may_register(world, instance):
    """Whether a policy of the instance's role lets its agent register."""
    profile = instance.get("IamInstanceProfile")
    if not profile:
        return False
    iam = lambda operation, **params: world.account.call("iam", "us-east-1", operation, params)  # noqa: E731
    try:
        roles = iam("GetInstanceProfile", InstanceProfileName=profile["Arn"].rpartition("/")[2])["InstanceProfile"][
            "Roles"
        ]
        for role in roles:
            name = role["RoleName"]
            attached = iam("ListAttachedRolePolicies", RoleName=name)["AttachedPolicies"]
            if any(each["PolicyName"] == AGENT_POLICY for each in attached):
                return True
            for policy in iam("ListRolePolicies", RoleName=name)["PolicyNames"]:
                if allows(iam("GetRolePolicy", RoleName=name, PolicyName=policy)["PolicyDocument"], AGENT_ACTION):
                    return True
    except Refusal:
        pass  # The profile or its role is gone.
    return False


def allows(document, action):
    if isinstance(document, str):
        document = json.loads(urllib.parse.unquote(document))
    statements = document["Statement"]
    for each in statements if isinstance(statements, list) else [statements]:
        actions = each.get("Action", [])
        actions = actions if isinstance(actions, list) else [actions]
        if each["Effect"] == "Allow" and any(one in (action, "*", action.partition(":")[0] + ":*") for one in actions):
            return True
    return False


def information(instance, ping):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "InstanceId": instance["InstanceId"],
        "PingStatus": ping,
        "LastPingDateTime": now,
        "AgentVersion": "3.3.3050.0",
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": "Amazon Linux",
        "PlatformVersion": "2023",
        "ResourceType": "EC2Instance",
        "IPAddress": instance.get("PrivateIpAddress", ""),
        "ComputerName": instance.get("PrivateDnsName", ""),
    }


# -- the simulator


def simulate(world, call, params):
    """What the caller's policies say, if there are any (authority.py); else allowed, unless the test denied the action."""
    if world.state.authority is not None:
        return world.state.authority.simulate(params)
    found = []
    for action in params["ActionNames"]:
        for resource in params.get("ResourceArns", ["*"]):
            verdict = "implicitDeny" if action in world.state.denied else "allowed"
            found.append(
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": verdict,
                    "MatchedStatements": [],
                }
            )
    return {"EvaluationResults": found, "IsTruncated": False}


def new_profile(world, call, params):
    """EC2 learns of it only after a while; of a role put into it too."""
    data = world.pass_on(call, params)
    world.state.propagation[params["InstanceProfileName"]] = world.habits["propagation"]
    return data


HANDLERS = {
    "ssm:DescribeInstanceInformation": instance_information,
    "iam:SimulatePrincipalPolicy": simulate,
    "iam:CreateInstanceProfile": new_profile,
    "iam:AddRoleToInstanceProfile": new_profile,
}
