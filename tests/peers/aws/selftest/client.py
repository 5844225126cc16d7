"""What all self-tests of the gateway share: boto3 clients pointed at it, and its control paths."""

import json
import sys
import traceback
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

URL = sys.argv[1]
REGION = "eu-west-1"
KEY, SECRET = "AKIAEPHEMWORKTEST000", "test-secret/with+signs"


def control(path, **given):
    request = urllib.request.Request(f"{URL}/_gateway/{path}", json.dumps(given).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"{path}: {refused.read().decode()}") from None


def client(service, key=KEY, secret=SECRET, token=None, **config):
    """One try a call, so that what the gateway does is what a test sees."""
    config = Config(retries={"max_attempts": 0, "mode": "standard"}, connect_timeout=5, read_timeout=30, **config)
    return boto3.client(
        service,
        endpoint_url=URL,
        region_name="us-east-1" if service == "iam" else REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=config,
    )


def refused(code, function, **params):
    """Calls it; the refusal must have this code."""
    try:
        answer = function(**params)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found}: {error.response['Error'].get('Message')}, not {code}"
        return error
    raise AssertionError(f"{code} expected, got {answer}")


def fresh(**habits):
    """A new account with a staging environment and these habits."""
    control("reset")
    made = control("staging")
    if habits:
        control("habits", **habits)
    return made


def clean():
    """Nothing was sent so far that AWS would not take."""
    found = control("violations")
    assert found == [], found


def run(tests):
    """Runs the functions by name, or those named in the arguments."""
    wanted = sys.argv[2:]
    failed = []
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        try:
            test()
            print("passed", test.__name__, flush=True)
        except Exception:
            failed.append(test.__name__)
            traceback.print_exc()
    control("forgive")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print("all", flush=True)
