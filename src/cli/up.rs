//! `ephemwork up`: arguments and files become a plan, the session runs it, the screen shows it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use argh::FromArgs;

use super::detach;
use super::say::{self, Form, Screen};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::rt::{self, Signals};
use crate::session::home::Home;
use crate::session::note::Note;
use crate::session::plan::{Choices, Plan, Runner};
use crate::session::records::Records;
use crate::session::{self, Outcome, Restart, Said, Show, Takeover, bastion, identity};

/// Run services of ephemwork.toml on this machine and let the requests that carry their header come here.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "up",
    example = "{command_name} api",
    example = "{command_name} api front-end --restart on-failure",
    example = "{command_name} api --no-run",
    note = "Ctrl-C stops the services and gives the tags back; a second one does not wait for them."
)]
pub(super) struct Arguments {
    /// names of [service.NAME] in ephemwork.toml
    #[argh(positional, arg_name = "service")]
    services: Vec<String>,
    /// only tunnel to services that already run, in a debugger for example
    #[argh(switch)]
    no_run: bool,
    /// take the tags from another machine of yours that has them
    #[argh(switch)]
    takeover: bool,
    /// go on in the background once everything is ready
    #[argh(switch, short = 'd')]
    detach: bool,
    /// when a service is started again: on-failure, or never (the default)
    #[argh(option, default = "Restart::Never", from_str_fn(restart))]
    restart: Restart,
    /// print one JSON object when ready, or the error
    #[argh(switch)]
    json: bool,
}

fn restart(text: &str) -> std::result::Result<Restart, String> {
    match text {
        "never" => Ok(Restart::Never),
        "on-failure" => Ok(Restart::OnFailure),
        _ => Err(format!("{text:?} is neither `on-failure` nor `never`")),
    }
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    if arguments.detach && !detach::is_detached(host) {
        return super::block_on(detach::run(host));
    }
    let form = Form::of(arguments.json);
    let detached = detach::begin(host);
    let ended = super::block_on(foreground(host, detached.as_ref(), &arguments, form));
    match ended {
        // stderr is the log; whoever waits reads stdout.
        Err(error) if detached.is_some() && form == Form::Human => {
            say::out(&format!("{}{}{}", detach::ERR, say::failure_text(&error), detach::OUT));
            Ok(say::failure(&error, form))
        }
        other => other,
    }
}

async fn foreground(host: &Host, detached: Option<&Host>, arguments: &Arguments, form: Form) -> Result<Exit> {
    // Armed before anything else, so that Ctrl-C counts from now on.
    let mut signals = signals()?;
    let plan = plan(detached.unwrap_or(host), arguments)?;
    let copy = match &detached {
        Some(_) => Some(
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(plan.logs.detached()),
        ),
        None => None,
    };
    // Without its log a detached `up` still works.
    let copy = copy.and_then(std::io::Result::ok);
    let screen = Screen::new(&plan, form, host.colour(), copy)
        .map_err(|why| Error::new(Exit::Bug, "the system refuses a thread").because(why))?;
    let screen = Arc::new(screen);
    let shown = screen.clone();
    let mark = detached.is_some();
    let show: Show = Arc::new(move |said: Said| {
        let ready = matches!(said, Said::Ready(_));
        shown.show(said);
        if ready && mark {
            shown.text(detach::READY);
        }
    });
    let sweeping = sweep(host, &plan.home, show.clone());
    let outcome = session::run(plan, &mut signals, show).await;
    drop(sweeping);
    let exit = match &outcome {
        Outcome::Fine => Exit::Fine,
        Outcome::Interrupted => Exit::Interrupted,
        Outcome::Failed(error) => {
            screen.failure(error);
            error.exit
        }
    };
    screen.finish();
    Ok(exit)
}

/// Ends at AWS what a killed `up` left there, beside everything else.
fn sweep(host: &Host, home: &Home, show: Show) -> rt::Task<()> {
    let (host, records) = (host.clone(), Records::of(home));
    rt::spawn(async move {
        for text in bastion::sweep(&host, &records).await {
            show(Said::Note(Note::Waits(text)));
        }
    })
}

pub(super) fn signals() -> Result<Signals> {
    Signals::new().map_err(|why| Error::new(Exit::Bug, "the system refuses signal handlers").because(why))
}

fn plan(host: &Host, arguments: &Arguments) -> Result<Plan> {
    let config = super::load(host)?;
    let choices = Choices {
        runner: if arguments.no_run { Runner::Other } else { Runner::Us },
        restart: arguments.restart,
        takeover: if arguments.takeover { Takeover::Yes } else { Takeover::No },
    };
    let user = identity::user(host)?;
    Plan::make(host, &Home::open(host)?, config, user, &arguments.services, choices)
}
