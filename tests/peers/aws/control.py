"""What a test says to the gateway, under /_gateway/: one function a path; JSON in, JSON out."""

import base64
import datetime
import json

import authority
import encode
import habits
import inventory
import metadata
import models
import sessions
import staging
from encode import Refusal


def answer(world, request):
    name = request.path.removeprefix("/_gateway/")
    function = PATHS.get(name)
    if function is None:
        return said(404, {"error": f"no control path {name!r}; there are {', '.join(sorted(PATHS))}"})
    try:
        given = json.loads(request.body) if request.body else {}
        return said(200, function(world, given))
    except Refusal as refusal:
        return said(400, {"error": str(refusal)})
    except Exception as why:
        return said(400, {"error": f"{type(why).__name__}: {why}"})


def said(status, value):
    body = json.dumps(value, sort_keys=True, default=text).encode()
    return encode.Reply(status, body, {"Content-Type": "application/json"})


def text(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in an answer")


def reset(world, _):
    world.reset()


def calls(world, _):
    return world.journal


def count(world, _):
    return len(world.journal)


def violations(world, _):
    return world.violations


def forgive(world, _):
    """Gives the violations so far and forgets them: a test that meant them has seen them."""
    found, world.violations = world.violations, []
    return found


def fail_from(world, given):
    """`after`: calls that still succeed; `kind`; `calls`: how many fail, until healed without it."""
    world.faults.start(len(world.journal) + given["after"], given["kind"], given.get("calls"))


def heal(world, _):
    world.faults.heal()
    world.state.refusals.clear()


def set_habits(world, given):
    unknown = set(given) - set(habits.DEFAULTS)
    if unknown:
        raise ValueError(f"no habits {sorted(unknown)}; there are {', '.join(habits.DEFAULTS)}")
    world.habits |= given
    return world.habits


def deny(world, given):
    """Actions that the caller may not do from now on, in place of the former ones."""
    world.state.denied = set(given["actions"])


def enforce(world, given):
    """From now on the caller may what these `policies` allow, and nothing else; `principal`: keys of the caller. None: everything."""
    documents = given["policies"]
    world.state.authority = None if documents is None else authority.Authority(documents, given["principal"])


def may(world, given):
    """Whether `policies` allow `principal` a call, `service` and `operation` as botocore names them, which is not carried out: what
    of it is not allowed, as (action, resource)."""
    whose = authority.Authority(given["policies"], given["principal"])
    service, operation = given["service"], given["operation"]
    call = models.Call(service, operation, staging.REGION, models.operation(service, operation), given["params"])
    asked = [(action, resource, whose.decide(action, resource, context)[0]) for action, resource, context in authority.needs(world, call)]
    return [[action, resource] for action, resource, decision in asked if decision != "allowed"]


def refuse(world, given):
    """One operation, `service:Operation`, is answered with an error; `times` or until healed."""
    refusal = Refusal(given["code"], given.get("message", given["code"]), given.get("status", 400))
    world.state.refusals[given["call"]] = [refusal, given.get("times")]


def agent(world, given):
    """`ping`: Online, ConnectionLost or Inactive; null is as if never said."""
    world.state.pings[given["instance"]] = given.get("ping")


def target(world, given):
    """`id` of a target, or id:port; its `state`, and its `reason` and `description` if any; no state: as if never said."""
    if given.get("state") is None:
        world.state.health.pop(given["id"], None)
    else:
        world.state.health[given["id"]] = (given["state"], given.get("reason"), given.get("description"))


def console(world, given):
    world.state.console[given["instance"]] = given["text"]


def stream(world, given):
    """The StreamUrl of sessions from now on."""
    world.state.stream_url = given["url"]


def double(world, given):
    """Sessions are made, and endpoints' tunnels carried, by the double at `url` (its control door), websockets at `secure`."""
    world.double = sessions.Double(given["url"], given["secure"]) if given.get("url") else None


def key(world, given):
    """One more access key that AWS knows, of this `caller` (an ARN) if any, or one it knows no more (without a secret)."""
    if given.get("secret") is None:
        world.state.keys.pop(given["id"], None)
    else:
        world.state.keys[given["id"]] = (given["secret"], given.get("token"))
        if given.get("caller") is not None:
            world.state.callers[given["id"]] = given["caller"]


def aws(world, given):
    """One operation behind the product's back: no checks, no faults, no habits, not in the journal."""
    service, operation = given["service"], given["operation"]
    model = models.operation(service, operation)
    if model is None:
        raise ValueError(f"{service} has no operation {operation!r}")
    params = given.get("params", {})
    if model.input_shape is not None:
        params = bytes_of(params, model.input_shape)
    return world.account.call(service, given.get("region", staging.REGION), operation, params)


def bytes_of(value, shape):
    """Parameters with the blobs of JSON (base64) as bytes."""
    if shape.type_name == "structure":
        return {key: bytes_of(part, shape.members[key]) for key, part in value.items()}
    if shape.type_name == "list":
        return [bytes_of(part, shape.member) for part in value]
    return base64.b64decode(value) if shape.type_name == "blob" else value


PATHS = {
    "reset": reset,
    "calls": calls,
    "count": count,
    "violations": violations,
    "forgive": forgive,
    "fail_from": fail_from,
    "heal": heal,
    "habits": set_habits,
    "deny": deny,
    "enforce": enforce,
    "may": may,
    "refuse": refuse,
    "agent": agent,
    "target": target,
    "console": console,
    "stream": stream,
    "double": double,
    "key": key,
    "aws": aws,
    "staging": lambda world, given: staging.make(world, **given),
    "inventory": lambda world, given: inventory.take(world, given.get("region", staging.REGION)),
} | metadata.PATHS
