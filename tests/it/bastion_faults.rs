//! Whatever call of `init`, `upgrade` or `destroy` fails, and however: running it again brings the account to the very same state.
//!
//! Each fault strikes every call from the n-th on until the account is healed. At each call that writes a fault is tried which lets it
//! take effect; of the other faults and of the many reads some. `EPHEMWORK_ALL_FAULTS=0` tries every fault at every call, another number
//! those at that call and after it.

use std::process::Command;

use serde_json::json;

use crate::support::aws::Fault;
use crate::support::engineer::difference;
use crate::support::{Engineer, Process, until};

/// Every so-many-th read is tried, and of writes that fail without effect every so-many-th: those that have one matter more.
const READS: usize = 30;
const WITHOUT_EFFECT: usize = 6;

/// Faults before a call takes effect, and after.
const BEFORE: [Fault; 3] = [Fault::Http500, Fault::Throttle, Fault::CutBefore];
const AFTER: [Fault; 2] = [Fault::CutAfter, Fault::CutInAnswer];

/// What is tried, from which state.
struct Way {
    arguments: &'static [&'static str],
    prepare: fn(&Engineer),
}

const INIT: Way = Way {
    arguments: &["init", "--live", "--yes"],
    prepare: |_| {},
};

const UPGRADE: Way = Way {
    arguments: &["upgrade", "--live", "--yes"],
    prepare: |engineer| {
        engineer.works(&["init", "--live", "--yes"]);
        engineer.upload("another", "arm64");
    },
};

const DESTROY: Way = Way {
    arguments: &["destroy", "--live", "--yes"],
    prepare: |engineer| drop(engineer.works(&["init", "--live", "--yes", "--eice"])),
};

fn reads(name: &str) -> bool {
    let operation = name.split(':').nth(1).unwrap_or_default();
    ["Describe", "Get", "List", "Head"]
        .iter()
        .any(|verb| operation.starts_with(verb))
}

/// After so many tries the test's AWS is started anew: it forgets nothing, and grows slower.
const TRIES: usize = 40;

/// From which call on everything is tried, if everything is to be tried.
fn all_faults() -> Option<usize> {
    let from = std::env::var("EPHEMWORK_ALL_FAULTS").ok()?;
    Some(from.parse().expect("EPHEMWORK_ALL_FAULTS is a call's number"))
}

/// The faults to try, in order: after how many calls, and which.
fn faults(calls: &[String]) -> Vec<(usize, Fault)> {
    let from = all_faults();
    let (mut faults, mut writes) = (Vec::new(), 0);
    for (at, call) in calls.iter().enumerate() {
        if let Some(from) = from {
            if at < from {
                continue;
            }
            faults.extend(Fault::ALL.map(|fault| (at, fault)));
        } else if !reads(call) {
            faults.push((at, AFTER[writes % AFTER.len()]));
            if writes % WITHOUT_EFFECT == 0 {
                faults.push((at, BEFORE[writes / WITHOUT_EFFECT % BEFORE.len()]));
            }
            writes += 1;
        } else if at % READS == 0 {
            faults.push((at, Fault::ALL[at / READS % Fault::ALL.len()]));
        }
    }
    faults
}

/// The undisturbed way: its calls, and what the account is then.
fn undisturbed(engineer: &mut Engineer, way: &Way) -> (Vec<String>, Vec<String>) {
    engineer.again();
    (way.prepare)(engineer);
    let before = engineer.world.calls().len();
    engineer.works(way.arguments);
    let calls = engineer
        .world
        .calls()
        .into_iter()
        .skip(before)
        .map(|call| call.name)
        .collect();
    (calls, engineer.account())
}

fn healed_after_every_fault(way: &Way) {
    let Some(mut engineer) = Engineer::start() else { return };
    let (calls, expected) = undisturbed(&mut engineer, way);
    for (tried, (at, fault)) in faults(&calls).into_iter().enumerate() {
        if tried % TRIES == TRIES - 1 {
            engineer = Engineer::start().unwrap();
        }
        if all_faults().is_some() {
            // It takes an hour or more; this is how far it is.
            eprintln!("{:?}: {fault:?} at call {at} of {}", way.arguments, calls.len());
        }
        engineer.again();
        (way.prepare)(&engineer);
        engineer.world.fail_from(at as u64, fault);
        let cut = engineer.bastion(way.arguments);
        engineer.world.heal();
        let what = format!("{:?} at call {at}, {}", fault, calls[at]);
        assert!(cut.code() == 0 || cut.err.contains("error: "), "{what}: {cut:?}");
        let again = engineer.bastion(way.arguments);
        assert_eq!(
            again.code(),
            0,
            "{what}\nfirst: {}\nagain: {}\n{}",
            cut.err,
            again.out,
            again.err
        );
        let found = engineer.account();
        assert_eq!(
            difference(&expected, &found),
            [""; 0],
            "{what}\nfirst: {}\n{}",
            cut.out,
            cut.err
        );
    }
}

#[test]
fn init() {
    healed_after_every_fault(&INIT);
}

#[test]
fn upgrade() {
    healed_after_every_fault(&UPGRADE);
}

#[test]
fn destroy() {
    healed_after_every_fault(&DESTROY);
}

#[test]
fn killed_at_any_call() {
    let Some(mut engineer) = Engineer::start() else { return };
    for way in [&INIT, &UPGRADE, &DESTROY] {
        let (calls, expected) = undisturbed(&mut engineer, way);
        let step = if all_faults().is_some() { 1 } else { calls.len().div_ceil(3) };
        let from = all_faults().unwrap_or(1).max(1);
        for (tried, at) in (from..calls.len()).step_by(step).enumerate() {
            if tried % TRIES == TRIES - 1 {
                engineer = Engineer::start().unwrap();
            }
            if all_faults().is_some() {
                eprintln!("{:?}: killed at call {at} of {}", way.arguments, calls.len());
            }
            engineer.again();
            (way.prepare)(&engineer);
            let before = engineer.world.count();
            let arguments: Vec<&str> = ["bastion"].iter().chain(way.arguments).copied().collect();
            let mut command: Command = engineer.command(&arguments);
            let mut process = Process::start("bastion", &mut command);
            until("the call", || {
                let there = engineer.world.count() >= before + at as u64;
                (there || process.ended().is_some()).then_some(())
            });
            process.signal(rustix::process::Signal::KILL);
            process.wait();
            let again = engineer.bastion(way.arguments);
            assert_eq!(again.code(), 0, "killed at {at}\n{}\n{}", again.out, again.err);
            assert_eq!(
                difference(&expected, &engineer.account()),
                [""; 0],
                "killed at {at}, {:?}",
                way.arguments
            );
        }
    }
}

#[test]
fn a_pending_delete_and_a_busy_group_are_waited_for() {
    let Some(engineer) = Engineer::start() else { return };
    let before = engineer.exact();
    engineer.works(&["init", "--live", "--yes"]);
    engineer.world.habits(json!({ "settling": 4 }));
    engineer.world.refuse(
        "ec2:DeleteSecurityGroup",
        "DependencyViolation",
        "resource has a dependent object",
        3,
    );
    engineer.world.refuse(
        "iam:DeleteRole",
        "DeleteConflict",
        "Cannot delete entity, must detach all policies first.",
        2,
    );
    engineer.works(&["destroy", "--live", "--yes"]);
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}
