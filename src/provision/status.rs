//! What is to be said of a bastion that is there: `bastion status`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::command;
use super::cost;
use super::desired::{Desired, desired};
use super::names::{BINARY, REVISION, SHA256};
use super::observed::{Boot, Instance, Observed};
use super::plan::{Aim, Patience, towards};
use super::rights::{self, Question, Scope};
use super::settle::{self, Caller, Settled};
use super::step::Step;
use super::wanted::Wanted;
use crate::aws::{Aws, iam};
use crate::error::Result;
use crate::host::Host;
use crate::rt;

/// How many questions of rights are asked at the same time: together they take a second or two, and IAM does not throttle so few.
const ASKED_AT_ONCE: usize = 8;

/// The state of one project's bastion in one region.
pub struct Status {
    pub project: String,
    pub region: String,
    pub account: String,
    pub observed: Observed,
    names: super::names::Names,
    /// What a repair would do, and a sentence where that cannot be known.
    pub drift: Result<Vec<String>, String>,
    /// What is not right and no command repairs.
    pub notes: Vec<String>,
    /// What an upgrade would bring: sentences.
    pub newer: Vec<String>,
    /// Rights that the caller misses, or why they are not known.
    pub missing: Result<Vec<String>, String>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// Asks for all of it.
///
/// # Errors
/// The account cannot be read.
pub async fn status(_host: &Host, aws: &Aws, wanted: &Wanted, now: u64) -> Result<Status> {
    let caller = settle::caller(aws, wanted).await?;
    let look = settle::look(aws, wanted);
    let observed = look.all().await?;
    let there = observed.instances.iter().any(|instance| instance.stays()) || observed.role.is_some();
    let (mut newer, mut notes, mut drift) = (Vec::new(), Vec::new(), Ok(Vec::new()));
    if there {
        match settle::settle(aws, wanted, Aim::Bastion).await {
            Ok(settled) => (drift, notes) = drift_of(settled),
            Err(error) => drift = Err(error.to_string()),
        }
        match settle::settle(aws, wanted, Aim::Upgrade).await {
            Ok(settled) => newer = newer_of(&observed, &desired(settled.facts)),
            Err(error) => newer.push(format!("what an upgrade would bring is not known: {}", error.what)),
        }
    }
    Ok(Status {
        project: wanted.project.clone(),
        region: aws.region().to_owned(),
        names: look.names,
        missing: missing(aws, &caller, wanted, &observed).await,
        account: caller.account,
        observed,
        drift,
        notes,
        newer,
        now,
    })
}

fn drift_of(settled: Settled) -> (Result<Vec<String>, String>, Vec<String>) {
    let desired = desired(settled.facts);
    match towards(&desired, &settled.observed, Aim::Bastion, Patience::Wait) {
        Ok(plan) => (Ok(plan.steps.iter().map(Step::title).collect()), plan.notes),
        Err(error) => (Err(error.to_string()), Vec::new()),
    }
}

fn newer_of(observed: &Observed, desired: &Desired) -> Vec<String> {
    let mut newer = Vec::new();
    for instance in observed.instances.iter().filter(|instance| instance.stays()) {
        if instance.tags.get(REVISION) == Some(&desired.revision) {
            continue;
        }
        let facts = &desired.facts;
        let before = newer.len();
        if instance.tags.get(SHA256) != Some(&facts.sha256) {
            newer.push(format!(
                "the binary {} ({})",
                facts.binary,
                &facts.sha256[..12.min(facts.sha256.len())]
            ));
        }
        if instance.image != facts.image {
            newer.push(format!("the image {} instead of {}", facts.image, instance.image));
        }
        if newer.len() == before {
            newer.push("other user data, instance type or subnet".to_owned());
        }
    }
    newer
}

/// What of all that the commands need the caller may not, on what they would do it to: actions, and the resource of one that is
/// allowed elsewhere.
pub async fn missing(aws: &Aws, caller: &Caller, wanted: &Wanted, observed: &Observed) -> Result<Vec<String>, String> {
    let Some(principal) = principal(&caller.arn) else {
        return Err(format!("IAM does not simulate for {}", caller.arn));
    };
    let names = wanted.names(aws.region());
    let asked = rights::questions(&Scope {
        partition: aws.partition(),
        account: &caller.account,
        names: &names,
        wanted,
        observed,
    });
    let mut verdicts = Vec::new();
    for some in asked.chunks(ASKED_AT_ONCE) {
        let ask = |question: &Question| {
            let call = iam::SimulatePrincipalPolicy {
                principal_arn: principal.clone(),
                actions: question.actions.iter().map(|&action| action.to_owned()).collect(),
                resources: question.resources.clone(),
                context: question.context.clone(),
                next: None,
            };
            let aws = aws.clone();
            rt::spawn(async move { aws.all(&call).await })
        };
        let running: Vec<_> = some.iter().map(ask).collect();
        for answer in running {
            verdicts.extend(answer.await.map_err(|failure| failure.to_string())?);
        }
    }
    Ok(denied(&verdicts))
}

/// Each action that is not allowed at all; of one that is allowed on other things, what it is not allowed on.
fn denied(verdicts: &[iam::Verdict]) -> Vec<String> {
    let allowed = |verdict: &&iam::Verdict| verdict.decision == iam::Decision::Allowed;
    let somewhere: BTreeSet<&str> = verdicts
        .iter()
        .filter(allowed)
        .map(|verdict| verdict.action.as_str())
        .collect();
    let told = |verdict: &iam::Verdict| match somewhere.contains(verdict.action.as_str()) {
        true => format!("{} on {}", verdict.action, verdict.resource),
        false => verdict.action.clone(),
    };
    let denied: BTreeSet<String> = verdicts.iter().filter(|verdict| !allowed(verdict)).map(told).collect();
    denied.into_iter().collect()
}

/// The ARN that IAM simulates for: a role's session stands for its role. The root user is not simulated.
fn principal(arn: &str) -> Option<String> {
    let (head, resource) = arn.rsplit_once(':')?;
    match resource.split('/').collect::<Vec<_>>().as_slice() {
        ["assumed-role", role, _] => Some(format!("{}:role/{role}", head.replacen(":sts:", ":iam:", 1))),
        ["user" | "role", ..] => Some(arn.to_owned()),
        _ => None,
    }
}

impl Status {
    /// Whether there is a bastion at all.
    pub fn there(&self) -> bool {
        !self.observed.instances.is_empty()
    }

    /// As a person reads it.
    pub fn text(&self) -> String {
        let mut text = format!("bastion of {:?} in {}, account {}\n", self.project, self.region, self.account);
        let mut line = |name: &str, value: String| text += &format!("  {name:10} {value}\n");
        if !self.there() {
            line("instance", "none; make one: ephemwork bastion init".to_owned());
        }
        for instance in &self.observed.instances {
            line(
                "instance",
                format!(
                    "{} {}, {} from {}, {}",
                    instance.id,
                    instance.state,
                    instance.instance_type,
                    instance.image,
                    instance.private_ip.as_deref().unwrap_or("no address")
                ),
            );
            line("bastiond", self.boot(instance));
            let binary = instance.tags.get(BINARY).map_or("unknown", String::as_str);
            line("binary", binary.to_owned());
            line(
                "agent",
                instance.agent.as_ref().map_or("not heard of".to_owned(), |agent| {
                    format!("{}, {}", agent.ping, agent.version)
                }),
            );
            if let Some(target) = self.observed.target(instance) {
                let why = target.description.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                line("target", format!("{}{why}", target.state));
            } else if self.observed.target_group.is_some() {
                line("target", "not registered".to_owned());
            }
            if let Some(cost) = self.cost(instance) {
                line("cost", format!("about {cost:.2} USD since launch"));
            }
        }
        for (priority, what) in self.rules() {
            line("rule", format!("{priority}: {what}"));
        }
        match &self.drift {
            Ok(steps) if steps.is_empty() => line("drift", "none".to_owned()),
            Ok(steps) => steps
                .iter()
                .for_each(|step| line("drift", format!("{step} (ephemwork bastion init --live)"))),
            Err(why) => line("drift", format!("not known: {}", why.replace('\n', " "))),
        }
        for note in &self.notes {
            line("note", note.clone());
        }
        for newer in &self.newer {
            line("newer", format!("{newer} (ephemwork bastion upgrade)"));
        }
        match &self.missing {
            Ok(missing) if missing.is_empty() => line("rights", "all that the commands need".to_owned()),
            Ok(missing) => line(
                "rights",
                format!("missing: {} (ephemwork bastion policy admin)", missing.join(", ")),
            ),
            Err(why) => line("rights", format!("not known: {why}")),
        }
        text
    }

    fn boot(&self, instance: &Instance) -> String {
        match self.observed.boot(&self.names, &instance.id) {
            Some(Boot::Ready { version, .. }) => version,
            Some(Boot::Failed { why }) => format!("its boot failed: {why}"),
            Some(Boot::Unknown) => "its boot reported what this version does not know".to_owned(),
            None => "its boot has reported nothing".to_owned(),
        }
    }

    fn cost(&self, instance: &Instance) -> Option<f64> {
        let running = Duration::from_secs(self.now.saturating_sub(instance.launched));
        cost::since(&instance.instance_type, running)
    }

    /// The priorities of our rules, and what they match.
    fn rules(&self) -> Vec<(u32, String)> {
        let own = self.observed.rules.iter().filter(|rule| self.names.own(&rule.tags));
        let mut rules: Vec<(u32, String)> = own
            .filter_map(|rule| {
                let conditions: Vec<String> = rule.conditions.iter().map(ToString::to_string).collect();
                Some((rule.priority?, conditions.join(" and ")))
            })
            .collect();
        rules.sort();
        rules
    }

    /// As `--json` prints it.
    pub fn object(&self) -> Value {
        let instance = |instance: &Instance| {
            let boot = self.observed.boot(&self.names, &instance.id);
            let (state, why) = match &boot {
                Some(Boot::Ready { .. }) => ("ready", None),
                Some(Boot::Failed { why }) => ("failed", Some(why.clone())),
                Some(Boot::Unknown) => ("unknown", None),
                None => ("silent", None),
            };
            json!({
                "id": instance.id, "state": instance.state, "type": instance.instance_type, "image": instance.image,
                "address": instance.private_ip, "launched": instance.launched,
                "version": match boot { Some(Boot::Ready { version, .. }) => Some(version), _ => None },
                "binary": instance.tags.get(BINARY), "sha256": instance.tags.get(SHA256),
                "boot": state, "boot_error": why,
                "agent": instance.agent.as_ref().map(|agent| &agent.ping),
                "target": self.observed.target(instance).map(|target| &target.state),
                "cost_usd": self.cost(instance),
            })
        };
        let rules: Vec<Value> = self
            .rules()
            .into_iter()
            .map(|(priority, what)| json!({ "priority": priority, "if": what }))
            .collect();
        json!({
            "version": 1, "project": self.project, "region": self.region, "account": self.account,
            "instances": self.observed.instances.iter().map(instance).collect::<Vec<_>>(),
            "rules": rules,
            "drift": self.drift.as_ref().ok(), "drift_unknown": self.drift.as_ref().err(),
            "notes": self.notes, "newer": self.newer,
            "rights_missing": self.missing.as_ref().ok(), "rights_unknown": self.missing.as_ref().err(),
        })
    }
}

/// Opens the account and asks.
///
/// # Errors
/// As [`command::open`] and [`status`].
pub async fn of(host: &Host, wanted: &Wanted, profile: Option<&str>, now: u64) -> Result<Status> {
    let aws = command::open(host, wanted, profile).await?;
    status(host, &aws, wanted, now).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials() {
        let verdict = |action: &str, resource: &str, decision| iam::Verdict {
            action: action.to_owned(),
            resource: resource.to_owned(),
            decision,
        };
        let found = denied(&[
            verdict("ec2:RunInstances", "image", iam::Decision::Allowed),
            verdict("ec2:RunInstances", "subnet", iam::Decision::Unsaid),
            verdict("iam:PassRole", "role", iam::Decision::Denied),
            verdict("ssm:DeleteParameter", "one", iam::Decision::Unsaid),
            verdict("ssm:DeleteParameter", "two", iam::Decision::Unsaid),
        ]);
        assert_eq!(found, ["ec2:RunInstances on subnet", "iam:PassRole", "ssm:DeleteParameter"]);
    }

    #[test]
    fn principals() {
        let check = |arn: &str, expected: Option<&str>| assert_eq!(principal(arn).as_deref(), expected, "{arn}");
        check("", None);
        check("arn:aws:iam::123456789012:root", None);
        check(
            "arn:aws:iam::123456789012:user/team/alice",
            Some("arn:aws:iam::123456789012:user/team/alice"),
        );
        check(
            "arn:aws:sts::123456789012:assumed-role/Admin/alice",
            Some("arn:aws:iam::123456789012:role/Admin"),
        );
        check(
            "arn:aws-cn:sts::123456789012:assumed-role/Admin/alice",
            Some("arn:aws-cn:iam::123456789012:role/Admin"),
        );
    }
}
