//! What stands in the account, as plain data. `read` fills it; everything here only looks at it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A thing's tags.
pub type Tags = BTreeMap<String, String>;

/// Everything that concerns one project in one region. What was not found is absent; with no credentials all of it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub role: Option<Role>,
    pub profile: Option<Profile>,
    /// The bastion's and the endpoint's groups, in any VPC.
    pub groups: Vec<Group>,
    /// Groups of others that name one of ours in a rule, or are named by the settings: the load balancer's, an endpoint's.
    pub shared: Vec<Group>,
    /// Instances of this project that are not terminated.
    pub instances: Vec<Instance>,
    /// Ids of terminated instances that EC2 still lists, for about an hour.
    pub terminated: BTreeSet<String>,
    pub target_group: Option<TargetGroup>,
    /// Every rule of the listeners that are ours to use, others' too.
    pub rules: Vec<Rule>,
    /// Every EC2 Instance Connect Endpoint of the VPC.
    pub endpoints: Vec<Endpoint>,
    /// The project's SSM parameters by name.
    pub parameters: BTreeMap<String, String>,
}

/// What a part of the account is; a step changes one, which is then looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Role,
    Profile,
    Groups,
    Instances,
    TargetGroup,
    Rules,
    Endpoints,
    Parameters,
}

impl Part {
    /// All of them, in the order in which they are read: rules are found through the target group.
    pub const ALL: [Part; 8] = [
        Part::Role,
        Part::Profile,
        Part::Groups,
        Part::Instances,
        Part::TargetGroup,
        Part::Rules,
        Part::Endpoints,
        Part::Parameters,
    ];
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    pub trust: Value,
    /// Inline policies by name.
    pub inline: BTreeMap<String, Value>,
    /// ARNs of managed policies.
    pub attached: BTreeSet<String>,
    pub tags: Tags,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub arn: String,
    /// At most one, by IAM's own limit.
    pub roles: Vec<String>,
    pub tags: Tags,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub vpc: String,
    pub rules: Vec<GroupRule>,
    pub tags: Tags,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRule {
    /// `sgr-…`
    pub id: String,
    pub traffic: Traffic,
    pub tags: Tags,
}

/// What a rule of a security group lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    pub out: bool,
    /// `tcp`, `-1` for all.
    pub protocol: String,
    /// First and last port; -1 for all.
    pub ports: (i64, i64),
    /// A group's id or a CIDR block.
    pub peer: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    pub id: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down`.
    pub state: String,
    /// Why EC2 changed the state, when it says so.
    pub state_reason: Option<String>,
    pub image: String,
    pub instance_type: String,
    pub vpc: String,
    pub subnet: String,
    pub private_ip: Option<String>,
    pub public_ip: Option<String>,
    pub key_pair: Option<String>,
    pub groups: BTreeSet<String>,
    /// The instance profile's ARN.
    pub profile: Option<String>,
    /// `required` or `optional`.
    pub http_tokens: String,
    pub hop_limit: i64,
    /// Whether every volume that is known is encrypted; `None` while there is none.
    pub encrypted: Option<bool>,
    /// Seconds since the Unix epoch.
    pub launched: u64,
    pub tags: Tags,
    pub agent: Option<Agent>,
}

/// What Systems Manager says of an instance's agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    /// `Online`, `ConnectionLost`, `Inactive`.
    pub ping: String,
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetGroup {
    pub arn: String,
    pub vpc: String,
    pub port: i64,
    pub protocol: String,
    pub target_type: String,
    pub health_path: String,
    pub health_interval: i64,
    pub attributes: BTreeMap<String, String>,
    /// ARNs of the load balancers that use it.
    pub balancers: Vec<String>,
    pub targets: Vec<Target>,
    pub tags: Tags,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub ip: String,
    pub port: i64,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`.
    pub state: String,
    pub reason: Option<String>,
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub arn: String,
    pub listener: String,
    /// None for the default rule.
    pub priority: Option<u32>,
    pub conditions: BTreeSet<Condition>,
    /// ARNs of the target groups that it forwards to.
    pub forwards: Vec<String>,
    pub tags: Tags,
}

/// A condition of a listener rule: the field, a header's name if it is one, the values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// `http-header`, `http-request-method`, `path-pattern`, …
    pub field: String,
    pub header: Option<String>,
    pub values: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    pub id: String,
    /// `create-in-progress`, `create-complete`, `create-failed`, `delete-in-progress`.
    pub state: String,
    pub vpc: String,
    pub subnet: String,
    pub groups: Vec<String>,
    pub tags: Tags,
}

/// How an instance says that its boot went; the parameter that `user-data.sh` writes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Boot {
    /// The daemon answers.
    Ready {
        /// What `--version` printed.
        #[serde(default)]
        version: String,
        /// `ssh-ed25519 AAAA…`
        #[serde(default)]
        host_key: String,
    },
    /// It ended early.
    Failed {
        /// The step and what was said.
        #[serde(default)]
        why: String,
    },
    /// What a newer bastion says.
    #[serde(other)]
    Unknown,
}

impl Observed {
    /// The bastion's or the endpoint's group in a VPC.
    pub fn group(&self, name: &str, vpc: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name && group.vpc == vpc)
    }

    /// A group of anybody.
    pub fn group_by_id(&self, id: &str) -> Option<&Group> {
        self.shared.iter().chain(&self.groups).find(|group| group.id == id)
    }

    /// What the instance said of its boot.
    pub fn boot(&self, names: &super::names::Names, instance: &str) -> Option<Boot> {
        let text = self.parameters.get(&names.boot(instance))?;
        // An instance wrote it, and people's terminals show it.
        let plain = |text: String| text.replace(|c: char| c.is_control(), " ");
        Some(match serde_json::from_str(text).unwrap_or(Boot::Unknown) {
            Boot::Ready { version, host_key } => Boot::Ready {
                version: plain(version),
                host_key: plain(host_key),
            },
            Boot::Failed { why } => Boot::Failed { why: plain(why) },
            Boot::Unknown => Boot::Unknown,
        })
    }

    /// Whether an instance's agent answers.
    pub fn online(&self, instance: &Instance) -> bool {
        instance.agent.as_ref().is_some_and(|agent| agent.ping == "Online")
    }

    /// Whether requests can come to an instance: it runs, and where there is a target group it is in it.
    pub fn may_serve(&self, instance: &Instance) -> bool {
        let sent = |group: &TargetGroup| {
            let to_it = |target: &&Target| instance.private_ip.as_ref() == Some(&target.ip);
            group
                .targets
                .iter()
                .find(to_it)
                .is_some_and(|target| target.state != "draining")
        };
        instance.state == "running" && self.target_group.as_ref().is_none_or(sent)
    }

    /// The target that is an instance.
    pub fn target(&self, instance: &Instance) -> Option<&Target> {
        let ip = instance.private_ip.as_deref()?;
        self.target_group.as_ref()?.targets.iter().find(|target| target.ip == ip)
    }
}

impl Instance {
    /// Whether it is there and not about to go.
    pub fn stays(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "running" | "stopping" | "stopped")
    }
}

impl Traffic {
    /// Traffic that comes in from a group.
    pub fn from(port: i64, group: &str) -> Traffic {
        Traffic {
            out: false,
            protocol: "tcp".to_owned(),
            ports: (port, port),
            peer: group.to_owned(),
        }
    }

    /// Traffic that goes out to a group.
    pub fn to(port: i64, group: &str) -> Traffic {
        Traffic {
            out: true,
            ..Traffic::from(port, group)
        }
    }

    /// What a new group of a VPC lets out: everything, to everywhere.
    pub fn everything_out() -> Traffic {
        Traffic {
            out: true,
            protocol: "-1".to_owned(),
            ports: (-1, -1),
            peer: "0.0.0.0/0".to_owned(),
        }
    }

    /// Whether whatever `other` lets through, this does too. An open CIDR block covers every group.
    pub fn covers(&self, other: &Traffic) -> bool {
        let protocol = self.protocol == "-1" || self.protocol == other.protocol;
        let every_port = self.protocol == "-1" || self.ports.0 == -1;
        let ports = every_port || (self.ports.0 <= other.ports.0 && other.ports.1 <= self.ports.1);
        self.out == other.out && protocol && ports && (self.peer == other.peer || self.peer == "0.0.0.0/0")
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.out { "to" } else { "from" };
        match (self.protocol.as_str(), self.ports) {
            ("-1", _) => write!(f, "everything")?,
            (protocol, (-1, _)) => write!(f, "{protocol}, every port")?,
            (protocol, (first, last)) if first == last => write!(f, "{protocol}/{first}")?,
            (protocol, (first, last)) => write!(f, "{protocol}/{first}-{last}")?,
        }
        write!(f, " {way} {}", self.peer)
    }
}
