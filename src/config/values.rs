//! The values of ephemwork.toml's keys: each is right, or a mistake is noted and the caller gets nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::HostHeader;
use super::aws::BadAws;
use super::keys;
use super::read::{Reader, Value};
use super::url::{StagingUrl, port_number};
use super::{DEFAULT_LISTEN, MAX_PROJECT_NAME, TIMEOUT_SECONDS};

impl Reader<'_> {
    pub(super) fn table<'v, 't>(&mut self, name: &str, value: &'v Value<'t>, hint: &str) -> Option<&'v DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let what = format!("{name:?} must be a table, found {}", kind_of(value));
            self.wrong(value.span(), what, Some(hint.into()));
        }
        table
    }

    pub(super) fn text<'v>(&mut self, name: &str, place: &str, value: &'v Value<'_>) -> Option<&'v str> {
        let DeValue::String(text) = value.get_ref() else {
            let what = format!("{name:?} in {place} must be text, found {}", kind_of(value));
            self.wrong(value.span(), what, Some("write it in quotes, on one line".into()));
            return None;
        };
        if text.contains('\0') {
            self.wrong(value.span(), format!("{name:?} in {place} contains a NUL character"), None);
            return None;
        }
        if text.trim().is_empty() {
            let what = format!("{name:?} in {place} is empty");
            self.wrong(value.span(), what, Some("leave the key out instead".into()));
            return None;
        }
        Some(text)
    }

    pub(super) fn command(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<String> {
        self.text(name, place, value).map(str::to_owned)
    }

    pub(super) fn number(&mut self, name: &str, place: &str, value: &Value<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value.get_ref() else {
            let what = format!("{name:?} in {place} must be {wanted}, found {}", kind_of(value));
            let bare = value.get_ref().as_str().and_then(|text| text.trim().parse::<u64>().ok());
            let bare = bare.filter(|number| range.contains(number));
            self.wrong(
                value.span(),
                what,
                bare.map(|number| format!("write {name} = {number}, without quotes")),
            );
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let parsed = parsed.filter(|number| range.contains(number));
        if parsed.is_none() {
            let what = format!("{name:?} in {place} must be {wanted}, found {number}");
            self.wrong(value.span(), what, None);
        }
        parsed
    }

    pub(super) fn port(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<u16> {
        let number = self.number(name, place, value, 1..=u64::from(u16::MAX))?;
        u16::try_from(number).ok()
    }

    pub(super) fn timeout(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<Duration> {
        self.number(name, place, value, TIMEOUT_SECONDS).map(Duration::from_secs)
    }

    pub(super) fn one_of(
        &mut self,
        name: &str,
        place: &str,
        value: &Value<'_>,
        choices: &[&'static str],
    ) -> Option<&'static str> {
        let text = self.text(name, place, value)?;
        let chosen = choices.iter().find(|&&choice| choice == text).copied();
        if chosen.is_none() {
            let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
            let what = format!("{name:?} in {place} must be {}, found {text:?}", quoted.join(" or "));
            let meant = match text {
                "grpc" | "h2" | "http2" | "HTTP/2" => Some("h2c").filter(|meant| choices.contains(meant)),
                _ => keys::nearest(text, choices),
            };
            self.wrong(value.span(), what, meant.map(|meant| format!("did you mean {meant:?}?")));
        }
        chosen
    }

    pub(super) fn shaped(
        &mut self,
        name: &str,
        place: &str,
        value: &Value<'_>,
        rule: fn(&str) -> bool,
        example: &str,
    ) -> Option<String> {
        let text = self.text(name, place, value)?;
        if !rule(text) {
            let what = format!("{name:?} in {place} must look like {example:?}, found {text:?}");
            self.wrong(value.span(), what, None);
        }
        Some(text.to_owned())
    }

    /// A text of AWS's: an id, an ARN, an S3 URI.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        place: &str,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<T, BadAws>,
    ) -> Option<T> {
        let text = self.text(name, place, value)?;
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(BadAws { why, example }) => {
                let hint = format!("write it as in {name} = \"{example}\"");
                self.wrong(value.span(), format!("{name:?} in {place} is wrong: {why}"), Some(hint));
                None
            }
        }
    }

    pub(super) fn truth(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            let what = format!("{name:?} in {place} must be true or false, found {}", kind_of(value));
            self.wrong(value.span(), what, Some("write it without quotes".into()));
        }
        truth
    }

    pub(super) fn project_name(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<String> {
        let text = self.text(name, place, value)?;
        let fitting = super::fit(text);
        if fitting != text {
            let what = format!(
                "{name:?} in {place} must be lower case letters, digits and single '-' between them, at most {MAX_PROJECT_NAME}, found {text:?}"
            );
            self.wrong(value.span(), what, Some(format!("{fitting:?} would do")));
        }
        Some(fitting)
    }

    pub(super) fn listen(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<SocketAddr> {
        let text = self.text(name, place, value)?;
        let hint = || Some(format!("write it as in {name} = \"{DEFAULT_LISTEN}\""));
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port_number(port).map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            None => text.parse().ok(),
        };
        let Some(address) = address else {
            let what = format!("{name:?} in {place} must be an address with a port, found {text:?}");
            self.wrong(value.span(), what, hint());
            return None;
        };
        if address.port() == 0 {
            let what = format!("{name:?} in {place} needs a port from 1 to 65535, found 0");
            self.wrong(value.span(), what, hint());
        }
        if !address.ip().is_loopback() {
            let what =
                format!("{name:?} in {place} must be a loopback address, so that only this machine reaches it, found {text:?}");
            self.wrong(value.span(), what, hint());
        }
        Some(address)
    }

    pub(super) fn staging_url(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<StagingUrl> {
        let text = self.text(name, place, value)?;
        match StagingUrl::parse(text) {
            Ok(url) => Some(url),
            Err(why) => {
                let hint = format!("write it as in {name} = \"https://staging.example.com\"");
                self.wrong(value.span(), format!("{name:?} in {place} is wrong: {why}"), Some(hint));
                None
            }
        }
    }

    pub(super) fn health_check_path(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<String> {
        let text = self.text(name, place, value)?;
        if !text.starts_with('/') {
            let what = format!("{name:?} in {place} must start with '/', found {text:?}");
            let hint = (!text.contains("://")).then(|| format!("write {name} = {:?}", format!("/{text}")));
            self.wrong(value.span(), what, hint);
        } else if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            let what = format!("{c:?} in {name:?} of {place} cannot stand in a request");
            self.wrong(value.span(), what, Some("write it percent-encoded, or leave it out".into()));
        }
        Some(text.to_owned())
    }

    pub(super) fn host_header(&mut self, name: &str, place: &str, value: &Value<'_>) -> HostHeader {
        let Some(text) = self.text(name, place, value) else {
            return HostHeader::default();
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        // A host with one letter wrong in one of the words would be believed.
        let meant = keys::nearest(text, &["keep", "local"]);
        match text {
            "keep" => HostHeader::Keep,
            "local" => HostHeader::Local,
            _ if text.chars().all(fits) && text.parse::<http::uri::Authority>().is_ok() && meant.is_none() => {
                HostHeader::Value(text.to_owned())
            }
            _ => {
                let what = format!(
                    "{name:?} in {place} must be \"keep\", \"local\" or a host name, found {}",
                    kind_of(value)
                );
                let hint = match meant {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("write {name} = \"local\", or as in {name} = \"shop.localhost\""),
                };
                self.wrong(value.span(), what, Some(hint));
                HostHeader::default()
            }
        }
    }

    pub(super) fn path(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<PathBuf> {
        let text = self.text(name, place, value)?;
        if text == "~" || text.starts_with("~/") {
            let what = format!("'~' in {name:?} of {place} is not expanded");
            self.wrong(
                value.span(),
                what,
                Some("write a path from this file's directory, or from /".into()),
            );
        }
        Some(self.directory.join(text))
    }

    pub(super) fn env(&mut self, name: &str, place: &str, value: &Value<'_>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let hint = "write env = { NAME = \"value\" }, or a table of its own as in [service.NAME.env]";
        let Some(table) = self.table(name, value, hint) else {
            return env;
        };
        for (key, value) in table.iter() {
            let variable = key.get_ref().as_ref();
            if let Some(c) = bad_character(variable) {
                let what = match c {
                    Some(c) => format!("{c:?} cannot stand in the variable's name {variable:?}"),
                    None => "a variable's name is empty".to_owned(),
                };
                self.wrong(key.span(), what, Some("use letters, digits and '_', no digit first".into()));
            } else if matches!(variable, "PORT" | "EPHEMWORK_TAG") {
                let what = format!("{variable} in env of {place} is set by ephemwork itself");
                self.wrong(key.span(), what, Some("take the line out".into()));
            }
            match value.get_ref() {
                DeValue::String(text) if text.contains('\0') => {
                    self.wrong(
                        value.span(),
                        format!("the value of {variable} contains a NUL character"),
                        None,
                    );
                }
                DeValue::String(text) => {
                    env.insert(variable.to_owned(), text.to_string());
                }
                _ => {
                    let what = format!("{variable:?} in env of {place} must be text, found {}", kind_of(value));
                    self.wrong(value.span(), what, Some("write its value in quotes".into()));
                }
            }
        }
        env
    }
}

/// What a value is, as people call it.
pub(super) fn kind_of(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) if text.chars().count() <= 40 => format!("the text {:?}", text.as_ref()),
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `Some` when `name` is not an environment variable's name (POSIX, section 8.1), with the character that is wrong if there is any.
fn bad_character(name: &str) -> Option<Option<char>> {
    let Some(first) = name.chars().next() else {
        return Some(None);
    };
    if first.is_ascii_digit() {
        return Some(Some(first));
    }
    name.chars().find(|&c| !c.is_ascii_alphanumeric() && c != '_').map(Some)
}
