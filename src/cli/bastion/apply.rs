//! `bastion init`, `upgrade` and `destroy`: the plan is shown; with `--live` it is carried out.

use std::io::BufRead as _;

use serde_json::{Value, json};

use super::super::say::{self, Form};
use super::super::up::signals;
use super::Asked;
use super::print::{self, Progress};
use crate::aws::{Aws, NO_CREDENTIALS};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::provision::command::{self, Prepared};
use crate::provision::converge::Said;
use crate::provision::desired::{Facts, desired};
use crate::provision::observed::Observed;
use crate::provision::plan::{self, Aim, Patience, Plan};
use crate::provision::wanted::Wanted;
use crate::provision::{rights, settle};
use crate::rt::{self, Signal};

/// The region that a plan without account and region is for.
pub(super) const ANY_REGION: &str = "us-east-1";

pub(super) async fn build(host: &Host, wanted: Wanted, aim: Aim, patience: Patience, asked: Asked) -> Result<Exit> {
    let verb = if aim == Aim::Upgrade { "upgrade" } else { "init" };
    let aws = match command::open(host, &wanted, asked.profile.as_deref()).await {
        Ok(aws) => aws,
        Err(error) if !asked.live && aim == Aim::Bastion => return nobody(host, wanted, &asked, error).await,
        Err(error) => return Err(error),
    };
    looking(&aws, &asked);
    let prepared = command::build(host, &aws, &wanted, aim, patience).await?;
    change(prepared, verb, &asked).await
}

pub(super) async fn destroy(host: &Host, wanted: Wanted, asked: Asked) -> Result<Exit> {
    let aws = command::open(host, &wanted, asked.profile.as_deref()).await?;
    looking(&aws, &asked);
    let prepared = command::remove(host, &aws, &wanted).await?;
    change(prepared, "destroy", &asked).await
}

/// Reading an account takes some seconds.
fn looking(aws: &Aws, asked: &Asked) {
    if asked.form == Form::Human {
        say::warn(&format!("looking at what stands in {} ...\n", aws.region()));
    }
}

/// No account can be opened. When that is because there are no credentials at all, the plan from nothing is still of use.
async fn nobody(host: &Host, wanted: Wanted, asked: &Asked, error: Error) -> Result<Exit> {
    if error.what == NO_CREDENTIALS {
        return unread(host, &wanted, asked, &error);
    }
    // Without a region nothing was looked for yet.
    let somewhere = Wanted {
        region: Some(ANY_REGION.to_owned()),
        ..wanted.clone()
    };
    match command::open(host, &somewhere, asked.profile.as_deref()).await {
        Err(none) if none.what == NO_CREDENTIALS => unread(host, &wanted, asked, &none),
        _ => Err(error),
    }
}

/// The plan from nothing, for somebody who has no credentials (yet).
fn unread(host: &Host, wanted: &Wanted, asked: &Asked, error: &Error) -> Result<Exit> {
    let region = wanted
        .region
        .as_deref()
        .or_else(|| host.variable("AWS_REGION"))
        .or_else(|| Some(wanted.listener.as_ref()?.region.as_str()))
        .unwrap_or(ANY_REGION);
    wanted.guard_region(region)?;
    let desired = desired(settle::unread(wanted, region));
    let plan = plan::towards(&desired, &Observed::default(), Aim::Bastion, Patience::Wait)?;
    let why = "there are no AWS credentials, so no account was read: this is the plan for one in which nothing stands";
    match asked.form {
        Form::Json => {
            let mut object = object("init", &plan, Some(&desired.facts), asked.verbose);
            object["account"] = Value::Null;
            object["unread"] = Value::from(why);
            say::object(&object);
        }
        Form::Human => {
            let hint = error.hint.as_deref().unwrap_or_default();
            say::out(&format!("{why}.\n{hint}\n\nproject {:?} in {region}\n", wanted.project));
            say::out(&print::plan(&plan, Some(&desired.facts), asked.verbose, "init"));
        }
    }
    Ok(Exit::Fine)
}

fn object(verb: &str, plan: &Plan, facts: Option<&Facts>, verbose: bool) -> Value {
    let mut object = plan::object(plan, verbose);
    object["version"] = Value::from(1);
    object["command"] = Value::from(verb);
    object["changed"] = Value::from(false);
    object["rights"] = rights::needed(&plan.steps)
        .into_iter()
        .map(|(action, resources)| (action.to_owned(), Value::from(resources.into_iter().collect::<Vec<_>>())))
        .collect();
    object["undo"] = match verb {
        "destroy" => Value::Null,
        _ => Value::from("ephemwork bastion destroy --live"),
    };
    if let Some(facts) = facts {
        object["cost"] = Value::from(crate::provision::cost::monthly(
            &facts.instance_type,
            facts.listener.is_some(),
        ));
    }
    object
}

async fn change(prepared: Prepared, verb: &str, asked: &Asked) -> Result<Exit> {
    let facts = prepared.desired.as_ref().map(|desired| desired.facts.clone());
    let plan = prepared.plan.clone();
    let mut object = object(verb, &plan, facts.as_ref(), asked.verbose);
    object["account"] = Value::from(prepared.caller.account.as_str());
    object["caller"] = Value::from(prepared.caller.arn.as_str());
    object["region"] = Value::from(prepared.look.names.region.as_str());
    let empty = plan.steps.is_empty();
    let human = asked.form == Form::Human;
    if human {
        let names = &prepared.look.names;
        say::out(&format!(
            "project {:?} in {}, account {} ({})\n",
            names.project, names.region, prepared.caller.account, prepared.caller.arn
        ));
        if empty {
            say::out(&nothing(&plan, verb));
        } else {
            say::out(&print::plan(&plan, facts.as_ref(), asked.verbose, verb));
        }
    }
    if empty || !asked.live {
        if human && !empty {
            say::out(&format!("nothing was changed. To do it: ephemwork bastion {verb} --live\n"));
        }
        if !human {
            say::object(&object);
        }
        return Ok(Exit::Fine);
    }
    if plan.writes() && !asked.yes {
        if !human {
            // Whoever is asked sees what for; stdout is for the object alone.
            say::warn(&print::plan(&plan, facts.as_ref(), asked.verbose, verb));
        }
        confirm(verb).await?;
    }
    let names = prepared.look.names.clone();
    let (look, mut done) = (prepared.look.clone(), Vec::new());
    let mut progress = Progress::new(if human { say::out } else { say::warn });
    if human {
        say::out("\n");
    }
    let mut show = |said: Said<'_>| {
        if let Said::Done { step, .. } = &said {
            done.push(step.title());
        }
        progress.show(said);
    };
    let observed = interruptible(prepared.carry_out(&mut show), verb).await?;
    object["changed"] = Value::from(true);
    object["done"] = Value::from(done);
    if verb == "destroy" {
        let left = plan::left(&names, &look.all().await?);
        let still: Vec<String> = left
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if !still.is_empty() {
            let what = format!("something is left: {}", still.join(", "));
            return Err(Error::new(Exit::Unreachable, what).hint("run the command again: ephemwork bastion destroy --live"));
        }
        let kinds: Vec<&str> = left.iter().map(|(what, _)| *what).collect();
        object["left"] = json!({});
        if human {
            say::out(&format!("nothing is left; looked for {}\n", kinds.join(", ")));
        }
    } else if human {
        say::out(&ready(&observed, verb, facts.as_ref()));
    }
    if !human {
        say::object(&object);
    }
    Ok(Exit::Fine)
}

fn nothing(plan: &Plan, verb: &str) -> String {
    let notes: String = plan.notes.iter().map(|note| format!("note: {note}\n")).collect();
    let why = match verb {
        "destroy" => "there is no bastion and nothing of one",
        "upgrade" => "the bastion is of the newest binary and image",
        _ => "the bastion is as it should be",
    };
    format!("nothing to do: {why}\n{notes}")
}

fn ready(observed: &Observed, verb: &str, facts: Option<&Facts>) -> String {
    let there = observed.instances.iter().find(|instance| instance.stays());
    let instance = there.map_or("no instance", |instance| instance.id.as_str());
    let next = match facts.and_then(|facts| facts.listener.as_ref()) {
        Some(_) => "developers need: ephemwork bastion policy developer",
        None => "next, the load balancer in your own stack: ephemwork bastion snippet terraform",
    };
    let what = if verb == "upgrade" { "upgraded" } else { "done" };
    format!("\n{what}: the bastion is {instance}\n{next}\n")
}

/// Asks on a terminal. Without one nobody can answer, and a script says `--yes`.
async fn confirm(verb: &str) -> Result<()> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Exit::Usage, "there is no terminal on which to ask")
            .because("stdin is none")
            .hint(format!("look at the plan, then: ephemwork bastion {verb} --live --yes")));
    }
    say::warn("\ndo this? Type yes: ");
    let answer = rt::unblock(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    match answer.await {
        Ok(line) if line.trim() == "yes" => Ok(()),
        _ => Err(Error::new(Exit::Interrupted, "nothing was changed")),
    }
}

/// Ctrl-C ends between two calls; what is done stays and is seen by the next run.
async fn interruptible<T>(work: impl Future<Output = Result<T>>, verb: &str) -> Result<T> {
    let mut signals = signals()?;
    let cut = async {
        while signals.next().await == Signal::Hangup {}
        Err(Error::new(Exit::Interrupted, "interrupted; what is done stays").hint(format!(
            "go on with: ephemwork bastion {verb} --live, or remove it all: ephemwork bastion destroy --live"
        )))
    };
    smol::future::or(work, cut).await
}
