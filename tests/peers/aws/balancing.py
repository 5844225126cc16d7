"""Elastic Load Balancing as it behaves beyond moto: target health, and what is refused while it is in use."""

from encode import Refusal

# Priorities above AWS's own highest (50000), for rules on their way.
ASIDE = 60000

REASONS = {
    "initial": ("Elb.RegistrationInProgress", "Target registration is in progress"),
    "draining": ("Target.DeregistrationInProgress", "Target deregistration is in progress"),
    "unused": ("Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"),
    "unhealthy": ("Target.Timeout", "Request timed out"),
    "unavailable": ("Target.HealthCheckDisabled", "Health checks are disabled for this target"),
    "healthy": (None, None),
}


def target_health(world, call, params):
    """Registered targets, the draining ones too, each with its state."""
    group = params["TargetGroupArn"]
    data = world.pass_on(call, {"TargetGroupArn": group})
    used = in_use(world, call, group)
    state = world.state
    found = []
    for each in data["TargetHealthDescriptions"]:
        target = each["Target"]
        key = (group, target["Id"], target.get("Port"))
        health = state.health.get(target["Id"]) or state.health.get(f"{target['Id']}:{target.get('Port')}")
        if health is None and not used:
            health = ("unused", *REASONS["unused"])
        elif health is None:
            ready = (
                world.habits["target"]
                and alive(world, call, target["Id"])
                and state.targets.look(key, world.habits["target_after"])
            )
            health = ("healthy", None, None) if ready else ("initial", *REASONS["initial"])
        found.append(described(target, health))
    for key in list(state.draining):
        where, identity, port = key
        if where != group:
            continue
        if state.drains.look(key, world.habits["draining"]):
            state.draining.remove(key)
            state.drains.forget(key)
        else:
            target = {"Id": identity} | ({"Port": port} if port is not None else {})
            found.append(described(target, ("draining", *REASONS["draining"])))
    wanted = params.get("Targets")
    if wanted:
        ids = {(each["Id"], each.get("Port")) for each in wanted}
        known = [
            each
            for each in found
            if (each["Target"]["Id"], each["Target"].get("Port")) in ids or (each["Target"]["Id"], None) in ids
        ]
        missing = {identity for identity, _ in ids} - {each["Target"]["Id"] for each in known}
        text = ("unused", "Target.NotRegistered", "Target is not registered to the target group")
        found = known + [described({"Id": identity}, text) for identity in sorted(missing)]
    return {"TargetHealthDescriptions": found}


def described(target, health):
    state, reason, text = health
    health = {"State": state} | ({"Reason": reason} if reason else {}) | ({"Description": text} if text else {})
    return {"Target": target, "HealthCheckPort": str(target.get("Port", 80)), "TargetHealth": health}


def in_use(world, call, group):
    return bool(
        world.pass_on(call, {"TargetGroupArns": [group]}, "DescribeTargetGroups")["TargetGroups"][0].get(
            "LoadBalancerArns"
        )
    )


def alive(world, call, identity):
    """Whether a running instance has this id or private address; an address of nobody known counts as alive."""
    reservations = world.account.call("ec2", call.region, "DescribeInstances")["Reservations"]
    instances = [each for reservation in reservations for each in reservation["Instances"]]
    mine = [each for each in instances if identity in (each["InstanceId"], each.get("PrivateIpAddress"))]
    return not mine or any(each["State"]["Name"] == "running" for each in mine)


def register(world, call, params):
    data = world.pass_on(call, params)
    for key in keys(world, call, params):
        world.state.targets.start(key, world.habits["target_after"])
        if key in world.state.draining:
            world.state.draining.remove(key)
    return data


def deregister(world, call, params):
    group = params["TargetGroupArn"]
    registered = {
        (each["Target"]["Id"], each["Target"].get("Port"))
        for each in world.pass_on(call, {"TargetGroupArn": group}, "DescribeTargetHealth")["TargetHealthDescriptions"]
    }
    data = world.pass_on(call, params)
    for key in keys(world, call, params):
        world.state.targets.forget(key)
        if (key[1], key[2]) in registered and world.habits["draining"] > 0 and key not in world.state.draining:
            world.state.draining.append(key)
            world.state.drains.start(key, world.habits["draining"])
    return data


def keys(world, call, params):
    """(group, id, port), where a target without a port has its group's."""
    group = params["TargetGroupArn"]
    port = world.pass_on(call, {"TargetGroupArns": [group]}, "DescribeTargetGroups")["TargetGroups"][0].get("Port")
    return [(group, each["Id"], each.get("Port", port)) for each in params["Targets"]]


def create_group(world, call, params):
    """The same name with the same settings is the same group; with others it is refused."""
    name = params["Name"]
    try:
        found = world.pass_on(call, {"Names": [name]}, "DescribeTargetGroups")["TargetGroups"][0]
    except Refusal:
        data = world.pass_on(call, params)
        world.state.asked_groups[data["TargetGroups"][0]["TargetGroupArn"]] = without_tags(params)
        return data
    if world.state.asked_groups.get(found["TargetGroupArn"]) == without_tags(params):
        return {"TargetGroups": [found]}
    raise Refusal(
        "DuplicateTargetGroupName", f"A target group with the same name '{name}' exists, but with different settings"
    )


def without_tags(params):
    return {key: value for key, value in params.items() if key != "Tags"}


def delete_group(world, call, params):
    group = params["TargetGroupArn"]
    try:
        used = in_use(world, call, group)
    except Refusal as refusal:
        if refusal.code == "TargetGroupNotFound":
            return {}  # Deleting one that is gone is no error.
        raise
    if used:
        raise Refusal("ResourceInUse", f"Target group '{group}' is currently in use by a listener or a rule")
    world.state.asked_groups.pop(group, None)
    return world.pass_on(call, params)


def create_rule(world, call, params):
    for each in world.pass_on(call, {"ListenerArn": params["ListenerArn"]}, "DescribeRules")["Rules"]:
        if each["Priority"] == str(params["Priority"]):
            raise Refusal("PriorityInUse", f"Priority '{params['Priority']}' is currently in use")
    return world.pass_on(call, params)


def set_priorities(world, call, params):
    """All at once or none, and never onto a priority that another rule keeps."""
    wanted = {each["RuleArn"]: str(each["Priority"]) for each in params["RulePriorities"]}
    first = world.pass_on(call, {"RuleArns": [next(iter(wanted))]}, "DescribeRules")["Rules"][0]
    listener = first["RuleArn"].replace(":listener-rule/", ":listener/").rpartition("/")[0]
    for each in world.pass_on(call, {"ListenerArn": listener}, "DescribeRules")["Rules"]:
        if each["RuleArn"] not in wanted and each["Priority"] in wanted.values():
            raise Refusal("PriorityInUse", f"Priority '{each['Priority']}' is currently in use")
    # moto cannot exchange two priorities: all first go where no rule is.
    for number, arn in enumerate(wanted):
        world.pass_on(call, {"RulePriorities": [{"RuleArn": arn, "Priority": ASIDE + number}]})
    return world.pass_on(call, params)


HANDLERS = {
    "elbv2:DescribeTargetHealth": target_health,
    "elbv2:RegisterTargets": register,
    "elbv2:DeregisterTargets": deregister,
    "elbv2:CreateTargetGroup": create_group,
    "elbv2:DeleteTargetGroup": delete_group,
    "elbv2:CreateRule": create_rule,
    "elbv2:SetRulePriorities": set_priorities,
}
