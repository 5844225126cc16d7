//! `ephemwork down`: asks running `up`s to end, and waits until they have.

use std::time::{Duration, Instant};

use argh::FromArgs;
use http::Method;
use serde_json::json;

use super::say::{self, Form};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::Service;
use crate::rt;
use crate::session::control::{self, Status};
use crate::session::home::Home;
use crate::session::orphans::{self, Swept};
use crate::session::records::{Records, Up};
use crate::session::{bastion, local, socket};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(30);
/// How often a person is told that it is still awaited.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long is waited: the longest stop_timeout_seconds, and what a release may take.
const PATIENCE: Duration = Duration::from_secs(3600 + 60);

/// End running services of this machine and give their tags back.
#[derive(FromArgs)]
#[argh(subcommand, name = "down", example = "{command_name}", example = "{command_name} api")]
pub(super) struct Arguments {
    /// services to end; without any, everything
    #[argh(positional, arg_name = "service")]
    services: Vec<String>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let home = Home::open(host)?;
    super::block_on(async {
        let form = Form::of(arguments.json);
        let records = Records::of(&home);
        let killed = killed(&records).await?;
        let Swept { ended: swept, warnings } = orphans::sweep(&records, &home).await?;
        warnings.iter().for_each(|text| say::warn(&format!("warning: {text}\n")));
        give_back(&home, &killed).await;
        // What they left at AWS is said like what they left here, and not as services.
        bastion::sweep(host, &records)
            .await
            .iter()
            .for_each(|text| say::warn(&format!("{text}\n")));
        let mut ended = Vec::new();
        let running = control::running(&records).await?;
        let silent = records.ups().await?.into_iter().find(|up| {
            let meant = arguments.services.is_empty()
                || up
                    .tags
                    .iter()
                    .any(|tag| arguments.services.iter().any(|name| tag.ends_with(&format!(":{name}"))));
            meant && running.iter().all(|(known, _)| known.process.pid != up.process.pid)
        });
        for (up, status) in running {
            let services = affected(&status, &arguments.services);
            if services.is_empty() {
                continue;
            }
            let asked = if arguments.services.is_empty() {
                Vec::new()
            } else {
                services.clone()
            };
            control::down(&up.socket, &asked).await.map_err(|why| {
                Error::new(Exit::Bug, format!("process {} does not take `down`", up.process.pid))
                    .because(why)
                    .hint(format!("kill {}", up.process.pid))
            })?;
            wait(&up, &services, form).await?;
            ended.extend(services);
        }
        if let Some(up) = silent
            && up.process.lives()
        {
            return Err(Error::new(
                Exit::Bug,
                format!(
                    "process {} is up with {} and does not answer",
                    up.process.pid,
                    up.tags.join(", ")
                ),
            )
            .because(format_args!("nothing answers at {}", up.socket.display()))
            .hint(format!("kill {}", up.process.pid)));
        }
        match form {
            Form::Json => {
                let not_up: Vec<&String> = was_not_up(&arguments.services, &ended, &swept).collect();
                say::object(&json!({ "version": 1, "ended": ended, "cleaned": swept, "not_up": not_up, "warnings": warnings }));
            }
            Form::Human => say::out(&report(host, &arguments.services, &ended, &swept)),
        }
        Ok(Exit::Fine)
    })
}

/// The tags of `up`s that were killed.
async fn killed(records: &Records) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for up in records.ups().await? {
        let process = up.process.clone();
        if !rt::unblock(move || process.lives()).await {
            tags.extend(up.tags);
        }
    }
    Ok(tags)
}

/// Gives back the tags of killed `up`s, so that requests for them are told at once that nobody serves them. Where it does not
/// work the lease does the same a minute later.
async fn give_back(home: &Home, tags: &[String]) {
    if tags.is_empty() {
        return;
    }
    for directory in home.locals() {
        let Some(ready) = local::serving(&directory).await else {
            continue;
        };
        for tag in tags {
            let body = json!({ "service": tag });
            socket::call(&ready.control, Method::POST, "/v1/release", Some(body))
                .await
                .ok();
        }
    }
}

/// The services of an `up` that are meant and not ended yet.
fn affected(status: &Status, names: &[String]) -> Vec<String> {
    let meant = |name: &String| names.is_empty() || names.contains(name);
    let running = status.services.iter().filter(|service| service.state != "stopped");
    running.map(|service| service.service.clone()).filter(meant).collect()
}

/// Waits until these services of it are gone, or it is.
async fn wait(up: &Up, services: &[String], form: Form) -> Result<()> {
    let begun = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        let process = up.process.clone();
        if !rt::unblock(move || process.lives()).await {
            return Ok(());
        }
        let left = match control::status(&up.socket).await {
            Some(status) => affected(&status, services),
            // It is about to end.
            None => services.to_vec(),
        };
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Err(
                Error::new(Exit::Service, format!("{} did not end", left.join(", "))).hint(format!("kill {}", up.process.pid))
            );
        }
        if begun.elapsed() >= told + PROGRESS && form == Form::Human {
            told = begun.elapsed();
            say::out(&format!("waiting for {} to end, {}\n", left.join(", "), say::time(told)));
        }
        rt::sleep(LOOK).await;
    }
}

/// The names that were given and meant nothing.
fn was_not_up<'a>(asked: &'a [String], ended: &[String], swept: &[String]) -> impl Iterator<Item = &'a String> {
    asked.iter().filter(|name| !ended.contains(name) && !swept.contains(name))
}

fn report(host: &Host, asked: &[String], ended: &[String], swept: &[String]) -> String {
    // Where there is none, or a wrong one, the names are of another project.
    let config = super::load(host).ok();
    let mut text = String::new();
    for service in swept {
        text += &format!("ended what a killed up had left running of {service}\n");
    }
    for service in was_not_up(asked, ended, swept) {
        let known = config.as_ref().filter(|config| {
            let mut names = config.services.keys().map(Service::as_str);
            !names.any(|name| name == service)
        });
        let has = known.map(|config| {
            let names: Vec<&str> = config.services.keys().map(Service::as_str).collect();
            format!(" ({} has: {})", config.file.display(), names.join(", "))
        });
        text += &format!("{service} was not up{}\n", has.unwrap_or_default());
    }
    for service in ended {
        text += &format!("{service} is down\n");
    }
    if text.is_empty() {
        text += "nothing was up\n";
    }
    text
}
