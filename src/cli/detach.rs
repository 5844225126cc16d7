//! `up --detach`: another of this program does the work in a session of its own; this one shows what it prints until it is ready or failed.

use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};

use crate::config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::rt::{self, Signal};
use crate::session::home::Home;
use crate::session::logs::{self, Place};
use crate::session::mark;
use crate::session::system::Process;

use super::say;

/// Set for the one in the background.
const VARIABLE: &str = "EPHEMWORK_DETACHED";
/// What the one in the background prints when everything is ready. Marks begin with a NUL byte, which no other text of it has.
pub(super) const READY: &str = "\0r";
/// What follows is for stderr.
pub(super) const ERR: &str = "\0e";
/// What follows is for stdout again.
pub(super) const OUT: &str = "\0o";
/// What is read at once, in bytes.
const BUFFER: usize = 16 * 1024;
/// How many pieces of output wait to be shown.
const QUEUE: usize = 16;

/// Whether this process is the one in the background.
pub(super) fn is_detached(host: &Host) -> bool {
    host.variable(VARIABLE).is_some()
}

/// In the background: leaves the terminal. Returns the host as the services are to see it.
pub(super) fn begin(host: &Host) -> Option<Host> {
    let mut own = is_detached(host).then(|| host.clone())?;
    own.environment.remove(std::ffi::OsStr::new(VARIABLE));
    // It fails only for a process that leads a group already, which no terminal signals either.
    rustix::process::setsid().ok();
    Some(own)
}

/// In the foreground.
pub(super) async fn run(host: &Host) -> Result<Exit> {
    let mut signals = super::up::signals()?;
    let home = Home::open(host)?;
    let failed = |why: std::io::Error| Error::new(Exit::Bug, "ephemwork cannot be started in the background").because(why);
    // Without an ephemwork.toml the one in the background says so itself.
    let file = config::find(&host.directory, |path| path.is_file()).unwrap_or_else(|| host.directory.join(config::FILE));
    let place = Place::of(&home, &file);
    let log = place
        .make(&file)
        .and_then(|()| logs::anew(&place.detached()))
        .map_err(failed)?;
    let mut child = Command::new(&host.executable)
        .args(&host.arguments)
        .env_clear()
        .envs(&host.environment)
        // It outlives whoever started it, also a service's command.
        .env_remove(mark::NAME)
        .env(VARIABLE, "1")
        .current_dir(&host.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let background = Process::of(child.id());
    let output = child
        .stdout
        .take()
        .ok_or_else(|| Error::new(Exit::Bug, "a pipe is missing"))?;
    let (send, pieces) = smol::channel::bounded(QUEUE);
    std::thread::Builder::new()
        .name("background".to_owned())
        .spawn(move || relay(output, &send))
        .map_err(failed)?;
    let mut relayed = Relayed::default();
    loop {
        let piece = async { Ok(pieces.recv().await) };
        let signal = async { Err(signals.next().await) };
        match smol::future::or(piece, signal).await {
            Ok(Ok(piece)) => {
                for shown in relayed.take(&piece) {
                    match shown {
                        Shown::Out(text) => say::out(&text),
                        Shown::Err(text) => say::warn(&text),
                        Shown::Ready => return Ok(Exit::Fine),
                    }
                }
            }
            // The end of the output without a mark: it has failed, and has said why.
            Ok(Err(_)) => break,
            Err(signal) => {
                let number = match signal {
                    Signal::Interrupt => rustix::process::Signal::INT,
                    Signal::Terminate | Signal::Hangup => rustix::process::Signal::TERM,
                };
                background.iter().for_each(|process| process.signal(number));
            }
        }
    }
    let status = rt::unblock(move || child.wait()).await.map_err(failed)?;
    Ok(match status.code() {
        // Fine for itself, but whoever waits was promised that everything is ready.
        Some(0) => {
            let what = "`ephemwork down` ended it before everything was ready";
            return Err(Error::new(Exit::Interrupted, what));
        }
        Some(code) => exit_of(code),
        None => {
            return Err(
                Error::new(Exit::Bug, format!("the one in the background ended with {status}"))
                    .hint(format!("its log: {}", place.detached().display())),
            );
        }
    })
}

/// The output of the one in the background on its way to stdout and stderr.
#[derive(Default)]
struct Relayed {
    /// What waits for its rest: a mark or a character that is cut.
    kept: Vec<u8>,
    err: bool,
}

#[derive(Debug, PartialEq)]
enum Shown {
    Out(String),
    Err(String),
    Ready,
}

impl Relayed {
    fn take(&mut self, piece: &[u8]) -> Vec<Shown> {
        self.kept.extend_from_slice(piece);
        let mut shown = Vec::new();
        loop {
            let mark = memchr::memchr(0, &self.kept);
            let end = mark.unwrap_or_else(|| whole(&self.kept));
            let text: Vec<u8> = self.kept.drain(..end).collect();
            if !text.is_empty() {
                let text = String::from_utf8_lossy(&text).into_owned();
                shown.push(if self.err { Shown::Err(text) } else { Shown::Out(text) });
            }
            if mark.is_none() || self.kept.len() < READY.len() {
                return shown;
            }
            let mark: Vec<u8> = self.kept.drain(..READY.len()).collect();
            match mark.as_slice() {
                mark if mark == READY.as_bytes() => shown.push(Shown::Ready),
                mark => self.err = mark == ERR.as_bytes(),
            }
        }
    }
}

/// How much of it ends with a whole character.
fn whole(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

fn relay(mut output: ChildStdout, send: &smol::channel::Sender<Vec<u8>>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        // Closed when ready; the pipe then ends with this process.
        if send.send_blocking(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}

fn exit_of(code: i32) -> Exit {
    let all = [
        Exit::Fine,
        Exit::Usage,
        Exit::Config,
        Exit::Credentials,
        Exit::Unreachable,
        Exit::Conflict,
        Exit::Service,
        Exit::Interrupted,
    ];
    all.into_iter().find(|&exit| exit as i32 == code).unwrap_or(Exit::Bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_however_the_output_is_cut() {
        let text = format!("ä one\n{ERR}error: two\n{OUT}three\n{READY}").into_bytes();
        for size in 1..text.len() {
            let mut relayed = Relayed::default();
            let (mut out, mut err, mut ready) = (String::new(), String::new(), 0);
            for shown in text.chunks(size).flat_map(|piece| relayed.take(piece)) {
                match shown {
                    Shown::Out(text) => out += &text,
                    Shown::Err(text) => err += &text,
                    Shown::Ready => ready += 1,
                }
            }
            assert_eq!(
                (out.as_str(), err.as_str(), ready),
                ("ä one\nthree\n", "error: two\n", 1),
                "{size}"
            );
        }
    }
}
