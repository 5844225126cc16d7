//! Security groups and the EC2 Instance Connect Endpoint.

use std::collections::BTreeSet;

use super::super::desired::{EDGE_PORT, Eice, SSH_PORT};
use super::super::observed::{Endpoint, Group, GroupRule, Traffic};
use super::super::step::{GroupName, Step, Wait, new};
use super::{Planner, missing};

/// The port of AWS's own endpoints.
const HTTPS: i64 = 443;
/// The state of an endpoint that could not be made.
const FAILED: &str = "create-failed";

impl Planner<'_> {
    pub(super) fn network(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        let facts = &desired.facts;
        let (bastion, endpoint) = (&facts.names.bastion, &facts.names.endpoint);
        let bastion_id = self.group_id(bastion);
        if observed.group(bastion, &facts.vpc).is_none() {
            self.create_group(bastion, "ephemwork bastion");
        }
        let mut inbound = BTreeSet::from([Traffic::from(EDGE_PORT, &facts.alb_group)]);
        match &facts.eice {
            Eice::No => {}
            Eice::Own => {
                let endpoint_id = self.group_id(endpoint);
                if observed.group(endpoint, &facts.vpc).is_none() {
                    self.create_group(endpoint, "EC2 Instance Connect Endpoint to the ephemwork bastion");
                }
                inbound.insert(Traffic::from(SSH_PORT, &endpoint_id));
                let only = BTreeSet::from([Traffic::to(SSH_PORT, &bastion_id)]);
                self.rules_of(endpoint, &endpoint_id, &BTreeSet::new(), &only);
                self.endpoint(&endpoint_id);
            }
            Eice::Shared(groups) => inbound.extend(groups.iter().map(|group| Traffic::from(SSH_PORT, group))),
        }
        self.rules_of(bastion, &bastion_id, &inbound, &BTreeSet::new());
        if facts.eice != Eice::Own {
            self.no_endpoint();
        }
        self.balancer_may_reach(&bastion_id);
    }

    pub(super) fn group_id(&self, name: &str) -> String {
        let found = self.observed.group(name, &self.desired.facts.vpc);
        found.map_or_else(|| new(&format!("group {name}")), |group| group.id.clone())
    }

    fn create_group(&mut self, name: &str, purpose: &'static str) {
        self.step(Step::CreateGroup {
            name: name.to_owned(),
            vpc: self.desired.facts.vpc.clone(),
            purpose,
            tags: self.desired.tags.clone(),
        });
    }

    /// Exactly this inbound. Outbound exactly `outbound`; when that is empty at least what S3 and Systems Manager need.
    fn rules_of(&mut self, name: &str, id: &str, inbound: &BTreeSet<Traffic>, outbound: &BTreeSet<Traffic>) {
        let group = GroupName {
            id: id.to_owned(),
            name: name.to_owned(),
            shared: false,
        };
        let tags = &self.desired.tags;
        let found = self.observed.group(name, &self.desired.facts.vpc).cloned();
        if let Some(found) = &found
            && let Some(tags) = missing(tags, &found.tags)
        {
            let id = id.to_owned();
            self.step(Step::Tag { id, tags });
        }
        // A new group lets everything out by itself.
        let rules = found.map_or_else(
            || {
                vec![GroupRule {
                    id: new("rule"),
                    traffic: Traffic::everything_out(),
                    ..GroupRule::default()
                }]
            },
            |found| found.rules,
        );
        let needed = BTreeSet::from([Traffic::to(HTTPS, "0.0.0.0/0")]);
        let (wanted_out, exact) = if outbound.is_empty() {
            (&needed, false)
        } else {
            (outbound, true)
        };
        for traffic in inbound.iter().chain(wanted_out) {
            let fits = |rule: &GroupRule| rule.traffic == *traffic || (!exact && traffic.out && rule.traffic.covers(traffic));
            if !rules.iter().any(fits) {
                self.step(Step::Allow {
                    group: group.clone(),
                    traffic: traffic.clone(),
                    tags: tags.clone(),
                });
            }
        }
        for rule in rules {
            let extra_in = !rule.traffic.out && !inbound.contains(&rule.traffic);
            let extra_out = rule.traffic.out && !outbound.is_empty() && !outbound.contains(&rule.traffic);
            if extra_in || extra_out {
                self.step(revoke(&group, &rule));
            }
        }
    }

    fn own_endpoints(&self) -> Vec<Endpoint> {
        let names = &self.desired.facts.names;
        let own = |endpoint: &&Endpoint| names.own(&endpoint.tags);
        self.observed.endpoints.iter().filter(own).cloned().collect()
    }

    fn endpoint(&mut self, group: &str) {
        let facts = &self.desired.facts;
        let mut ready = false;
        for endpoint in self.own_endpoints() {
            let id = endpoint.id;
            match endpoint.state.as_str() {
                FAILED => {
                    self.step(Step::DeleteEndpoint { id: id.clone() });
                    self.step(Step::Await(Wait::EndpointGone { id }));
                }
                "delete-in-progress" => self.step(Step::Await(Wait::EndpointGone { id })),
                "create-in-progress" => {
                    ready = true;
                    self.step(Step::Await(Wait::EndpointReady { id }));
                }
                _ => ready = true,
            }
        }
        if !ready {
            self.step(Step::CreateEndpoint {
                subnet: facts.subnet.clone(),
                group: group.to_owned(),
                tags: self.desired.tags.clone(),
            });
            self.step(Step::Await(Wait::EndpointReady { id: new("endpoint") }));
        }
    }

    /// What an earlier `--eice` left.
    fn no_endpoint(&mut self) {
        for endpoint in self.own_endpoints() {
            let id = endpoint.id;
            if endpoint.state != "delete-in-progress" {
                self.step(Step::DeleteEndpoint { id: id.clone() });
            }
            self.step(Step::Await(Wait::EndpointGone { id }));
        }
        let facts = &self.desired.facts;
        if let Some(group) = self.observed.group(&facts.names.endpoint, &facts.vpc) {
            let group = of(group);
            self.step(Step::DeleteGroup { group });
        }
    }

    /// The load balancer's own group must let its requests out to the bastion; many let out everything.
    fn balancer_may_reach(&mut self, bastion: &str) {
        let desired = self.desired;
        let traffic = Traffic::to(EDGE_PORT, bastion);
        let id = &desired.facts.alb_group;
        let known = self.observed.group_by_id(id);
        let covered = known.is_some_and(|group| group.rules.iter().any(|rule| rule.traffic.covers(&traffic)));
        if !covered {
            self.step(Step::Allow {
                group: GroupName {
                    id: id.clone(),
                    name: known.map_or_else(|| "of the load balancer".to_owned(), |group| group.name.clone()),
                    shared: true,
                },
                traffic: traffic.clone(),
                tags: desired.tags.clone(),
            });
        }
        // One that was meant before.
        for group in self.observed.shared.iter().filter(|group| group.id != *id) {
            for rule in group.rules.iter().filter(|rule| desired.facts.names.own(&rule.tags)) {
                let name = GroupName {
                    shared: true,
                    ..of(group)
                };
                self.step(revoke(&name, rule));
            }
        }
    }
}

pub(super) fn of(group: &Group) -> GroupName {
    GroupName {
        id: group.id.clone(),
        name: group.name.clone(),
        shared: false,
    }
}

pub(super) fn revoke(group: &GroupName, rule: &GroupRule) -> Step {
    Step::Revoke {
        group: group.clone(),
        rule: rule.id.clone(),
        traffic: rule.traffic.clone(),
    }
}
