//! A world in which steps take effect at once, to see where plans lead. No AWS in it: what AWS really does is tested elsewhere.

use super::super::desired::{DEREGISTRATION_DELAY, Desired, HEALTH_INTERVAL, HEALTH_PATH};
use super::super::observed::*;
use super::super::step::{Run, Step, Wait};

/// What the step does to the account.
pub(crate) fn carry_out(step: &Step, desired: &Desired, observed: &mut Observed) {
    assert!(
        !format!("{step:?}").contains("<the new") && !format!("{step:?}").contains("<its"),
        "a step that is carried out knows its ids: {step:?}"
    );
    let names = &desired.facts.names;
    let role = || observed_role(observed);
    match step {
        Step::CreateRole { trust, tags, .. } => {
            observed.role = Some(Role {
                trust: trust.clone(),
                tags: tags.clone(),
                ..Role::default()
            });
        }
        Step::SetTrust { trust, .. } => observed.role.as_mut().unwrap().trust = trust.clone(),
        Step::TagRole { tags, .. } => observed.role.as_mut().unwrap().tags.extend(tags.clone()),
        Step::PutPolicy { policy, document, .. } => {
            let role = observed.role.as_mut().unwrap();
            role.inline.insert(policy.clone(), document.clone());
        }
        Step::DeletePolicy { policy, .. } => drop(observed.role.as_mut().unwrap().inline.remove(policy).unwrap()),
        Step::AttachPolicy { policy, .. } => drop(observed.role.as_mut().unwrap().attached.insert(policy.clone())),
        Step::DetachPolicy { policy, .. } => assert!(observed.role.as_mut().unwrap().attached.remove(policy)),
        Step::DeleteRole { .. } => {
            let role = role();
            assert!(role.inline.is_empty() && role.attached.is_empty() && observed.profile.is_none());
            observed.role = None;
        }
        Step::CreateProfile { tags, .. } => {
            observed.profile = Some(Profile {
                arn: format!("arn:profile/{}", names.role),
                tags: tags.clone(),
                ..Profile::default()
            });
        }
        Step::TagProfile { tags, .. } => observed.profile.as_mut().unwrap().tags.extend(tags.clone()),
        Step::AddRole { role, .. } => {
            let profile = observed.profile.as_mut().unwrap();
            assert!(profile.roles.is_empty(), "a profile has one role");
            profile.roles.push(role.clone());
        }
        Step::RemoveRole { role, .. } => observed.profile.as_mut().unwrap().roles.retain(|one| one != role),
        Step::DeleteProfile { .. } => assert!(observed.profile.take().unwrap().roles.is_empty()),
        Step::CreateGroup { name, vpc, tags, .. } => observed.groups.push(Group {
            id: format!("sg-{name}"),
            name: name.clone(),
            vpc: vpc.clone(),
            rules: vec![rule("sgr-default", Traffic::everything_out(), Tags::new())],
            tags: tags.clone(),
        }),
        Step::Allow { group, traffic, tags } => {
            let found = any_group(observed, &group.id);
            assert!(found.rules.iter().all(|rule| rule.traffic != *traffic));
            found
                .rules
                .push(rule(&format!("sgr-{}", found.rules.len()), traffic.clone(), tags.clone()));
        }
        Step::Revoke { group, rule, .. } => any_group(observed, &group.id).rules.retain(|one| one.id != *rule),
        Step::DeleteGroup { group } => {
            let all = observed.groups.iter().chain(&observed.shared);
            let named = all.flat_map(|one| &one.rules).any(|rule| rule.traffic.peer == group.id);
            let used = observed.instances.iter().any(|instance| instance.groups.contains(&group.id));
            assert!(!named && !used, "{group} is used");
            observed.groups.retain(|one| one.id != group.id);
        }
        Step::CreateTargetGroup { vpc, tags, .. } => {
            observed.target_group = Some(TargetGroup {
                arn: "arn:tg".to_owned(),
                vpc: vpc.clone(),
                health_path: HEALTH_PATH.to_owned(),
                health_interval: HEALTH_INTERVAL,
                tags: tags.clone(),
                ..TargetGroup::default()
            });
        }
        Step::SetHealthCheck { .. } => {
            let group = observed.target_group.as_mut().unwrap();
            (group.health_path, group.health_interval) = (HEALTH_PATH.to_owned(), HEALTH_INTERVAL);
        }
        Step::SetAttributes { .. } => {
            let attributes = &mut observed.target_group.as_mut().unwrap().attributes;
            attributes.insert(
                "deregistration_delay.timeout_seconds".to_owned(),
                DEREGISTRATION_DELAY.to_string(),
            );
        }
        Step::TagBalancing { arn, tags } => {
            let group = observed.target_group.iter_mut().filter(|group| group.arn == *arn);
            group.for_each(|group| group.tags.extend(tags.clone()));
            let rules = observed.rules.iter_mut().filter(|rule| rule.arn == *arn);
            rules.for_each(|rule| rule.tags.extend(tags.clone()));
        }
        Step::DeleteTargetGroup { arn, .. } => {
            assert!(observed.rules.iter().all(|rule| !rule.forwards.contains(arn)), "in use");
            observed.target_group = None;
        }
        Step::Register { ip, .. } => {
            let targets = &mut observed.target_group.as_mut().unwrap().targets;
            targets.retain(|target| target.ip != *ip);
            targets.push(Target {
                ip: ip.clone(),
                state: "initial".to_owned(),
                ..Target::default()
            });
        }
        Step::Deregister { ip, .. } => target(observed, ip).state = "draining".to_owned(),
        Step::CreateRule {
            listener,
            priority,
            rule,
            target_group,
            tags,
        } => {
            assert!(
                observed
                    .rules
                    .iter()
                    .all(|other| other.priority != Some(*priority) || other.listener != *listener)
            );
            observed.rules.push(Rule {
                arn: format!("arn:rule/{priority}"),
                listener: listener.clone(),
                priority: Some(*priority),
                conditions: rule.conditions.clone(),
                forwards: vec![target_group.clone()],
                tags: tags.clone(),
            });
        }
        Step::ModifyRule {
            arn, rule, target_group, ..
        } => {
            let found = observed.rules.iter_mut().find(|rule| rule.arn == *arn).unwrap();
            (found.conditions, found.forwards) = (rule.conditions.clone(), vec![target_group.clone()]);
        }
        Step::DeleteRule { arn, .. } => observed.rules.retain(|rule| rule.arn != *arn),
        Step::CreateEndpoint { subnet, group, tags } => observed.endpoints.push(Endpoint {
            id: "eice-1".to_owned(),
            state: "create-in-progress".to_owned(),
            vpc: desired.facts.vpc.clone(),
            subnet: subnet.clone(),
            groups: vec![group.clone()],
            tags: tags.clone(),
        }),
        Step::DeleteEndpoint { id } => {
            let endpoint = observed.endpoints.iter_mut().find(|endpoint| endpoint.id == *id).unwrap();
            endpoint.state = "delete-in-progress".to_owned();
        }
        Step::Run(run) => observed.instances.push(instance(observed, run, desired)),
        Step::Start { instance } => one(observed, instance).state = "pending".to_owned(),
        Step::SetMetadata { instance } => {
            let found = one(observed, instance);
            (found.http_tokens, found.hop_limit) = ("required".to_owned(), 1);
        }
        Step::Associate { instance, .. } => {
            one(observed, instance).profile = Some(format!("arn:profile/{}", names.role));
        }
        Step::Terminate { instance, .. } => one(observed, instance).state = "shutting-down".to_owned(),
        Step::Tag { id, tags } => {
            let group = observed.groups.iter_mut().filter(|group| group.id == *id);
            group.for_each(|group| group.tags.extend(tags.clone()));
            let instances = observed.instances.iter_mut().filter(|instance| instance.id == *id);
            instances.for_each(|instance| instance.tags.extend(tags.clone()));
        }
        Step::PutParameter { name, value } => drop(observed.parameters.insert(name.clone(), value.clone())),
        Step::DeleteParameter { name } => drop(observed.parameters.remove(name).unwrap()),
        Step::Await(wait) => come_true(wait, desired, observed),
    }
}

fn come_true(wait: &Wait, desired: &Desired, observed: &mut Observed) {
    match wait {
        Wait::Running { instance } => one(observed, instance).state = "running".to_owned(),
        Wait::Stopped { instance } => one(observed, instance).state = "stopped".to_owned(),
        Wait::Agent { instance } => {
            one(observed, instance).agent = Some(Agent {
                ping: "Online".to_owned(),
                version: "3".to_owned(),
            });
        }
        Wait::Boot { instance } => {
            let names = &desired.facts.names;
            let report = format!("{{\"state\":\"ready\",\"version\":\"0.1.0\",\"host_key\":\"key of {instance}\"}}");
            observed.parameters.insert(names.boot(instance), report);
            let key = format!("key of {instance}");
            observed.parameters.entry(names.host_key()).or_insert(key);
        }
        Wait::Healthy { ip, .. } => {
            let arn = &observed.target_group.as_ref().unwrap().arn;
            assert!(observed.rules.iter().any(|rule| rule.forwards.contains(arn)), "unused");
            target(observed, ip).state = "healthy".to_owned();
        }
        Wait::Drained { ip } => observed
            .target_group
            .as_mut()
            .unwrap()
            .targets
            .retain(|target| target.ip != *ip),
        Wait::Gone { instance } => {
            let state = one(observed, instance).state.clone();
            assert_eq!(state, "shutting-down");
            observed.instances.retain(|one| one.id != *instance);
            observed.terminated.insert(instance.clone());
        }
        Wait::EndpointReady { id } => {
            let endpoint = observed.endpoints.iter_mut().find(|endpoint| endpoint.id == *id).unwrap();
            endpoint.state = "create-complete".to_owned();
        }
        Wait::EndpointGone { id } => observed.endpoints.retain(|endpoint| endpoint.id != *id),
    }
}

fn instance(observed: &Observed, run: &Run, desired: &Desired) -> Instance {
    let number = observed.instances.len() + observed.terminated.len() + 1;
    Instance {
        id: format!("i-{number}"),
        state: "pending".to_owned(),
        image: run.image.clone(),
        instance_type: run.instance_type.clone(),
        vpc: desired.facts.vpc.clone(),
        subnet: run.subnet.clone(),
        private_ip: Some(format!("10.0.0.{number}")),
        groups: [run.group.clone()].into(),
        profile: Some(format!("arn:profile/{}", run.profile)),
        http_tokens: "required".to_owned(),
        hop_limit: 1,
        encrypted: Some(true),
        launched: number as u64,
        tags: run.tags.clone(),
        ..Instance::default()
    }
}

fn observed_role(observed: &Observed) -> Role {
    observed.role.clone().unwrap()
}

fn rule(id: &str, traffic: Traffic, tags: Tags) -> GroupRule {
    GroupRule {
        id: id.to_owned(),
        traffic,
        tags,
    }
}

fn any_group<'o>(observed: &'o mut Observed, id: &str) -> &'o mut Group {
    let mut all = observed.shared.iter_mut().chain(&mut observed.groups);
    all.find(|group| group.id == id).unwrap()
}

fn one<'o>(observed: &'o mut Observed, id: &str) -> &'o mut Instance {
    observed.instances.iter_mut().find(|instance| instance.id == id).unwrap()
}

fn target<'o>(observed: &'o mut Observed, ip: &str) -> &'o mut Target {
    let targets = &mut observed.target_group.as_mut().unwrap().targets;
    targets.iter_mut().find(|target| target.ip == ip).unwrap()
}

/// One step of every kind, for what must hold for all.
pub(crate) fn every_step() -> Vec<Step> {
    use super::super::step::{GroupName, RuleText};
    let text = String::new;
    let group = |out| Step::Allow {
        group: GroupName {
            id: text(),
            name: text(),
            shared: false,
        },
        traffic: Traffic {
            out,
            ..Traffic::default()
        },
        tags: Tags::new(),
    };
    let revoke = |out| match group(out) {
        Step::Allow { group, traffic, .. } => Step::Revoke {
            group,
            rule: text(),
            traffic,
        },
        other => other,
    };
    let rule = RuleText {
        purpose: "",
        conditions: [].into(),
    };
    let name = GroupName {
        id: text(),
        name: text(),
        shared: false,
    };
    let (trust, tags) = (serde_json::Value::Null, Tags::new());
    let (role, policy, profile) = (text(), text(), text());
    vec![
        Step::CreateRole {
            role: role.clone(),
            trust: trust.clone(),
            tags: tags.clone(),
        },
        Step::SetTrust {
            role: role.clone(),
            trust: trust.clone(),
        },
        Step::TagRole {
            role: role.clone(),
            tags: tags.clone(),
        },
        Step::PutPolicy {
            role: role.clone(),
            policy: policy.clone(),
            document: trust,
        },
        Step::DeletePolicy {
            role: role.clone(),
            policy: policy.clone(),
        },
        Step::AttachPolicy {
            role: role.clone(),
            policy: policy.clone(),
        },
        Step::DetachPolicy {
            role: role.clone(),
            policy,
        },
        Step::DeleteRole { role: role.clone() },
        Step::CreateProfile {
            profile: profile.clone(),
            tags: tags.clone(),
        },
        Step::TagProfile {
            profile: profile.clone(),
            tags: tags.clone(),
        },
        Step::AddRole {
            profile: profile.clone(),
            role: role.clone(),
        },
        Step::RemoveRole {
            profile: profile.clone(),
            role,
        },
        Step::DeleteProfile {
            profile: profile.clone(),
        },
        Step::CreateGroup {
            name: text(),
            vpc: text(),
            purpose: "",
            tags: tags.clone(),
        },
        group(true),
        group(false),
        revoke(true),
        revoke(false),
        Step::DeleteGroup { group: name },
        Step::CreateTargetGroup {
            name: text(),
            vpc: text(),
            tags: tags.clone(),
        },
        Step::SetHealthCheck { target_group: text() },
        Step::SetAttributes { target_group: text() },
        Step::TagBalancing {
            arn: text(),
            tags: tags.clone(),
        },
        Step::DeleteTargetGroup {
            arn: text(),
            name: text(),
        },
        Step::Register {
            target_group: text(),
            ip: text(),
            instance: text(),
        },
        Step::Deregister {
            target_group: text(),
            ip: text(),
            why: text(),
        },
        Step::CreateRule {
            listener: text(),
            priority: 1,
            rule: rule.clone(),
            target_group: text(),
            tags: tags.clone(),
        },
        Step::ModifyRule {
            arn: text(),
            priority: 1,
            rule,
            target_group: text(),
        },
        Step::DeleteRule {
            arn: text(),
            priority: 1,
            why: text(),
        },
        Step::CreateEndpoint {
            subnet: text(),
            group: text(),
            tags: tags.clone(),
        },
        Step::DeleteEndpoint { id: text() },
        Step::Run(Box::new(Run {
            token: text(),
            image: text(),
            instance_type: text(),
            subnet: text(),
            group: text(),
            profile: text(),
            root_device: text(),
            user_data: text(),
            tags: tags.clone(),
            binary: text(),
            sha256: text(),
        })),
        Step::Start { instance: text() },
        Step::SetMetadata { instance: text() },
        Step::Associate {
            instance: text(),
            profile,
        },
        Step::Terminate {
            instance: text(),
            why: text(),
        },
        Step::Tag { id: text(), tags },
        Step::PutParameter {
            name: text(),
            value: text(),
        },
        Step::DeleteParameter { name: text() },
        Step::Await(Wait::Boot { instance: text() }),
    ]
}
