"""A checking gateway in front of moto: an AWS account that a test can trust to be as strict and as tiresome as AWS.

Started without arguments it listens on a free port of loopback and prints READY=<port>. A request that is signed for a
service is AWS traffic; /_gateway/... is what the test says (control.py). Each request is
1. checked: its operation and parameters against the service models inside botocore, its SigV4 signature, its date. What is
   wrong is answered as AWS would and remembered as a violation, for which the test fails;
2. struck by a fault, if the test asked for one from this call on (faults.py);
3. refused, if the test bound the caller to policies and they do not allow it (authority.py says what a call needs, policies.py
   what a policy allows; moto's own enforcement knows few conditions);
4. carried out by moto, in this process, with AWS's habits around it (habits.py, settling.py, compute.py, balancing.py,
   managing.py, objects.py). Sessions are made by the double of tests/doubles, if a test starts one (sessions.py).

What moto 5.2 does not do, of what the product calls, and is done here instead:
* Missing altogether: ec2 CreateInstanceConnectEndpoint, DescribeInstanceConnectEndpoints, DeleteInstanceConnectEndpoint;
  iam SimulatePrincipalPolicy; ssm DescribeInstanceInformation, StartSession, ResumeSession, TerminateSession,
  DescribeSessions. AWS's public parameters for images are there, and their images too.
* No time passes: states of instances and targets change at once, new things are seen everywhere at once.
* ec2 launches: no ClientToken, DryRun in places only; image and type may disagree; no limit of user data; an unknown
  instance profile and a group of another VPC are taken; groups named at an interface are not shown at the instance, and
  interfaces and volumes stay behind it; ModifyInstanceMetadataOptions forgets what it is not told.
* ec2 states: an instance can be started while it stops; terminating it twice fails.
* ec2 groups: one in use can be deleted; a rule whose peer is a group has no description in DescribeSecurityGroupRules, and
  is revoked only by its description; DescribeSecurityGroupRules filters by group-id, security-group-rule-id and tags only.
* ec2 GetConsoleOutput is a fixed text.
* elbv2: a target is healthy whatever happens, and nothing drains; CreateTargetGroup is not idempotent; SetRulePriorities
  cannot exchange two; a target group keeps the load balancers that used it once.
* iam: AWS's own policies cannot be attached unless all are loaded, which takes a second.
* ec2-instance-connect takes any instance and shows its keys nowhere; here they are in the instance's metadata (metadata.py,
  instance_connect.py), signed. s3 serves a bucket from any region, takes wrong checksums, and lists all uploads
  at once.
* Lists are paged at times; here all by one rule, with small pages.

What neither does: no policy is evaluated (a test says what is denied), no quota but one endpoint a VPC, no billing, no
CloudTrail, no service-linked roles.
"""

import door
from world import World


def main():
    world = World()
    server = door.Server(world.answer, world.now)
    print(f"READY={server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
