"""What user-data.sh does on a real instance: once its agent is online, an instance of the product reports its boot in the project's
SSM parameters, and publishes the host key unless there is one."""

import json

from encode import Refusal


def boot(world, region, instance):
    how = world.habits["boot"]
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    project, identity = tags.get("ephemwork:project"), instance["InstanceId"]
    if not how or project is None or identity in world.state.booted:
        return
    world.state.booted.add(identity)
    key = f"ssh-ed25519 {identity}"
    report = {"state": "ready", "version": "ephemwork-bastiond 0.1.0", "host_key": key}
    if how == "failed":
        report = {"state": "failed", "why": "fetch the binary: 403"}
    put(world, region, f"/ephemwork/{project}/boot/{identity}", json.dumps(report), True)
    if how != "failed":
        put(world, region, f"/ephemwork/{project}/host-key", key, False)


def put(world, region, name, value, overwrite):
    try:
        world.account.call(
            "ssm", region, "PutParameter", {"Name": name, "Value": value, "Type": "String", "Overwrite": overwrite}
        )
    except Refusal:
        pass  # There is one already, which stays.
