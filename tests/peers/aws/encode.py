"""From an answer's data, or an error, to the bytes AWS would send in each protocol."""

import base64
import datetime
import json
import uuid
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


class Refusal(Exception):
    """AWS says no: its error code, its sentence, its HTTP status."""

    def __init__(self, code, message, status=400, headers=None):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.headers = code, message, status, headers or {}


def error(refusal, protocol, service, method="POST"):
    identity = str(uuid.uuid4())
    code, message = escape(refusal.code), escape(refusal.message)
    if protocol == "json":
        body = json.dumps({"__type": refusal.code, "message": refusal.message}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": identity}
    elif protocol == "ec2":
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}'
            f"</Message></Error></Errors><RequestID>{identity}</RequestID></Response>"
        ).encode()
        headers = {"Content-Type": "text/xml;charset=UTF-8"}
    elif protocol == "rest-xml":
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<RequestId>{identity}</RequestId><HostId>gateway</HostId></Error>"
        ).encode()
        headers = {"Content-Type": "application/xml", "x-amz-request-id": identity}
        if method == "HEAD":
            body = b""
    else:
        blame = "Sender" if refusal.status < 500 else "Receiver"
        body = (
            f'<ErrorResponse xmlns="https://{service}.amazonaws.com/doc/"><Error><Type>{blame}</Type><Code>{code}</Code>'
            f"<Message>{message}</Message></Error><RequestId>{identity}</RequestId></ErrorResponse>"
        ).encode()
        headers = {"Content-Type": "text/xml", "x-amzn-RequestId": identity}
    return Reply(refusal.status, body, headers | refusal.headers)


def answer(data, model):
    """The data of an answer in the shape the model says, for query, ec2 and json."""
    protocol = model.service_model.metadata["protocol"]
    identity = str(uuid.uuid4())
    shape = model.output_shape
    if protocol == "json":
        body = json.dumps(json_value(data, shape) if shape else {}).encode()
        return Reply(200, body, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": identity})
    inner = xml_members(data, shape) if shape else ""
    if protocol == "ec2":
        body = f'<{model.name}Response xmlns="{EC2_NAMESPACE}"><requestId>{identity}</requestId>{inner}</{model.name}Response>'
    else:
        wrapper = shape.serialization.get("resultWrapper") if shape else None
        inner = f"<{wrapper}>{inner}</{wrapper}>" if wrapper else inner
        namespace = model.service_model.metadata["xmlNamespace"]
        body = (
            f'<{model.name}Response xmlns="{namespace}">{inner}<ResponseMetadata><RequestId>{identity}</RequestId>'
            f"</ResponseMetadata></{model.name}Response>"
        )
    return Reply(200, body.encode(), {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-RequestId": identity})


def json_value(value, shape):
    kind = shape.type_name
    if kind == "structure":
        return {
            inner.serialization.get("name", member): json_value(value[member], inner)
            for member, inner in shape.members.items()
            if value.get(member) is not None
        }
    if kind == "list":
        return [json_value(part, shape.member) for part in value]
    if kind == "map":
        return {name: json_value(part, shape.value) for name, part in value.items()}
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def xml_members(value, shape):
    pieces = []
    for member, inner in shape.members.items():
        part = value.get(member)
        # What S3 says in headers is not said again in the body.
        if part is not None and "location" not in inner.serialization:
            pieces.append(xml_value(part, inner, inner.serialization.get("name", member)))
    return "".join(pieces)


def xml_value(value, shape, name):
    kind = shape.type_name
    if kind == "structure":
        return f"<{name}>{xml_members(value, shape)}</{name}>"
    if kind == "list":
        if shape.serialization.get("flattened"):
            return "".join(xml_value(part, shape.member, name) for part in value)
        each = shape.member.serialization.get("name", "member")
        return f"<{name}>{''.join(xml_value(part, shape.member, each) for part in value)}</{name}>"
    if kind == "map":
        keys, values = shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")
        entries = "".join(
            f"<entry>{xml_value(key, shape.key, keys)}{xml_value(part, shape.value, values)}</entry>"
            for key, part in value.items()
        )
        return f"<{name}>{entries}</{name}>"
    return f"<{name}>{xml_text(value)}</{name}>"


def xml_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return escape(str(value))
