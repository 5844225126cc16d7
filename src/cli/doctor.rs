//! `ephemwork doctor`: looks at everything between this machine and the bastion, and says for each what repairs it.

mod clock;
mod transports;

use std::time::{SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use serde_json::json;

use super::say::{self, Form};
use crate::aws::NO_REGION;
use crate::config::TunnelKind;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::provision::observed::Observed;
use crate::provision::wanted::Wanted;
use crate::provision::{command, settle, status};
use crate::rt::Instant;
use crate::session::identity;

/// Check this machine, the AWS account and the bastion; each line with its repair.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "doctor",
    example = "{command_name}",
    example = "{command_name} --transport",
    example = "{command_name} --json"
)]
pub(super) struct Arguments {
    /// open each transport to the bastion, and measure it
    #[argh(switch)]
    transport: bool,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    fn as_str(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Fail => "fail",
        }
    }
}

/// One line.
struct Check {
    name: &'static str,
    grade: Grade,
    what: String,
    repair: Option<String>,
}

/// Lines, as they come.
struct Report {
    form: Form,
    checks: Vec<Check>,
    exit: Exit,
}

impl Report {
    fn add(&mut self, name: &'static str, grade: Grade, what: impl Into<String>, repair: Option<String>) {
        let check = Check {
            name,
            grade,
            what: what.into(),
            repair,
        };
        if self.form == Form::Human {
            say::out(&format!("{:4}  {:12} {}\n", grade.as_str(), name, check.what));
            if let Some(repair) = &check.repair {
                say::out(&format!(
                    "                   {}\n",
                    repair.replace('\n', "\n                   ")
                ));
            }
        }
        self.checks.push(check);
    }

    fn ok(&mut self, name: &'static str, what: impl Into<String>) {
        self.add(name, Grade::Ok, what, None);
    }

    fn fail(&mut self, name: &'static str, error: &Error) {
        let why = error.why.as_ref().map(|why| format!(": {}", why.trim())).unwrap_or_default();
        self.add(name, Grade::Fail, format!("{}{why}", error.what), error.hint.clone());
        if self.exit == Exit::Fine {
            self.exit = error.exit;
        }
    }

    fn end(self) -> Exit {
        if self.form == Form::Json {
            let check = |check: &Check| json!({ "name": check.name, "grade": check.grade.as_str(), "what": check.what, "repair": check.repair });
            let checks: Vec<_> = self.checks.iter().map(check).collect();
            say::object(&json!({ "version": 1, "fine": self.exit == Exit::Fine, "checks": checks }));
        }
        self.exit
    }
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let mut report = Report {
        form: Form::of(arguments.json),
        checks: Vec::new(),
        exit: Exit::Fine,
    };
    match identity::user(host) {
        Ok(user) => report.ok("user", user.to_string()),
        Err(error) => report.fail("user", &error),
    }
    let config = match super::load(host) {
        Ok(config) => config,
        Err(error) => {
            report.fail("config", &error);
            return Ok(report.end());
        }
    };
    report.ok(
        "config",
        format!(
            "{}, {}",
            config.file.display(),
            say::count(config.services.len() as u64, "service")
        ),
    );
    let asked = config.tunnel.kind == TunnelKind::Ec2 || arguments.profile.is_some() || arguments.region.is_some();
    if !asked && config.bastion == Default::default() {
        report.ok("tunnel", "local; nothing in AWS is needed");
        return Ok(report.end());
    }
    let wanted = super::bastion::wanted(&config, arguments.region.as_deref())?;
    super::block_on(async {
        account(host, &wanted, arguments.profile.as_deref(), &mut report).await;
        if arguments.transport {
            let mut config = config;
            config.tunnel.aws.region = wanted.region.or(config.tunnel.aws.region);
            transports::measure(host, &config, arguments.profile.as_deref(), &mut report).await;
        }
        Ok(report.end())
    })
}

async fn account(host: &Host, wanted: &Wanted, profile: Option<&str>, report: &mut Report) {
    let aws = match command::open(host, wanted, profile).await {
        Ok(aws) => aws,
        Err(error) if error.what == NO_REGION => return report.fail("region", &error),
        Err(error) => return report.fail("credentials", &error),
    };
    report.ok("region", aws.region());
    let begun = Instant::now();
    let caller = match settle::caller(&aws, wanted).await {
        Ok(caller) => caller,
        Err(error) => return report.fail("credentials", &error),
    };
    report.ok(
        "credentials",
        format!("{}, answered in {}", caller.arn, say::time(begun.elapsed())),
    );
    let (grade, what, repair) = clock::check(caller.date, now());
    report.add("clock", grade, what, repair);
    let status = status::status(host, &aws, wanted, now()).await;
    let missing = match &status {
        Ok(status) => status.missing.clone(),
        // Maybe just because a right is missing.
        Err(_) => status::missing(&aws, &caller, wanted, &Observed::default()).await,
    };
    match missing {
        Ok(missing) if missing.is_empty() => report.ok("rights", "all that the bastion commands need"),
        Ok(missing) => report.add(
            "rights",
            Grade::Warn,
            format!("no right to {}", missing.join(", ")),
            Some("only who makes bastions needs them all: ephemwork bastion policy admin".to_owned()),
        ),
        Err(why) => report.add("rights", Grade::Warn, format!("not known: {why}"), None),
    }
    match status {
        Ok(status) => bastion(&status, report),
        Err(error) => report.fail("bastion", &error),
    }
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn bastion(status: &status::Status, report: &mut Report) {
    let init = || Some("ephemwork bastion init --live".to_owned());
    let observed: &Observed = &status.observed;
    let there: Vec<_> = observed.instances.iter().filter(|instance| instance.stays()).collect();
    if there.is_empty() {
        let what = format!("there is none for project {:?} in {}", status.project, status.region);
        report.fail(
            "bastion",
            &Error::new(Exit::Unreachable, what).hint("make one: ephemwork bastion init"),
        );
    }
    for instance in there {
        let running = instance.state == "running";
        let what = format!("{} is {}", instance.id, instance.state);
        let grade = if running { Grade::Ok } else { Grade::Fail };
        report.add("bastion", grade, what, if running { None } else { init() });
        let online = observed.online(instance);
        let told = instance
            .agent
            .as_ref()
            .map_or("it has not been heard of", |agent| agent.ping.as_str());
        let repair = "the subnet must reach Systems Manager through a NAT or the VPC endpoints ssm, ssmmessages and ec2messages";
        let grade = if online { Grade::Ok } else { Grade::Fail };
        report.add("agent", grade, told, (!online).then(|| repair.to_owned()));
        if let Some(target) = observed.target(instance) {
            let healthy = target.state == "healthy";
            let why = [&target.reason, &target.description]
                .into_iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(": ");
            let what = if why.is_empty() {
                target.state.clone()
            } else {
                format!("{} ({why})", target.state)
            };
            let grade = if healthy { Grade::Ok } else { Grade::Fail };
            report.add("target", grade, what, if healthy { None } else { init() });
        }
        if report.exit == Exit::Fine && report.checks.iter().any(|check| check.grade == Grade::Fail) {
            report.exit = Exit::Unreachable;
        }
    }
    match &status.drift {
        // Of a bastion that is not there nothing is as it should be.
        Ok(drift) if drift.is_empty() && !status.there() => {}
        Ok(drift) if drift.is_empty() => report.ok("drift", "everything is as it should be, the listener's rules too"),
        Ok(drift) => drift.iter().for_each(|step| report.add("drift", Grade::Warn, step, init())),
        Err(why) => report.add("drift", Grade::Warn, format!("not known: {why}"), None),
    }
    for note in &status.notes {
        report.add("note", Grade::Warn, note, None);
    }
    for newer in &status.newer {
        let repair = Some("ephemwork bastion upgrade".to_owned());
        report.add("newer", Grade::Warn, newer, repair);
    }
}
