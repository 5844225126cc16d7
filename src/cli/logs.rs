//! `ephemwork logs`: what a service printed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use argh::FromArgs;

use super::say;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::Service;
use crate::rt;
use crate::session::home::Home;
use crate::session::logs;

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
    let path = home.log(&service);
    if !path.exists() {
        let error = Error::new(Exit::Usage, format!("there is no log of service {service}"));
        let known = known(&home);
        return Err(match known.is_empty() {
            true => error.hint(format!("logs begin with: ephemwork up {service}")),
            false => error
                .because(format_args!("there are logs of {}", known.join(", ")))
                .hint(format!("ephemwork logs {}", known[0])),
        });
    }
    // What moved away when the log was full comes first.
    let old = logs::old(&path);
    super::block_on(async {
        if old.exists() {
            show(&mut open(&old)?)?;
        }
        let mut file = open(&path)?;
        show(&mut file)?;
        if !arguments.follow {
            return Ok(Exit::Fine);
        }
        loop {
            rt::sleep(LOOK).await;
            show(&mut file)?;
            // The log has moved away, or was emptied.
            if let (Ok(own), Ok(now)) = (file.metadata(), std::fs::metadata(&path))
                && (own.ino() != now.ino() || now.len() < file.stream_position().unwrap_or_default())
            {
                show(&mut file)?;
                file = open(&path)?;
            }
        }
    })
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|why| Error::new(Exit::Bug, format!("{} cannot be read", path.display())).because(why))
}

/// Prints everything from where the file stands.
fn show(file: &mut File) -> Result<()> {
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
                .map(drop)
                .map_err(|why| Error::new(Exit::Bug, "the log cannot be read").because(why));
        }
        let filled = kept + count;
        let whole = match std::str::from_utf8(&buffer[..filled]) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => filled,
        };
        say::out(&String::from_utf8_lossy(&buffer[..whole]));
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

/// The services that have a log.
fn known(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.root().join("logs")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    names.sort();
    names
}
