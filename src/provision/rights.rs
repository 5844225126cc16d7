//! The IAM actions that a plan needs, from its steps; and those of looking, which every plan needs.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Step;

/// What reading the account takes; the same list stands in the admin policy.
pub const LOOKING: &[&str] = &[
    "ec2:DescribeImages",
    "ec2:DescribeInstanceConnectEndpoints",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "iam:GetInstanceProfile",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListRolePolicies",
    "s3:GetBucketLocation",
    "s3:GetObject",
    "ssm:DescribeInstanceInformation",
    "ssm:GetParameter",
    "ssm:GetParametersByPath",
    "sts:GetCallerIdentity",
];

/// What making, changing and removing a bastion takes beside it; the same list stands in the admin policy.
pub const CHANGING: &[&str] = &[
    "ec2:AssociateIamInstanceProfile",
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateInstanceConnectEndpoint",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DeleteInstanceConnectEndpoint",
    "ec2:DeleteSecurityGroup",
    "ec2:GetConsoleOutput",
    "ec2:ModifyInstanceMetadataOptions",
    "ec2:RevokeSecurityGroupEgress",
    "ec2:RevokeSecurityGroupIngress",
    "ec2:RunInstances",
    "ec2:StartInstances",
    "ec2:TerminateInstances",
    "elasticloadbalancing:AddTags",
    "elasticloadbalancing:CreateRule",
    "elasticloadbalancing:CreateTargetGroup",
    "elasticloadbalancing:DeleteRule",
    "elasticloadbalancing:DeleteTargetGroup",
    "elasticloadbalancing:DeregisterTargets",
    "elasticloadbalancing:ModifyRule",
    "elasticloadbalancing:ModifyTargetGroup",
    "elasticloadbalancing:ModifyTargetGroupAttributes",
    "elasticloadbalancing:RegisterTargets",
    "iam:AddRoleToInstanceProfile",
    "iam:AttachRolePolicy",
    "iam:CreateInstanceProfile",
    "iam:CreateRole",
    "iam:CreateServiceLinkedRole",
    "iam:DeleteInstanceProfile",
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PassRole",
    "iam:PutRolePolicy",
    "iam:RemoveRoleFromInstanceProfile",
    "iam:TagInstanceProfile",
    "iam:TagRole",
    "iam:UpdateAssumeRolePolicy",
    "ssm:DeleteParameter",
    "ssm:PutParameter",
];

/// Each action with what it is done to.
pub fn needed(steps: &[Step]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut needed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for (action, resource) in steps.iter().flat_map(Step::actions) {
        needed.entry(action).or_default().insert(resource);
    }
    needed
}

/// As lines: an action, and the resources behind it.
pub fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    for (action, resources) in needed(steps) {
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        text += &format!("  {action:46} {}\n", resources.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::desired::{desired, tests::facts, values};
    use super::super::documents::{Policy, policy};
    use super::super::observed::Observed;
    use super::super::plan::{Aim, Patience, removal, towards};
    use super::*;

    /// Every action that any document of IAM names.
    fn granted() -> BTreeSet<String> {
        let document = policy(Policy::Admin, &values(&facts()));
        let statements = document["Statement"].as_array().unwrap();
        let actions = statements.iter().flat_map(|statement| match &statement["Action"] {
            serde_json::Value::Array(actions) => actions.clone(),
            one => vec![one.clone()],
        });
        actions.map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_admin_policy_is_enough_and_no_more() {
        let granted = granted();
        let steps = super::super::plan::every_step();
        let mut needed: BTreeSet<String> = needed(&steps).into_keys().map(str::to_owned).collect();
        let changing: BTreeSet<String> = CHANGING.iter().map(|&action| action.to_owned()).collect();
        assert_eq!(needed, changing);
        needed.extend(LOOKING.iter().map(|&action| action.to_owned()));
        let missing: Vec<_> = needed.difference(&granted).collect();
        assert!(missing.is_empty(), "not granted: {missing:?}");
        let beyond: Vec<_> = granted.difference(&needed).collect();
        assert!(beyond.is_empty(), "granted and never needed: {beyond:?}");
    }

    #[test]
    fn a_plan_names_what_it_needs() {
        let desired = desired(facts());
        let plan = towards(&desired, &Observed::default(), Aim::Bastion, Patience::Wait).unwrap();
        let told = text(&plan.steps);
        for action in ["ec2:RunInstances", "iam:PassRole", "elasticloadbalancing:CreateRule"] {
            assert!(told.contains(action), "{told}");
        }
        assert!(!told.contains("Delete"), "{told}");
        assert_eq!(text(&removal(&desired.facts.names, &Observed::default()).steps), "");
    }
}
