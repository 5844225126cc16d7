"""AWS's habits that hold for many operations: what is new is not seen at once, lists come in pages, and calls are throttled
in bursts. All are counted in calls, never in seconds."""

import base64
import binascii
import hashlib
import json

import models
from encode import Refusal

# Every habit, with what a world starts with. A number is a number of calls unless said otherwise.
DEFAULTS = {
    # Calls that do not see a new thing yet: named, it is NotFound; in a list, it is missing.
    "visibility": 0,
    # RunInstances (and AssociateIamInstanceProfile) calls that do not know a new instance profile yet.
    "propagation": 0,
    # Looks (DescribeInstances, or a refused DeleteSecurityGroup) at an instance before `pending` becomes `running`,
    # `stopping` becomes `stopped`, `shutting-down` becomes `terminated`; the same for endpoints.
    "settling": 1,
    # The most entries in one page of any list.
    "page": 5,
    # Whether the agent of a running instance whose role lets it do so comes online by itself, after so many looks.
    "agent": True,
    "agent_after": 1,
    # What an instance of the product reports of its boot once its agent is online: "ready", "failed", or nothing.
    "boot": "ready",
    # Whether the targets on running instances become healthy by themselves, after so many looks; and how long they drain.
    "target": True,
    "target_after": 1,
    "draining": 1,
    # Every so-many-th call begins a burst of so many throttled calls; 0 is never.
    "throttle_every": 0,
    "throttle_length": 2,
    # Seconds that AWS's clock is ahead of this machine's. A request whose date is refused for that is no violation.
    "clock_ahead": 0,
}

# Ids of things that may be new, what AWS says of one it does not know, and its status.
UNKNOWN = {
    "group": ("InvalidGroup.NotFound", "The security group '{}' does not exist", 400),
    "instance": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist", 400),
    "endpoint": (
        "InvalidInstanceConnectEndpointId.NotFound",
        "The instance connect endpoint ID '{}' does not exist",
        400,
    ),
    "role": ("NoSuchEntity", "The role with name {} cannot be found.", 404),
    "profile": ("NoSuchEntity", "Instance Profile {} cannot be found.", 404),
    "target-group": ("TargetGroupNotFound", "One or more target groups not found", 400),
    "rule": ("RuleNotFound", "One or more rules not found", 400),
}

# Which operation makes what, and where its answer says the ids.
MAKES = {
    "ec2:CreateSecurityGroup": ("group", lambda data, params: [data["GroupId"]]),
    "ec2:RunInstances": ("instance", lambda data, params: [each["InstanceId"] for each in data["Instances"]]),
    "ec2:CreateInstanceConnectEndpoint": (
        "endpoint",
        lambda data, params: [data["InstanceConnectEndpoint"]["InstanceConnectEndpointId"]],
    ),
    "iam:CreateRole": ("role", lambda data, params: [("RoleName", params["RoleName"])]),
    "iam:CreateInstanceProfile": (
        "profile",
        lambda data, params: [("InstanceProfileName", params["InstanceProfileName"])],
    ),
    "elbv2:CreateTargetGroup": (
        "target-group",
        lambda data, params: [
            each[key] for each in data["TargetGroups"] for key in ("TargetGroupArn", "TargetGroupName")
        ],
    ),
    "elbv2:CreateRule": ("rule", lambda data, params: [each["RuleArn"] for each in data["Rules"]]),
}

# Operations whose calls with an id in a filter find nothing rather than fail.
FILTERS = ("Filters", "Filter")


class Visibility:
    """What is too new to be seen, and for how many calls yet."""

    def __init__(self):
        self.hidden = {}

    def made(self, call, data, calls):
        if calls and call.name in MAKES:
            kind, ids = MAKES[call.name]
            for identity in ids(data, call.params):
                self.hidden[identity] = [kind, calls]

    def check(self, call):
        """Refuses a call that names something too new."""
        if not self.hidden or call.name in MAKES and call.operation != "RunInstances":
            return
        for name, value in leaves({key: part for key, part in call.params.items() if key not in FILTERS}):
            identity = value if value in self.hidden else (name, value)
            if identity in self.hidden:
                kind = self.hidden[identity][0]
                self.seen(identity)
                code, text, status = UNKNOWN[kind]
                raise Refusal(code, text.format(value), status)

    def omit(self, data):
        """Takes what is too new out of an answer's lists."""
        if not self.hidden or not isinstance(data, dict):
            return data
        touched = set()
        data = {key: self.without(part, touched) for key, part in data.items()}
        for identity in touched:
            self.seen(identity)
        return data

    def without(self, value, touched):
        if isinstance(value, list):
            kept = []
            for part in value:
                ids = self.names(part)
                touched |= ids
                if not ids:
                    kept.append(self.without(part, touched))
                elif isinstance(part, dict) and part.get("Instances"):
                    kept.append(part)
            # A reservation whose only instance is hidden is not there either.
            return [part for part in kept if not (isinstance(part, dict) and part.get("Instances") == [])]
        if isinstance(value, dict) and "Instances" in value:
            return value | {"Instances": self.without(value["Instances"], touched)}
        return value

    def names(self, part):
        """The hidden things that this entry of a list is."""
        if not isinstance(part, dict):
            return set()
        own = ("GroupId", "InstanceId", "InstanceConnectEndpointId", "TargetGroupArn", "RuleArn")
        # A rule of a group, or an association with an instance, is hidden with it.
        return {part[key] for key in own if isinstance(part.get(key), str) and part[key] in self.hidden}

    def seen(self, identity):
        entry = self.hidden[identity]
        entry[1] -= 1
        if entry[1] <= 0:
            del self.hidden[identity]


def leaves(value, name=""):
    """(member's name, text) of all texts in parameters."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part, name)
    elif isinstance(value, str):
        yield name, value


# -- pages

# Lists that AWS gives whole when ids are named, and refuses to page then.
WHOLE = {
    "ec2:DescribeInstances": "InstanceIds",
    "ec2:DescribeVolumes": "VolumeIds",
    "ec2:DescribeSecurityGroups": "GroupIds",
    "ec2:DescribeSubnets": "SubnetIds",
    "ec2:DescribeVpcs": "VpcIds",
    "ec2:DescribeImages": "ImageIds",
    "ec2:DescribeNetworkInterfaces": "NetworkInterfaceIds",
    "ec2:DescribeInstanceTypes": "InstanceTypes",
    "ec2:DescribeSecurityGroupRules": "SecurityGroupRuleIds",
}

BAD_TOKEN = {
    "ec2": ("InvalidNextToken", "The token is invalid."),
    "json": ("InvalidNextToken", "The specified token is not valid."),
    "query": ("ValidationError", "Invalid Marker"),
}


def whole(plan, ask):
    """A list with all the pages that moto makes of it: it pages some lists although nobody asked for it."""
    data = ask({})
    if plan is None or not isinstance(plan["output_token"], str):
        return data
    keys = plan["result_key"] if isinstance(plan["result_key"], list) else [plan["result_key"]]
    while token := data.get(plan["output_token"]):
        page = ask({plan["input_token"]: token})
        for key in keys:
            page[key] = data.get(key, []) + page.get(key, [])
        data = page
    return data


class Page:
    """The page of a list that a call asks for. Takes the paging out of what moto sees, for moto pages only at times."""

    def __init__(self, call, size):
        self.plan = models.paginator(call.service, call.operation) if call.protocol != "rest-xml" else None
        self.params = call.params
        if self.plan is None:
            return
        token_key, limit_key = self.plan["input_token"], self.plan.get("limit_key")
        token, limit = call.params.get(token_key), call.params.get(limit_key)
        self.params = {key: part for key, part in call.params.items() if key not in (token_key, limit_key)}
        ids = WHOLE.get(call.name)
        self.all = ids is not None and bool(call.params.get(ids))
        if self.all and (token is not None or limit is not None):
            text = f"The parameter {ids} cannot be used with the parameter maxResults"
            raise Refusal("InvalidParameterCombination", text)
        asked = f"{call.name} {json.dumps(self.params, sort_keys=True, default=str)}"
        # AWS's tokens are short however much was asked: IAM takes none above 320 characters.
        self.asked = hashlib.sha256(asked.encode()).hexdigest()
        self.size = min(size, limit or size)
        self.start = self.read(token, call.protocol) if token is not None else 0

    def read(self, token, protocol):
        try:
            start, asked = json.loads(base64.b64decode(token, validate=True))
            if asked == self.asked:
                return start
        except (ValueError, binascii.Error):
            pass
        raise Refusal(*BAD_TOKEN[protocol])

    def of(self, data):
        """This page of the whole answer."""
        if self.plan is None or self.all:
            return data
        keys = self.plan["result_key"]
        key = keys if isinstance(keys, str) else keys[0]
        entries = data.get(key) or []
        end = self.start + self.size
        more = end < len(entries)
        token_key = self.plan["output_token"]
        data = {name: part for name, part in data.items() if name != token_key} | {key: entries[self.start : end]}
        if "more_results" in self.plan:
            data[self.plan["more_results"]] = more
        if more:
            data[token_key] = base64.b64encode(json.dumps([end, self.asked]).encode()).decode()
        return data
