"""EC2 Instance Connect: SendSSHPublicKey keeps a key for a minute, and what IMDS then shows of it is a signed block."""

import re
import secrets
import time

import signer
from encode import Refusal

# How long a key can be used, in seconds, unless the test says otherwise.
LIFE = 60

KEY = re.compile(r"(ssh-ed25519|ssh-rsa) [A-Za-z0-9+/]+={0,3}( [^\n]*)?\n?")

# What a test can have done to the blocks: see `block`.
FAULTS = ("bad_signature", "caller", "expired", "instance", "salt", "unsigned", "no_caller", "two_callers")


class Keys:
    """The keys that were pushed, and how the door of IMDS shows them."""

    def __init__(self):
        self.life = LIFE
        self.pushed = []
        self.tampered = None

    def push(self, instance, user, key, caller, region):
        entry = {"instance": instance, "user": user, "key": key.strip(), "caller": caller, "region": region}
        self.pushed.append(entry | {"until": time.time() + self.life, "request": secrets.token_hex(16)})

    def of(self, instance, user):
        """The blocks of active-keys/USER/ as IMDS gives them, or None when there is none."""
        now = time.time()
        self.pushed = [each for each in self.pushed if each["until"] > now]
        mine = [each for each in self.pushed if each["instance"] == instance and each["user"] == user]
        return "".join(block(each, self.tampered) for each in mine) or None


def block(entry, fault):
    """One key as AWS writes it. `fault` of FAULTS: a signature of other data; a caller written over after signing; a time
    that is past; another instance; a salt of another length; no signature; no caller; two callers, the second a stranger."""
    lines = {
        "Timestamp": str(int(entry["until"] if fault != "expired" else time.time() - 1)),
        "Instance": "i-0123456789abcdef9" if fault == "instance" else entry["instance"],
        "Caller": entry["caller"],
        "Request": entry["request"],
    }
    if fault == "no_caller":
        del lines["Caller"]
    head = "".join(f"#{name}={value}\n" for name, value in lines.items())
    if fault == "two_callers":
        head += "#Caller=arn:aws:iam::123456789012:user/mallory\n"
    data = f"{head}{entry['key']}\n"
    own = signer.signer(entry["region"], None)
    signed = data + "x" if fault == "bad_signature" else data
    text = own.sign(signed.encode(), 20 if fault == "salt" else 32)
    if fault == "unsigned":
        text = ""
    if fault == "caller":
        data = data.replace(entry["caller"], "arn:aws:iam::123456789012:user/mallory")
    return f"{data}{text}\n\n"


def send_key(world, call, params):
    """Its errors as AWS documents them for the operation."""
    identity = params["InstanceId"]
    try:
        found = world.account.call("ec2", call.region, "DescribeInstances", {"InstanceIds": [identity]})
        instance = found["Reservations"][0]["Instances"][0]
    except (Refusal, IndexError):
        raise Refusal("EC2InstanceNotFoundException", "The specified instance was not found.") from None
    if instance["State"]["Name"] != "running":
        raise Refusal("EC2InstanceStateInvalidException", f"The instance {identity} is not in the running state.")
    if not KEY.fullmatch(params["SSHPublicKey"]):
        raise Refusal("InvalidArgsException", "The given SSH public key is not in the correct format.")
    world.state.connect.push(identity, params["InstanceOSUser"], params["SSHPublicKey"], call.caller, call.region)
    return {"RequestId": secrets.token_hex(16), "Success": True}


def push(world, given):
    """A test's own key: `instance`, `user`, `key`, `caller`, `region`; no call, no checks."""
    world.state.connect.push(**given)


def forge(world, given):
    """`blocks`: one of FAULTS or null. `life`: seconds for keys pushed from now on."""
    keys, fault = world.state.connect, given.get("blocks")
    if fault not in (None, *FAULTS):
        raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
    keys.tampered, keys.life = fault, given.get("life", keys.life)


def identity(world, call, params):
    """The caller that a pushed key carries is the one that STS tells."""
    return world.pass_on(call, params) | {"Arn": call.caller}


HANDLERS = {"ec2-instance-connect:SendSSHPublicKey": send_key, "sts:GetCallerIdentity": identity}
PATHS = {"push_key": push, "forge_keys": forge}
