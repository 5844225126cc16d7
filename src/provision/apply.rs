//! Carries out one step: one call, without choices. What AWS refuses only for the moment is tried again within a limit.

use std::time::Duration;

use super::desired::{DEREGISTRATION_DELAY, EDGE_PORT, HEALTH_INTERVAL, HEALTH_PATH, VOLUME_GIB};
use super::names::{self, Names};
use super::observed::Traffic;
use super::step::{RuleText, Run, Step};
use crate::aws::{Aws, Failure, base64, ec2, elbv2, iam, ssm};

/// What became of a step.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    /// It was done before, and AWS does not show it yet.
    Already,
    /// AWS refuses it for the moment.
    Later(Box<Failure>),
}

/// How long a refusal for the moment may last. An interface of a terminated instance holds its group for minutes; a new instance
/// profile is known to EC2 after some ten seconds.
pub(super) const MOMENT: Duration = Duration::from_secs(300);

/// Codes of what exists already.
const ALREADY: &[&str] = &[
    "EntityAlreadyExists",
    "InvalidGroup.Duplicate",
    "InvalidPermission.Duplicate",
    "DuplicateTargetGroupName",
    "PriorityInUse",
];

/// Codes of what something else still holds, or what AWS does not know yet. The first word is the step's action; empty is any.
const MOMENTARY: &[(&str, &str)] = &[
    ("", "DependencyViolation"),
    ("", "DeleteConflict"),
    ("", "ConcurrentModification"),
    ("", "ResourceInUse"),
    ("", "OperationNotPermitted.InUse"),
    ("", "InvalidGroup.InUse"),
    ("", "IncorrectInstanceState"),
    ("", "IncorrectState"),
    ("", "UnmodifiableEntity"),
    ("ec2:RunInstances", "InvalidParameterValue"),
    ("ec2:AssociateIamInstanceProfile", "InvalidParameterValue"),
    ("ec2:AssociateIamInstanceProfile", "IncorrectState"),
];

/// Carries it out once.
pub(super) async fn apply(aws: &Aws, names: &Names, step: &Step) -> Result<Outcome, Failure> {
    match carry_out(aws, names, step).await {
        Ok(()) => Ok(Outcome::Done),
        Err(failure) => judge(step, failure),
    }
}

fn judge(step: &Step, failure: Failure) -> Result<Outcome, Failure> {
    let code = failure.code().unwrap_or_default();
    let removes = matches!(
        step,
        Step::DeleteRole { .. }
            | Step::DeletePolicy { .. }
            | Step::DetachPolicy { .. }
            | Step::DeleteProfile { .. }
            | Step::RemoveRole { .. }
            | Step::Revoke { .. }
            | Step::DeleteGroup { .. }
            | Step::DeleteTargetGroup { .. }
            | Step::Deregister { .. }
            | Step::DeleteRule { .. }
            | Step::DeleteEndpoint { .. }
            | Step::Terminate { .. }
            | Step::DeleteParameter { .. }
    );
    if ALREADY.contains(&code) || (removes && failure.is_missing()) {
        return Ok(Outcome::Already);
    }
    // Somebody else, or an earlier call, took the target out.
    if matches!(step, Step::Deregister { .. }) && code == "InvalidTarget" {
        return Ok(Outcome::Already);
    }
    // A profile has one role at most, and that is the one which was put there a moment ago.
    if matches!(step, Step::AddRole { .. }) && code == "LimitExceeded" {
        return Ok(Outcome::Already);
    }
    let action = failure.action;
    let momentary = MOMENTARY
        .iter()
        .any(|(of, momentary)| *momentary == code && (of.is_empty() || *of == action));
    // Of the many wrong values only the profile becomes right by waiting.
    let about_profile = code != "InvalidParameterValue"
        || failure
            .message
            .as_deref()
            .is_some_and(|message| message.to_lowercase().contains("iam") || message.contains("nstanceProfile"));
    // What was made a moment ago is not known everywhere.
    if (momentary && about_profile) || (!removes && failure.is_missing()) {
        return Ok(Outcome::Later(Box::new(failure)));
    }
    Err(failure)
}

async fn carry_out(aws: &Aws, names: &Names, step: &Step) -> Result<(), Failure> {
    match step {
        Step::CreateRole { .. }
        | Step::SetTrust { .. }
        | Step::TagRole { .. }
        | Step::PutPolicy { .. }
        | Step::DeletePolicy { .. }
        | Step::AttachPolicy { .. }
        | Step::DetachPolicy { .. }
        | Step::DeleteRole { .. } => role(aws, names, step).await,
        Step::CreateProfile { .. }
        | Step::TagProfile { .. }
        | Step::AddRole { .. }
        | Step::RemoveRole { .. }
        | Step::DeleteProfile { .. } => profile(aws, step).await,
        Step::CreateGroup { .. }
        | Step::Allow { .. }
        | Step::Revoke { .. }
        | Step::DeleteGroup { .. }
        | Step::CreateEndpoint { .. }
        | Step::DeleteEndpoint { .. } => network(aws, names, step).await,
        Step::CreateTargetGroup { .. }
        | Step::SetHealthCheck { .. }
        | Step::SetAttributes { .. }
        | Step::TagBalancing { .. }
        | Step::DeleteTargetGroup { .. }
        | Step::Register { .. }
        | Step::Deregister { .. }
        | Step::CreateRule { .. }
        | Step::ModifyRule { .. }
        | Step::DeleteRule { .. } => balancing(aws, step).await,
        Step::Run(_)
        | Step::Start { .. }
        | Step::SetMetadata { .. }
        | Step::Associate { .. }
        | Step::Terminate { .. }
        | Step::Tag { .. }
        | Step::PutParameter { .. }
        | Step::DeleteParameter { .. } => instance(aws, step).await,
        Step::Await(_) => Ok(()),
    }
}

async fn role(aws: &Aws, names: &Names, step: &Step) -> Result<(), Failure> {
    match step.clone() {
        Step::CreateRole { role, trust, tags } => {
            let description = format!("The ephemwork bastion of {} in {}", names.project, names.region);
            let call = iam::CreateRole {
                name: role,
                description,
                trust: trust.to_string(),
                tags,
            };
            aws.call(&call).await.map(drop)
        }
        Step::SetTrust { role, trust } => {
            let policy = trust.to_string();
            aws.call(&iam::UpdateAssumeRolePolicy {
                name: role,
                trust: policy,
            })
            .await
        }
        Step::TagRole { role, tags } => aws.call(&iam::TagRole { name: role, tags }).await,
        Step::PutPolicy { role, policy, document } => {
            let document = document.to_string();
            aws.call(&iam::PutRolePolicy { role, policy, document }).await
        }
        Step::DeletePolicy { role, policy } => aws.call(&iam::DeleteRolePolicy { role, policy }).await,
        Step::AttachPolicy { role, policy } => {
            aws.call(&iam::AttachRolePolicy {
                role,
                policy_arn: policy,
            })
            .await
        }
        Step::DetachPolicy { role, policy } => {
            aws.call(&iam::DetachRolePolicy {
                role,
                policy_arn: policy,
            })
            .await
        }
        Step::DeleteRole { role } => aws.call(&iam::DeleteRole { name: role }).await,
        _ => Ok(()),
    }
}

async fn profile(aws: &Aws, step: &Step) -> Result<(), Failure> {
    match step.clone() {
        Step::CreateProfile { profile, tags } => {
            let call = iam::CreateInstanceProfile { name: profile, tags };
            aws.call(&call).await.map(drop)
        }
        Step::TagProfile { profile, tags } => aws.call(&iam::TagInstanceProfile { name: profile, tags }).await,
        Step::AddRole { profile, role } => aws.call(&iam::AddRoleToInstanceProfile { profile, role }).await,
        Step::RemoveRole { profile, role } => aws.call(&iam::RemoveRoleFromInstanceProfile { profile, role }).await,
        Step::DeleteProfile { profile } => aws.call(&iam::DeleteInstanceProfile { name: profile }).await,
        _ => Ok(()),
    }
}

async fn network(aws: &Aws, names: &Names, step: &Step) -> Result<(), Failure> {
    match step.clone() {
        Step::CreateGroup {
            name,
            vpc,
            purpose,
            tags,
        } => {
            let call = ec2::CreateSecurityGroup {
                name,
                description: purpose.to_owned(),
                vpc_id: vpc,
                tags,
            };
            aws.call(&call).await.map(drop)
        }
        Step::Allow { group, traffic, tags } => {
            let (group_id, permission) = (group.id, permission(&traffic, names));
            if traffic.out {
                let call = ec2::AuthorizeSecurityGroupEgress {
                    group_id,
                    permission,
                    tags,
                };
                aws.call(&call).await.map(drop)
            } else {
                let call = ec2::AuthorizeSecurityGroupIngress {
                    group_id,
                    permission,
                    tags,
                };
                aws.call(&call).await.map(drop)
            }
        }
        Step::Revoke { group, rule, traffic } => {
            let (group_id, rule_ids) = (group.id, vec![rule]);
            if traffic.out {
                aws.call(&ec2::RevokeSecurityGroupEgress { group_id, rule_ids }).await
            } else {
                aws.call(&ec2::RevokeSecurityGroupIngress { group_id, rule_ids }).await
            }
        }
        Step::DeleteGroup { group } => aws.call(&ec2::DeleteSecurityGroup { id: group.id }).await,
        Step::CreateEndpoint { subnet, group, tags } => {
            // The group is another one after every destroy, so that its token is, too.
            let token = names::revision(&[&names.project, &names.region, &subnet, &group]);
            let call = ec2::CreateInstanceConnectEndpoint {
                client_token: format!("ephemwork-{token}"),
                subnet_id: subnet,
                groups: vec![group],
                tags,
            };
            aws.call(&call).await.map(drop)
        }
        Step::DeleteEndpoint { id } => aws.call(&ec2::DeleteInstanceConnectEndpoint { id }).await.map(drop),
        _ => Ok(()),
    }
}

fn permission(traffic: &Traffic, names: &Names) -> ec2::Permission {
    let is_group = traffic.peer.starts_with("sg-");
    let way = if traffic.out { "to" } else { "from" };
    let what = match traffic.peer.as_str() {
        "0.0.0.0/0" => "AWS".to_owned(),
        _ if traffic.out => "the bastion".to_owned(),
        _ => "the load balancer or endpoint".to_owned(),
    };
    ec2::Permission {
        // The steps name one port, and ports fit.
        port: u16::try_from(traffic.ports.0).unwrap_or_default(),
        peer_group: is_group.then(|| traffic.peer.clone()),
        cidr_v4: (!is_group).then(|| traffic.peer.clone()),
        description: format!("ephemwork {}: {way} {what}", names.project),
    }
}

fn health() -> elbv2::HealthCheck {
    elbv2::HealthCheck {
        path: HEALTH_PATH.to_owned(),
        interval: u32::try_from(HEALTH_INTERVAL).unwrap_or_default(),
        timeout: 5,
        healthy: 2,
        unhealthy: 2,
        codes: "200".to_owned(),
    }
}

fn conditions(rule: RuleText) -> Vec<elbv2::Condition> {
    let conditions = rule.conditions.into_iter();
    conditions
        .map(|condition| elbv2::Condition {
            field: condition.field,
            header: condition.header,
            values: condition.values.into_iter().collect(),
        })
        .collect()
}

fn target(ip: String) -> Vec<elbv2::Target> {
    vec![elbv2::Target {
        address: ip,
        port: u16::try_from(EDGE_PORT).unwrap_or_default(),
    }]
}

async fn balancing(aws: &Aws, step: &Step) -> Result<(), Failure> {
    match step.clone() {
        Step::CreateTargetGroup { name, vpc, tags } => {
            let call = elbv2::CreateTargetGroup {
                name,
                port: u16::try_from(EDGE_PORT).unwrap_or_default(),
                vpc_id: vpc,
                health: health(),
                tags,
            };
            aws.call(&call).await.map(drop)
        }
        Step::SetHealthCheck { target_group } => {
            let call = elbv2::ModifyTargetGroup {
                arn: target_group,
                health: health(),
            };
            aws.call(&call).await.map(drop)
        }
        Step::SetAttributes { target_group } => {
            let delay = (
                "deregistration_delay.timeout_seconds".to_owned(),
                DEREGISTRATION_DELAY.to_string(),
            );
            let call = elbv2::ModifyTargetGroupAttributes {
                arn: target_group,
                attributes: [delay].into(),
            };
            aws.call(&call).await.map(drop)
        }
        Step::TagBalancing { arn, tags } => aws.call(&elbv2::AddTags { arns: vec![arn], tags }).await,
        Step::DeleteTargetGroup { arn, .. } => aws.call(&elbv2::DeleteTargetGroup { arn }).await,
        Step::Register { target_group, ip, .. } => {
            let targets = target(ip);
            let arn = target_group;
            aws.call(&elbv2::RegisterTargets { arn, targets }).await
        }
        Step::Deregister { target_group, ip, .. } => {
            let targets = target(ip);
            let arn = target_group;
            aws.call(&elbv2::DeregisterTargets { arn, targets }).await
        }
        Step::CreateRule {
            listener,
            priority,
            rule,
            target_group,
            tags,
        } => {
            let call = elbv2::CreateRule {
                listener_arn: listener,
                priority,
                conditions: conditions(rule),
                target_group_arn: target_group,
                tags,
            };
            aws.call(&call).await.map(drop)
        }
        Step::ModifyRule {
            arn, rule, target_group, ..
        } => {
            let call = elbv2::ModifyRule {
                arn,
                conditions: conditions(rule),
                target_group_arn: target_group,
            };
            aws.call(&call).await.map(drop)
        }
        Step::DeleteRule { arn, .. } => aws.call(&elbv2::DeleteRule { arn }).await,
        _ => Ok(()),
    }
}

fn metadata() -> ec2::MetadataOptions {
    ec2::MetadataOptions {
        tokens: "required".to_owned(),
        hop_limit: 1,
        endpoint: "enabled".to_owned(),
    }
}

async fn instance(aws: &Aws, step: &Step) -> Result<(), Failure> {
    match step.clone() {
        Step::Run(run) => self::run(aws, *run).await,
        Step::Start { instance } => aws.call(&ec2::StartInstances { ids: vec![instance] }).await.map(drop),
        Step::SetMetadata { instance } => {
            let call = ec2::ModifyInstanceMetadataOptions {
                id: instance,
                options: metadata(),
            };
            aws.call(&call).await
        }
        Step::Associate { instance, profile } => {
            let call = ec2::AssociateIamInstanceProfile {
                instance_id: instance,
                profile_name: profile,
            };
            aws.call(&call).await.map(drop)
        }
        Step::Terminate { instance, .. } => aws.call(&ec2::TerminateInstances { ids: vec![instance] }).await.map(drop),
        Step::Tag { id, tags } => aws.call(&ec2::CreateTags { ids: vec![id], tags }).await,
        Step::PutParameter { name, value } => {
            let call = ssm::PutParameter {
                name,
                value,
                kind: ssm::ParameterKind::String,
                description: "The host key of the ephemwork bastion".to_owned(),
                existing: ssm::Existing::Replaced,
            };
            aws.call(&call).await.map(drop)
        }
        Step::DeleteParameter { name } => aws.call(&ssm::DeleteParameter { name }).await,
        _ => Ok(()),
    }
}

async fn run(aws: &Aws, run: Run) -> Result<(), Failure> {
    let mut part_tags = run.tags.clone();
    part_tags.retain(|key, _| !matches!(key.as_str(), names::REVISION | names::BINARY | names::SHA256));
    let call = ec2::RunInstances {
        client_token: run.token,
        image_id: run.image,
        instance_type: run.instance_type,
        subnet_id: run.subnet,
        groups: vec![run.group],
        public_address: false,
        profile_name: run.profile,
        metadata: metadata(),
        devices: vec![ec2::BlockDevice {
            name: run.root_device,
            volume_type: "gp3".to_owned(),
            size: u32::try_from(VOLUME_GIB).ok(),
            encrypted: true,
        }],
        user_data: base64::encode(run.user_data.as_bytes()),
        tags: run.tags,
        part_tags,
    };
    aws.call(&call).await.map(drop)
}
