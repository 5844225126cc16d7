// The bastion of @PROJECT@ behind your load balancer, for your own CDK app (TypeScript, aws-cdk-lib 2).
// Call it in the stack's constructor:  ephemworkBastion(this)
//
// Trap 1: the target's availability zone. An address inside the VPC needs none; "all" is for addresses outside, and with it the load
//         balancer refuses an address that is inside.
// Trap 2: CDK does not infer the load balancer's egress to an imported security group, so it stands here by itself.
// Trap 3: a browser's preflight announces X-Ephemwork in Access-Control-Request-Headers and does not carry it: it needs its own rule.
// Trap 4: your back end's CORS allow list must have X-Ephemwork, or browsers drop the answers of staging itself.
import { Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as elbv2 from 'aws-cdk-lib/aws-elasticloadbalancingv2';

export function ephemworkBastion(stack: Stack): void {
  const group = new elbv2.CfnTargetGroup(stack, 'EphemworkTargetGroup', {
    vpcId: '@VPC@',
    targetType: 'ip',
    protocol: 'HTTP',
    port: 80,
    healthCheckPath: '@HEALTH_PATH@',
    healthCheckIntervalSeconds: 10,
    healthCheckTimeoutSeconds: 5,
    healthyThresholdCount: 2,
    unhealthyThresholdCount: 2,
    // Without availabilityZone: the address is inside the VPC (trap 1).
    targets: [{ id: '@ADDRESS@', port: 80 }],
    targetGroupAttributes: [{ key: 'deregistration_delay.timeout_seconds', value: '30' }],
  });
  const actions = [{ type: 'forward', targetGroupArn: group.ref }];
  const header = (httpHeaderName: string, ...values: string[]) => ({
    field: 'http-header',
    httpHeaderConfig: { httpHeaderName, values },
  });
  new elbv2.CfnListenerRule(stack, 'EphemworkHeader', {
    listenerArn: '@LISTENER@',
    priority: @FIRST@,
    conditions: [header('@HEADER@', '*')],
    actions,
  });
  new elbv2.CfnListenerRule(stack, 'EphemworkPreflight', {
    listenerArn: '@LISTENER@',
    priority: @SECOND@,
    conditions: [
      { field: 'http-request-method', httpRequestMethodConfig: { values: ['OPTIONS'] } },
      header('Access-Control-Request-Headers', '*x-ephemwork*', '*X-Ephemwork*'),
    ],
    actions,
  });
  new ec2.CfnSecurityGroupEgress(stack, 'EphemworkEgress', {
    groupId: '@ALB_GROUP@',
    destinationSecurityGroupId: '@GROUP@',
    ipProtocol: 'tcp',
    fromPort: 80,
    toPort: 80,
    description: 'to the ephemwork bastion',
  });
}
