"""A checking gateway in front of moto: an AWS account that a test can trust to be as strict and as tiresome as AWS.

Started without arguments it listens on a free port of loopback and prints READY=<port>. A request that is signed for a service is
AWS traffic; /_gateway/... is what the test says (control.py). Each request is
1. checked: its operation and parameters against the service models inside botocore, its SigV4 signature, its date. What is wrong is
   answered as AWS would and remembered as a violation, for which the test fails;
2. struck by a fault, if the test asked for one from this call on (faults.py);
3. carried out by moto, in this process, with AWS's habits around it (habits.py, settling.py, compute.py, balancing.py, managing.py).

What moto (5.2) does not do, of what the product calls, and is done here instead:
* missing altogether: ec2 Create-, Describe- and DeleteInstanceConnectEndpoint(s); iam SimulatePrincipalPolicy; ssm
  DescribeInstanceInformation, StartSession, ResumeSession, TerminateSession, DescribeSessions.
* no idea of time: states of instances, endpoints, targets and agents change at once, new things are seen everywhere at once.
* ec2: no ClientToken, no DryRun but in places, security groups in use are deleted, no duplicate egress rule is refused, image and
  instance type may disagree, no limit of user data, launch with an unknown instance profile; GetConsoleOutput is a fixed text.
* elbv2: a target is healthy whatever happens, CreateTargetGroup is not idempotent, no draining.
* ec2-instance-connect takes any instance. s3 serves a bucket from any region.
* paging is done by moto at times; here by one rule for all lists, with small pages.
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
