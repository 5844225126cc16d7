//! Plans as text: desired against observed, one case a line; and that every plan, carried out, ends.

use super::super::desired::{Eice, Facts, desired, tests::facts};
use super::super::observed::*;
use super::simulated::carry_out;
use super::*;

const LISTENER: &str = "arn:listener";

/// An account with a load balancer whose group lets nothing out, a rule of somebody else's, and no bastion.
fn account() -> Observed {
    Observed {
        shared: vec![Group {
            id: "sg-alb".to_owned(),
            name: "alb".to_owned(),
            vpc: "vpc-1".to_owned(),
            ..Group::default()
        }],
        rules: vec![
            Rule {
                arn: "arn:rule/2".to_owned(),
                listener: LISTENER.to_owned(),
                priority: Some(2),
                ..Rule::default()
            },
            Rule {
                arn: "arn:rule/default".to_owned(),
                listener: LISTENER.to_owned(),
                ..Rule::default()
            },
        ],
        ..Observed::default()
    }
}

/// Does what the plans say, until they say nothing.
fn carry_through(desired: &Desired, mut observed: Observed, aim: Aim) -> Observed {
    for _ in 0..MAX_STEPS {
        let plan = towards(desired, &observed, aim, Patience::Wait).unwrap();
        let Some(first) = plan.steps.first() else {
            return observed;
        };
        carry_out(first, desired, &mut observed);
    }
    panic!("it never ends: {observed:?}");
}

fn remove(desired: &Desired, mut observed: Observed) -> Observed {
    for _ in 0..MAX_STEPS {
        let plan = removal(&desired.facts.names, &observed);
        let Some(first) = plan.steps.first() else {
            return observed;
        };
        carry_out(first, desired, &mut observed);
    }
    panic!("it never ends: {observed:?}");
}

fn with(change: impl FnOnce(&mut Facts)) -> Desired {
    let mut facts = facts();
    change(&mut facts);
    desired(facts)
}

fn titles(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::title).collect()
}

#[test]
fn from_nothing() {
    let desired = with(|_| ());
    let plan = towards(&desired, &account(), Aim::Bastion, Patience::Wait).unwrap();
    let expected = include_str!("../../../tests/it/snapshots/bastion-from-nothing.txt");
    // It follows from the user data, which may change.
    let found = text(&plan, false).replace(&desired.revision, "REVISION");
    assert_eq!(found, expected, "\n{found}");
}

#[test]
fn with_an_endpoint_of_its_own() {
    let desired = with(|facts| facts.eice = Eice::Own);
    let plan = towards(&desired, &account(), Aim::Bastion, Patience::NoWait).unwrap();
    let steps = titles(&plan);
    let check = |expected: &str| assert!(steps.iter().any(|step| step == expected), "{expected}: {steps:#?}");
    check("create the security group ephemwork-shop-bastion-eice");
    check("allow tcp/22 to <the new group ephemwork-shop-bastion> in the security group ephemwork-shop-bastion-eice");
    check("no longer allow everything to 0.0.0.0/0 in the security group ephemwork-shop-bastion-eice");
    check("create an EC2 Instance Connect Endpoint in subnet-1");
    check("allow tcp/22 from <the new group ephemwork-shop-bastion-eice> in the security group ephemwork-shop-bastion");
    assert!(!steps.iter().any(|step| step.starts_with("wait")), "{steps:#?}");
}

/// What drifted, and the steps that repair it.
#[test]
fn drifts() {
    let desired = with(|_| ());
    let whole = carry_through(&desired, account(), Aim::Bastion);
    let check = |drift: fn(&mut Observed), expected: &[&str]| {
        let mut drifted = whole.clone();
        drift(&mut drifted);
        let plan = towards(&desired, &drifted, Aim::Bastion, Patience::Wait).unwrap();
        assert_eq!(titles(&plan), expected);
        assert_eq!(plan.repairs, !drifted.instances.is_empty());
        let repaired = carry_through(&desired, drifted, Aim::Bastion);
        let plan = towards(&desired, &repaired, Aim::Bastion, Patience::Wait).unwrap();
        assert_eq!(plan.steps, [], "after {expected:?}");
    };
    let role = "ephemwork-shop-bastion-eu-west-1";
    let group = "the security group ephemwork-shop-bastion (sg-ephemwork-shop-bastion)";
    let policy = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore";
    check(|_| (), &[]);
    // Identity.
    check(
        |seen| drop(seen.role.as_mut().unwrap().attached.pop_first()),
        &[&format!("attach {policy} to the role {role}")],
    );
    check(
        |seen| {
            seen.role
                .as_mut()
                .unwrap()
                .attached
                .insert("arn:aws:iam::aws:policy/AdministratorAccess".to_owned());
        },
        &[&format!(
            "detach arn:aws:iam::aws:policy/AdministratorAccess from the role {role}"
        )],
    );
    check(
        |seen| seen.role.as_mut().unwrap().inline.clear(),
        &[&format!("write the policy ephemwork-bastion of the role {role}")],
    );
    check(
        |seen| {
            seen.role
                .as_mut()
                .unwrap()
                .inline
                .insert("more".to_owned(), serde_json::json!({}));
        },
        &[&format!("delete the policy more of the role {role}")],
    );
    check(
        |seen| seen.role.as_mut().unwrap().trust = serde_json::json!({}),
        &[&format!("let only EC2 assume the role {role}")],
    );
    check(
        |seen| seen.role.as_mut().unwrap().tags.clear(),
        &[&format!("tag the role {role}")],
    );
    check(
        |seen| seen.profile.as_mut().unwrap().roles.clear(),
        &[&format!("put the role {role} into the instance profile {role}")],
    );
    check(
        |seen| seen.profile.as_mut().unwrap().roles = vec!["other".to_owned()],
        &[
            &format!("take the role other out of the instance profile {role}"),
            &format!("put the role {role} into the instance profile {role}"),
        ],
    );
    // Network.
    check(
        |seen| seen.groups[0].rules.retain(|rule| rule.traffic.out),
        &[&format!("allow tcp/80 from sg-alb in {group}")],
    );
    check(
        |seen| {
            seen.groups[0].rules.push(GroupRule {
                id: "sgr-9".to_owned(),
                traffic: Traffic::from(22, "0.0.0.0/0"),
                ..GroupRule::default()
            });
        },
        &[&format!("no longer allow tcp/22 from 0.0.0.0/0 in {group}")],
    );
    check(
        |seen| seen.groups[0].rules.retain(|rule| !rule.traffic.out),
        &[&format!("allow tcp/443 to 0.0.0.0/0 in {group}")],
    );
    check(
        |seen| seen.shared[0].rules.clear(),
        &["allow tcp/80 to sg-ephemwork-shop-bastion in the shared security group alb (sg-alb)"],
    );
    check(|seen| seen.groups[0].tags.clear(), &["tag sg-ephemwork-shop-bastion"]);
    // The load balancer.
    check(
        |seen| seen.rules.retain(|rule| rule.priority != Some(1)),
        &["create listener rule 1: requests with the header"],
    );
    check(
        |seen| {
            seen.rules
                .iter_mut()
                .find(|rule| rule.priority == Some(3))
                .unwrap()
                .conditions
                .clear()
        },
        &["repair listener rule 3: CORS preflights that announce the header"],
    );
    check(
        |seen| seen.rules.iter_mut().find(|rule| rule.priority == Some(1)).unwrap().forwards = vec!["arn:other".to_owned()],
        &["repair listener rule 1: requests with the header"],
    );
    check(
        |seen| {
            let mut twin = seen.rules.iter().find(|rule| rule.priority == Some(1)).unwrap().clone();
            (twin.arn, twin.priority) = ("arn:rule/7".to_owned(), Some(7));
            seen.rules.push(twin);
        },
        &["delete listener rule 7: there is one too many"],
    );
    check(
        |seen| {
            let mut twin = seen.rules.iter().find(|rule| rule.priority == Some(1)).unwrap().clone();
            (twin.arn, twin.listener) = ("arn:rule/8".to_owned(), "arn:other-listener".to_owned());
            seen.rules.push(twin);
        },
        &["delete listener rule 1: it stands on another listener"],
    );
    check(
        |seen| seen.target_group.as_mut().unwrap().health_path = "/".to_owned(),
        &["set the health check of arn:tg"],
    );
    check(
        |seen| seen.target_group.as_mut().unwrap().attributes.clear(),
        &["set the deregistration delay of arn:tg"],
    );
    check(
        |seen| seen.target_group.as_mut().unwrap().targets.clear(),
        &[
            "register i-1 (10.0.0.1) as a target",
            "wait until the load balancer finds i-1 (10.0.0.1) healthy",
        ],
    );
    check(
        |seen| {
            let mut stale = seen.target_group.as_ref().unwrap().targets[0].clone();
            stale.ip = "10.0.9.9".to_owned();
            seen.target_group.as_mut().unwrap().targets.push(stale);
        },
        &["take the target 10.0.9.9 out: no instance has this address"],
    );
    // The instance.
    check(
        |seen| seen.instances[0].state = "stopped".to_owned(),
        &[
            "start i-1",
            "wait until i-1 runs",
            "wait until Systems Manager's agent on i-1 answers",
        ],
    );
    check(
        |seen| seen.instances[0].hop_limit = 2,
        &["require IMDSv2 with hop limit 1 on i-1"],
    );
    check(
        |seen| seen.instances[0].profile = None,
        &["give i-1 the instance profile ephemwork-shop-bastion-eu-west-1"],
    );
    check(|seen| drop(seen.instances[0].tags.remove("Name")), &["tag i-1"]);
    check(
        |seen| {
            seen.instances.clear();
            seen.terminated.insert("i-1".to_owned());
        },
        &[
            "delete the SSM parameter /ephemwork/shop/boot/i-1",
            "delete the SSM parameter /ephemwork/shop/host-key",
            "run an instance, t4g.nano",
            "wait until <the new instance> runs",
            "wait until Systems Manager's agent on <the new instance> answers",
            "wait until bastiond on <the new instance> is healthy",
            "register <the new instance> (<its address>) as a target",
            "wait until the load balancer finds <the new instance> (<its address>) healthy",
            "take the target 10.0.0.1 out: no instance has this address",
        ],
    );
    check(
        |seen| {
            seen.parameters
                .insert("/ephemwork/shop/host-key".to_owned(), "another".to_owned());
        },
        &["write the SSM parameter /ephemwork/shop/host-key"],
    );
    check(
        |seen| {
            let report = "{\"state\":\"failed\",\"why\":\"fetch: 403\"}".to_owned();
            seen.parameters.insert("/ephemwork/shop/boot/i-1".to_owned(), report);
        },
        &[
            "take the target 10.0.0.1 out: its boot failed: fetch: 403",
            "wait until 10.0.0.1 has no more requests",
            "terminate i-1: its boot failed: fetch: 403",
            "delete the SSM parameter /ephemwork/shop/host-key",
            "run an instance, t4g.nano",
            "wait until <the new instance> runs",
            "wait until Systems Manager's agent on <the new instance> answers",
            "wait until bastiond on <the new instance> is healthy",
            "register <the new instance> (<its address>) as a target",
            "wait until the load balancer finds <the new instance> (<its address>) healthy",
        ],
    );
}

#[test]
fn an_upgrade_replaces_the_instance_and_keeps_it_until_the_new_one_is_healthy() {
    let old = with(|_| ());
    let new = with(|facts| facts.sha256 = "cd".repeat(32));
    let before = carry_through(&old, account(), Aim::Bastion);
    // An `init` leaves a serving instance of any revision alone.
    assert_eq!(towards(&new, &before, Aim::Bastion, Patience::Wait).unwrap().steps, []);
    let mut observed = before.clone();
    let mut done = Vec::new();
    while let Some(first) = towards(&new, &observed, Aim::Upgrade, Patience::Wait)
        .unwrap()
        .steps
        .first()
        .cloned()
    {
        done.push(first.title());
        let healthy = |observed: &Observed| {
            let group = observed.target_group.as_ref().unwrap();
            group.targets.iter().any(|target| target.state == "healthy")
        };
        assert!(healthy(&observed), "nobody serves before {done:#?}");
        carry_out(&first, &new, &mut observed);
        assert!(done.len() < MAX_STEPS);
    }
    assert_eq!(
        done,
        [
            "run an instance, t4g.nano",
            "wait until i-2 runs",
            "wait until Systems Manager's agent on i-2 answers",
            "wait until bastiond on i-2 is healthy",
            "register i-2 (10.0.0.2) as a target",
            "wait until the load balancer finds i-2 (10.0.0.2) healthy",
            "write the SSM parameter /ephemwork/shop/host-key",
            "take the target 10.0.0.1 out: i-2 has taken over",
            "wait until 10.0.0.1 has no more requests",
            "terminate i-1: i-2 has taken over; laptops are told to move",
            "wait until i-1 is gone",
            "delete the SSM parameter /ephemwork/shop/boot/i-1",
        ]
    );
}

#[test]
fn an_upgrade_that_was_cut_anywhere_is_finished_by_init_or_upgrade() {
    let old = with(|_| ());
    let new = with(|facts| facts.sha256 = "cd".repeat(32));
    let before = carry_through(&old, account(), Aim::Bastion);
    for cut in 0..20 {
        for aim in [Aim::Upgrade, Aim::Bastion] {
            let mut observed = before.clone();
            for _ in 0..cut {
                if let Some(first) = towards(&new, &observed, Aim::Upgrade, Patience::Wait).unwrap().steps.first() {
                    carry_out(first, &new, &mut observed);
                }
            }
            let after = carry_through(&new, observed, aim);
            let staying = after.instances.iter().filter(|instance| instance.stays()).count();
            assert_eq!(staying, 1, "cut at {cut}, then {aim:?}");
            assert_eq!(after.target_group.unwrap().targets.len(), 1);
        }
    }
}

#[test]
fn whatever_was_cut_is_removed_wholly_and_nothing_else() {
    for eice in [Eice::No, Eice::Own] {
        let desired = with(|facts| facts.eice = eice.clone());
        for cut in 0..40 {
            let mut observed = account();
            for _ in 0..cut {
                if let Some(first) = towards(&desired, &observed, Aim::Bastion, Patience::Wait)
                    .unwrap()
                    .steps
                    .first()
                {
                    carry_out(first, &desired, &mut observed);
                }
            }
            let mut after = remove(&desired, observed);
            assert!(left(&desired.facts.names, &after).iter().all(|(_, count)| *count == 0));
            after.terminated.clear();
            assert_eq!(after, account(), "cut at {cut}");
        }
    }
}

#[test]
fn no_longer_an_endpoint() {
    let with_it = with(|facts| facts.eice = Eice::Own);
    let without = with(|_| ());
    let before = carry_through(&with_it, account(), Aim::Bastion);
    assert_eq!(before.endpoints.len(), 1);
    let after = carry_through(&without, before, Aim::Bastion);
    assert!(after.endpoints.is_empty() && after.groups.len() == 1);
}

#[test]
fn what_stands_in_the_way() {
    let check = |change: fn(&mut Observed), expected: &str| {
        let desired = with(|_| ());
        let mut observed = account();
        change(&mut observed);
        let error = towards(&desired, &observed, Aim::Bastion, Patience::Wait).unwrap_err();
        assert_eq!(error.exit, Exit::Conflict);
        assert!(error.what.contains(expected), "{error}");
    };
    check(
        |seen| {
            seen.groups.push(Group {
                id: "sg-9".to_owned(),
                name: "ephemwork-shop-bastion".to_owned(),
                vpc: "vpc-2".to_owned(),
                tags: facts().names.tags(),
                ..Group::default()
            });
        },
        "the security group ephemwork-shop-bastion (sg-9) stands in vpc-2, and the subnet subnet-1 is in vpc-1",
    );
    check(
        |seen| {
            seen.role = Some(Role {
                tags: [("ephemwork:project".to_owned(), "other".to_owned())].into(),
                ..Role::default()
            });
        },
        "the IAM role ephemwork-shop-bastion-eu-west-1 belongs to the project \"other\"",
    );
    check(
        |seen| {
            let header = Condition {
                field: "http-header".to_owned(),
                header: Some("x-ephemwork".to_owned()),
                values: ["*".to_owned()].into(),
            };
            seen.rules[0].conditions.insert(header);
            seen.rules[0].tags.insert("ephemwork:project".to_owned(), "other".to_owned());
        },
        "the listener already sends X-Ephemwork to the bastion of the project \"other\"",
    );
}

#[test]
fn without_a_listener_nothing_of_the_load_balancer_is_touched() {
    let desired = with(|facts| facts.listener = None);
    let plan = towards(&desired, &account(), Aim::Bastion, Patience::Wait).unwrap();
    let balancing = |step: &&Step| step.actions().iter().any(|(action, _)| action.starts_with("elastic"));
    assert_eq!(plan.steps.iter().find(balancing), None);
}

#[test]
fn a_token_is_the_same_for_the_same_request_only() {
    let token = |observed: &Observed| {
        let plan = towards(&with(|_| ()), observed, Aim::Bastion, Patience::Wait).unwrap();
        plan.steps
            .into_iter()
            .find_map(|step| match step {
                Step::Run(run) => Some(run.token),
                _ => None,
            })
            .unwrap()
    };
    let fresh = token(&account());
    assert_eq!(fresh, token(&account()));
    assert!(fresh.len() <= 64, "EC2 takes at most 64 characters: {fresh}");
    let mut after_a_destroy = account();
    after_a_destroy.terminated.insert("i-1".to_owned());
    assert_ne!(fresh, token(&after_a_destroy));
}
