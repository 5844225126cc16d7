"""What a network and a service do to a call: from the n-th call on, every one fails in one way, until healed."""

import door
from encode import Refusal

# Each service's own words for "too many requests".
THROTTLES = {
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "query": ("Throttling", "Rate exceeded", 400),
    "json": ("ThrottlingException", "Rate exceeded", 400),
    "rest-xml": ("SlowDown", "Please reduce your request rate.", 503),
}

# And for "something broke here".
BROKEN = {
    "ec2": "InternalError",
    "query": "InternalFailure",
    "json": "InternalServerError",
    "rest-xml": "InternalError",
}

KINDS = ("http_500", "throttle", "cut_before", "cut_after", "cut_in_answer")


def throttled(protocol):
    return Refusal(*THROTTLES[protocol])


def broken(protocol):
    return Refusal(BROKEN[protocol], "An internal error has occurred.", 500)


class Faults:
    def __init__(self):
        self.heal()

    def heal(self):
        self.first, self.kind, self.last = None, None, None

    def start(self, first, kind, calls=None):
        """From the call with this number (0 is the first ever) on; for so many calls, else until healed."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {KINDS}")
        self.first, self.kind = first, kind
        self.last = None if calls is None else first + calls

    def at(self, number):
        """The kind of fault that strikes the call with this number, or None."""
        if self.first is None or number < self.first or self.last is not None and number >= self.last:
            return None
        return self.kind

    @staticmethod
    def before(kind, protocol):
        """Strikes a call that AWS never carried out."""
        if kind == "http_500":
            raise broken(protocol)
        if kind == "throttle":
            raise throttled(protocol)
        if kind == "cut_before":
            raise door.Cut()

    @staticmethod
    def after(kind, reply):
        """Strikes the answer of a call that has taken effect."""
        if kind == "cut_after":
            raise door.Cut()
        if kind == "cut_in_answer":
            raise door.Cut(reply)
