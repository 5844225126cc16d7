//! Reads what stands in the account: each kind of thing found for itself, by name and tag, through read-only calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use super::names::{COMPONENT, Names, PROJECT};
use super::observed::{
    Agent, Condition, Endpoint, Group, GroupRule, Instance, Observed, Part, Profile, Role, Rule, Tags, Target, TargetGroup,
    Traffic,
};
use crate::aws::ec2::{self, Direction, Filter};
use crate::aws::{Aws, Failure, elbv2, iam, ssm};
use crate::error::{Error, Result};

/// How many ARNs DescribeTags of load balancing takes.
const TAGGED_AT_ONCE: usize = 20;

/// Where to look, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Listeners whose rules are ours to make.
    pub listener: Option<String>,
    /// Groups of others that the plan needs to see.
    pub groups: BTreeSet<String>,
}

/// One project's things in one region.
#[derive(Clone)]
pub struct Look {
    pub aws: Aws,
    pub names: Names,
    pub scope: Scope,
}

impl Look {
    /// All parts.
    ///
    /// # Errors
    /// A call failed; nothing of it is given, because half a picture would make a wrong plan.
    pub async fn all(&self) -> Result<Observed> {
        let mut observed = Observed::default();
        self.parts(&Part::ALL, &mut observed).await?;
        Ok(observed)
    }

    /// Some parts again.
    ///
    /// # Errors
    /// As [`Look::all`].
    pub async fn parts(&self, parts: &[Part], observed: &mut Observed) -> Result<()> {
        for part in parts {
            match part {
                Part::Role => observed.role = self.role().await?,
                Part::Profile => observed.profile = self.profile().await?,
                Part::Groups => (observed.groups, observed.shared) = self.groups().await?,
                Part::Instances => (observed.instances, observed.terminated) = self.instances().await?,
                Part::TargetGroup => observed.target_group = self.target_group().await?,
                Part::Rules => observed.rules = self.rules(observed.target_group.as_ref()).await?,
                Part::Endpoints => observed.endpoints = self.endpoints().await?,
                Part::Parameters => observed.parameters = self.parameters().await?,
            }
        }
        Ok(())
    }

    async fn role(&self) -> Result<Option<Role>> {
        let name = self.names.role.clone();
        let Some(found) = there(self.aws.call(&iam::GetRole { name: name.clone() }).await)? else {
            return Ok(None);
        };
        let attached = iam::ListAttachedRolePolicies {
            role: name.clone(),
            next: None,
        };
        // Deleted while it is looked at: the next look says so.
        let Some(attached) = there(self.aws.all(&attached).await)? else {
            return Ok(None);
        };
        let names = iam::ListRolePolicies {
            role: name.clone(),
            next: None,
        };
        let mut inline = BTreeMap::new();
        for policy in there(self.aws.all(&names).await)?.unwrap_or_default() {
            let call = iam::GetRolePolicy {
                role: name.clone(),
                policy: policy.clone(),
            };
            if let Some(document) = there(self.aws.call(&call).await)? {
                inline.insert(policy, serde_json::from_str(&document).unwrap_or_default());
            }
        }
        Ok(Some(Role {
            trust: serde_json::from_str(&found.trust).unwrap_or_default(),
            inline,
            attached: attached.into_iter().map(|policy| policy.arn).collect(),
            tags: found.tags,
        }))
    }

    async fn profile(&self) -> Result<Option<Profile>> {
        let name = self.names.role.clone();
        let found = there(self.aws.call(&iam::GetInstanceProfile { name }).await)?;
        Ok(found.map(|found| Profile {
            arn: found.arn,
            roles: found.roles,
            tags: found.tags,
        }))
    }

    /// Ours, and those of others.
    async fn groups(&self) -> Result<(Vec<Group>, Vec<Group>)> {
        let wanted = Filter {
            name: "group-name".to_owned(),
            values: vec![self.names.bastion.clone(), self.names.endpoint.clone()],
        };
        let mut ours: Vec<Group> = self.groups_by(wanted).await?;
        let tagged = self.rules_by(Filter::tag(PROJECT, &self.names.project)).await?;
        let mut ids: BTreeSet<String> = self.scope.groups.clone();
        ids.extend(tagged.into_keys());
        ids.extend(ours.iter().map(|group| group.id.clone()));
        let mut rules = self.rules_of(&ids).await?;
        // Whoever may come in belongs to the picture: it is the load balancer's group, or an endpoint's.
        let sources: BTreeSet<String> = ours
            .iter()
            .filter_map(|group| rules.get(&group.id))
            .flatten()
            .map(|rule| rule.traffic.peer.clone())
            .filter(|peer| peer.starts_with("sg-") && !ids.contains(peer))
            .collect();
        rules.extend(self.rules_of(&sources).await?);
        ids.extend(sources);
        for group in &ours {
            ids.remove(&group.id);
        }
        let mut shared = match ids.is_empty() {
            true => Vec::new(),
            false => {
                self.groups_by(Filter {
                    name: "group-id".to_owned(),
                    values: ids.into_iter().collect(),
                })
                .await?
            }
        };
        for group in ours.iter_mut().chain(&mut shared) {
            group.rules = rules.remove(&group.id).unwrap_or_default();
        }
        Ok((ours, shared))
    }

    async fn groups_by(&self, filter: Filter) -> Result<Vec<Group>> {
        let filters = vec![filter];
        let call = ec2::DescribeSecurityGroups {
            filters,
            ..Default::default()
        };
        let found = self.aws.all(&call).await?;
        let group = |found: ec2::SecurityGroup| Group {
            id: found.id,
            name: found.name,
            vpc: found.vpc_id.unwrap_or_default(),
            rules: Vec::new(),
            tags: found.tags,
        };
        Ok(found.into_iter().map(group).collect())
    }

    async fn rules_of(&self, groups: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<GroupRule>>> {
        if groups.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.rules_by(Filter {
            name: "group-id".to_owned(),
            values: groups.iter().cloned().collect(),
        })
        .await
    }

    async fn rules_by(&self, filter: Filter) -> Result<BTreeMap<String, Vec<GroupRule>>> {
        let filters = vec![filter];
        let call = ec2::DescribeSecurityGroupRules {
            filters,
            ..Default::default()
        };
        let mut rules: BTreeMap<String, Vec<GroupRule>> = BTreeMap::new();
        for found in self.aws.all(&call).await? {
            rules.entry(found.group_id.clone()).or_default().push(group_rule(found));
        }
        Ok(rules)
    }

    /// Those that are there, and the ids of those that are terminated.
    async fn instances(&self) -> Result<(Vec<Instance>, BTreeSet<String>)> {
        let filters = vec![
            Filter::tag(PROJECT, &self.names.project),
            Filter::tag(COMPONENT, super::names::BASTION),
        ];
        let call = ec2::DescribeInstances {
            filters,
            ..Default::default()
        };
        let (mut there, mut terminated) = (Vec::new(), BTreeSet::new());
        for found in self.aws.all(&call).await? {
            if found.state == ec2::InstanceState::Terminated {
                terminated.insert(found.id);
            } else {
                there.push(instance(found));
            }
        }
        if there.is_empty() {
            return Ok((there, terminated));
        }
        let ids: Vec<String> = there.iter().map(|instance| instance.id.clone()).collect();
        let filter = Filter {
            name: "attachment.instance-id".to_owned(),
            values: ids.clone(),
        };
        let volumes = ec2::DescribeVolumes {
            filters: vec![filter],
            ..Default::default()
        };
        for volume in self.aws.all(&volumes).await? {
            for instance in there.iter_mut().filter(|instance| volume.instances.contains(&instance.id)) {
                instance.encrypted = Some(instance.encrypted.unwrap_or(true) && volume.encrypted);
            }
        }
        for agent in self.aws.all(&ssm::DescribeInstanceInformation { ids, next: None }).await? {
            if let Some(instance) = there.iter_mut().find(|instance| instance.id == agent.instance_id) {
                instance.agent = Some(Agent {
                    ping: agent.ping,
                    version: agent.version.unwrap_or_default(),
                });
            }
        }
        Ok((there, terminated))
    }

    async fn target_group(&self) -> Result<Option<TargetGroup>> {
        let names = vec![self.names.target_group.clone()];
        let call = elbv2::DescribeTargetGroups {
            names,
            ..Default::default()
        };
        let found = there(self.aws.all(&call).await)?.unwrap_or_default();
        let Some(found) = found.into_iter().next() else {
            return Ok(None);
        };
        let arn = found.arn;
        let attributes = there(
            self.aws
                .call(&elbv2::DescribeTargetGroupAttributes { arn: arn.clone() })
                .await,
        )?;
        let health = there(self.aws.call(&elbv2::DescribeTargetHealth { arn: arn.clone() }).await)?;
        let tags = self.balancing_tags(std::slice::from_ref(&arn)).await?.remove(&arn);
        let target = |found: elbv2::TargetHealth| Target {
            ip: found.target.address,
            port: i64::from(found.target.port),
            state: found.state,
            reason: found.reason,
            description: found.description,
        };
        Ok(Some(TargetGroup {
            vpc: found.vpc_id.unwrap_or_default(),
            port: i64::from(found.port.unwrap_or_default()),
            protocol: found.protocol.unwrap_or_default(),
            target_type: found.target_type.unwrap_or_default(),
            health_path: found.health.path,
            health_interval: i64::from(found.health.interval),
            attributes: attributes.unwrap_or_default(),
            balancers: found.load_balancer_arns,
            targets: health.unwrap_or_default().into_iter().map(target).collect(),
            tags: tags.unwrap_or_default(),
            arn,
        }))
    }

    /// The rules of the listener that is meant, and of every listener of a load balancer that uses the target group.
    async fn rules(&self, target_group: Option<&TargetGroup>) -> Result<Vec<Rule>> {
        let mut listeners: BTreeSet<String> = self.scope.listener.iter().cloned().collect();
        for balancer in target_group.iter().flat_map(|group| &group.balancers) {
            let call = elbv2::DescribeListeners {
                load_balancer_arn: Some(balancer.clone()),
                ..Default::default()
            };
            let found = there(self.aws.all(&call).await)?.unwrap_or_default();
            listeners.extend(found.into_iter().map(|listener| listener.arn));
        }
        let mut rules = Vec::new();
        for listener in listeners {
            let call = elbv2::DescribeRules {
                listener_arn: Some(listener.clone()),
                ..Default::default()
            };
            let found = there(self.aws.all(&call).await)?.unwrap_or_default();
            rules.extend(found.into_iter().map(|found| rule(found, &listener)));
        }
        let arns: Vec<String> = rules.iter().map(|rule: &Rule| rule.arn.clone()).collect();
        let mut tags = self.balancing_tags(&arns).await?;
        for rule in &mut rules {
            rule.tags = tags.remove(&rule.arn).unwrap_or_default();
        }
        Ok(rules)
    }

    async fn balancing_tags(&self, arns: &[String]) -> Result<BTreeMap<String, Tags>> {
        let mut tags = BTreeMap::new();
        for some in arns.chunks(TAGGED_AT_ONCE) {
            let found = there(self.aws.call(&elbv2::DescribeTags { arns: some.to_vec() }).await)?;
            tags.extend(found.into_iter().flatten().map(|tagged| (tagged.arn, tagged.tags)));
        }
        Ok(tags)
    }

    async fn endpoints(&self) -> Result<Vec<Endpoint>> {
        let found = self.aws.all(&ec2::DescribeInstanceConnectEndpoints::default()).await?;
        let endpoint = |found: ec2::InstanceConnectEndpoint| Endpoint {
            id: found.id,
            state: found.state,
            vpc: found.vpc_id.unwrap_or_default(),
            subnet: found.subnet_id.unwrap_or_default(),
            groups: found.groups,
            tags: found.tags,
        };
        let there = found.into_iter().filter(|found| found.state != "delete-complete");
        Ok(there.map(endpoint).collect())
    }

    async fn parameters(&self) -> Result<BTreeMap<String, String>> {
        let call = ssm::GetParametersByPath {
            path: self.names.parameters(),
            next: None,
        };
        let found = self.aws.all(&call).await?;
        Ok(found.into_iter().map(|found| (found.name, found.value)).collect())
    }
}

/// `None` for what is not there.
fn there<T>(answer: Result<T, Failure>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(Error::from(failure)),
    }
}

fn group_rule(found: ec2::SecurityGroupRule) -> GroupRule {
    let peer = [found.peer_group, found.cidr_v4, found.cidr_v6, found.prefix_list];
    let port = |port: Option<i32>| port.map_or(-1, i64::from);
    GroupRule {
        id: found.id,
        traffic: Traffic {
            out: found.direction == Direction::Egress,
            protocol: found.protocol,
            ports: (port(found.from_port), port(found.to_port)),
            peer: peer.into_iter().flatten().next().unwrap_or_default(),
        },
        tags: found.tags,
    }
}

fn instance(found: ec2::Instance) -> Instance {
    let launched = found.launched.and_then(|launched| launched.duration_since(UNIX_EPOCH).ok());
    let metadata = found.metadata;
    Instance {
        id: found.id,
        state: found.state.name().to_owned(),
        state_reason: found.state_reason,
        image: found.image_id,
        instance_type: found.instance_type,
        vpc: found.vpc_id.unwrap_or_default(),
        subnet: found.subnet_id.unwrap_or_default(),
        private_ip: found.private_address,
        public_ip: found.public_address,
        key_pair: found.key_name,
        groups: found.groups.into_iter().collect(),
        profile: found.profile_arn,
        hop_limit: metadata.as_ref().map_or(0, |metadata| i64::from(metadata.hop_limit)),
        http_tokens: metadata.map(|metadata| metadata.tokens).unwrap_or_default(),
        encrypted: None,
        launched: launched.map_or(0, |launched| launched.as_secs()),
        tags: found.tags,
        agent: None,
    }
}

fn rule(found: elbv2::Rule, listener: &str) -> Rule {
    let condition = |condition: elbv2::Condition| Condition {
        field: condition.field,
        header: condition.header,
        values: condition.values.into_iter().collect(),
    };
    Rule {
        arn: found.arn,
        listener: listener.to_owned(),
        priority: found.priority,
        conditions: found.conditions.into_iter().map(condition).collect(),
        forwards: found.actions.into_iter().flat_map(|action| action.target_groups).collect(),
        tags: Tags::new(),
    }
}
