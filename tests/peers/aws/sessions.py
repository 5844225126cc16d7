"""Session Manager beyond moto: sessions, by a double that carries bytes (tests/doubles) when the test has told of one.

Without a double a session is an entry in a list, and its StreamUrl leads nowhere."""

import datetime
import json
import secrets
import urllib.error
import urllib.request

import managing
from encode import Refusal

# How long the double may take for a call, in seconds: it does nothing that takes time.
PATIENCE = 10


class Double:
    """Where the double of tests/doubles is: its control door's URL, and host and port of its websockets."""

    def __init__(self, url, secure):
        self.url, self.secure = url, secure

    def call(self, operation, params, caller):
        """One operation; its data, or the Refusal that it gives."""
        headers = {"Content-Type": "application/json", "X-Caller-Arn": caller}
        body = json.dumps(params).encode()
        request = urllib.request.Request(f"{self.url}/control/{operation}", body, headers)
        try:
            with DIRECT.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = json.load(error)
            raise Refusal(said["code"], said["message"]) from None


# The double is on loopback, whatever proxies the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def forward(operation, otherwise):
    """The operation by the double, or `otherwise` without one."""

    def handler(world, call, params):
        if world.double is None:
            return otherwise(world, call, params)
        if operation == "StartSession":
            check_agent(world, call, params["Target"])
        data = world.double.call(operation, params, call.caller)
        if world.state.stream_url and "StreamUrl" in data:
            data["StreamUrl"] = world.state.stream_url
        return {"Sessions": filtered(data["Sessions"], params)} if operation == "DescribeSessions" else data

    return handler


def check_agent(world, call, target):
    online = managing.instance_information(world, call, {"Filters": [{"Key": "InstanceIds", "Values": [target]}]})[
        "InstanceInformationList"
    ]
    if not any(each["PingStatus"] == "Online" for each in online):
        raise Refusal("TargetNotConnected", f"{target} is not connected.")


def start_session(world, call, params):
    target = params["Target"]
    check_agent(world, call, target)
    owner = call.caller
    identity = f"{owner.rpartition('/')[2]}-{secrets.token_hex(9)[:17]}"
    session = {
        "SessionId": identity,
        "Target": target,
        "Status": "Connected",
        "StartDate": datetime.datetime.now(datetime.timezone.utc),
        "DocumentName": params.get("DocumentName", "SSM-SessionManagerRunShell"),
        "Owner": owner,
        "Reason": params.get("Reason"),
    }
    world.state.sessions[identity] = session
    return opened(world, session)


def resume_session(world, call, params):
    session = world.state.sessions.get(params["SessionId"])
    if session is None or session["Status"] == "Terminated":
        raise Refusal("DoesNotExistException", f"Session {params['SessionId']} does not exist or is terminated.")
    return opened(world, session)


def opened(world, session):
    identity = session["SessionId"]
    url = world.state.stream_url or f"wss://ssmmessages.invalid/v1/data-channel/{identity}?role=publish_subscribe"
    return {"SessionId": identity, "TokenValue": secrets.token_urlsafe(64), "StreamUrl": url}


def terminate_session(world, call, params):
    session = world.state.sessions.get(params["SessionId"])
    if session is not None:
        session |= {"Status": "Terminated", "EndDate": datetime.datetime.now(datetime.timezone.utc)}
    return {"SessionId": params["SessionId"]}


def describe_sessions(world, call, params):
    ended = params["State"] == "History"
    found = [each for each in world.state.sessions.values() if (each["Status"] == "Terminated") == ended]
    return {"Sessions": filtered(found, params)}


def filtered(found, params):
    for each in params.get("Filters", []):
        member = {"Target": "Target", "Owner": "Owner", "SessionId": "SessionId", "Status": "Status"}.get(each["key"])
        if member is None:
            raise Refusal("InvalidFilterKey", f"{each['key']} is not served here")
        found = [one for one in found if one[member] == each["value"]]
    return found


HANDLERS = {
    "ssm:StartSession": forward("StartSession", start_session),
    "ssm:ResumeSession": forward("ResumeSession", resume_session),
    "ssm:TerminateSession": forward("TerminateSession", terminate_session),
    "ssm:DescribeSessions": forward("DescribeSessions", describe_sessions),
}
