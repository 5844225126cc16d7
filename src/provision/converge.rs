//! Carries a plan out: its first step, a look, the next plan, until there is none. May be cut anywhere and run again.

use std::time::Duration;

use super::apply::{self, Outcome};
use super::desired::Desired;
use super::observed::{Boot, Instance, Observed, Part};
use super::plan::{self, Aim, MAX_STEPS, Patience, Plan};
use super::read::Look;
use super::step::{Step, Wait};
use crate::aws::{base64, ec2};
use crate::error::{Error, Exit, Result};
use crate::rt::{self, Instant};

/// Between two looks at AWS. Its own waiters take 15 s; somebody who watches wants to see more.
pub const LOOK: Duration = Duration::from_secs(3);

/// How long AWS may take to show what was done. IAM and EC2 need seconds, rarely half a minute.
const VISIBLE: Duration = Duration::from_secs(120);

/// How many lines of a console are shown.
const CONSOLE_LINES: usize = 12;

/// Where it goes.
#[derive(Clone, Debug)]
pub enum Goal {
    Bastion {
        desired: Box<Desired>,
        aim: Aim,
        patience: Patience,
    },
    Nothing,
}

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum Said<'a> {
    /// A step begins.
    Begin(&'a Step),
    /// It takes its time.
    Waiting { step: &'a Step, since: Duration, why: String },
    /// It is done.
    Done { step: &'a Step, took: Duration },
}

/// One carrying out.
pub struct Run<'a> {
    pub look: &'a Look,
    pub goal: Goal,
    /// Between two looks.
    pub pace: Duration,
    pub say: &'a mut (dyn FnMut(Said<'_>) + Send),
}

impl Run<'_> {
    /// The plan for what is seen.
    ///
    /// # Errors
    /// Something stands in the way.
    pub fn plan(&self, observed: &Observed) -> Result<Plan> {
        match &self.goal {
            Goal::Bastion { desired, aim, patience } => plan::towards(desired, observed, *aim, *patience),
            Goal::Nothing => Ok(plan::removal(&self.look.names, observed)),
        }
    }

    /// Goes on until the plan is empty.
    ///
    /// # Errors
    /// The first step that failed, with its reason. What is done stays; running again goes on from there.
    pub async fn go(&mut self, mut observed: Observed) -> Result<Observed> {
        let before: Vec<String> = observed.instances.iter().map(|instance| instance.id.clone()).collect();
        for _ in 0..MAX_STEPS {
            let Some(step) = self.plan(&observed)?.steps.into_iter().next() else {
                return Ok(observed);
            };
            let begun = Instant::now();
            (self.say)(Said::Begin(&step));
            let done = match &step {
                Step::Await(wait) => self.wait(&step, wait, &mut observed).await,
                _ => self.act(&step, &mut observed).await,
            };
            if let Err(error) = done {
                return Err(self.give_up(error, &before, &observed).await);
            }
            let took = begun.elapsed();
            (self.say)(Said::Done { step: &step, took });
        }
        let what = format!("there is no end after {MAX_STEPS} steps");
        Err(Error::new(Exit::Bug, what).hint("look at what changes all the time: ephemwork bastion status"))
    }

    /// A write, until the account shows it.
    async fn act(&mut self, step: &Step, observed: &mut Observed) -> Result<()> {
        let begun = Instant::now();
        loop {
            match apply::apply(&self.look.aws, &self.look.names, step).await {
                Ok(Outcome::Done | Outcome::Already) => break,
                Ok(Outcome::Later(failure)) => {
                    if begun.elapsed() >= apply::MOMENT {
                        return Err(Error::from(*failure).hint(format!(
                            "AWS has refused this for {} min: {}. Run the command again later",
                            apply::MOMENT.as_secs() / 60,
                            step.title()
                        )));
                    }
                    let why = failure.message.clone().unwrap_or_else(|| failure.to_string());
                    self.pause(step, begun, why).await;
                    // What it waits for may have become needless, or the id another one.
                    self.look.parts(step.parts(), observed).await?;
                    if self.first(observed)?.as_ref() != Some(step) {
                        return Ok(());
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let written = Instant::now();
        loop {
            self.look.parts(step.parts(), observed).await?;
            if self.first(observed)?.as_ref() != Some(step) {
                return Ok(());
            }
            if written.elapsed() >= VISIBLE {
                let what = format!("AWS took it and does not show it: {}", step.title());
                return Err(Error::new(Exit::Unreachable, what).hint("run the command again: it goes on from here"));
            }
            self.pause(step, begun, "AWS does not show it yet".to_owned()).await;
        }
    }

    async fn wait(&mut self, step: &Step, wait: &Wait, observed: &mut Observed) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look.parts(step.parts(), observed).await?;
            if let Some(why) = self.hopeless(wait, observed) {
                return Err(self.told(wait, why).await);
            }
            if self.first(observed)?.as_ref() != Some(step) {
                return Ok(());
            }
            let why = reason(wait, observed);
            if begun.elapsed() >= wait.deadline() {
                let why = format!("{why}, after {} s", wait.deadline().as_secs());
                return Err(self.told(wait, why).await);
            }
            self.pause(step, begun, why).await;
        }
    }

    fn first(&self, observed: &Observed) -> Result<Option<Step>> {
        Ok(self.plan(observed)?.steps.into_iter().next())
    }

    async fn pause(&mut self, step: &Step, begun: Instant, why: String) {
        let since = begun.elapsed();
        (self.say)(Said::Waiting { step, since, why });
        rt::sleep(self.pace).await;
    }

    /// What no longer waiting helps against.
    fn hopeless(&self, wait: &Wait, observed: &Observed) -> Option<String> {
        let (Wait::Running { instance } | Wait::Agent { instance } | Wait::Boot { instance } | Wait::Healthy { instance, .. }) =
            wait
        else {
            return None;
        };
        if let Some(Boot::Failed { why }) = observed.boot(&self.look.names, instance) {
            return Some(format!("its boot failed: {why}"));
        }
        let found = observed.instances.iter().find(|one| one.id == *instance);
        match found {
            Some(found) if found.stays() => None,
            Some(found) => Some(match &found.state_reason {
                Some(why) => format!("EC2 ended it: {why}"),
                None => format!("it is {}", found.state),
            }),
            // A list may miss for a moment what it had before; one that is gone stands among the terminated.
            None => observed
                .terminated
                .contains(instance)
                .then(|| "EC2 has terminated it".to_owned()),
        }
    }

    /// The error of a wait, with what the instance wrote to its console.
    async fn told(&self, wait: &Wait, why: String) -> Error {
        let error = |what: String, hint: &str| Error::new(Exit::Unreachable, what).because(&why).hint(hint);
        let mut error = match wait {
            Wait::Running { instance } => error(
                format!("{instance} does not run"),
                "run the command again, or another instance type",
            ),
            Wait::Stopped { instance } => error(format!("{instance} does not stop"), "run the command again"),
            Wait::Agent { instance } => error(
                format!("Systems Manager's agent on {instance} does not answer"),
                "three causes are usual: the subnet reaches neither a NAT nor the VPC endpoints ssm, ssmmessages and ec2messages; the role \
                 misses AmazonSSMManagedInstanceCore; the image has no agent",
            ),
            Wait::Boot { instance } => error(
                format!("bastiond on {instance} is not healthy"),
                "the subnet must reach S3 and Systems Manager; the role's policy names the object; running the command again makes \
                 another instance",
            ),
            Wait::Healthy { instance, .. } => error(
                format!("the load balancer does not find {instance} healthy"),
                "the load balancer's group must let tcp/80 out to the bastion's, the bastion's let it in, and the subnet lie in a zone \
                 that the load balancer uses",
            ),
            Wait::Drained { ip } => error(format!("{ip} still has requests"), "run the command again"),
            Wait::Gone { instance } => error(format!("{instance} is still there"), "run the command again"),
            Wait::EndpointReady { id } => error(format!("the endpoint {id} is not ready"), "run the command again"),
            Wait::EndpointGone { id } => error(format!("the endpoint {id} is still there"), "run the command again"),
        };
        if let Wait::Agent { instance } | Wait::Boot { instance } = wait
            && let Some(console) = console(self.look, instance).await
        {
            error.why = Some(format!("{why}\n  its console ends with\n{console}"));
        }
        error
    }

    /// An upgrade that fails takes its new instance away again, so that the old one serves alone.
    async fn give_up(&mut self, error: Error, before: &[String], observed: &Observed) -> Error {
        let upgrade = matches!(&self.goal, Goal::Bastion { aim: Aim::Upgrade, .. });
        if !upgrade || error.exit != Exit::Unreachable {
            return error;
        }
        // Another upgrade may be further, so that what looks new from here is all that serves.
        let mut observed = observed.clone();
        let looked = self.look.parts(&[Part::Instances, Part::TargetGroup], &mut observed).await;
        let (old, new): (Vec<&Instance>, Vec<&Instance>) = observed
            .instances
            .iter()
            .filter(|instance| instance.stays())
            .partition(|instance| before.contains(&instance.id));
        let mut hint = match looked {
            _ if new.is_empty() => return error,
            Err(why) => format!("what serves now could not be looked at ({why}): ephemwork bastion init --live puts it right"),
            Ok(()) if !old.iter().any(|instance| observed.may_serve(instance)) => {
                "the new instance has taken over: ephemwork bastion upgrade --live finishes it".to_owned()
            }
            Ok(()) => return self.step_back(error, &new, &observed).await,
        };
        if let Some(first) = &error.hint {
            hint = format!("{first}\n  {hint}");
        }
        error.hint(hint)
    }

    /// The old instance serves: the new ones go.
    async fn step_back(&self, error: Error, new: &[&Instance], observed: &Observed) -> Error {
        let mut hint = "the old instance serves as before".to_owned();
        for instance in new {
            match self.take_away(instance, observed).await {
                Ok(()) => hint += &format!("; {} is terminated again", instance.id),
                Err(why) => {
                    hint += &format!(
                        "; {} could not be removed ({why}): ephemwork bastion init --live does it",
                        instance.id
                    )
                }
            }
        }
        let hint = match &error.hint {
            Some(first) => format!("{first}\n  {hint}"),
            None => hint,
        };
        error.hint(hint)
    }

    async fn take_away(&self, instance: &Instance, observed: &Observed) -> Result<()> {
        let why = "the upgrade failed".to_owned();
        let mut steps = Vec::new();
        if let (Some(target), Some(group)) = (observed.target(instance), &observed.target_group) {
            steps.push(Step::Deregister {
                target_group: group.arn.clone(),
                ip: target.ip.clone(),
                why: why.clone(),
            });
        }
        let id = instance.id.clone();
        steps.push(Step::Terminate { instance: id, why });
        for step in steps {
            if let Outcome::Later(failure) = apply::apply(&self.look.aws, &self.look.names, &step).await? {
                return Err(Error::from(*failure));
            }
        }
        Ok(())
    }
}

/// The last lines that an instance wrote; `None` when there are none, or they may not be read.
pub async fn console(look: &Look, instance: &str) -> Option<String> {
    let call = ec2::GetConsoleOutput {
        id: instance.to_owned(),
        latest: true,
    };
    // It only adds to a message that is there already.
    let output = look.aws.call(&call).await.ok()?;
    let bytes = base64::decode(&output.base64?)?;
    let text = String::from_utf8_lossy(&bytes);
    let printable = |c: &char| !c.is_control();
    let lines: Vec<String> = text.lines().map(|line| line.chars().filter(printable).collect()).collect();
    let ours: Vec<&String> = lines.iter().filter(|line| line.contains("ephemwork:")).collect();
    let shown: Vec<&String> = if ours.is_empty() {
        lines.iter().filter(|line| !line.trim().is_empty()).collect()
    } else {
        ours
    };
    let last = shown.len().saturating_sub(CONSOLE_LINES);
    let told: Vec<String> = shown[last..].iter().map(|line| format!("    | {line}")).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// Why a wait goes on, as AWS says it.
fn reason(wait: &Wait, observed: &Observed) -> String {
    let state = |id: &String| {
        let found = observed.instances.iter().find(|instance| instance.id == *id);
        found.map_or_else(
            || "AWS does not show it yet".to_owned(),
            |found| format!("it is {}", found.state),
        )
    };
    match wait {
        Wait::Running { instance } | Wait::Stopped { instance } | Wait::Gone { instance } => state(instance),
        Wait::Agent { instance } => {
            let found = observed.instances.iter().find(|one| one.id == *instance);
            match found.and_then(|found| found.agent.as_ref()) {
                Some(agent) => format!("the agent is {}", agent.ping),
                None => "the agent has not been heard of".to_owned(),
            }
        }
        Wait::Boot { .. } => "its boot has reported nothing".to_owned(),
        Wait::Healthy { ip, .. } | Wait::Drained { ip } => {
            let targets = observed.target_group.iter().flat_map(|group| &group.targets);
            match targets.into_iter().find(|target| target.ip == *ip) {
                Some(target) => {
                    let more = [&target.reason, &target.description];
                    let more: Vec<&str> = more.into_iter().flatten().map(String::as_str).collect();
                    match more.is_empty() {
                        true => format!("the target is {}", target.state),
                        false => format!("the target is {} ({})", target.state, more.join(": ")),
                    }
                }
                None => "the target is not registered".to_owned(),
            }
        }
        Wait::EndpointReady { id } | Wait::EndpointGone { id } => {
            let found = observed.endpoints.iter().find(|endpoint| endpoint.id == *id);
            found.map_or_else(
                || "AWS does not show it yet".to_owned(),
                |found| format!("it is {}", found.state),
            )
        }
    }
}
