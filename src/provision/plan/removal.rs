//! The plan towards nothing. Everything is found for itself, so that what a cut run left is removed by the next.

use super::super::names::Names;
use super::super::observed::{Observed, Rule};
use super::super::step::{GroupName, Step, Wait};
use super::Plan;
use super::balancing::delete;
use super::network::{of, revoke};

/// The steps that remove everything of a project in a region, and nothing that others use.
pub fn removal(names: &Names, observed: &Observed) -> Plan {
    let mut steps = Vec::new();
    let target_group = observed.target_group.as_ref();
    let own = |rule: &&Rule| {
        rule.priority.is_some() && (names.own(&rule.tags) || target_group.is_some_and(|group| rule.forwards.contains(&group.arn)))
    };
    steps.extend(observed.rules.iter().filter(own).map(|rule| delete(rule, "the bastion goes")));
    steps.extend(target_group.map(|group| Step::DeleteTargetGroup {
        arn: group.arn.clone(),
        name: names.target_group.clone(),
    }));
    for instance in observed.instances.iter().filter(|instance| instance.stays()) {
        steps.push(Step::Terminate {
            instance: instance.id.clone(),
            why: "the bastion goes; laptops are told".to_owned(),
        });
    }
    let endpoints: Vec<_> = observed
        .endpoints
        .iter()
        .filter(|endpoint| names.own(&endpoint.tags))
        .collect();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.state != "delete-in-progress") {
        let id = endpoint.id.clone();
        steps.push(Step::DeleteEndpoint { id });
    }
    for instance in &observed.instances {
        let instance = instance.id.clone();
        steps.push(Step::Await(Wait::Gone { instance }));
    }
    for endpoint in endpoints {
        let id = endpoint.id.clone();
        steps.push(Step::Await(Wait::EndpointGone { id }));
    }
    let mut notes = Vec::new();
    groups(names, observed, &mut steps, &mut notes);
    identity(names, observed, &mut steps);
    steps.extend(
        observed
            .parameters
            .keys()
            .map(|name| Step::DeleteParameter { name: name.clone() }),
    );
    Plan {
        steps,
        notes,
        repairs: false,
    }
}

fn groups(names: &Names, observed: &Observed, steps: &mut Vec<Step>, notes: &mut Vec<String>) {
    let ours = |id: &str| observed.groups.iter().any(|group| group.id == id);
    for group in &observed.shared {
        let name = GroupName {
            shared: true,
            ..of(group)
        };
        for rule in group
            .rules
            .iter()
            .filter(|rule| names.own(&rule.tags) || ours(&rule.traffic.peer))
        {
            if names.own(&rule.tags) {
                steps.push(revoke(&name, rule));
            } else {
                notes.push(format!(
                    "{name} has a rule that ephemwork did not make ({}: {}). As long as it stands, the bastion's own group cannot be \
                     deleted; whoever made it removes it",
                    rule.id, rule.traffic
                ));
            }
        }
    }
    // Two groups that name each other hold each other.
    for group in &observed.groups {
        for rule in group.rules.iter().filter(|rule| ours(&rule.traffic.peer)) {
            steps.push(revoke(&of(group), rule));
        }
    }
    steps.extend(observed.groups.iter().map(|group| Step::DeleteGroup { group: of(group) }));
}

fn identity(names: &Names, observed: &Observed, steps: &mut Vec<Step>) {
    let role = &names.role;
    if let Some(profile) = &observed.profile {
        for role in &profile.roles {
            steps.push(Step::RemoveRole {
                profile: names.role.clone(),
                role: role.clone(),
            });
        }
        steps.push(Step::DeleteProfile {
            profile: names.role.clone(),
        });
    }
    if let Some(found) = &observed.role {
        for policy in &found.attached {
            steps.push(Step::DetachPolicy {
                role: role.clone(),
                policy: policy.clone(),
            });
        }
        for policy in found.inline.keys() {
            steps.push(Step::DeletePolicy {
                role: role.clone(),
                policy: policy.clone(),
            });
        }
        steps.push(Step::DeleteRole { role: role.clone() });
    }
}

/// What is still there, by kind: the last inventory's answer.
pub fn left(names: &Names, observed: &Observed) -> Vec<(&'static str, usize)> {
    let rule = |rule: &&Rule| names.own(&rule.tags);
    let shared = observed.shared.iter().flat_map(|group| &group.rules);
    vec![
        ("listener rules", observed.rules.iter().filter(rule).count()),
        ("target groups", usize::from(observed.target_group.is_some())),
        ("instances", observed.instances.len()),
        (
            "endpoints",
            observed.endpoints.iter().filter(|endpoint| names.own(&endpoint.tags)).count(),
        ),
        ("security groups", observed.groups.len()),
        (
            "rules in shared security groups",
            shared.filter(|rule| names.own(&rule.tags)).count(),
        ),
        ("instance profiles", usize::from(observed.profile.is_some())),
        ("IAM roles", usize::from(observed.role.is_some())),
        ("SSM parameters", observed.parameters.len()),
    ]
}
