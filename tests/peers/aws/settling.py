"""States that take their time: an instance's, an endpoint's, a target's and an agent's, counted in looks."""

import account
from encode import Refusal

# Numbers of EC2's instance states.
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class Instances:
    """Instances on their way from one state to the next. moto changes states at once; its own record is set back."""

    def __init__(self):
        # (region, id) -> [state it goes to, looks left]
        self.moving = {}
        # (region, id) -> security groups; moto forgets them once it has ended an instance.
        self.groups = {}

    def move(self, region, identity, through, to, looks):
        """Shows `through` for so many looks before `to`."""
        if looks <= 0:
            self.put(region, identity, to)
            self.moving.pop((region, identity), None)
            return to
        self.put(region, identity, through)
        self.moving[region, identity] = [to, looks]
        return through

    def look(self, region):
        """One look at the region's instances: those whose time has come arrive before it, the others are nearer after it."""
        for (where, identity), entry in list(self.moving.items()):
            if where != region:
                continue
            if entry[1] <= 0:
                self.put(region, identity, entry[0])
                del self.moving[where, identity]
            else:
                entry[1] -= 1

    def put(self, region, identity, state):
        instance = record(region, identity)
        if instance is not None:
            instance._state.name, instance._state.code = state, CODES[state]
        if state == "terminated":
            self.groups.pop((region, identity), None)

    def state(self, region, identity):
        instance = record(region, identity)
        return instance._state.name if instance is not None else None

    def holds(self, region, group):
        """The instances that still use this group."""
        return [identity for (where, identity), groups in self.groups.items() if where == region and group in groups]


def record(region, identity):
    """moto's own record of an instance, or None."""
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[account.NUMBER][region]
    return next((each for each in backend.all_instances() if each.id == identity), None)


def take_groups(region, identity):
    """An instance has the groups of its interfaces; moto's has none when its launch names them at the interface."""
    instance = record(region, identity)
    groups = {group.id: group for interface in instance.nics.values() for group in interface.group_set}
    instance.security_groups = list(groups.values())
    return instance.security_groups


class Waiting:
    """Things that become so by being looked at: each key counts its looks down to zero."""

    def __init__(self):
        self.left = {}

    def start(self, key, looks):
        self.left[key] = looks

    def look(self, key, looks):
        """Whether it has arrived; `looks` is where an unknown key starts."""
        left = self.left.setdefault(key, looks)
        if left > 0:
            self.left[key] = left - 1
        return left <= 0

    def forget(self, key):
        self.left.pop(key, None)


def state_change(before, after):
    return {
        "CurrentState": {"Code": CODES[after], "Name": after},
        "PreviousState": {"Code": CODES[before], "Name": before},
    }


def refuse_state(identity, state, wanted):
    raise Refusal(
        "IncorrectInstanceState",
        f"The instance '{identity}' is not in a state from which it can be {wanted} ({state}).",
    )
