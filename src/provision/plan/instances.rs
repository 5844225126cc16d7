//! The one instance that serves, its target, and the ones that it replaces.

use std::collections::BTreeSet;

use super::super::names::{self, REVISION};
use super::super::observed::{Boot, Instance};
use super::super::step::{Run, Step, Wait, new};
use super::{Aim, Planner, missing};

/// What stands for the address of an instance that is not there yet.
const ITS_ADDRESS: &str = "<its address>";

impl Planner<'_> {
    pub(super) fn instances(&mut self) {
        let observed = self.observed;
        let mut there: Vec<&Instance> = observed.instances.iter().filter(|instance| instance.stays()).collect();
        // The newest first; of two of the same second the order is at least always the same.
        there.sort_by_key(|instance| (std::cmp::Reverse(instance.launched), &instance.id));
        let (failed, sound): (Vec<&Instance>, Vec<&Instance>) =
            there.into_iter().partition(|instance| self.failed(instance).is_some());
        let keeper = self.keeper(&sound);
        for instance in failed {
            let why = self.failed(instance).unwrap_or_default();
            self.take_out(instance, &format!("its boot failed: {why}"));
            self.step(Step::Terminate {
                instance: instance.id.clone(),
                why: format!("its boot failed: {why}"),
            });
        }
        self.stale_parameters(&sound);
        match keeper {
            Some(keeper) => self.keep_instance(keeper),
            None => self.run(),
        }
        for old in sound
            .into_iter()
            .filter(|instance| keeper.is_none_or(|keeper| keeper.id != instance.id))
        {
            self.replace(old, keeper);
        }
        self.stale_targets();
        let going = observed.instances.iter().filter(|instance| !instance.stays());
        for instance in going.filter(|_| self.aim == Aim::Upgrade) {
            let instance = instance.id.clone();
            self.plan.steps.push(Step::Await(Wait::Gone { instance }));
        }
    }

    fn failed(&self, instance: &Instance) -> Option<String> {
        match self.observed.boot(&self.desired.facts.names, &instance.id) {
            Some(Boot::Failed { why }) => Some(why),
            _ => None,
        }
    }

    /// Whether an instance's boot came to its end. One that the load balancer finds healthy serves, whatever was reported.
    fn serves(&self, instance: &Instance) -> bool {
        let booted = matches!(
            self.observed.boot(&self.desired.facts.names, &instance.id),
            Some(Boot::Ready { .. })
        );
        booted || self.observed.target(instance).is_some_and(|target| target.state == "healthy")
    }

    /// The instance that stays, of those whose boot did not fail, newest first.
    fn keeper<'i>(&self, there: &[&'i Instance]) -> Option<&'i Instance> {
        match self.aim {
            Aim::Upgrade => there.iter().copied().find(|instance| {
                instance.tags.get(REVISION) == Some(&self.desired.revision) && self.shortcomings(instance).is_empty()
            }),
            Aim::Bastion => {
                let serving = there.iter().copied().find(|instance| self.serves(instance));
                serving.or_else(|| there.first().copied())
            }
        }
    }

    /// What only another instance repairs.
    fn shortcomings(&self, instance: &Instance) -> Vec<String> {
        let desired = self.desired;
        let mut found = Vec::new();
        if let Some(address) = &instance.public_ip {
            found.push(format!("it has the public address {address}"));
        }
        if let Some(key) = &instance.key_pair {
            found.push(format!("it has the key pair {key}"));
        }
        if instance.encrypted == Some(false) {
            found.push("its disk is not encrypted".to_owned());
        }
        let group = self.observed.group(&desired.facts.names.bastion, &desired.facts.vpc);
        if let Some(group) = group
            && instance.groups != BTreeSet::from([group.id.clone()])
        {
            let groups: Vec<&str> = instance.groups.iter().map(String::as_str).collect();
            found.push(format!("its security groups are {}", groups.join(", ")));
        }
        let profile = self.observed.profile.as_ref().map(|profile| &profile.arn);
        if let (Some(has), Some(wanted)) = (&instance.profile, profile)
            && has != wanted
        {
            found.push(format!("its instance profile is {has}"));
        }
        found
    }

    fn keep_instance(&mut self, instance: &Instance) {
        let (desired, observed) = (self.desired, self.observed);
        let id = instance.id.clone();
        for shortcoming in self.shortcomings(instance) {
            self.note(format!(
                "{id}: {shortcoming}; only another instance has not: ephemwork bastion upgrade"
            ));
        }
        if instance.http_tokens != "required" || instance.hop_limit != 1 {
            self.step(Step::SetMetadata { instance: id.clone() });
        }
        if instance.profile.is_none() && instance.state != "pending" {
            let profile = desired.facts.names.role.clone();
            let instance = id.clone();
            self.step(Step::Associate { instance, profile });
        }
        let mut tags = desired.instance_tags();
        // What it is made of is its own, until an upgrade.
        tags.retain(|key, _| !matches!(key.as_str(), names::REVISION | names::BINARY | names::SHA256));
        if let Some(tags) = missing(&tags, &instance.tags) {
            self.step(Step::Tag { id: id.clone(), tags });
        }
        if instance.state == "stopping" {
            self.step(Step::Await(Wait::Stopped { instance: id.clone() }));
        }
        if matches!(instance.state.as_str(), "stopping" | "stopped") {
            self.step(Step::Start { instance: id.clone() });
        }
        let running = instance.state == "running";
        if !running {
            self.step(Step::Await(Wait::Running { instance: id.clone() }));
        }
        let agent = running && observed.online(instance);
        let boot = observed.boot(&desired.facts.names, &id);
        let serves = self.serves(instance);
        self.ready(
            &id,
            agent,
            serves,
            instance.private_ip.clone(),
            observed.target(instance).map(|target| target.state.as_str()),
        );
        if let Some(Boot::Ready { host_key, .. }) = boot {
            let name = desired.facts.names.host_key();
            if !host_key.is_empty() && observed.parameters.get(&name) != Some(&host_key) {
                self.step(Step::PutParameter { name, value: host_key });
            }
        }
    }

    /// The waits and the target, for an instance that is there or about to be.
    fn ready(&mut self, id: &str, agent: bool, boot: bool, ip: Option<String>, target: Option<&str>) {
        let instance = id.to_owned();
        if !agent {
            let instance = instance.clone();
            self.step(Step::Await(Wait::Agent { instance }));
        }
        if !boot {
            let instance = instance.clone();
            self.step(Step::Await(Wait::Boot { instance }));
        }
        if self.desired.facts.listener.is_none() {
            return;
        }
        let arn = self.observed.target_group.as_ref().map(|group| group.arn.clone());
        let ip = ip.unwrap_or_else(|| ITS_ADDRESS.to_owned());
        if target.is_none_or(|state| state == "draining") {
            self.step(Step::Register {
                target_group: arn.unwrap_or_else(|| new("target group")),
                ip: ip.clone(),
                instance: instance.clone(),
            });
        }
        if target != Some("healthy") {
            self.step(Step::Await(Wait::Healthy { instance, ip }));
        }
    }

    fn run(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        let facts = &desired.facts;
        let mut seen: Vec<&str> = observed.instances.iter().map(|instance| instance.id.as_str()).collect();
        seen.extend(observed.terminated.iter().map(String::as_str));
        seen.sort_unstable();
        // EC2 answers a token that it knows with the first instance, terminated or not, so those that are gone count too.
        let token = names::revision(&[&facts.names.project, &facts.names.region, &desired.revision, &seen.join(" ")]);
        self.step(Step::Run(Box::new(Run {
            token: format!("ephemwork-{token}"),
            image: facts.image.clone(),
            instance_type: facts.instance_type.clone(),
            subnet: facts.subnet.clone(),
            group: self.group_id(&facts.names.bastion),
            profile: facts.names.role.clone(),
            root_device: facts.root_device.clone(),
            user_data: desired.user_data.clone(),
            tags: desired.instance_tags(),
            binary: facts.binary.to_string(),
            sha256: facts.sha256.clone(),
        })));
        let instance = new("instance");
        self.step(Step::Await(Wait::Running {
            instance: instance.clone(),
        }));
        self.ready(&instance, false, false, None, None);
    }

    /// Drains an instance that another has replaced, and removes it.
    fn replace(&mut self, old: &Instance, keeper: Option<&Instance>) {
        let by = keeper.map_or_else(|| new("instance"), |keeper| keeper.id.clone());
        self.take_out(old, &format!("{by} has taken over"));
        let why = format!("{by} has taken over; laptops are told to move");
        let instance = old.id.clone();
        self.step(Step::Terminate {
            instance: instance.clone(),
            why,
        });
        self.step(Step::Await(Wait::Gone { instance }));
    }

    fn take_out(&mut self, instance: &Instance, why: &str) {
        let Some(target) = self.observed.target(instance) else {
            return;
        };
        if target.state != "draining" {
            self.deregister(target.ip.clone(), why);
        }
        self.step(Step::Await(Wait::Drained { ip: target.ip.clone() }));
    }

    fn deregister(&mut self, ip: String, why: &str) {
        if let Some(group) = &self.observed.target_group {
            let target_group = group.arn.clone();
            let why = why.to_owned();
            self.step(Step::Deregister { target_group, ip, why });
        }
    }

    fn stale_targets(&mut self) {
        let observed = self.observed;
        let known = |ip: &str| {
            observed
                .instances
                .iter()
                .any(|instance| instance.private_ip.as_deref() == Some(ip))
        };
        for target in observed.target_group.iter().flat_map(|group| &group.targets) {
            if !known(&target.ip) && target.state != "draining" && self.desired.facts.listener.is_some() {
                self.deregister(target.ip.clone(), "no instance has this address");
            }
        }
    }

    /// Reports of instances that are gone, and the host key of the last of them: a laptop that pinned it would refuse the next.
    fn stale_parameters(&mut self, there: &[&Instance]) {
        let names = &self.desired.facts.names;
        let boots = format!("{}/boot/", names.parameters());
        for name in self.observed.parameters.keys() {
            let of_none = |id: &str| self.observed.instances.iter().all(|instance| instance.id != id);
            let stale = name.strip_prefix(&boots).is_some_and(of_none) || (there.is_empty() && *name == names.host_key());
            if stale {
                self.plan.steps.push(Step::DeleteParameter { name: name.clone() });
            }
        }
    }
}
