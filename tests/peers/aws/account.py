"""The account behind the gateway: moto in this process, called as WSGI, either with a request as it came (S3) or with
parameters (everything else, and whatever a test does behind the product's back)."""

import functools
import io
import os
import re
import sys
import urllib.parse

# moto launches any image name unless told otherwise; AWS does not.
os.environ.setdefault("MOTO_ENABLE_AMI_VALIDATION", "true")

import encode
import models
import repairs
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

NUMBER = "123456789012"
HOST = "127.0.0.1"


class Gap(Exception):
    """moto broke down, or has no such operation: the test bed is at fault, not the client."""


class Account:
    def __init__(self):
        repairs.repair()
        self.moto = DomainDispatcherApplication(create_backend_app)

    def reset(self):
        """An account as on its first day: a default VPC, AWS's own images and parameters."""
        self.wsgi("POST", "/moto-api/reset", "", {}, b"")

    def call(self, service, region, operation, params=None):
        """Carries out one operation, without checks or habits; the answer's data, or a Refusal."""
        model = models.operation(service, operation)
        protocol = model.service_model.metadata["protocol"]
        request = serializer(protocol).serialize_to_request(params or {}, model)
        path, _, query = request["url_path"].partition("?")
        more = urllib.parse.urlencode(request["query_string"])
        query = "&".join(part for part in (query, more) if part)
        headers = (
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"} if protocol in ("query", "ec2") else {}
        )
        headers |= request["headers"]
        headers["Authorization"] = authorization(region, models.service(service).signing_name)
        body = request["body"]
        if isinstance(body, dict):
            body = urllib.parse.urlencode(body)
        if isinstance(body, str):
            body = body.encode()
        reply = self.wsgi(request["method"], path, query, headers, body or b"")
        return parsed(reply, protocol, model)

    def bucket_region(self, bucket):
        """botocore's own parser leaves this answer's only text to a hook of its clients."""
        reply = self.wsgi("GET", f"/{bucket}", "location", {"Authorization": authorization("us-east-1", "s3")}, b"")
        if reply.status >= 300:
            return None
        found = re.search(rb">([a-z0-9-]+)</LocationConstraint>", reply.body)
        return found.group(1).decode() if found else "us-east-1"

    def wsgi(self, method, path, query, headers, body):
        """One request to moto's WSGI application."""
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": path + ("?" + query if query else ""),
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": HOST,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)),
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key not in ("CONTENT_LENGTH", "HOST", "TRANSFER_ENCODING", "EXPECT"):
                environ["HTTP_" + key] = value
        started = []
        answer = self.moto(environ, lambda status, fields, *_: started.append((status, fields)))
        try:
            content = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
        status, fields = started[0]
        return encode.Reply(int(status.split()[0]), content, dict(fields))


def authorization(region, service):
    """What moto reads of a signature: for whom it is."""
    return f"AWS4-HMAC-SHA256 Credential=AKIAGATEWAY/20200101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"


@functools.cache
def serializer(protocol):
    return create_serializer(protocol, include_validation=False)


@functools.cache
def parser(protocol):
    return create_parser(protocol)


def parsed(reply, protocol, model):
    headers = {name.lower(): value for name, value in reply.headers.items()}
    # A streaming body is no text to be parsed.
    shape = model.output_shape
    if model.has_streaming_output and reply.status < 300:
        return {"Body": reply.body}
    if reply.status >= 500:
        raise Gap(f"moto at {model.name}: {reply.status} {reply.body[:200]!r}")
    data = parser(protocol).parse({"headers": headers, "body": reply.body, "status_code": reply.status}, shape)
    if reply.status >= 300:
        error = data.get("Error", {})
        raise encode.Refusal(error.get("Code", "InternalFailure"), error.get("Message", ""), reply.status)
    data.pop("ResponseMetadata", None)
    return data
