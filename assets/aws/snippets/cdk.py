# The bastion of @PROJECT@ behind your load balancer, for your own CDK app (Python, aws-cdk-lib 2).
# Call it in the stack's __init__:  ephemwork_bastion(self)
#
# Trap 1: the target's availability zone. An address inside the VPC needs none; "all" is for addresses outside, and with it the load
#         balancer refuses an address that is inside.
# Trap 2: CDK does not infer the load balancer's egress to an imported security group, so it stands here by itself.
# Trap 3: a browser's preflight announces X-Ephemwork in Access-Control-Request-Headers and does not carry it: it needs its own rule.
# Trap 4: your back end's CORS allow list must have X-Ephemwork, or browsers drop the answers of staging itself.
from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2


def ephemwork_bastion(stack: Stack) -> None:
    group = elbv2.CfnTargetGroup(
        stack,
        "EphemworkTargetGroup",
        vpc_id="@VPC@",
        target_type="ip",
        protocol="HTTP",
        port=80,
        health_check_path="@HEALTH_PATH@",
        health_check_interval_seconds=10,
        health_check_timeout_seconds=5,
        healthy_threshold_count=2,
        unhealthy_threshold_count=2,
        # Without availability_zone: the address is inside the VPC (trap 1).
        targets=[elbv2.CfnTargetGroup.TargetDescriptionProperty(id="@ADDRESS@", port=80)],
        target_group_attributes=[
            elbv2.CfnTargetGroup.TargetGroupAttributeProperty(key="deregistration_delay.timeout_seconds", value="30"),
        ],
    )
    forward = [elbv2.CfnListenerRule.ActionProperty(type="forward", target_group_arn=group.ref)]

    def header(name: str, *values: str) -> elbv2.CfnListenerRule.RuleConditionProperty:
        config = elbv2.CfnListenerRule.HttpHeaderConfigProperty(http_header_name=name, values=list(values))
        return elbv2.CfnListenerRule.RuleConditionProperty(field="http-header", http_header_config=config)

    elbv2.CfnListenerRule(
        stack,
        "EphemworkHeader",
        listener_arn="@LISTENER@",
        priority=@FIRST@,
        conditions=[header("@HEADER@", "*")],
        actions=forward,
    )
    elbv2.CfnListenerRule(
        stack,
        "EphemworkPreflight",
        listener_arn="@LISTENER@",
        priority=@SECOND@,
        conditions=[
            elbv2.CfnListenerRule.RuleConditionProperty(
                field="http-request-method",
                http_request_method_config=elbv2.CfnListenerRule.HttpRequestMethodConfigProperty(values=["OPTIONS"]),
            ),
            header("Access-Control-Request-Headers", "*x-ephemwork*", "*X-Ephemwork*"),
        ],
        actions=forward,
    )
    ec2.CfnSecurityGroupEgress(
        stack,
        "EphemworkEgress",
        group_id="@ALB_GROUP@",
        destination_security_group_id="@GROUP@",
        ip_protocol="tcp",
        from_port=80,
        to_port=80,
        description="to the ephemwork bastion",
    )
