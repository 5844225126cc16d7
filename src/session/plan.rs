//! What an `up` is to do: names and files become a [`Plan`] in which everything is right, or an error before anything started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::bastion::{Bastion, Ec2};
use super::dotenv;
use super::home::Home;
use super::lane::Takeover;
use super::local::Local;
use super::logs::Place;
use super::machine::{Lanes, Restart};
use super::note::Stage;
use crate::config::{self, Config, ServiceConfig, TunnelKind};
use crate::error::{Error, Exit, Result};
use crate::host::{Host, read_text};
use crate::name::{Service, Tag, User};

/// The longest `env_file`, in bytes; a file given by mistake is refused before it costs memory.
const MAX_ENV_FILE: u64 = 1 << 20;

/// Who runs the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// ephemwork, by their commands.
    Us,
    /// Somebody else (`--no-run`).
    Other,
}

/// What the command line chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    pub(crate) runner: Runner,
    pub(crate) restart: Restart,
    pub(crate) takeover: Takeover,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) logs: Place,
    pub(crate) user: User,
    pub(crate) services: Vec<Planned>,
    pub(crate) choices: Choices,
    pub(crate) bastion: Bastion,
    pub(crate) lanes: Lanes,
}

/// One service of it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) tag: Tag,
    pub(crate) config: ServiceConfig,
    /// The commands to run, in their order.
    pub(crate) stages: Vec<Stage>,
    /// The whole environment of its commands.
    pub(crate) environment: BTreeMap<OsString, OsString>,
}

impl Plan {
    pub(crate) fn make(host: &Host, home: &Home, config: Config, user: User, names: &[String], choices: Choices) -> Result<Plan> {
        let mut services = Vec::new();
        for service in chosen(&config, names)? {
            let tag = Tag::new(user.clone(), service.clone());
            services.push(planned(host, tag, &config.services[&service], choices.runner, &config.file)?);
        }
        let lanes = match (config.tunnel.kind, config.tunnel.way.lanes) {
            // On one machine nothing is won by more.
            (TunnelKind::Local, None) => Lanes::fixed(1),
            (TunnelKind::Ec2, None) | (_, Some(config::Lanes::Auto)) => Lanes::AUTO,
            (_, Some(config::Lanes::Fixed(count))) => Lanes::fixed(count as usize),
        };
        let bastion = match config.tunnel.kind {
            TunnelKind::Local => {
                let (listen, staging) = (config.tunnel.listen, config.tunnel.staging_url.clone());
                Bastion::Local(Box::new(Local::new(host, home, &user, listen, staging)?))
            }
            TunnelKind::Ec2 => Bastion::Ec2(Ec2::new(host, home, &user, &config, None)?),
        };
        Ok(Plan {
            logs: Place::of(home, &config.file),
            config,
            home: home.clone(),
            user,
            services,
            choices,
            bastion,
            lanes,
        })
    }
}

/// The services that were named, each once.
fn chosen(config: &Config, names: &[String]) -> Result<Vec<Service>> {
    let all: Vec<&str> = config.services.keys().map(Service::as_str).collect();
    let listed = match all.is_empty() {
        true => "it has no [service.NAME] yet".to_owned(),
        false => format!("it has: {}", all.join(", ")),
    };
    let first = match all.first() {
        Some(first) => format!("ephemwork up {first}"),
        None => format!(
            "write one into {}; an example: ephemwork init --stdout",
            config.file.display()
        ),
    };
    let mut found: Vec<Service> = Vec::new();
    for name in names {
        let known = Service::parse(name)
            .ok()
            .filter(|service| config.services.contains_key(service));
        let Some(service) = known else {
            let error = Error::new(
                Exit::Usage,
                format!("there is no service {name:?} in {}", config.file.display()),
            );
            return Err(match config::nearest(name, &all) {
                Some(near) => error.because(listed).hint(format!("did you mean: ephemwork up {near}")),
                None => error.because(listed).hint(first),
            });
        };
        if !found.contains(&service) {
            found.push(service);
        }
    }
    if found.is_empty() {
        return Err(Error::new(Exit::Usage, "no service is named").because(listed).hint(first));
    }
    Ok(found)
}

fn planned(host: &Host, tag: Tag, config: &ServiceConfig, runner: Runner, file: &Path) -> Result<Planned> {
    let service = &tag.service;
    if runner == Runner::Other {
        return Ok(Planned {
            config: config.clone(),
            stages: Vec::new(),
            environment: BTreeMap::new(),
            tag,
        });
    }
    if config.run_command.is_none() {
        return Err(Error::new(
            Exit::Config,
            format!("service {service} has no run_command in {}", file.display()),
        )
        .hint(format!(
            "add one to [service.{service}], or start the service yourself and: ephemwork up {service} --no-run"
        )));
    }
    if !config.working_directory.is_dir() {
        return Err(Error::new(
            Exit::Config,
            format!("the working_directory of service {service} is not there"),
        )
        .because(config.working_directory.display())
        .hint(format!(
            "correct working_directory in [service.{service}] of {}",
            file.display()
        )));
    }
    let commands = [
        (Stage::Bootstrap, &config.bootstrap_command),
        (Stage::Build, &config.build_command),
        (Stage::Run, &config.run_command),
    ];
    let stages = commands
        .iter()
        .filter(|(_, command)| command.is_some())
        .map(|(stage, _)| *stage)
        .collect();
    let mut environment = host.environment.clone();
    // Python keeps lines that go into a pipe to itself; people want them when they are printed.
    environment.entry("PYTHONUNBUFFERED".into()).or_insert_with(|| "1".into());
    if let Some(path) = &config.env_file {
        environment.extend(
            env_file(path, service)?
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
    }
    environment.extend(config.env.iter().map(|(name, value)| (name.into(), value.into())));
    environment.insert("PORT".into(), config.port.to_string().into());
    environment.insert("EPHEMWORK_TAG".into(), tag.to_string().into());
    Ok(Planned {
        config: config.clone(),
        stages,
        environment,
        tag,
    })
}

fn env_file(path: &Path, service: &Service) -> Result<Vec<(String, String)>> {
    let failed = |why: String| {
        Error::new(Exit::Config, format!("the env_file of service {service} cannot be used"))
            .because(format_args!("{}: {why}", path.display()))
            .hint(format!("correct the file, or env_file in [service.{service}]"))
    };
    let text = read_text(path, MAX_ENV_FILE).map_err(|why| failed(why.to_string()))?;
    dotenv::parse(&text).map_err(failed)
}

impl Planned {
    /// The command of a stage.
    pub(crate) fn command(&self, stage: Stage) -> &str {
        let command = match stage {
            Stage::Bootstrap => &self.config.bootstrap_command,
            Stage::Build => &self.config.build_command,
            Stage::Run => &self.config.run_command,
        };
        command.as_deref().unwrap_or_default()
    }
}
