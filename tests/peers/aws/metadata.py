"""The instance metadata service (IMDSv2 only), at /latest/ of the gateway's own port: one instance as it sees itself.

Which instance it is, the test says (`metadata`); unless it does, the only one that runs. A token must be asked for first, by
PUT with its time to live; every other request must carry it.
"""

import secrets
import time

import instance_connect
import signer
import staging
from encode import Reply

TTL, TOKEN = "x-aws-ec2-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token"
KEYS = "managed-ssh-keys/"

# How long a slow door takes, in seconds: longer than any client waits.
SLOW = 20


class Metadata:
    """What the test said of the door, and the tokens that are valid."""

    def __init__(self):
        self.instance, self.region, self.domain = None, staging.REGION, signer.DOMAIN
        # `off`: every answer is 403, as with HttpEndpoint disabled; `slow`: no answer
        # within any limit; `large`: more than anybody should read; `tokenless`: no token is given; a number: that status for all data.
        self.fault = None
        # A fault of the signer's certificate: see signer.signer; `absent` and `garbage` besides.
        self.signer = None
        self.tokens = {}
        # How often each path was asked for.
        self.asked = {}


def serve(world, request):
    """Waits while the door is slow, without holding up the rest of the world."""
    end = time.time() + SLOW
    with world.lock:
        asked = world.state.metadata.asked
        asked[request.path] = asked.get(request.path, 0) + 1
    while True:
        with world.lock:
            if world.state.metadata.fault != "slow" or time.time() > end:
                return answer(world, request)
        time.sleep(0.02)


def answer(world, request):
    door = world.state.metadata
    if door.fault == "off" or "x-forwarded-for" in request.headers:
        return said(403, "Forbidden")
    if request.path == "/latest/api/token":
        return token(door, request)
    if request.method not in ("GET", "HEAD"):
        return said(405, "Method Not Allowed")
    if door.tokens.get(request.headers.get(TOKEN), 0) <= time.time():
        return said(401, "Unauthorized")
    if isinstance(door.fault, int):
        return said(door.fault, "the test says so")
    try:
        text = find(world, door, request.path.removeprefix("/latest/meta-data/"))
    except ValueError as why:
        return said(503, str(why))
    if text is None:
        return said(404, "Not Found")
    return said(200, text + "#" * (1 << 20) if door.fault == "large" else text)


def token(door, request):
    ttl = request.headers.get(TTL, "")
    if request.method != "PUT":
        return said(405, "Method Not Allowed")
    if not ttl.isdecimal() or not 1 <= int(ttl) <= 21600:
        return said(400, "Bad Request")
    if door.fault == "tokenless":
        return said(403, "Forbidden")
    made = secrets.token_urlsafe(40)
    door.tokens[made] = time.time() + int(ttl)
    return Reply(200, made.encode(), {"Content-Type": "text/plain", TTL: ttl})


def find(world, door, path):
    if path == "instance-id":
        return instance(world)
    if path == "placement/region":
        return door.region
    if path == "placement/availability-zone":
        return f"{door.region}a"
    if path == "services/domain":
        return door.domain
    if path == f"{KEYS}signer-cert":
        if door.signer == "absent":
            return None
        return "no certificate" if door.signer == "garbage" else signer.signer(door.region, door.signer).chain
    if path.startswith(f"{KEYS}active-keys/") and path.endswith("/"):
        return world.state.connect.of(instance(world), path.removeprefix(f"{KEYS}active-keys/")[:-1])
    return None


def instance(world):
    door = world.state.metadata
    if door.instance is not None:
        return door.instance
    found = world.account.call("ec2", door.region, "DescribeInstances")["Reservations"]
    running = [one for each in found for one in each["Instances"] if one["State"]["Name"] == "running"]
    if len(running) != 1:
        raise ValueError(f"{len(running)} instances run; say whose metadata this is: POST /_gateway/metadata")
    return running[0]["InstanceId"]


def said(status, text):
    return Reply(status, text.encode(), {"Content-Type": "text/plain"})


def settle(world, given):
    """Sets any of `instance`, `region`, `domain`, `fault`, `signer`. Answers the roots of the signer's chain as PEM."""
    door = world.state.metadata
    unknown = set(given) - {"instance", "region", "domain", "fault", "signer"}
    if unknown:
        raise ValueError(f"the metadata has no {sorted(unknown)}")
    for name, value in given.items():
        setattr(door, name, value)
    return {"roots": signer.pem(signer.authority().root), "asked": door.asked}


PATHS = {"metadata": settle} | instance_connect.PATHS
