//! The plan towards nothing. Everything is found for itself, so that what a cut run left is removed by the next.

use super::super::names::Names;
use super::super::observed::{Group, Observed, Rule, Tags};
use super::super::step::{GroupName, Step, Wait};
use super::Plan;
use super::balancing::{delete, own_rule, rules_of_others};
use super::network::{of, revoke};

/// The steps that remove everything of a project in a region, and nothing that others use.
pub fn removal(names: &Names, observed: &Observed) -> Plan {
    let mut steps = Vec::new();
    let mut notes = strangers(names, observed);
    let target_group = observed.target_group.as_ref().filter(|group| names.own(&group.tags));
    let own = |rule: &&Rule| own_rule(names, target_group, rule);
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
    groups(names, observed, &mut steps, &mut notes);
    identity(names, observed, &mut steps);
    steps.extend(
        observed
            .parameters
            .keys()
            .filter(|name| names.own_parameter(name))
            .map(|name| Step::DeleteParameter { name: name.clone() }),
    );
    Plan {
        steps,
        notes,
        repairs: false,
    }
}

/// What is left alone: it has the bastion's name without its tags, which everything that ephemwork makes has from its first moment.
fn strangers(names: &Names, observed: &Observed) -> Vec<String> {
    let named = |what: &str, name: &str, tags: &Tags| (!names.own(tags)).then(|| format!("{what} {name}"));
    let mut found: Vec<String> = Vec::new();
    found.extend(
        observed
            .role
            .iter()
            .filter_map(|role| named("the IAM role", &names.role, &role.tags)),
    );
    found.extend(
        observed
            .profile
            .iter()
            .filter_map(|profile| named("the instance profile", &names.role, &profile.tags)),
    );
    let group = |group: &Group| named("the security group", &format!("{} ({})", group.name, group.id), &group.tags);
    found.extend(observed.groups.iter().filter_map(group));
    found.extend(
        observed
            .target_group
            .iter()
            .filter_map(|group| named("the target group", &names.target_group, &group.tags)),
    );
    let mut notes: Vec<String> = found
        .into_iter()
        .map(|what| {
            format!(
                "{what} stays: it has the bastion's name, but not the tags of the project {:?}",
                names.project
            )
        })
        .collect();
    notes.extend(
        rules_of_others(names, observed)
            .into_iter()
            .map(|rule| format!("{rule}. As long as it stands, the target group cannot be deleted; whoever made it removes it")),
    );
    let others = observed.parameters.keys().filter(|name| !names.own_parameter(name));
    notes.extend(others.map(|name| format!("the SSM parameter {name} stays: no bastion wrote it")));
    notes
}

fn groups(names: &Names, observed: &Observed, steps: &mut Vec<Step>, notes: &mut Vec<String>) {
    let own: Vec<&Group> = observed.groups.iter().filter(|group| names.own(&group.tags)).collect();
    let ours = |id: &str| own.iter().any(|group| group.id == id);
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
    for group in &own {
        for rule in group.rules.iter().filter(|rule| ours(&rule.traffic.peer)) {
            steps.push(revoke(&of(group), rule));
        }
    }
    steps.extend(own.iter().map(|group| Step::DeleteGroup { group: of(group) }));
}

fn identity(names: &Names, observed: &Observed, steps: &mut Vec<Step>) {
    let role = &names.role;
    if let Some(profile) = observed.profile.as_ref().filter(|profile| names.own(&profile.tags)) {
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
    if let Some(found) = observed.role.as_ref().filter(|role| names.own(&role.tags)) {
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
    let own = |tags: &Tags| usize::from(names.own(tags));
    let shared = observed.shared.iter().flat_map(|group| &group.rules);
    vec![
        ("listener rules", observed.rules.iter().map(|rule| own(&rule.tags)).sum()),
        (
            "target groups",
            observed.target_group.iter().map(|group| own(&group.tags)).sum(),
        ),
        ("instances", observed.instances.len()),
        (
            "endpoints",
            observed.endpoints.iter().map(|endpoint| own(&endpoint.tags)).sum(),
        ),
        ("security groups", observed.groups.iter().map(|group| own(&group.tags)).sum()),
        ("rules in shared security groups", shared.map(|rule| own(&rule.tags)).sum()),
        (
            "instance profiles",
            observed.profile.iter().map(|profile| own(&profile.tags)).sum(),
        ),
        ("IAM roles", observed.role.iter().map(|role| own(&role.tags)).sum()),
        (
            "SSM parameters",
            observed.parameters.keys().filter(|name| names.own_parameter(name)).count(),
        ),
    ]
}
