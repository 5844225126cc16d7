//! What the programs write about themselves, to stderr: for people, for journald, or as JSON; and what never gets there.
//!
//! A field whose name says that it is secret is printed as `…`, and control characters are escaped, so that nothing
//! a peer sends can forge a line. The level comes from `EPHEMWORK_LOG`, as in `debug` or `warn,ephemwork::bastiond=trace`.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
pub use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::{Error, Exit, Result};

/// The variable with the level.
pub const VARIABLE: &str = "EPHEMWORK_LOG";

/// The target of the audit's entries, whose message is one JSON object: `{"audit": ..}`. They are written at every level.
pub const AUDIT: &str = "audit";

/// Parts of field names whose values are never printed.
const SECRET: [&str; 6] = ["token", "secret", "password", "authorization", "private", "cookie"];

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-22T10:00:00.000Z  INFO what happened key=value`, coloured on a terminal.
    Text,
    /// `<6>what happened key=value`: journald adds the time and reads the priority (sd-daemon(3)).
    Journal,
    /// One object a line: `time`, `level`, `target`, `message`, and the fields.
    Json,
}

impl Format {
    /// The names of `--log-format`.
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "journal" => Ok(Format::Journal),
            "json" => Ok(Format::Json),
            _ => Err(format!("{text:?} is not a format; use text, journal or json")),
        }
    }
}

/// Begins to log. `level` is the value of [`VARIABLE`]; without it `default` counts.
///
/// # Errors
/// The level cannot be read, or logging began before.
pub fn init(format: Format, level: Option<&str>, default: LevelFilter, colour: bool) -> Result<()> {
    let targets = match level {
        Some(text) => targets(text).map_err(|why| {
            Error::new(Exit::Config, format!("{VARIABLE}={text:?} is not a log level"))
                .because(why)
                .hint(format!(
                    "use error, warn, info, debug or trace, or a part of the program: {VARIABLE}=warn,ephemwork::bastiond=debug"
                ))
        })?,
        None => Targets::new().with_default(default),
    };
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { format, colour })
        .with_ansi(colour)
        .with_writer(std::io::stderr);
    let told = filter_fn(|about| may_be_told(about.target(), *about.level()));
    let subscriber = tracing_subscriber::registry().with(lines).with(targets).with(told);
    subscriber
        .try_init()
        .map_err(|why| Error::new(Exit::Bug, "logging began twice").because(why))
}

/// Whether anything of this kind is written at all. AWS's crates trace requests and answers whole: signatures, and the tokens of sessions.
fn may_be_told(target: &str, level: Level) -> bool {
    level != Level::TRACE || !target.starts_with("aws_")
}

fn targets(text: &str) -> Result<Targets, String> {
    // A word alone would be read as a part of the program's name, and a mistyped level would switch everything on.
    for word in text.split(',').filter(|part| !part.contains('=')) {
        word.trim()
            .parse::<LevelFilter>()
            .map_err(|_| format!("{word:?} is no level"))?;
    }
    let targets = text.parse::<Targets>().map_err(|why| why.to_string())?;
    Ok(match text.contains("audit=") {
        true => targets,
        false => targets.with_target(AUDIT, LevelFilter::INFO),
    })
}

struct Lines {
    format: Format,
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut found = Fields::default();
        event.record(&mut found);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        writeln!(out, "{}", line(self, level, target, SystemTime::now(), &found))
    }
}

/// An event's message and fields as text.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        let name = field.name();
        if name == "message" {
            self.message = value;
        } else if SECRET.iter().any(|part| name.contains(part)) {
            self.fields.push((name, "…".to_owned()));
        } else {
            self.fields.push((name, value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }
}

fn line(lines: &Lines, level: Level, target: &str, now: SystemTime, found: &Fields) -> String {
    let time = humantime::format_rfc3339_millis(now);
    match lines.format {
        Format::Text | Format::Journal if target == AUDIT => {
            let head = match lines.format {
                Format::Journal => "<5>".to_owned(),
                _ => format!("{time} AUDIT "),
            };
            head + &told(found)
        }
        Format::Text if lines.colour => {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                Level::TRACE => 35,
            };
            format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m {}", told(found))
        }
        Format::Text => format!("{time} {level:>5} {}", told(found)),
        Format::Journal => {
            let priority = match level {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            };
            format!("<{priority}>{}", told(found))
        }
        Format::Json => {
            let mut object = serde_json::Map::new();
            let mut fixed = [
                ("time", time.to_string()),
                ("level", level.to_string()),
                ("target", target.to_owned()),
                ("message", found.message.clone()),
            ];
            if target == AUDIT
                && let Ok(serde_json::Value::Object(entry)) = serde_json::from_str(&found.message)
            {
                object.extend(entry);
                AUDIT.clone_into(&mut fixed[3].1);
            }
            let own = found.fields.iter().map(|(name, value)| (*name, value.clone()));
            object.extend(own.chain(fixed).map(|(name, value)| (name.to_owned(), value.into())));
            serde_json::Value::Object(object).to_string()
        }
    }
}

/// The message and `key=value`s; a value with a space in it is quoted.
fn told(found: &Fields) -> String {
    let mut text = String::new();
    text.push_str(&escaped(&found.message));
    for (name, value) in &found.fields {
        let quote = if value.contains(' ') && !value.starts_with('"') {
            "\""
        } else {
            ""
        };
        text.push_str(&format!(" {name}={quote}"));
        text.push_str(&escaped(value));
        text.push_str(quote);
    }
    text
}

/// A text that a peer chose, so that it cannot begin a line or write on a terminal.
pub fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |format: Format, level: Level, message: &str, fields: &[(&'static str, &str)], expected: &str| {
            let found = Fields {
                message: message.to_owned(),
                fields: fields.iter().map(|&(name, value)| (name, value.to_owned())).collect(),
            };
            let lines = Lines { format, colour: false };
            assert_eq!(line(&lines, level, "ephemwork", SystemTime::UNIX_EPOCH, &found), expected);
        };
        check(
            Format::Text,
            Level::INFO,
            "ready",
            &[("pid", "7")],
            "1970-01-01T00:00:00.000Z  INFO ready pid=7",
        );
        check(
            Format::Journal,
            Level::ERROR,
            "gone",
            &[("why", "no room")],
            "<3>gone why=\"no room\"",
        );
        check(
            Format::Journal,
            Level::WARN,
            "a\n<0>forged",
            &[("host", "x\u{1b}[2J")],
            "<4>a\\n<0>forged host=x\\u{1b}[2J",
        );
        let audit = |format: Format, expected: &str| {
            let found = Fields {
                message: r#"{"audit":{"host":"a b"}}"#.to_owned(),
                fields: Vec::new(),
            };
            let lines = Lines { format, colour: false };
            assert_eq!(line(&lines, Level::INFO, AUDIT, SystemTime::UNIX_EPOCH, &found), expected);
        };
        audit(Format::Text, r#"1970-01-01T00:00:00.000Z AUDIT {"audit":{"host":"a b"}}"#);
        audit(Format::Journal, r#"<5>{"audit":{"host":"a b"}}"#);
        audit(
            Format::Json,
            r#"{"audit":{"host":"a b"},"level":"INFO","message":"audit","target":"audit","time":"1970-01-01T00:00:00.000Z"}"#,
        );
        check(
            Format::Json,
            Level::DEBUG,
            "a \"b\"",
            &[("tag", "alice:api")],
            r#"{"level":"DEBUG","message":"a \"b\"","tag":"alice:api","target":"ephemwork","time":"1970-01-01T00:00:00.000Z"}"#,
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines {
                format: Format::Text,
                colour: false,
            })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(session_token = "hunter2", authorization = ?Some("hunter2"), host = "h", "claimed");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.ends_with("INFO claimed session_token=… authorization=… host=h\n"),
            "{text}"
        );
    }

    #[test]
    fn what_aws_traces_is_not_written() {
        let check =
            |target: &str, level: Level, expected: bool| assert_eq!(may_be_told(target, level), expected, "{target} {level}");
        check("aws_smithy_runtime::client::orchestrator", Level::TRACE, false);
        check("aws_sigv4::http_request::sign", Level::TRACE, false);
        check("aws_smithy_runtime::client::orchestrator", Level::DEBUG, true);
        check("ephemwork::aws::client", Level::TRACE, true);
    }

    #[test]
    fn levels() {
        let check = |text: &str, fine: bool| assert_eq!(targets(text).is_ok(), fine, "{text:?}");
        check("loud", false);
        check("ephemwork=9000", false);
        check("info", true);
        check("DEBUG", true);
        check("warn,ephemwork::bastiond=trace", true);
    }
}
