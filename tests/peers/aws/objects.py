"""S3 as it behaves beyond moto: a bucket has one region, a wrong checksum is refused, and uploads and parts come in pages.
Everything else goes to moto byte for byte."""

import base64
import binascii
import hashlib
import uuid
import zlib

import encode
from encode import Refusal

# Header of a checksum, and how it is computed.
CHECKSUMS = {
    "content-md5": lambda body: hashlib.md5(body).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
}

# List: its entries, the limit that is asked for, and (marker in the question, what gives it, marker in the answer).
PAGES = {
    "ListParts": ("Parts", "MaxParts", [("PartNumberMarker", "PartNumber", "NextPartNumberMarker")]),
    "ListMultipartUploads": (
        "Uploads",
        "MaxUploads",
        [("KeyMarker", "Key", "NextKeyMarker"), ("UploadIdMarker", "UploadId", "NextUploadIdMarker")],
    ),
}


def serve(world, call, request):
    bucket = call.params.get("Bucket")
    if bucket and call.operation not in ("GetBucketLocation", "CreateBucket"):
        where = world.account.bucket_region(bucket)
        if where not in (None, call.region):
            text = "The bucket you are attempting to access must be addressed using the specified endpoint."
            raise Refusal("PermanentRedirect", text, 301, {"x-amz-bucket-region": where})
    check_sums(request)
    if call.operation in PAGES:
        return page(world, call)
    return world.account.wsgi(request.method, request.path, request.query, request.headers, request.body)


def check_sums(request):
    for name, compute in CHECKSUMS.items():
        given = request.headers.get(name)
        if given is None:
            continue
        try:
            given = base64.b64decode(given, validate=True)
        except binascii.Error:
            raise Refusal("InvalidDigest", f"The {name} you specified is not valid.") from None
        actual = compute(request.body)
        if len(given) != len(actual):
            raise Refusal("InvalidDigest", f"The {name} you specified is not valid.")
        if given != actual:
            raise Refusal("BadDigest", f"The {name} you specified did not match what we received.")


def page(world, call):
    """The whole list from moto, and of it the page that was asked for."""
    key, limit, markers = PAGES[call.operation]
    paging = {limit, *(marker for marker, _, _ in markers)}
    asked = {name: value for name, value in call.params.items() if name not in paging}
    data = world.account.call("s3", call.region, call.operation, asked)
    sources = [source for _, source, _ in markers]
    place = lambda entry: tuple(entry[source] for source in sources)  # noqa: E731
    entries = sorted(data.get(key, []), key=place)
    after = tuple(call.params[marker] for marker, _, _ in markers if marker in call.params)
    if after:
        # A key marker without an upload's id is behind all uploads of that key.
        entries = [entry for entry in entries if place(entry)[: len(after)] > after]
    size = min(call.params.get(limit, 1000), world.habits["page"])
    shown = entries[:size]
    data |= {key: shown, "IsTruncated": len(entries) > size, limit: size}
    for marker, source, following in markers:
        data.pop(following, None)
        if marker in call.params:
            data[marker] = call.params[marker]
        if data["IsTruncated"]:
            data[following] = shown[-1][source]
    shape = call.model.output_shape
    namespace = call.model.service_model.metadata.get("xmlNamespace", "http://s3.amazonaws.com/doc/2006-03-01/")
    body = f'<{call.operation}Result xmlns="{namespace}">{encode.xml_members(data, shape)}</{call.operation}Result>'
    return encode.Reply(200, body.encode(), {"Content-Type": "application/xml", "x-amz-request-id": str(uuid.uuid4())})
