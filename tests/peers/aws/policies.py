"""Policies of an identity, evaluated as the IAM User Guide has it ("Policy evaluation logic", "IAM JSON policy elements: Condition
operators", "... Variables and tags"). Strict: what is not known here is an error, never an answer."""

import json
import re

VERSION = "2012-10-17"
EFFECTS = ("Allow", "Deny")
MEMBERS = {"Sid", "Effect", "Action", "Resource", "Condition"}

# The variables that are characters: `${*}` is an asterisk and no wildcard.
LITERALS = {"*": "*", "?": "?", "$": "$"}


class Broken(Exception):
    """The document is none that IAM would take, or has something that this evaluator does not know."""


def read(document):
    """The statements of a policy's text or object."""
    if isinstance(document, str):
        document = json.loads(document)
    if document.get("Version") != VERSION or set(document) - {"Version", "Statement", "Id"}:
        raise Broken(f"a policy has a Version {VERSION} and a Statement, found {sorted(document)}")
    statements = document["Statement"]
    statements = statements if isinstance(statements, list) else [statements]
    sids = [each.get("Sid") for each in statements if "Sid" in each]
    if len(set(sids)) != len(sids):
        raise Broken(f"a Sid stands twice: {sids}")
    return [statement(each) for each in statements]


def statement(given):
    unknown = set(given) - MEMBERS
    if unknown or given.get("Effect") not in EFFECTS or "Action" not in given or "Resource" not in given:
        raise Broken(f"not a statement of an identity's policy: {given}")
    if not re.fullmatch(r"[A-Za-z0-9]*", given.get("Sid", "")):
        raise Broken(f"a Sid has letters and digits, found {given['Sid']}")
    for operator, keys in given.get("Condition", {}).items():
        if operator != "Null":
            comparison(operator)
        for key, values in keys.items():
            if not listed(values) or not all(isinstance(each, str) for each in listed(values)):
                raise Broken(f"{operator} {key}: {values}")
    return {
        "sid": given.get("Sid", ""),
        "effect": given["Effect"],
        "actions": listed(given["Action"]),
        "resources": listed(given["Resource"]),
        "conditions": given.get("Condition", {}),
    }


def listed(value):
    return value if isinstance(value, list) else [value]


def decide(statements, action, resource, context):
    """`allowed`, `implicitDeny` or `explicitDeny`, and the statements that said so, as (Sid, pattern of the action, of the resource).
    `context`: key -> a value, or a list of them."""
    context = {key.lower(): value for key, value in context.items()}
    allow, deny = [], []
    for each in statements:
        actions = [one for one in each["actions"] if fits(one.lower(), action.lower())]
        resources = [one for one in each["resources"] if actions and covers(one, resource, context)]
        if not resources:
            continue
        if not all(
            holds(operator, key, listed(values), context)
            for operator, keys in each["conditions"].items()
            for key, values in keys.items()
        ):
            continue
        (allow if each["effect"] == "Allow" else deny).extend((each["sid"], one, other) for one in actions for other in resources)
    if deny:
        return "explicitDeny", deny
    return ("allowed", allow) if allow else ("implicitDeny", [])


def fits(pattern, text):
    return re.fullmatch(wild(pattern), text) is not None


def wild(text):
    """A pattern with `*` and `?`; every other character is itself."""
    return "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in text)


def covers(pattern, resource, context):
    """A wildcard does not reach from one part of an ARN into the next, but in the resource's own part, the sixth."""
    if pattern == "*":
        return True
    parts, given = pattern.split(":", 5), resource.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        raise Broken(f"not an ARN: {pattern}")
    if len(given) != 6:
        return False
    if any("${" in each for each in parts[:5]):
        raise Broken(f"a variable stands in the last part of an ARN only: {pattern}")
    last = expression(parts[5], context, wildcards=True)
    if last is None or not re.fullmatch(last, given[5]):
        return False
    return all(fits(one, other) for one, other in zip(parts[:5], given[:5]))


def expression(text, context, wildcards):
    """The regular expression of a text with variables; None when one of them has no value."""
    found = []
    for index, piece in enumerate(re.split(r"\$\{([^}]*)\}", text)):
        if index % 2 == 0:
            found.append(wild(piece) if wildcards else re.escape(piece))
            continue
        name, comma, default = piece.partition(",")
        value = LITERALS.get(name.strip(), context.get(name.strip().lower()))
        if value is None and comma:
            value = default.strip().strip("'")
        if value is None:
            return None
        if isinstance(value, list):
            raise Broken(f"{piece} has several values, which no variable may have")
        found.append(re.escape(value))
    return "".join(found)


# -- conditions

SETS = ("ForAllValues", "ForAnyValue")


def comparison(operator):
    """(the set's word or none, the comparison, whether an absent key is as good as a right one)"""
    whole, colon, rest = operator.rpartition(":")
    if colon and whole not in SETS:
        raise Broken(f"no operator {operator}")
    exists = rest.endswith("IfExists")
    name = rest.removesuffix("IfExists")
    if name not in COMPARISONS:
        raise Broken(f"no operator {operator} is known here")
    return whole or None, COMPARISONS[name], exists


def holds(operator, key, wanted, context):
    if operator == "Null":
        return wanted == ["true" if context.get(key.lower()) is None else "false"]
    many, compare, exists = comparison(operator)
    value = context.get(key.lower())
    if value is None:
        return exists or many == "ForAllValues"
    if many is None and isinstance(value, list):
        raise Broken(f"{key} has several values, and {operator} compares one")
    matches = lambda one: any(compare(pattern, one, context) for pattern in wanted)  # noqa: E731
    values = listed(value)
    return any(map(matches, values)) if many == "ForAnyValue" else all(map(matches, values))


def string_equals(pattern, value, context):
    found = expression(pattern, context, wildcards=False)
    return found is not None and re.fullmatch(found, value) is not None


def string_like(pattern, value, context):
    found = expression(pattern, context, wildcards=True)
    return found is not None and re.fullmatch(found, value) is not None


def arn_like(pattern, value, context):
    return covers(pattern, value, context)


COMPARISONS = {
    "StringEquals": string_equals,
    "StringLike": string_like,
    # "ArnEquals and ArnLike behave identically".
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "NumericEquals": lambda pattern, value, context: float(pattern) == float(value),
    "Bool": lambda pattern, value, context: pattern.lower() == str(value).lower(),
}
