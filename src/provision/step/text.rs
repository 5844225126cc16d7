//! A step as a person reads it: what it does, its parameters, its documents.

use std::collections::BTreeMap;

use super::super::desired::{DEREGISTRATION_DELAY, EDGE_PORT, HEALTH_INTERVAL, HEALTH_PATH, VOLUME_GIB};
use super::super::observed::Condition;
use super::{GroupName, Step, Wait};

impl Step {
    /// What is done, as a sentence without a full stop.
    pub fn title(&self) -> String {
        use Step::*;
        match self {
            CreateRole { role, .. } => format!("create the IAM role {role}"),
            SetTrust { role, .. } => format!("let only EC2 assume the role {role}"),
            TagRole { role, .. } => format!("tag the role {role}"),
            PutPolicy { role, policy, .. } => format!("write the policy {policy} of the role {role}"),
            DeletePolicy { role, policy } => format!("delete the policy {policy} of the role {role}"),
            AttachPolicy { role, policy } => format!("attach {policy} to the role {role}"),
            DetachPolicy { role, policy } => format!("detach {policy} from the role {role}"),
            DeleteRole { role } => format!("delete the IAM role {role}"),
            CreateProfile { profile, .. } => format!("create the instance profile {profile}"),
            TagProfile { profile, .. } => format!("tag the instance profile {profile}"),
            AddRole { profile, role } => format!("put the role {role} into the instance profile {profile}"),
            RemoveRole { profile, role } => format!("take the role {role} out of the instance profile {profile}"),
            DeleteProfile { profile } => format!("delete the instance profile {profile}"),
            CreateGroup { name, .. } => format!("create the security group {name}"),
            Allow { group, traffic, .. } => format!("allow {traffic} in {group}"),
            Revoke { group, traffic, .. } => format!("no longer allow {traffic} in {group}"),
            DeleteGroup { group } => format!("delete {group}"),
            CreateTargetGroup { name, .. } => format!("create the target group {name}"),
            SetHealthCheck { target_group } => format!("set the health check of {target_group}"),
            SetAttributes { target_group } => format!("set the deregistration delay of {target_group}"),
            TagBalancing { arn, .. } => format!("tag {arn}"),
            DeleteTargetGroup { name, .. } => format!("delete the target group {name}"),
            Register { ip, instance, .. } => format!("register {instance} ({ip}) as a target"),
            Deregister { ip, why, .. } => format!("take the target {ip} out: {why}"),
            CreateRule { priority, rule, .. } => format!("create listener rule {priority}: {}", rule.purpose),
            ModifyRule { priority, rule, .. } => format!("repair listener rule {priority}: {}", rule.purpose),
            DeleteRule { priority, why, .. } => format!("delete listener rule {priority}: {why}"),
            CreateEndpoint { subnet, .. } => format!("create an EC2 Instance Connect Endpoint in {subnet}"),
            DeleteEndpoint { id } => format!("delete the EC2 Instance Connect Endpoint {id}"),
            Run(run) => format!("run an instance, {}", run.instance_type),
            Start { instance } => format!("start {instance}"),
            SetMetadata { instance } => format!("require IMDSv2 with hop limit 1 on {instance}"),
            Associate { instance, profile } => format!("give {instance} the instance profile {profile}"),
            Terminate { instance, why } => format!("terminate {instance}: {why}"),
            Tag { id, .. } => format!("tag {id}"),
            PutParameter { name, .. } => format!("write the SSM parameter {name}"),
            DeleteParameter { name } => format!("delete the SSM parameter {name}"),
            Await(wait) => wait.title(),
        }
    }

    /// The other parameters by name. Documents are apart.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        use Step::*;
        match self {
            CreateRole { tags, .. } | CreateProfile { tags, .. } | TagRole { tags, .. } | TagProfile { tags, .. } => {
                vec![("tags", shown(tags))]
            }
            TagBalancing { tags, .. } | Tag { tags, .. } => vec![("tags", shown(tags))],
            CreateGroup { vpc, purpose, tags, .. } => {
                vec![
                    ("vpc", vpc.clone()),
                    ("for", (*purpose).to_owned()),
                    ("outbound", "everything, as AWS makes it".to_owned()),
                    ("tags", shown(tags)),
                ]
            }
            Revoke { rule, .. } => vec![("rule", rule.clone())],
            CreateTargetGroup { vpc, tags, .. } => vec![
                ("vpc", vpc.clone()),
                ("targets", format!("ip, HTTP/1.1 on port {EDGE_PORT}")),
                ("health", health()),
                ("tags", shown(tags)),
            ],
            SetHealthCheck { .. } => vec![("health", health())],
            SetAttributes { .. } => vec![("delay", format!("{DEREGISTRATION_DELAY} s"))],
            CreateRule {
                listener,
                rule,
                target_group,
                tags,
                ..
            } => {
                let mut all = vec![("listener", listener.clone())];
                all.extend(rule.conditions.iter().map(|condition| ("if", condition.to_string())));
                all.extend([("forward to", target_group.clone()), ("tags", shown(tags))]);
                all
            }
            ModifyRule {
                arn, rule, target_group, ..
            } => {
                let mut all = vec![("rule", arn.clone())];
                all.extend(rule.conditions.iter().map(|condition| ("if", condition.to_string())));
                all.push(("forward to", target_group.clone()));
                all
            }
            DeleteRule { arn, .. } => vec![("rule", arn.clone())],
            CreateEndpoint { group, tags, .. } => vec![("group", group.clone()), ("tags", shown(tags))],
            Run(run) => vec![
                ("image", run.image.clone()),
                ("subnet", format!("{}, no public address", run.subnet)),
                ("group", run.group.clone()),
                ("profile", run.profile.clone()),
                ("metadata", "IMDSv2 required, hop limit 1".to_owned()),
                ("key pair", "none".to_owned()),
                (
                    "disk",
                    format!(
                        "{} {VOLUME_GIB} GiB gp3, encrypted, deleted with the instance",
                        run.root_device
                    ),
                ),
                ("runs", run.binary.clone()),
                ("sha256", run.sha256.clone()),
                ("tags", shown(&run.tags)),
            ],
            PutParameter { value, .. } => vec![("value", value.clone())],
            Await(wait) => vec![("at most", format!("{} s", wait.deadline().as_secs()))],
            _ => Vec::new(),
        }
    }

    /// Whole documents, for `--verbose`.
    pub fn documents(&self) -> Vec<(&'static str, String)> {
        match self {
            Step::CreateRole { trust, .. } | Step::SetTrust { trust, .. } => vec![("trust policy", format!("{trust:#}"))],
            Step::PutPolicy { document, .. } => vec![("policy document", format!("{document:#}"))],
            Step::Run(run) => vec![("user data", run.user_data.clone())],
            _ => Vec::new(),
        }
    }
}

impl Wait {
    fn title(&self) -> String {
        match self {
            Wait::Running { instance } => format!("wait until {instance} runs"),
            Wait::Stopped { instance } => format!("wait until {instance} has stopped, to start it again"),
            Wait::Agent { instance } => format!("wait until Systems Manager's agent on {instance} answers"),
            Wait::Boot { instance } => format!("wait until bastiond on {instance} is healthy"),
            Wait::Healthy { instance, ip } => format!("wait until the load balancer finds {instance} ({ip}) healthy"),
            Wait::Drained { ip } => format!("wait until {ip} has no more requests"),
            Wait::Gone { instance } => format!("wait until {instance} is gone"),
            Wait::EndpointReady { id } => format!("wait until the endpoint {id} is ready"),
            Wait::EndpointGone { id } => format!("wait until the endpoint {id} is gone"),
        }
    }
}

fn health() -> String {
    format!("GET {HEALTH_PATH} every {HEALTH_INTERVAL} s, twice good is healthy, twice bad is not")
}

fn shown(tags: &BTreeMap<String, String>) -> String {
    let one = |(key, value): (&String, &String)| format!("{key}={value}");
    tags.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = if self.shared {
            "the shared security group"
        } else {
            "the security group"
        };
        if self.id.starts_with('<') {
            write!(f, "{whose} {}", self.name)
        } else {
            write!(f, "{whose} {} ({})", self.name, self.id)
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
        match (&self.header, self.field.as_str()) {
            (Some(header), _) => write!(f, "the header {header} is {values}"),
            (None, "http-request-method") => write!(f, "the method is {values}"),
            (None, field) => write!(f, "{field} is {values}"),
        }
    }
}
