"""Whether a request's SigV4 signature is the one that its secret gives; botocore's own signer computes it again."""

import datetime
import hashlib
import re

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from encode import Refusal

# AWS refuses a request that was signed longer ago, or further ahead, than this.
MAX_SKEW = datetime.timedelta(minutes=5)

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


class Scope:
    """What the Authorization header says: who, when, where, for which service."""

    def __init__(self, header):
        match = AUTHORIZATION.fullmatch(header or "")
        self.found = match is not None
        if match:
            self.key, self.day, self.region, self.service, signed, self.signature = match.groups()
            self.signed = signed.split(";")


# Error codes of each protocol: no such key, wrong signature, date out of bounds; with their status.
CODES = {
    "query": (("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403), ("SignatureDoesNotMatch", 403)),
    "ec2": (("AuthFailure", 401), ("AuthFailure", 401), ("RequestExpired", 400)),
    "json": (
        ("UnrecognizedClientException", 400),
        ("InvalidSignatureException", 400),
        ("InvalidSignatureException", 400),
    ),
    "rest-xml": (("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403), ("RequestTimeTooSkewed", 403)),
}


def verify(request, scope, protocol, keys, now):
    """Raises a Refusal whose `kind` is key, signature or date. `keys` gives (secret, session token) by access key."""
    unknown, wrong, late = CODES[protocol]
    if scope.key not in keys:
        refuse("key", unknown, "The security token included in the request is invalid.")
    secret, token = keys[scope.key]
    if request.headers.get("x-amz-security-token") != token:
        refuse("key", unknown, "The session token is not the one of this access key.")
    date = request.headers.get("x-amz-date", "")
    try:
        when = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        refuse("signature", wrong, f"x-amz-date is {date!r}.")
    if abs(when - now) > MAX_SKEW:
        text = f"Signature expired: {date} is now earlier or later than 5 min. from {now:%Y%m%dT%H%M%SZ}"
        refuse("date", late, text)
    if scope.day != date[:8]:
        refuse("signature", wrong, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.")
    digest = request.headers.get("x-amz-content-sha256")
    if protocol == "rest-xml" and digest is None:
        refuse("signature", ("InvalidRequest", 400), "Missing required header for this request: x-amz-content-sha256")
    unsigned = [
        name for name in request.headers if (name == "host" or name.startswith("x-amz-")) and name not in scope.signed
    ]
    if unsigned:
        refuse("signature", wrong, f"There were headers present in the request which were not signed: {unsigned}")
    missing = [name for name in scope.signed if name not in request.headers]
    if missing:
        refuse("signature", wrong, f"signed headers that the request does not have: {missing}")
    actual = hashlib.sha256(request.body).hexdigest()
    if digest is not None and digest != actual and not (protocol == "rest-xml" and digest == "UNSIGNED-PAYLOAD"):
        code = ("XAmzContentSHA256Mismatch", 400) if protocol == "rest-xml" else wrong
        refuse("signature", code, f"x-amz-content-sha256 is {digest}, the body's is {actual}")
    if expected(request, scope, secret, protocol, date) != scope.signature:
        text = "The request signature we calculated does not match the signature you provided."
        refuse("signature", wrong, text)


def expected(request, scope, secret, protocol, date):
    signer = (S3SigV4Auth if protocol == "rest-xml" else SigV4Auth)(
        Credentials(scope.key, secret), scope.service, scope.region
    )
    headers = {name: request.headers[name] for name in scope.signed}
    if "x-amz-content-sha256" in request.headers:
        headers["x-amz-content-sha256"] = request.headers["x-amz-content-sha256"]
    url = f"http://{request.headers.get('host', '')}{request.target}"
    again = AWSRequest(request.method, url, headers, data=request.body)
    again.context["timestamp"] = date
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def refuse(kind, code, message):
    refusal = Refusal(code[0], message, code[1])
    refusal.kind = kind
    raise refusal
