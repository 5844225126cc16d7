"""What a service model demands of parameters: members that must be there, enums, patterns, lengths, ranges."""

import re


def check(params, shape, where=""):
    """All problems of these parameters, as sentences."""
    return list(problems(params, shape, where))


def problems(value, shape, where):
    if value is None:
        return  # Named already when it was decoded.
    kind = shape.type_name
    if kind == "structure":
        for member in shape.required_members:
            if member not in value:
                yield f"missing member {where + '.' if where else ''}{member}"
        for member, part in value.items():
            yield from problems(part, shape.members[member], f"{where}.{member}" if where else member)
    elif kind == "list":
        yield from bounds(len(value), "elements", shape, where)
        for number, part in enumerate(value, 1):
            yield from problems(part, shape.member, f"{where}[{number}]")
    elif kind == "map":
        yield from bounds(len(value), "entries", shape, where)
        for name, part in value.items():
            yield from problems(name, shape.key, f"{where}.{name}")
            yield from problems(part, shape.value, f"{where}.{name}")
    elif kind == "string":
        yield from string(value, shape, where)
    elif kind == "blob":
        yield from bounds(len(value), "bytes", shape, where)
    elif kind in ("integer", "long", "float", "double"):
        yield from bounds(value, "", shape, where)


def string(value, shape, where):
    if shape.enum and value not in shape.enum:
        yield f"{where}: {value!r} is none of {', '.join(shape.enum[:12])}"
    yield from bounds(len(value), "characters", shape, where)
    pattern = shape.metadata.get("pattern")
    if pattern and not matches(pattern, value):
        yield f"{where}: {value[:80]!r} does not match {pattern}"


def matches(pattern, value):
    """AWS's patterns are Java's; one that Python cannot read is passed over."""
    for class_, python in (
        ("\\p{L}\\p{Z}\\p{N}", "\\w\\s"),
        ("\\p{L}", "^\\W\\d_"),
        ("\\p{Z}", "\\s"),
        ("\\p{N}", "\\d"),
    ):
        pattern = pattern.replace(class_, python)
    try:
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    except re.error:
        return True


def bounds(size, unit, shape, where):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    unit = f" {unit}" if unit else ""
    if low is not None and size < low:
        yield f"{where}: {size}{unit}, at least {low}"
    if high is not None and size > high:
        yield f"{where}: {size}{unit}, at most {high}"
