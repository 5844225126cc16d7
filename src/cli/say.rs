//! The one printer: everything that a person or a program reads from the command line goes through here.
//!
//! Human output goes to stdout, warnings and errors to stderr; with `--json` stdout carries one bare object and the rest goes to
//! stderr. An output that nobody reads any more (EPIPE) is no reason to end or to panic.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::detach::{ERR, OUT};
use crate::config::TunnelKind;
use crate::error::{Error, Exit, short};
use crate::session::Said;
use crate::session::note::{Note, Stage};
use crate::session::plan::{Plan, Runner};

/// What a detached `up` writes to its log at most, in bytes; what its services print stands in their own logs, which are rotated.
const MAX_COPY: usize = 1 << 20;

/// The log's last line then.
const FULL: &str = "(this log is full; the services' own go on: ephemwork logs SERVICE)\n";

/// How many lines of children may wait for a slow terminal before the children wait, too.
const QUEUE: usize = 1024;
/// How long the end of a program waits for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// The colours of services: ANSI's, without red (errors) and those that are hard to read on either background.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 96];

/// Which of the two forms was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Human,
    Json,
}

impl Form {
    pub(crate) fn of(json: bool) -> Form {
        if json { Form::Json } else { Form::Human }
    }
}

/// Writes to stdout; a reader that is gone is fine.
pub(crate) fn out(text: &str) {
    written(text).ok();
}

/// Writes to stdout, for what has no end of its own; an error means that nobody reads any more.
pub(crate) fn written(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Writes to stderr.
pub(crate) fn warn(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// So many of something, as a person says it: "1 request", "2 requests".
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A bare object on a line of its own.
pub(crate) fn object(value: &serde_json::Value) {
    out(&format!("{value:#}\n"));
}

/// Says why the program ends, and gives its exit code.
pub(crate) fn failure(error: &Error, form: Form) -> Exit {
    match form {
        Form::Human => warn(&failure_text(error)),
        Form::Json => object(&failure_object(error)),
    }
    error.exit
}

/// The error as it stands on stderr.
pub(crate) fn failure_text(error: &Error) -> String {
    format!("error: {error}\n")
}

/// The error as `--json` prints it.
pub(crate) fn failure_object(error: &Error) -> serde_json::Value {
    let why = error.why.as_deref().map(|why| short(why.trim()));
    let hint = error.hint.as_deref().map(short);
    json!({ "error": { "what": short(&error.what), "why": why, "hint": hint, "code": error.exit as u8 } })
}

/// A duration as people say it.
pub(crate) fn time(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms @ 10_000..120_000 => format!("{} s", ms / 1000),
        ms @ 120_000..7_200_000 => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms / 3_600_000),
    }
}

/// Prints what a running `up` says, on a thread of its own: a terminal that takes nothing (Ctrl-S, a full pipe) must not stop the tunnel.
pub(crate) struct Screen {
    shared: Arc<Shared>,
    form: Form,
    names: Vec<String>,
    colour: bool,
    ready: String,
    ready_object: serde_json::Value,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    texts: VecDeque<(Stream, String)>,
    /// One is being written.
    writing: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Screen {
    /// `copy` gets everything as well, without colours.
    pub(crate) fn new(plan: &Plan, form: Form, colour: bool, copy: Option<File>) -> io::Result<Screen> {
        let names: Vec<&str> = plan.services.iter().map(|planned| planned.tag.service.as_str()).collect();
        let down = format!("ephemwork down {}", names.join(" "));
        let end = match copy {
            None => format!("{}\n", line("stop", &format!("Ctrl-C, or: {down}"))),
            Some(_) => {
                let first = names.first().copied().unwrap_or_default();
                format!(
                    "{}\n{}\n",
                    line("logs", &format!("ephemwork logs {first} -f")),
                    line("stop", &down)
                )
            }
        };
        Screen::ending(plan, form, colour, copy, &end)
    }

    /// Of the demo, whose directory no other command knows.
    pub(crate) fn demo(plan: &Plan, colour: bool) -> io::Result<Screen> {
        Screen::ending(plan, Form::Human, colour, None, &format!("{}\n", line("stop", "Ctrl-C")))
    }

    fn ending(plan: &Plan, form: Form, colour: bool, copy: Option<File>, end: &str) -> io::Result<Screen> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let ready = closing_block(plan, colour) + end + "\n";
        let printer = shared.clone();
        std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || printer.print(form, copy))?;
        Ok(Screen {
            shared,
            form,
            names: plan.services.iter().map(|planned| planned.tag.service.to_string()).collect(),
            colour,
            ready,
            ready_object: ready_object(plan),
        })
    }

    pub(crate) fn show(&self, said: Said) {
        let (stream, text) = match said {
            Said::Line(service, line) => {
                let text = self.prefixed(service.as_str(), &line);
                let mut queue = self.shared.lock();
                while queue.texts.len() >= QUEUE && !queue.ended {
                    queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                drop(queue);
                (self.human(), text)
            }
            Said::Ready(place) if self.form == Form::Json => {
                let mut object = self.ready_object.clone();
                object["url"] = place.url.into();
                object["through"] = place.through.into();
                (Stream::Out, format!("{object:#}\n"))
            }
            Said::Ready(place) => {
                let through = place.through.unwrap_or_default();
                let text = self.ready.replace("{url}", &place.url.unwrap_or_default());
                (Stream::Out, text.replace("{through}", &through))
            }
            Said::Note(note @ (Note::Warning(_) | Note::Waits(_) | Note::Lost(_) | Note::StillLost(..))) => {
                (Stream::Err, self.note(&note))
            }
            Said::Note(note) => (self.human(), self.note(&note)),
        };
        self.shared.push(stream, text);
    }

    /// Says why it ends.
    pub(crate) fn failure(&self, error: &Error) {
        match self.form {
            Form::Human => self.shared.push(Stream::Err, failure_text(error)),
            Form::Json => self.shared.push(Stream::Out, format!("{:#}\n", failure_object(error))),
        }
    }

    /// A text as it is.
    pub(crate) fn text(&self, text: &str) {
        self.shared.push(Stream::Out, text.to_owned());
    }

    /// Waits until everything is written, but not for ever.
    pub(crate) fn finish(&self) {
        let until = Instant::now() + PATIENCE;
        let mut queue = self.shared.lock();
        while (queue.writing || !queue.texts.is_empty()) && Instant::now() < until {
            let waited = self.shared.changed.wait_timeout(queue, Duration::from_millis(50));
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.ended = true;
        drop(queue);
        self.shared.changed.notify_all();
    }

    fn human(&self) -> Stream {
        if self.form == Form::Json { Stream::Err } else { Stream::Out }
    }

    fn prefixed(&self, service: &str, line: &str) -> String {
        // A NUL byte shows nothing on a terminal, and begins a mark when detached.
        let line = line.replace('\0', "\u{fffd}");
        let width = self.names.iter().map(String::len).max().unwrap_or_default();
        let prefix = format!("{service:width$} | ");
        let index = self.names.iter().position(|name| name == service).unwrap_or_default();
        match self.colour {
            // What a child left switched on must not colour the next line.
            true => format!("\x1b[{}m{prefix}\x1b[0m{line}\x1b[0m\n", COLOURS[index % COLOURS.len()]),
            false => format!("{prefix}{line}\n"),
        }
    }

    fn note(&self, note: &Note) -> String {
        let text = sentence(note);
        match (note, self.colour) {
            (
                Note::Lost(_)
                | Note::StillLost(..)
                | Note::Exited(..)
                | Note::Sick(..)
                | Note::Displaced(..)
                | Note::Outlived(..),
                true,
            ) => {
                format!("\x1b[31m{text}\x1b[0m\n")
            }
            (Note::Reconnected(_), true) => format!("\x1b[32m{text}\x1b[0m\n"),
            (_, true) => format!("\x1b[2m{text}\x1b[0m\n"),
            (_, false) => format!("{text}\n"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stream: Stream, text: String) {
        self.lock().texts.push_back((stream, text));
        self.changed.notify_all();
    }

    fn print(&self, form: Form, mut copy: Option<File>) {
        let mut gone = false;
        let mut copied = 0;
        loop {
            let mut queue = self.lock();
            while queue.texts.is_empty() && !queue.ended {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((stream, text)) = queue.texts.pop_front() else {
                return;
            };
            queue.writing = true;
            drop(queue);
            self.changed.notify_all();
            // In a copy a mark is not for people, and a disk that is full costs the copy only.
            if let Some(file) = copy.as_mut().filter(|_| !text.starts_with('\0') && copied < MAX_COPY) {
                copied += text.len();
                file.write_all(text.as_bytes()).ok();
                if copied >= MAX_COPY {
                    file.write_all(FULL.as_bytes()).ok();
                }
            }
            match stream {
                Stream::Out if gone => {}
                Stream::Out => {
                    let mut stdout = io::stdout().lock();
                    gone = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err();
                }
                Stream::Err if copy.is_some() && form == Form::Human && !gone => {
                    // Detached: stderr is the copy, and whoever waits reads stdout.
                    let mut stdout = io::stdout().lock();
                    let marked = format!("{ERR}{text}{OUT}");
                    gone = stdout.write_all(marked.as_bytes()).and_then(|()| stdout.flush()).is_err();
                }
                Stream::Err if copy.is_some() => {}
                Stream::Err => warn(&text),
            }
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

/// What happened, as a sentence.
fn sentence(note: &Note) -> String {
    match note {
        Note::Stage(service, stage) => match stage {
            Stage::Run => format!("{service}: starting"),
            _ => format!("{service}: {}", stage.key()),
        },
        Note::Preparing(service, stage, so_far) => format!("{service}: {} is running, {}", stage.key(), time(*so_far)),
        Note::Waiting(service, so_far, why) => format!("{service}: waiting for it to be healthy, {}: {why}", time(*so_far)),
        Note::Healthy(service) => format!("{service}: answers"),
        Note::Exited(service, stage, status, again) => {
            let what = match stage {
                Stage::Run => format!("{service}: {}", status.after("ended")),
                _ => format!("{service}: {} {}", stage.key(), status.after("ended")),
            };
            match again {
                Some(wait) => format!("{what}; starting it again in {}", time(*wait)),
                None => what,
            }
        }
        Note::Sick(service, why, wait) => format!("{service}: is not healthy ({why}); starting it again in {}", time(*wait)),
        Note::Ending(service, so_far, most) => {
            format!(
                "{service}: waiting for it to end, {}; it is killed after {}",
                time(*so_far),
                time(*most)
            )
        }
        Note::Connecting => "connecting to the bastion".to_owned(),
        Note::Ready => "ready".to_owned(),
        Note::Lost(why) => format!("connection to the bastion lost: {why}; reconnecting"),
        Note::StillLost(so_far, why) => format!("still no connection to the bastion after {}: {why}", time(*so_far)),
        Note::Reconnected(took) => format!("connected again after {}", time(*took)),
        Note::Draining => "the bastion is about to stop; connecting anew".to_owned(),
        Note::Displaced(service, Some(by)) => format!("{service}: {by} has taken the tag over"),
        Note::Outlived(service, why) => format!("{service}: the bastion ended the session: {why}"),
        Note::Displaced(service, None) => format!("{service}: the bastion's admin released the tag"),
        Note::Down(service) => format!("{service}: asked to end"),
        Note::Stopping => "stopping".to_owned(),
        Note::Waits(text) => text.clone(),
        Note::Warning(text) => format!("warning: {text}"),
    }
}

/// One line of what is printed once everything is ready.
fn line(key: &str, value: &str) -> String {
    format!("  {key:8}  {value}").trim_end().to_owned()
}

/// What is printed once everything is ready; `{url}` stands for the edge.
fn closing_block(plan: &Plan, colour: bool) -> String {
    let bold = |text: &str| {
        if colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let mut lines = vec![String::new()];
    let mut line = |key: &str, value: &str| lines.push(line(key, value));
    line("ready", "");
    for planned in &plan.services {
        line("header", &bold(&format!("{}: {}", crate::name::HEADER_DISPLAY, planned.tag)));
    }
    let remote = plan.config.tunnel.kind == TunnelKind::Ec2;
    if !remote || plan.config.tunnel.staging_url.is_some() {
        line("url", &bold("{url}"));
    }
    if remote {
        line("through", "{through}");
    }
    for planned in &plan.services {
        let runner = if plan.choices.runner == Runner::Us {
            ""
        } else {
            ", which somebody else runs"
        };
        line(
            "here",
            &format!("{} on port {}{runner}", planned.tag.service, planned.config.port),
        );
    }
    match &plan.config.tunnel.staging_url {
        _ if remote => line("else", "staging, for requests without the header"),
        Some(url) => line("else", &format!("{url}, for requests without the header")),
        None => line("else", "404, for requests without the header (see tunnel.staging_url)"),
    }
    if let (true, Some(first), None) = (remote, plan.services.first(), &plan.config.tunnel.staging_url) {
        let header = format!("{}: {}", crate::name::HEADER_DISPLAY, first.tag);
        line(
            "try",
            &format!("curl -H '{header}' STAGING   (tunnel.staging_url would name it here)"),
        );
    } else if let Some(first) = plan.services.first() {
        line(
            "try",
            &format!("curl -H '{}: {}' {{url}}/", crate::name::HEADER_DISPLAY, first.tag),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

fn ready_object(plan: &Plan) -> serde_json::Value {
    let services = plan.services.iter().map(|planned| {
        json!({
            "service": planned.tag.service.as_str(),
            "tag": planned.tag,
            "header": format!("{}: {}", crate::name::HEADER_DISPLAY, planned.tag),
            "port": planned.config.port,
        })
    });
    json!({
        "version": 1,
        "ready": true,
        "pid": std::process::id(),
        "user": plan.user.as_str(),
        "services": services.collect::<Vec<_>>(),
        "staging_url": plan.config.tunnel.staging_url.as_ref().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |ms: u64, expected: &str| assert_eq!(time(Duration::from_millis(ms)), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(1050, "1.0 s");
        check(9_999, "9.9 s");
        check(65_000, "65 s");
        check(150_000, "2 min");
        check(7_200_000, "2 h");
    }
}
