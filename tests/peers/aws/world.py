"""One AWS account as a client meets it: checks, faults and habits around moto. A request's way is `World.answer`, in order."""

import base64
import datetime
import threading
import traceback

import balancing
import check
import compute
import control
import decode
import door
import encode
import faults
import habits
import instance_connect
import managing
import metadata
import models
import objects
import rules
import sessions
import settling
import signature
from account import Account
from encode import Refusal

# The credentials that every world knows: access key -> (secret, session token).
KEYS = {
    "AKIAEPHEMWORKTEST000": ("test-secret/with+signs", None),
    "ASIAEPHEMWORKTEST000": ("test-secret/of+a+session", "session-token=="),
}

# What each protocol answers to a request that breaks the model.
BROKEN_MODEL = {
    "ec2": ("InvalidParameterValue", "MissingParameter", "UnknownParameter", "InvalidAction"),
    "query": ("ValidationError", "ValidationError", "ValidationError", "InvalidAction"),
    "json": ("ValidationException", "ValidationException", "ValidationException", "UnknownOperationException"),
    "rest-xml": ("InvalidArgument", "InvalidArgument", "InvalidArgument", "MethodNotAllowed"),
}

# What each service answers to a caller who may not.
DENIED = {
    "ec2": ("UnauthorizedOperation", "You are not authorized to perform this operation.", 403),
    "query": ("AccessDenied", "User: {caller} is not authorized to perform: {action}", 403),
    "json": ("AccessDeniedException", "User: {caller} is not authorized to perform: {action}", 400),
    "rest-xml": ("AccessDenied", "Access Denied", 403),
}

# Whose access keys they are, when a test says nothing else: an IAM user's and a role session's.
CALLERS = {
    "AKIAEPHEMWORKTEST000": "arn:aws:iam::123456789012:user/moto",
    "ASIAEPHEMWORKTEST000": "arn:aws:sts::123456789012:assumed-role/developer/alice@example.com",
}

HANDLERS = compute.HANDLERS | balancing.HANDLERS | managing.HANDLERS | sessions.HANDLERS | instance_connect.HANDLERS


class State:
    """What the gateway itself remembers; gone at a reset, like moto's own."""

    def __init__(self):
        self.visibility = habits.Visibility()
        self.instances = settling.Instances()
        self.agents, self.targets, self.drains = settling.Waiting(), settling.Waiting(), settling.Waiting()
        self.draining = []
        # Ids of instances that have reported their boot.
        self.booted = set()
        # Instance id -> PingStatus, and target id (or id:port) -> (state, reason, description), as the test said.
        self.pings, self.health = {}, {}
        self.console, self.sessions, self.endpoints, self.tokens = {}, {}, {}, {}
        self.asked_groups, self.propagation = {}, {}
        self.stream_url = None
        # Actions (ec2:RunInstances) that the caller may not do; service:Operation -> [Refusal, times left or None].
        self.denied, self.refusals = set(), {}
        # What the caller may at all (authority.py); None is everything.
        self.authority = None
        self.keys = dict(KEYS)
        self.callers = dict(CALLERS)
        self.connect, self.metadata = instance_connect.Keys(), metadata.Metadata()
        self.burst = 0

    def look_at_endpoints(self, world, call):
        for identity, entry in list(self.endpoints.items()):
            if entry["region"] != call.region:
                continue
            if entry["left"] > 0:
                entry["left"] -= 1
            elif entry["data"]["State"] == "create-in-progress":
                entry["data"]["State"] = "create-complete"
            elif entry["data"]["State"] == "delete-in-progress":
                for interface in entry["data"]["NetworkInterfaceIds"]:
                    world.pass_on(call, {"NetworkInterfaceId": interface}, "DeleteNetworkInterface")
                del self.endpoints[identity]


class World:
    def __init__(self):
        self.lock = threading.RLock()
        self.account = Account()
        # What carries the bytes of sessions and tunnels; it outlives a reset.
        self.double = None
        self.reset()

    def reset(self):
        self.account.reset()
        self.state = State()
        self.habits = dict(habits.DEFAULTS)
        self.faults = faults.Faults()
        self.journal, self.violations = [], []

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.habits["clock_ahead"])

    def answer(self, request):
        if request.path.startswith("/_gateway/"):
            with self.lock:
                return control.answer(self, request)
        if request.path.startswith("/latest/"):
            return metadata.serve(self, request)
        # moto is not made for threads.
        with self.lock:
            entry = {"number": len(self.journal), "call": "?", "params": {}, "outcome": "?"}
            self.journal.append(entry)
            try:
                reply = self.take(request, entry)
            except BaseException as why:
                entry["outcome"] = str(why)
                raise
            return reply

    def take(self, request, entry):
        scope = signature.Scope(request.headers.get("authorization"))
        name = models.SERVICES.get(scope.service) if scope.found else None
        if name is None:
            return self.nameless(request, entry)
        protocol = models.service(name).metadata["protocol"]
        fault = self.faults.at(entry["number"])
        entry["fault"] = fault
        try:
            call = self.understand(request, name, scope, entry, protocol)
            self.faults.before(fault, protocol)
            reply = self.serve(call, request, entry)
            entry["outcome"] = reply.status
        except Refusal as refusal:
            entry["outcome"] = refusal.code
            reply = encode.error(refusal, protocol, name, request.method)
        except door.Cut:
            raise
        except Exception as why:
            # A gap of moto's or of the gateway's own must not pass for AWS having a bad day.
            traceback.print_exc()
            entry["outcome"] = "gap"
            self.violate(entry, [f"the test bed itself: {type(why).__name__}: {why}"])
            reply = encode.error(Refusal("NotImplemented", str(why), 501), protocol, name, request.method)
        self.faults.after(fault, reply)
        return reply

    def nameless(self, request, entry):
        """A request that is not signed for any known service."""
        signed = request.headers.get("authorization")
        text = f"{request.method} {request.target}: not signed for any service known here: {signed!r}"
        self.violate(entry, [text])
        return encode.error(Refusal("MissingAuthenticationToken", text, 403), "query", "unknown")

    def violate(self, entry, problems):
        self.violations.extend({"number": entry["number"], "call": entry["call"], "problem": each} for each in problems)

    def understand(self, request, name, scope, entry, protocol):
        """The request as a call that keeps to the model and whose signature verifies, or a Refusal and its violations."""
        invalid, missing, unknown, nothing = BROKEN_MODEL[protocol]
        operation, values, problems = find(request, name)
        entry["call"] = f"{name}:{operation.name if operation else '?'}"
        self.verify(request, scope, entry, protocol)
        if operation is None:
            self.violate(entry, problems)
            raise Refusal(nothing, problems[0], 405 if protocol == "rest-xml" else 400)
        call = models.Call(name, operation.name, scope.region, operation)
        call.caller = self.state.callers.get(scope.key, CALLERS["AKIAEPHEMWORKTEST000"])
        if protocol == "json":
            decode.json_body(request, call)
        elif protocol == "rest-xml":
            decode.rest(request, call, values)
        else:
            decode.form(request, call, operation.service_model.api_version)
        entry["params"] = plain(call.params)
        wanted = models.GLOBAL.get(name, {}).get(models.partition(scope.region))
        if wanted and scope.region != wanted:
            call.problems.append(f"signed for {scope.region}, {name} is in {wanted}")
        if operation.input_shape is not None:
            call.problems += check.check(call.params, operation.input_shape)
        if call.problems:
            self.violate(entry, call.problems)
            first = call.problems[0]
            code = unknown if first.startswith("unknown") else missing if first.startswith("missing") else invalid
            raise Refusal(code, "; ".join(call.problems))
        return call

    def verify(self, request, scope, entry, protocol):
        try:
            signature.verify(request, scope, protocol, self.state.keys, self.now())
        except Refusal as refusal:
            # A clock that the test itself put wrong is no fault of the client.
            if refusal.kind != "date" or not self.habits["clock_ahead"]:
                self.violate(entry, [f"{refusal.kind}: {refusal.message}"])
            raise

    def serve(self, call, request, entry):
        """Carries out a call that is right in itself, with AWS's habits."""
        self.throttle(call.protocol)
        self.refuse(call)
        if self.state.authority is not None:
            self.state.authority.check(self, call, entry)
        if call.protocol == "rest-xml":
            return objects.serve(self, call, request)
        if call.params.get("DryRun"):
            raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        self.state.visibility.check(call)
        rules.check(self, call)
        page = habits.Page(call, self.habits["page"])
        data = HANDLERS.get(call.name, World.pass_on)(self, call, page.params)
        self.state.visibility.made(call, data, self.habits["visibility"])
        if call.operation.startswith(("Describe", "List")):
            data = self.state.visibility.omit(data)
        if call.name in ("sts:AssumeRole", "sts:GetSessionToken"):
            made = data["Credentials"]
            self.state.keys[made["AccessKeyId"]] = (made["SecretAccessKey"], made["SessionToken"])
            self.state.callers[made["AccessKeyId"]] = data.get("AssumedRoleUser", {}).get("Arn", call.caller)
        return encode.answer(page.of(data), call.model)

    def throttle(self, protocol):
        every = self.habits["throttle_every"]
        if every and len(self.journal) % every == 0 and not self.state.burst:
            self.state.burst = self.habits["throttle_length"]
        if self.state.burst:
            self.state.burst -= 1
            raise faults.throttled(protocol)

    def refuse(self, call):
        """What the test told to be refused."""
        kept = self.state.refusals.get(call.name)
        if kept is not None:
            if kept[1] is not None:
                kept[1] -= 1
                if kept[1] <= 0:
                    del self.state.refusals[call.name]
            raise kept[0]
        action = action_of(call)
        if action in self.state.denied or call.name in self.state.denied:
            code, text, status = DENIED[call.protocol]
            raise Refusal(code, text.format(caller=call.caller, action=action), status)

    def pass_on(self, call, params, operation=None):
        """Lets moto carry out an operation of the call's service, its own unless another is named; lists whole."""
        operation = operation or call.operation
        ask = lambda more: self.account.call(call.service, call.region, operation, params | more)  # noqa: E731
        return habits.whole(models.paginator(call.service, operation), ask)


def find(request, name):
    """The operation that is asked for, names in the path, and what is wrong when there is none."""
    protocol = models.service(name).metadata["protocol"]
    if protocol == "rest-xml":
        operation, values = decode.rest_find(request)
        return operation, values, [f"{request.method} {request.target}: no operation of {name}"]
    if protocol == "json":
        wanted = request.headers.get("x-amz-target", "")
        prefix, _, action = wanted.rpartition(".")
        fits = prefix == models.service(name).metadata["targetPrefix"]
    else:
        pairs = dict(part.partition("=")[::2] for part in request.body.decode("utf-8", "replace").split("&"))
        wanted = action = pairs.get("Action", "")
        fits = True
    if request.method != "POST" or request.path != "/" or request.query:
        return None, {}, [f"{request.method} {request.target}: {name} takes POST / only"]
    return models.operation(name, action) if fits else None, {}, [f"{wanted!r}: no operation of {name}"]


def action_of(call):
    """The IAM action of a call."""
    prefix = {"elbv2": "elasticloadbalancing"}.get(call.service, call.service)
    operation = {"HeadObject": "GetObject", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject"}.get(
        call.operation, call.operation
    )
    return f"{prefix}:{operation}"


def plain(value):
    """Parameters as the journal shows them: JSON."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return {"bytes": len(value)} if len(value) > 4096 else base64.b64encode(value).decode()
    return value
