"""Requests that AWS would not take: each is refused in the service's own shape, and remembered as a violation."""

import datetime
import json
import urllib.error
import urllib.parse
import urllib.request
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from client import KEY, REGION, SECRET, URL, control, fresh, run

VERSIONS = {"ec2": "2016-11-15", "elasticloadbalancing": "2015-12-01", "iam": "2010-05-08", "sts": "2011-06-15"}


def send(
    service,
    method="POST",
    target="/",
    body=b"",
    headers=(),
    region=None,
    secret=SECRET,
    token=None,
    late=0,
    change=None,
    sign_with=None,
):
    """Signs as botocore does and sends; `change` spoils the request after it was signed. Status and body."""
    region = region or ("us-east-1" if service == "iam" else REGION)
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    request = AWSRequest(method, URL + target, dict(headers), data=body)
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=late)
    with mock.patch("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None)):
        signer(Credentials(KEY, secret, token), sign_with or service, region).add_auth(request)
    if change:
        change(request)
    url = request.url
    sent = urllib.request.Request(url, request.data or None, dict(request.headers.items()), method=method)
    try:
        with urllib.request.urlopen(sent, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def form(service, action, version=None, **fields):
    body = urllib.parse.urlencode({"Action": action, "Version": version or VERSIONS[service]} | fields)
    return dict(
        service=service,
        body=body.encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )


def json_call(action, prefix="AmazonSSM", **members):
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{prefix}.{action}"}
    return dict(service="ssm", body=json.dumps(members).encode(), headers=headers)


def wrong(status, code, problem, **request):
    """The request is refused with this status and code, and the violation says `problem`."""
    found, body = send(**request)
    violations = control("forgive")
    assert found == status, f"{found}, not {status}: {body}"
    assert code in body, f"no {code} in {body}"
    assert len(violations) >= 1 and any(problem in each["problem"] for each in violations), violations


def right(**request):
    status, body = send(**request)
    assert status == 200, f"{status}: {body}"
    assert control("violations") == [], control("violations")


def parameters():
    fresh()
    right(**form("ec2", "DescribeVpcs"))
    group = {"GroupName": "g", "GroupDescription": "d"}
    wrong(400, "MissingParameter", "missing member Description", **form("ec2", "CreateSecurityGroup", GroupName="g"))
    wrong(400, "UnknownParameter", "unknown member Colour", **form("ec2", "CreateSecurityGroup", Colour="red", **group))
    wrong(
        400,
        "UnknownParameter",
        "unknown member MetadataOptions.Tokens",
        **form("ec2", "RunInstances", MinCount="1", MaxCount="1", **{"MetadataOptions.Tokens": "required"}),
    )
    wrong(
        400,
        "InvalidParameterValue",
        "'never' is none of optional, required",
        **form("ec2", "RunInstances", MinCount="1", MaxCount="1", **{"MetadataOptions.HttpTokens": "never"}),
    )
    wrong(
        400, "InvalidParameterValue", "'one' is no integer", **form("ec2", "RunInstances", MinCount="one", MaxCount="1")
    )
    wrong(400, "InvalidParameterValue", "'yes' is no boolean", **form("ec2", "DescribeVpcs", DryRun="yes"))
    wrong(400, "InvalidParameterValue", "a list's numbers", **form("ec2", "DescribeVpcs", **{"VpcId.2": "vpc-1"}))
    # The query protocol's lists have a `member` that EC2's do not have.
    wrong(400, "InvalidParameterValue", "not 1 to 1", **form("ec2", "DescribeVpcs", **{"VpcId.member.1": "vpc-1"}))
    wrong(
        400,
        "ValidationError",
        "in place of member.N",
        **form("elasticloadbalancing", "DescribeTargetGroups", **{"Names.1": "t"}),
    )
    wrong(
        400,
        "ValidationError",
        "missing member Actions",
        **form(
            "elasticloadbalancing",
            "CreateRule",
            ListenerArn="a",
            Priority="1",
            **{"Conditions.member.1.Field": "path-pattern"},
        ),
    )
    wrong(
        400,
        "ValidationError",
        "70000, at most 65535",
        **form(
            "elasticloadbalancing",
            "RegisterTargets",
            TargetGroupArn="a",
            **{"Targets.member.1.Id": "i", "Targets.member.1.Port": "70000"},
        ),
    )
    wrong(400, "ValidationError", "'a b' does not match", **form("iam", "GetRole", RoleName="a b"))
    wrong(400, "ValidationError", "65 characters, at most 64", **form("iam", "GetRole", RoleName="r" * 65))
    wrong(400, "ValidationException", "missing member Name", **json_call("GetParameter"))
    wrong(400, "ValidationException", "unknown member Colour", **json_call("GetParameter", Name="n", Colour="red"))
    wrong(400, "ValidationException", "Name: 1 is no string", **json_call("GetParameter", Name=1))
    wrong(
        400,
        "ValidationException",
        "'Sometimes' is none of",
        **json_call("PutParameter", Name="n", Value="v", Type="Sometimes"),
    )
    wrong(400, "ValidationException", "11, at most 10", **json_call("GetParametersByPath", Path="/", MaxResults=11))
    wrong(
        400,
        "InvalidArgument",
        "unknown member colour",
        service="s3",
        method="GET",
        target="/shop-releases/k?colour=red",
    )
    wrong(
        400,
        "InvalidArgument",
        "unknown header x-amz-colour",
        service="s3",
        method="GET",
        target="/shop-releases/k",
        headers={"x-amz-colour": "red"},
    )
    wrong(
        400,
        "InvalidArgument",
        "'purple' is none of",
        service="s3",
        method="PUT",
        target="/shop-releases/k",
        body=b"x",
        headers={"x-amz-storage-class": "purple"},
    )
    wrong(
        400,
        "InvalidArgument",
        "unknown member MultipartUpload.Piece",
        service="s3",
        method="POST",
        target="/shop-releases/k?uploadId=u",
        body=b"<CompleteMultipartUpload><Piece/></CompleteMultipartUpload>",
    )


def operations():
    fresh()
    wrong(400, "InvalidAction", "'DescribeEverything'", **form("ec2", "DescribeEverything"))
    wrong(400, "UnknownOperationException", "AmazonSSM.Everything", **json_call("Everything"))
    wrong(
        400, "UnknownOperationException", "Amazon.GetParameter", **json_call("GetParameter", prefix="Amazon", Name="n")
    )
    wrong(405, "MethodNotAllowed", "PATCH", service="s3", method="PATCH", target="/shop-releases/k")
    wrong(400, "InvalidParameterValue", "Version is '2015-01-01'", **form("ec2", "DescribeVpcs", version="2015-01-01"))
    wrong(
        400,
        "InvalidParameterValue",
        "Content-Type is",
        **(form("ec2", "DescribeVpcs") | {"headers": {"Content-Type": "text/plain"}}),
    )
    wrong(400, "InvalidAction", "takes POST / only", **(form("ec2", "DescribeVpcs") | {"target": "/path"}))
    wrong(400, "ValidationError", "iam is in us-east-1", **form("iam", "ListRoles"), region=REGION)
    # Two mistakes are both named.
    send(**form("ec2", "CreateSecurityGroup", Colour="red"))
    assert len(control("forgive")) == 3, "members GroupName and Description are missing, Colour is unknown"


def signatures():
    fresh()
    vpcs = form("ec2", "DescribeVpcs")
    wrong(401, "AuthFailure", "signature", **vpcs, secret="wrong")
    wrong(403, "SignatureDoesNotMatch", "signature", **form("iam", "ListRoles"), secret="wrong")
    wrong(400, "InvalidSignatureException", "signature", **json_call("GetParameter", Name="n"), secret="wrong")
    s3 = dict(service="s3", method="GET", target="/shop-releases/a%20key%2B1?x-id=GetObject")
    wrong(403, "SignatureDoesNotMatch", "signature", **s3, secret="wrong")
    wrong(401, "AuthFailure", "key", **vpcs, token="a token that nobody gave")
    wrong(
        401,
        "AuthFailure",
        "signature",
        **vpcs,
        change=lambda request: setattr(request, "data", request.data + b"&DryRun=false"),
    )
    wrong(
        401,
        "AuthFailure",
        "signature",
        **vpcs,
        sign_with="ec2",
        change=lambda request: header(request, "Authorization", replaced("eu-west-1", "eu-west-2")),
    )
    wrong(
        401,
        "AuthFailure",
        "not signed",
        **vpcs,
        change=lambda request: header(request, "X-Amz-Colour", lambda _: "red"),
    )
    wrong(
        401,
        "AuthFailure",
        "key",
        **vpcs,
        change=lambda request: header(request, "Authorization", replaced(KEY, "AKIANOBODY")),
    )
    wrong(
        403,
        "MissingAuthenticationToken",
        "not signed for any service",
        **vpcs,
        change=lambda request: request.headers.__delitem__("Authorization"),
    )
    wrong(403, "MissingAuthenticationToken", "not signed for any service", **vpcs, sign_with="lambda")
    put = dict(service="s3", method="PUT", target="/shop-releases/k", body=b"whole")
    wrong(
        400,
        "XAmzContentSHA256Mismatch",
        "the body's is",
        **put,
        change=lambda request: setattr(request, "data", b"other"),
    )
    wrong(
        400,
        "InvalidRequest",
        "Missing required header",
        **put,
        change=lambda request: request.headers.__delitem__("X-Amz-Content-SHA256"),
    )
    right(**put)


def header(request, name, change):
    value = change(request.headers.get(name))
    if name in request.headers:
        del request.headers[name]
    request.headers[name] = value


def replaced(old, new):
    return lambda value: value.replace(old, new)


def dates():
    fresh()
    vpcs = form("ec2", "DescribeVpcs")
    # The limit is 300 s; a busy machine may need seconds between signing and sending.
    for late in (-280, 299):
        right(**vpcs, late=late)
    for late in (-301, 320):
        wrong(400, "RequestExpired", "Signature expired", **vpcs, late=late)
    wrong(403, "SignatureDoesNotMatch", "Signature expired", **form("iam", "ListRoles"), late=-400)
    wrong(400, "InvalidSignatureException", "Signature expired", **json_call("GetParameter", Name="n"), late=-400)
    wrong(
        403,
        "RequestTimeTooSkewed",
        "Signature expired",
        service="s3",
        method="GET",
        target="/shop-releases/k",
        late=-400,
    )
    # A clock that the test put wrong: refused, but the client may not know yet. Its answer's Date tells it.
    control("habits", clock_ahead=900)
    status, _ = send(**vpcs)
    assert status == 400 and control("violations") == []
    right(**vpcs, late=900)


if __name__ == "__main__":
    run([parameters, operations, signatures, dates])
