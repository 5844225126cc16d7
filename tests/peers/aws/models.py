"""Which operation of which service a request asks for, and the published model of it (the JSON files inside botocore)."""

import functools
from dataclasses import dataclass, field

import botocore.session

# What a SigV4 scope calls a service, and what botocore calls it.
SERVICES = {
    "ec2": "ec2",
    "iam": "iam",
    "sts": "sts",
    "elasticloadbalancing": "elbv2",
    "s3": "s3",
    "ssm": "ssm",
    "ec2-instance-connect": "ec2-instance-connect",
}

# Services with one endpoint for a whole partition: requests to them are signed for this region.
GLOBAL = {"iam": {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}}


@dataclass
class Call:
    """One request, understood: what is asked of whom, with which parameters, and what is wrong with it."""

    service: str
    operation: str
    region: str
    model: object
    params: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)
    # Whose access key signed it, as an ARN.
    caller: str = ""

    @property
    def name(self):
        return f"{self.service}:{self.operation}"

    @property
    def protocol(self):
        return self.model.service_model.metadata["protocol"]


@functools.cache
def session():
    return botocore.session.Session()


@functools.cache
def service(name):
    return session().get_service_model(name)


@functools.cache
def paginator(name, operation):
    """How this operation's answers are paged, or None."""
    loader = session().get_component("data_loader")
    return loader.load_service_model(name, "paginators-1")["pagination"].get(operation)


def partition(region):
    for prefix, found in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return found
    return "aws"


def operation(name, wanted):
    """The operation's model, or None when the service has no such operation."""
    model = service(name)
    return model.operation_model(wanted) if wanted in model.operation_names else None


@functools.cache
def rest_operations(name):
    """(method, literal query keys, names in the path, operation model), for services that put the operation into the path."""
    found = []
    model = service(name)
    for each in model.operation_names:
        one = model.operation_model(each)
        path, _, query = one.http["requestUri"].partition("?")
        literal = frozenset(part.partition("=")[0] for part in query.split("&") if part)
        names = tuple(piece.strip("{}+") for piece in path.split("/") if piece.startswith("{"))
        found.append((one.http["method"], literal, names, one))
    return found
