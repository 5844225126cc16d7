"""Places where moto's own records are wrong, put right in moto's classes; each says what AWS does."""

import functools
import json

from moto.ec2.models.security_groups import SecurityGroupRule
from moto.elbv2.models import FakeTargetGroup, elbv2_backends
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend


@functools.cache
def repair():
    rules_of_groups()
    balancers_of_target_groups()
    managed_policies()


def rules_of_groups():
    """A rule whose peer is a group keeps its description like any other, and is found again without saying it."""
    SecurityGroupRule.description = property(
        lambda rule: rule.ip_range.get("Description") or rule.source_group.get("Description")
    )
    compare = SecurityGroupRule.__eq__

    def same(rule, other):
        kept = rule.source_group, other.source_group
        rule.source_group, other.source_group = ({"GroupId": each.get("GroupId")} if each else {} for each in kept)
        try:
            return compare(rule, other)
        finally:
            rule.source_group, other.source_group = kept

    SecurityGroupRule.__eq__ = same


def balancers_of_target_groups():
    """A target group belongs to the load balancers whose rules name it now, not to all that ever did."""

    def now(group):
        region, account = group.arn.split(":")[3:5]
        balancers = elbv2_backends[account][region].load_balancers.values()
        return [
            each.arn for each in balancers if group.arn in repr([rule_actions(one) for one in each.listeners.values()])
        ]

    def rule_actions(listener):
        return [action.data for rule in listener.rules.values() for action in rule.actions]

    FakeTargetGroup.load_balancer_arns = property(now, lambda group, value: None)


def managed_policies():
    """AWS's own policies can be attached. moto has them all, but loads all or none; all take a second."""
    attach = IAMBackend.attach_role_policy

    def attach_known(backend, policy_arn, role_name):
        prefix, _, name = policy_arn.rpartition("/")
        if policy_arn not in backend.managed_policies and prefix.endswith(":iam::aws:policy"):
            data = known_policies().get(name)
            if data is not None:
                policy = AWSManagedPolicy.from_data(name, backend.account_id, backend.region_name, data)
                backend.managed_policies[policy.arn] = policy
        return attach(backend, policy_arn, role_name)

    IAMBackend.attach_role_policy = attach_known


@functools.cache
def known_policies():
    return json.loads(aws_managed_policies_data)
