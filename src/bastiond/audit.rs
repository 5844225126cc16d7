//! The audit's entries: who is behind them, how long they are kept, and how refusals that repeat become few. Pure.

use std::collections::HashMap;

use crate::protocol::audit::{Entry, Happened};

/// How long refusals alike are one entry, in seconds: a script that asks again and again writes two lines a minute.
const WINDOW: u64 = 60;

/// Different refusals of one user within [`WINDOW`] that have entries of their own; more are one.
const MAX_PER_USER: usize = 32;

/// Refusals that are remembered at once, some hundred bytes each. Beyond, they are only counted.
const MAX_WINDOWS: usize = 4096;

/// The longest text of an entry that a peer chose, in bytes; longer ones are cut.
const MAX_TEXT: usize = 256;

/// Who does something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actor {
    pub principal: Option<String>,
    pub host: Option<String>,
    pub transport: Option<String>,
    pub address: Option<String>,
}

impl Actor {
    /// Whoever may open the control socket.
    pub(crate) fn socket() -> Actor {
        Actor {
            transport: Some("control-socket".to_owned()),
            ..Actor::default()
        }
    }
}

/// An entry that is not stored yet. `now` in seconds since the epoch.
pub(crate) fn entry(event: Happened, user: &str, service: Option<&str>, by: Actor, now: u64) -> Entry {
    Entry {
        number: 0,
        time: now,
        event,
        user: user.to_owned(),
        service: service.map(cut),
        principal: by.principal,
        host: by.host.as_deref().map(cut),
        transport: by.transport,
        address: by.address,
        from: None,
        used: None,
        why: None,
        times: 1,
    }
}

/// A text without its end beyond [`MAX_TEXT`].
pub(crate) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// What the laptop says of its way, if it is a word.
pub(crate) fn transport(text: &str) -> Option<&str> {
    const MAX_WORD: usize = 16;
    let word = !text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    word.then_some(text)
}

/// Refusals of the last minute. The first of its kind is an entry at once, so that it is stored before it is answered; those that
/// follow are counted, and are one entry when the minute is over.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    windows: HashMap<Kind, Window>,
    /// Refusals for which there was no room.
    uncounted: u64,
}

/// What makes refusals alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    user: String,
    service: Option<String>,
    principal: Option<String>,
    host: Option<String>,
    why: Option<String>,
}

#[derive(Debug)]
struct Window {
    began: u64,
    /// The last one, with how many came after the first.
    last: Option<Entry>,
}

impl Refusals {
    /// Somebody was refused; what of it is to be stored now.
    pub(crate) fn refused(&mut self, mut entry: Entry) -> Option<Entry> {
        let mut kind = Kind {
            user: entry.user.clone(),
            service: entry.service.clone(),
            principal: entry.principal.clone(),
            host: entry.host.clone(),
            why: entry.why.clone(),
        };
        if !self.windows.contains_key(&kind)
            && self.windows.keys().filter(|other| other.user == kind.user).count() >= MAX_PER_USER
        {
            entry.service = None;
            entry.why = Some("many different things were refused".to_owned());
            kind = Kind {
                user: kind.user,
                service: None,
                principal: None,
                host: None,
                why: entry.why.clone(),
            };
        }
        if let Some(window) = self.windows.get_mut(&kind) {
            let times = window.last.as_ref().map_or(0, |last| last.times);
            window.last = Some(Entry {
                times: times.saturating_add(1),
                ..entry
            });
            return None;
        }
        if self.windows.len() >= MAX_WINDOWS {
            self.uncounted = self.uncounted.saturating_add(1);
            return None;
        }
        let window = Window {
            began: entry.time,
            last: None,
        };
        self.windows.insert(kind, window);
        Some(entry)
    }

    /// The entries of the minutes that are over, and how many refusals found no room. A clock that was set back ends a minute too.
    pub(crate) fn over(&mut self, now: u64) -> (Vec<Entry>, u64) {
        let over = |window: &Window| now < window.began || now - window.began >= WINDOW;
        let mut entries: Vec<Entry> = self
            .windows
            .extract_if(|_, window| over(window))
            .filter_map(|(_, window)| window.last)
            .collect();
        entries.sort_by_key(|entry| entry.time);
        (entries, std::mem::take(&mut self.uncounted))
    }

    /// The entries of all minutes, whether over or not.
    pub(crate) fn all(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.windows.drain().filter_map(|(_, window)| window.last).collect();
        entries.sort_by_key(|entry| entry.time);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: &str, service: &str, time: u64) -> Entry {
        entry(Happened::Refused, user, Some(service), Actor::default(), time)
    }

    #[test]
    fn refusals_alike_are_two_entries_a_minute() {
        let mut refusals = Refusals::default();
        assert_eq!(
            refusals.refused(refusal("alice", "api", 10)),
            Some(refusal("alice", "api", 10))
        );
        for second in 11..40 {
            assert_eq!(refusals.refused(refusal("alice", "api", second)), None);
        }
        assert!(refusals.refused(refusal("alice", "web", 12)).is_some(), "it is another");
        assert!(refusals.refused(refusal("bob", "api", 12)).is_some(), "it is another's");
        assert_eq!(refusals.over(69), (Vec::new(), 0));
        let last = Entry {
            times: 29,
            ..refusal("alice", "api", 39)
        };
        assert_eq!(refusals.over(70), (vec![last], 0));
        assert!(refusals.refused(refusal("alice", "api", 71)).is_some(), "a new minute");
        assert_eq!(refusals.refused(refusal("alice", "api", 72)), None);
        assert_eq!(refusals.over(5).0.len(), 1, "the clock was set back");
        assert_eq!(refusals.over(5), (Vec::new(), 0));
    }

    #[test]
    fn whoever_is_refused_without_end_takes_a_bounded_place() {
        let mut refusals = Refusals::default();
        let written = (0..100_000).filter(|number| {
            let entry = refusal("mallory", &format!("s{number}"), 10);
            refusals.refused(entry).is_some()
        });
        assert_eq!(written.count(), MAX_PER_USER + 1);
        assert_eq!(refusals.windows.len(), MAX_PER_USER + 1);
        assert!(refusals.refused(refusal("alice", "api", 10)).is_some());
        let (rest, _) = refusals.over(1000);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].times, 100_000 - MAX_PER_USER as u64 - 1);
        for number in 0..MAX_WINDOWS + 7 {
            refusals.refused(refusal(&format!("u{number}"), "api", 10));
        }
        assert_eq!(refusals.over(1000).1, 7);
    }

    #[test]
    fn texts_of_peers() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(transport(text), expected, "{text:?}");
        check("ssm", Some("ssm"));
        check("a-b", Some("a-b"));
        check("", None);
        check("SSM", None);
        check("s m", None);
        check("abcdefghijklmnopq", None);
        assert_eq!(cut(&"é".repeat(1000)).len(), MAX_TEXT);
        assert_eq!(cut("short"), "short");
    }
}
