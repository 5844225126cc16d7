//! `ephemwork logs`: what a service printed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

use super::say;
use crate::config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::Service;
use crate::rt;
use crate::session::home::Home;
use crate::session::logs::{self, Place};

/// How often a log is looked at for more.
const LOOK: Duration = Duration::from_millis(150);
/// What is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// Show what a service printed, also while it runs in the background.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "logs",
    example = "{command_name} api",
    example = "{command_name} api -f"
)]
pub(super) struct Arguments {
    /// a service's name
    #[argh(positional)]
    service: String,
    /// go on with what it prints, until Ctrl-C
    #[argh(switch, short = 'f')]
    follow: bool,
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let home = Home::open(host)?;
    let service = Service::parse(&arguments.service)
        .map_err(|why| Error::new(Exit::Usage, format!("{:?} is not a service's name", arguments.service)).because(why))?;
    let path = find(host, &home, &service)?;
    super::block_on(async {
        let mut signals = super::up::signals()?;
        let shown = async {
            // A terminal may take nothing (Ctrl-S); Ctrl-C counts all the same.
            rt::unblock(move || match arguments.follow {
                true => follow(&path),
                false => whole(&path).map(drop),
            })
            .await
            .map(|()| Exit::Fine)
        };
        let interrupted = async {
            signals.next().await;
            Ok(Exit::Interrupted)
        };
        smol::future::or(interrupted, shown).await
    })
}

/// The log of this project's service; from elsewhere that of the only project which has such a service.
fn find(host: &Host, home: &Home, service: &Service) -> Result<PathBuf> {
    let here = config::find(&host.directory, |path| path.is_file()).map(|file| Place::of(home, &file));
    if let Some(place) = &here
        && place.service(service).exists()
    {
        return Ok(place.service(service));
    }
    let all = Place::all(home);
    let mut having = all.iter().filter(|place| place.service(service).exists());
    let error = match (having.next(), having.next(), &here) {
        (Some(only), None, None) => return Ok(only.service(service)),
        (Some(first), _, _) => {
            let projects: Vec<String> = all
                .iter()
                .filter(|place| place.service(service).exists())
                .map(Place::project)
                .collect();
            let what = match here {
                Some(_) => format!("there is no log of service {service} in this project"),
                None => format!("several projects have a log of service {service}"),
            };
            Error::new(Exit::Usage, what)
                .because(format_args!("there is one in {}", projects.join(", ")))
                .hint(format!("cd {} && ephemwork logs {service}", first.project()))
        }
        (None, ..) => {
            let error = Error::new(Exit::Usage, format!("there is no log of service {service}"));
            let known = here.map(|place| place.services()).unwrap_or_default();
            match known.is_empty() {
                true => error.hint(format!("logs begin with: ephemwork up {service}")),
                false => error
                    .because(format_args!("there are logs of {}", known.join(", ")))
                    .hint(format!("ephemwork logs {}", known[0])),
            }
        }
    };
    Err(error)
}

/// Shows what there is; gives the file where it stands, or nothing when nobody reads any more. Blocks.
fn whole(path: &Path) -> Result<Option<File>> {
    // What moved away when the log was full comes first.
    let old = logs::old(path);
    if old.exists() && show(&mut open(&old)?)?.is_break() {
        return Ok(None);
    }
    let mut file = open(path)?;
    Ok(show(&mut file)?.is_continue().then_some(file))
}

/// Goes on until nobody reads any more, also when the log moves away or is emptied. Blocks.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, which writes to the terminal")]
fn follow(path: &Path) -> Result<()> {
    let Some(mut file) = whole(path)? else { return Ok(()) };
    loop {
        std::thread::sleep(LOOK);
        if show(&mut file)?.is_break() {
            return Ok(());
        }
        let (Ok(own), Ok(now)) = (file.metadata(), std::fs::metadata(path)) else {
            // Between its move and the next one's begin.
            continue;
        };
        if own.ino() != now.ino() || now.len() < file.stream_position().unwrap_or_default() {
            if show(&mut file)?.is_break() {
                return Ok(());
            }
            match File::open(path) {
                Ok(next) => file = next,
                Err(why) => tracing::debug!("{}: {why}", path.display()),
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|why| {
        let error = Error::new(Exit::Config, format!("{} cannot be read", path.display())).because(why);
        error.hint(format!("see whose it is: ls -l {}", path.display()))
    })
}

/// Prints everything from where the file stands; breaks off when nobody reads any more (`| head`).
fn show(file: &mut File) -> Result<ControlFlow<()>> {
    let mut buffer = vec![0; BUFFER];
    let mut kept = 0;
    loop {
        let count = file.read(&mut buffer[kept..]);
        let count = count.map_err(|why| Error::new(Exit::Bug, "the log cannot be read").because(why))?;
        if count == 0 {
            // A character whose rest is not written yet is read again.
            let back = i64::try_from(kept).unwrap_or_default();
            return file
                .seek(SeekFrom::Current(-back))
                .map(|_| ControlFlow::Continue(()))
                .map_err(|why| Error::new(Exit::Bug, "the log cannot be read").because(why));
        }
        let filled = kept + count;
        let whole = match std::str::from_utf8(&buffer[..filled]) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => filled,
        };
        if say::written(&String::from_utf8_lossy(&buffer[..whole])).is_err() {
            return Ok(ControlFlow::Break(()));
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}
