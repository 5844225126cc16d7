//! One change of the account, or one wait, with every parameter. A step says itself; `apply` carries it out without choices.
//!
//! Where a thing that an earlier step makes is meant, a text in `<>` stands for its id, which is not known yet.

mod text;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::desired::DEREGISTRATION_DELAY;
use super::observed::{Condition, Part, Tags, Traffic};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    CreateRole {
        role: String,
        trust: Value,
        tags: Tags,
    },
    SetTrust {
        role: String,
        trust: Value,
    },
    TagRole {
        role: String,
        tags: Tags,
    },
    PutPolicy {
        role: String,
        policy: String,
        document: Value,
    },
    DeletePolicy {
        role: String,
        policy: String,
    },
    AttachPolicy {
        role: String,
        policy: String,
    },
    DetachPolicy {
        role: String,
        policy: String,
    },
    DeleteRole {
        role: String,
    },
    CreateProfile {
        profile: String,
        tags: Tags,
    },
    TagProfile {
        profile: String,
        tags: Tags,
    },
    AddRole {
        profile: String,
        role: String,
    },
    RemoveRole {
        profile: String,
        role: String,
    },
    DeleteProfile {
        profile: String,
    },
    CreateGroup {
        name: String,
        vpc: String,
        purpose: &'static str,
        tags: Tags,
    },
    Allow {
        group: GroupName,
        traffic: Traffic,
        tags: Tags,
    },
    Revoke {
        group: GroupName,
        rule: String,
        traffic: Traffic,
    },
    DeleteGroup {
        group: GroupName,
    },
    CreateTargetGroup {
        name: String,
        vpc: String,
        tags: Tags,
    },
    SetHealthCheck {
        target_group: String,
    },
    SetAttributes {
        target_group: String,
    },
    TagBalancing {
        arn: String,
        tags: Tags,
    },
    DeleteTargetGroup {
        arn: String,
        name: String,
    },
    Register {
        target_group: String,
        ip: String,
        instance: String,
    },
    Deregister {
        target_group: String,
        ip: String,
        why: String,
    },
    CreateRule {
        listener: String,
        priority: u32,
        rule: RuleText,
        target_group: String,
        tags: Tags,
    },
    ModifyRule {
        arn: String,
        priority: u32,
        rule: RuleText,
        target_group: String,
    },
    DeleteRule {
        arn: String,
        priority: u32,
        why: String,
    },
    CreateEndpoint {
        subnet: String,
        group: String,
        tags: Tags,
    },
    DeleteEndpoint {
        id: String,
    },
    Run(Box<Run>),
    Start {
        instance: String,
    },
    SetMetadata {
        instance: String,
    },
    Associate {
        instance: String,
        profile: String,
    },
    Terminate {
        instance: String,
        why: String,
    },
    Tag {
        id: String,
        tags: Tags,
    },
    PutParameter {
        name: String,
        value: String,
    },
    DeleteParameter {
        name: String,
    },
    Await(Wait),
}

/// A group's id, and its name for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    pub id: String,
    pub name: String,
    /// Whether others use it too.
    pub shared: bool,
}

/// What a listener's rule matches, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    pub purpose: &'static str,
    pub conditions: BTreeSet<Condition>,
}

/// Everything that a new instance is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The same for the same request, so that a repeated one makes no second instance.
    pub token: String,
    pub image: String,
    pub instance_type: String,
    pub subnet: String,
    pub group: String,
    pub profile: String,
    pub root_device: String,
    pub user_data: String,
    pub tags: Tags,
    pub binary: String,
    pub sha256: String,
}

/// Something that happens by itself, in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    Running { instance: String },
    Stopped { instance: String },
    Agent { instance: String },
    Boot { instance: String },
    Healthy { instance: String, ip: String },
    Drained { ip: String },
    Gone { instance: String },
    EndpointReady { id: String },
    EndpointGone { id: String },
}

/// An IAM action and what it is done to.
pub type Action = (&'static str, String);

impl Wait {
    /// How long it is waited for.
    pub fn deadline(&self) -> Duration {
        let seconds = match self {
            // From a minute's experience with small instances, times five.
            Wait::Running { .. } | Wait::Stopped { .. } | Wait::Agent { .. } => 300,
            // The fetch of user-data.sh alone may take two minutes.
            Wait::Boot { .. } => 420,
            // Two good answers, and a load balancer that learns of the target first.
            Wait::Healthy { .. } => 180,
            Wait::Drained { .. } => DEREGISTRATION_DELAY.unsigned_abs() + 60,
            // The daemon drains for 20 s, systemd waits for 30; EC2 sometimes takes minutes.
            Wait::Gone { .. } => 600,
            // AWS says five minutes.
            Wait::EndpointReady { .. } | Wait::EndpointGone { .. } => 600,
        };
        Duration::from_secs(seconds)
    }
}

impl Step {
    /// What it changes.
    pub fn parts(&self) -> &'static [Part] {
        use Step::*;
        match self {
            CreateRole { .. }
            | SetTrust { .. }
            | TagRole { .. }
            | PutPolicy { .. }
            | DeletePolicy { .. }
            | AttachPolicy { .. }
            | DetachPolicy { .. }
            | DeleteRole { .. } => &[Part::Role],
            CreateProfile { .. } | TagProfile { .. } | AddRole { .. } | RemoveRole { .. } | DeleteProfile { .. } => {
                &[Part::Profile]
            }
            CreateGroup { .. } | Allow { .. } | Revoke { .. } | DeleteGroup { .. } => &[Part::Groups],
            CreateTargetGroup { .. }
            | SetHealthCheck { .. }
            | SetAttributes { .. }
            | DeleteTargetGroup { .. }
            | Register { .. }
            | Deregister { .. } => &[Part::TargetGroup],
            TagBalancing { .. } => &[Part::TargetGroup, Part::Rules],
            // A target group that a rule names for the first time is used from then on.
            CreateRule { .. } | ModifyRule { .. } | DeleteRule { .. } => &[Part::TargetGroup, Part::Rules],
            CreateEndpoint { .. } | DeleteEndpoint { .. } => &[Part::Endpoints],
            Run(_) | Start { .. } | SetMetadata { .. } | Associate { .. } | Terminate { .. } => &[Part::Instances],
            Tag { .. } => &[Part::Groups, Part::Instances, Part::Endpoints],
            PutParameter { .. } | DeleteParameter { .. } => &[Part::Parameters],
            Await(wait) => wait.parts(),
        }
    }

    /// What IAM must allow for it.
    pub fn actions(&self) -> Vec<Action> {
        use Step::*;
        let one = |action, resource: &str| vec![(action, resource.to_owned())];
        match self {
            CreateRole { role, .. } => vec![("iam:CreateRole", role.clone()), ("iam:TagRole", role.clone())],
            SetTrust { role, .. } => one("iam:UpdateAssumeRolePolicy", role),
            TagRole { role, .. } => one("iam:TagRole", role),
            PutPolicy { role, .. } => one("iam:PutRolePolicy", role),
            DeletePolicy { role, .. } => one("iam:DeleteRolePolicy", role),
            AttachPolicy { role, .. } => one("iam:AttachRolePolicy", role),
            DetachPolicy { role, .. } => one("iam:DetachRolePolicy", role),
            DeleteRole { role } => one("iam:DeleteRole", role),
            CreateProfile { profile, .. } => vec![
                ("iam:CreateInstanceProfile", profile.clone()),
                ("iam:TagInstanceProfile", profile.clone()),
            ],
            TagProfile { profile, .. } => one("iam:TagInstanceProfile", profile),
            AddRole { profile, role } => vec![
                ("iam:AddRoleToInstanceProfile", profile.clone()),
                ("iam:PassRole", role.clone()),
            ],
            RemoveRole { profile, .. } => one("iam:RemoveRoleFromInstanceProfile", profile),
            DeleteProfile { profile } => one("iam:DeleteInstanceProfile", profile),
            CreateGroup { name, vpc, .. } => vec![
                ("ec2:CreateSecurityGroup", format!("{name} in {vpc}")),
                ("ec2:CreateTags", name.clone()),
            ],
            Allow { group, traffic, .. } if traffic.out => vec![
                ("ec2:AuthorizeSecurityGroupEgress", group.id.clone()),
                ("ec2:CreateTags", group.id.clone()),
            ],
            Allow { group, .. } => vec![
                ("ec2:AuthorizeSecurityGroupIngress", group.id.clone()),
                ("ec2:CreateTags", group.id.clone()),
            ],
            Revoke { group, traffic, .. } if traffic.out => one("ec2:RevokeSecurityGroupEgress", &group.id),
            Revoke { group, .. } => one("ec2:RevokeSecurityGroupIngress", &group.id),
            DeleteGroup { group } => one("ec2:DeleteSecurityGroup", &group.id),
            CreateTargetGroup { name, .. } => vec![
                ("elasticloadbalancing:CreateTargetGroup", name.clone()),
                ("elasticloadbalancing:AddTags", name.clone()),
            ],
            SetHealthCheck { target_group } => one("elasticloadbalancing:ModifyTargetGroup", target_group),
            SetAttributes { target_group } => one("elasticloadbalancing:ModifyTargetGroupAttributes", target_group),
            TagBalancing { arn, .. } => one("elasticloadbalancing:AddTags", arn),
            DeleteTargetGroup { arn, .. } => one("elasticloadbalancing:DeleteTargetGroup", arn),
            Register { target_group, .. } => one("elasticloadbalancing:RegisterTargets", target_group),
            Deregister { target_group, .. } => one("elasticloadbalancing:DeregisterTargets", target_group),
            CreateRule { listener, .. } => vec![
                ("elasticloadbalancing:CreateRule", listener.clone()),
                ("elasticloadbalancing:AddTags", listener.clone()),
            ],
            ModifyRule { arn, .. } => one("elasticloadbalancing:ModifyRule", arn),
            DeleteRule { arn, .. } => one("elasticloadbalancing:DeleteRule", arn),
            CreateEndpoint { subnet, .. } => vec![
                ("ec2:CreateInstanceConnectEndpoint", subnet.clone()),
                ("ec2:CreateNetworkInterface", subnet.clone()),
                ("ec2:CreateTags", subnet.clone()),
                ("iam:CreateServiceLinkedRole", "ec2-instance-connect".to_owned()),
            ],
            DeleteEndpoint { id } => one("ec2:DeleteInstanceConnectEndpoint", id),
            Run(run) => vec![
                ("ec2:RunInstances", run.subnet.clone()),
                ("ec2:CreateTags", "the instance and its volume".to_owned()),
                ("iam:PassRole", run.profile.clone()),
            ],
            Start { instance } => one("ec2:StartInstances", instance),
            SetMetadata { instance } => one("ec2:ModifyInstanceMetadataOptions", instance),
            Associate { instance, profile } => vec![
                ("ec2:AssociateIamInstanceProfile", instance.clone()),
                ("iam:PassRole", profile.clone()),
            ],
            Terminate { instance, .. } => one("ec2:TerminateInstances", instance),
            Tag { id, .. } => one("ec2:CreateTags", id),
            PutParameter { name, .. } => one("ssm:PutParameter", name),
            DeleteParameter { name } => one("ssm:DeleteParameter", name),
            // What it looks at was needed for the plan too, but for the console.
            Await(Wait::Boot { instance } | Wait::Running { instance } | Wait::Agent { instance }) => {
                one("ec2:GetConsoleOutput", instance)
            }
            Await(_) => Vec::new(),
        }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Step::Await(_))
    }
}

impl Wait {
    fn parts(&self) -> &'static [Part] {
        match self {
            Wait::Running { .. } | Wait::Stopped { .. } | Wait::Agent { .. } | Wait::Gone { .. } => &[Part::Instances],
            Wait::Boot { .. } => &[Part::Instances, Part::Parameters],
            Wait::Healthy { .. } | Wait::Drained { .. } => &[Part::Instances, Part::TargetGroup],
            Wait::EndpointReady { .. } | Wait::EndpointGone { .. } => &[Part::Endpoints],
        }
    }
}

/// The text that stands for the id of what an earlier step makes.
pub fn new(what: &str) -> String {
    format!("<the new {what}>")
}
