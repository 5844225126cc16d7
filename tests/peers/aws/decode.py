"""From the wire to parameters, strictly: what the model does not know is named as a problem and not passed over.

One function a protocol; each fills a Call's `params` and `problems`."""

import base64
import binascii
import json
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree

import models

NUMBERS = {"integer": int, "long": int, "float": float, "double": float}

# Headers of S3 requests that belong to the signature or to the client, and to no operation.
COMMON_AMZ = {
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-amz-user-agent",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
}


def scalar(text, shape, where, problems):
    """A value that came as text."""
    kind = shape.type_name
    try:
        if kind in NUMBERS:
            return NUMBERS[kind](text)
        if kind == "boolean":
            return {"true": True, "false": False}[text]
        if kind == "blob":
            return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, binascii.Error):
        problems.append(f"{where}: {text!r} is no {kind}")
        return None
    return text


# -- query and ec2: dotted names in a form


def form(request, call, version):
    """Action=...&Version=...&Name.1.Part=..."""
    fields = urllib.parse.parse_qsl(
        request.body.decode("utf-8", "replace"), keep_blank_values=True, strict_parsing=False
    )
    tree, seen = {}, set()
    for key, value in fields:
        if key in seen:
            call.problems.append(f"{key} is given twice")
        seen.add(key)
        if key in ("Action", "Version"):
            continue
        node = tree
        for part in key.split("."):
            node = node.setdefault(part, {})
        node[""] = value
    given = dict(fields).get("Version")
    if given != version:
        call.problems.append(f"Version is {given!r}, the model's is {version!r}")
    kind = request.headers.get("content-type", "")
    if not kind.startswith("application/x-www-form-urlencoded"):
        call.problems.append(f"Content-Type is {kind!r}, this protocol's is application/x-www-form-urlencoded")
    if call.model.input_shape is None:
        call.problems.extend(f"{name}: the operation takes no parameters" for name in tree)
        return
    flat = call.protocol == "ec2"
    call.params = form_node(tree, call.model.input_shape, "", call.problems, flat)


def form_name(member, shape, flat):
    """The name of a structure's member on the wire."""
    if not flat:
        return shape.serialization.get("name", member)
    if "queryName" in shape.serialization:
        return shape.serialization["queryName"]
    name = shape.serialization.get("name", member)
    return name[0].upper() + name[1:]


def form_node(node, shape, where, problems, flat):
    kind = shape.type_name
    if kind == "structure":
        return form_structure(node, shape, where, problems, flat)
    if kind == "list":
        return form_list(node, shape, where, problems, flat)
    if kind == "map":
        problems.append(f"{where}: a map, which no known operation of this protocol takes")
        return {}
    extra = [part for part in node if part != ""]
    if extra or "" not in node:
        problems.append(f"{where}: parts {extra} of a plain {kind}")
        return None
    return scalar(node[""], shape, where, problems)


def form_structure(node, shape, where, problems, flat):
    node = dict(node)
    found = {}
    if "" in node:
        problems.append(f"{where}: a plain value for a structure")
        node.pop("")
    for member, inner in shape.members.items():
        name = form_name(member, inner, flat)
        # A name may itself have no dots; the tree is split at each.
        if name in node:
            path = f"{where}.{member}" if where else member
            list_name = inner
            found[member] = form_node(node.pop(name), list_name, path, problems, flat)
    for unknown in node:
        problems.append(f"unknown member {where + '.' if where else ''}{unknown}")
    return found


def form_list(node, shape, where, problems, flat):
    if not flat and not shape.serialization.get("flattened"):
        if node == {"": ""}:
            return []
        name = shape.member.serialization.get("name", "member")
        extra = [part for part in node if part != name]
        if extra:
            problems.append(f"{where}: {extra} in place of {name}.N")
        node = node.get(name, {})
    expected = [str(number + 1) for number in range(len(node))]
    if sorted(node, key=lambda part: (len(part), part)) != expected:
        problems.append(f"{where}: a list's numbers are {sorted(node)}, not 1 to {len(node)}")
    parts = [part for part in expected if part in node]
    return [form_node(node[part], shape.member, f"{where}[{part}]", problems, flat) for part in parts]


# -- json


def json_body(request, call):
    version = call.model.service_model.metadata["jsonVersion"]
    kind = request.headers.get("content-type", "")
    if kind != f"application/x-amz-json-{version}":
        call.problems.append(f"Content-Type is {kind!r}, this protocol's is application/x-amz-json-{version}")
    try:
        body = json.loads(request.body or b"{}")
    except ValueError as why:
        call.problems.append(f"the body is no JSON: {why}")
        return
    call.params = json_node(body, call.model.input_shape, "", call.problems)


def json_node(value, shape, where, problems):
    kind = shape.type_name
    fits = {
        "structure": dict,
        "map": dict,
        "list": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "float": (int, float),
        "double": (int, float),
        "timestamp": (int, float),
        "blob": str,
    }[kind]
    if not isinstance(value, fits) or (isinstance(value, bool) and kind != "boolean"):
        problems.append(f"{where or 'the body'}: {json.dumps(value)[:60]} is no {kind}")
        return None
    if kind == "structure":
        names = {inner.serialization.get("name", member): member for member, inner in shape.members.items()}
        found = {}
        for name, part in value.items():
            member = names.get(name)
            path = f"{where}.{name}" if where else name
            if member is None:
                problems.append(f"unknown member {path}")
            elif part is None:
                problems.append(f"{path} is null")
            else:
                found[member] = json_node(part, shape.members[member], path, problems)
        return found
    if kind == "list":
        return [json_node(part, shape.member, f"{where}[{number}]", problems) for number, part in enumerate(value, 1)]
    if kind == "map":
        return {name: json_node(part, shape.value, f"{where}.{name}", problems) for name, part in value.items()}
    if kind == "blob":
        return scalar(value, shape, where, problems)
    return value


# -- rest-xml (S3, the bucket in the path)


def rest_find(request):
    """The operation of S3 that this method, path and query can mean, or None; and the names in its path with their values."""
    path, query = request.path, request.query_pairs
    bucket, _, key = path.lstrip("/").partition("/")
    values = {}
    if bucket:
        values["Bucket"] = urllib.parse.unquote(bucket)
    if key:
        values["Key"] = urllib.parse.unquote(key)
    keys = {name for name, _ in query}
    best = None
    for method, literal, _, model in models.rest_operations("s3"):
        shape = model.input_shape
        uri = (
            {name for name, inner in shape.members.items() if inner.serialization.get("location") == "uri"}
            if shape
            else set()
        )
        if method != request.method or not literal <= keys or uri != set(values):
            continue
        needs = 0
        for member in shape.required_members if shape else ():
            inner = shape.members[member]
            place, name = inner.serialization.get("location"), inner.serialization.get("name", member)
            if place == "querystring" and name not in keys or place == "header" and name.lower() not in request.headers:
                break
            needs += place in ("querystring", "header")
        else:
            rank = (len(literal), needs, model.name in ("GetObject", "ListObjectsV2"))
            if best is None or rank > best[0]:
                best = (rank, model)
    return (best[1] if best else None), values


def rest(request, call, values):
    shape, problems = call.model.input_shape, call.problems
    if shape is None:
        return
    found = {}
    query = dict(request.query_pairs)
    literal = call.model.http["requestUri"].partition("?")[2]
    for part in literal.split("&"):
        query.pop(part.partition("=")[0], None)
    query.pop("x-id", None)
    headers = {
        name: value for name, value in request.headers.items() if name.startswith("x-amz-") and name not in COMMON_AMZ
    }
    payload = shape.serialization.get("payload")
    for member, inner in shape.members.items():
        place, name = inner.serialization.get("location"), inner.serialization.get("name", member)
        if place == "uri" and member in values:
            found[member] = values[member]
        elif place == "querystring" and name in query:
            found[member] = scalar(query.pop(name), inner, member, problems)
        elif place == "header" and name.lower() in request.headers:
            headers.pop(name.lower(), None)
            found[member] = header(request.headers[name.lower()], inner, member, problems)
        elif place == "headers":
            start = name.lower()
            taken = [each for each in headers if each.startswith(start)]
            if taken:
                found[member] = {each[len(start) :]: headers.pop(each) for each in taken}
    if payload and request.body:
        inner = shape.members[payload]
        if inner.type_name == "structure":
            found[payload] = rest_xml(request.body, inner, payload, problems)
        else:
            found[payload] = request.body
    elif request.body and not payload:
        problems.append("a body, where the operation has none")
    problems.extend(f"unknown member {name} in the query" for name in query)
    problems.extend(f"unknown header {name}" for name in headers)
    call.params = found


def header(text, shape, where, problems):
    return text if shape.type_name in ("timestamp", "blob") else scalar(text, shape, where, problems)


def rest_xml(body, shape, where, problems):
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as why:
        problems.append(f"the body is no XML: {why}")
        return {}
    expected = shape.serialization.get("name", shape.name)
    if local(root.tag) != expected:
        problems.append(f"the body's element is {local(root.tag)}, not {expected}")
    return xml_node(root, shape, where, problems)


def local(tag):
    return re.sub(r"^\{.*\}", "", tag)


def xml_node(element, shape, where, problems):
    if shape.type_name != "structure":
        return scalar(element.text or "", shape, where, problems)
    found = {}
    names = {inner.serialization.get("name", member): member for member, inner in shape.members.items()}
    for child in element:
        name = local(child.tag)
        member = names.get(name)
        if member is None:
            problems.append(f"unknown member {where}.{name}")
            continue
        inner = shape.members[member]
        path = f"{where}.{member}"
        if inner.type_name != "list":
            found[member] = xml_node(child, inner, path, problems)
        elif inner.serialization.get("flattened"):
            found.setdefault(member, []).append(xml_node(child, inner.member, path, problems))
        else:
            found[member] = [xml_node(each, inner.member, path, problems) for each in child]
    return found
