//! Every message between laptop and bastion, with a version.
//!
//! The laptop opens SSH subsystems on one connection (a lane) and speaks HTTP/2 with prior knowledge on each: on
//! [`REQUESTS_SUBSYSTEM`], which stays open, the bastion calls and the laptop answers; on [`CONTROL_SUBSYSTEM`], which is open
//! while there is something to say, the laptop calls.
//! The control API is JSON; the same API stands on the daemon's unix socket (HTTP/1.1), where no user is implied.
//! Unknown fields are ignored, so that either side may be newer; [`VERSION`] changes only when that is not enough. A bastion speaks with
//! laptops of [`OLDEST`] to [`VERSION`], so the bastion is upgraded first; it refuses all others before it reads what they ask, and the laptop
//! names the command that helps.

pub mod audit;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Tag;

/// The version of everything in this module. Raised when an older peer would misunderstand.
pub const VERSION: u32 = 1;

/// The oldest laptop that this program's bastion still speaks with.
pub const OLDEST: u32 = 1;

/// On every call of the control API and every answer to one: a [`Speaks`] in its text form.
pub const PROTOCOL: &str = "ephemwork-protocol";

/// The SSH subsystem on which the bastion sends the session's requests to the laptop.
pub const REQUESTS_SUBSYSTEM: &str = "ephemwork-requests";

/// The SSH subsystem on which the laptop calls the control API.
pub const CONTROL_SUBSYSTEM: &str = "ephemwork-control";

/// The SSH subsystem on which a laptop measures how fast its connection is; see `tunnel::measure`.
pub const MEASURE_SUBSYSTEM: &str = "ephemwork-measure";

/// On every call of the control API: how the laptop reached the bastion, `ssm`, `eice`, `tcp` or `unix`; for the audit.
pub const TRANSPORT: &str = "ephemwork-transport";

/// On the requests channel: an extended CONNECT (RFC 8441) carries the upgrade token in `:protocol`; the laptop answers 200
/// with this header when its service answered `101 Switching Protocols`, and any other answer is the service's refusal.
pub const UPGRADED: &str = "ephemwork-upgraded";

/// On the requests channel: an answer that the laptop made itself because the service did not give one; the value is a
/// [`NoAnswer`] in kebab case, the body the sentence for a person.
pub const NO_ANSWER: &str = "ephemwork-no-answer";

/// On the requests channel: `POST` of one [`Event`] as JSON, which the laptop answers with 204. The edge names the tag in every
/// request that it passes on ([`crate::name::HEADER`]); this one has none, so that no client can make it.
pub const EVENT_PATH: &str = "/v1/event";

/// The largest event, in bytes: two names and a host's name are under 1 KiB.
pub const MAX_EVENT: usize = 16 * 1024;

/// The most lanes of one session, so that lane numbers are `0..MAX_LANES`: twice what a laptop keeps, for the moments in which each is
/// being replaced by another.
pub const MAX_LANES: u32 = 8;

/// What a peer speaks: `1 0.1.0`, the protocol's number and the program's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// Its [`VERSION`].
    pub protocol: u32,
    /// Its program's version, for messages to people.
    pub program: String,
}

impl Speaks {
    /// This program's.
    pub fn own() -> Speaks {
        Speaks {
            protocol: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The reverse of its `Display`; what a newer peer adds is ignored.
    pub fn parse(text: &str) -> Option<Speaks> {
        const MAX_PROGRAM: usize = 64;
        let mut words = text.split(' ');
        let protocol = words.next()?.parse().ok()?;
        let program = words.next().unwrap_or("?");
        let plain = program.bytes().all(|byte| byte.is_ascii_graphic());
        (plain && program.len() <= MAX_PROGRAM).then(|| Speaks {
            protocol,
            program: program.to_owned(),
        })
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.program)
    }
}

/// Why the laptop has no answer of the service. The edge turns it into its own 502 or 504.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing listens on the service's port.
    Refused,
    /// The service closed the connection before a complete answer head.
    Closed,
    /// What the service sent is not HTTP.
    Malformed,
    /// The lane carries no such service (it was released a moment ago).
    Unknown,
}

impl NoAnswer {
    /// The value of [`NO_ANSWER`].
    pub fn as_str(self) -> &'static str {
        match self {
            NoAnswer::Refused => "refused",
            NoAnswer::Closed => "closed",
            NoAnswer::Malformed => "malformed",
            NoAnswer::Unknown => "unknown",
        }
    }

    /// The reverse of [`NoAnswer::as_str`]; what a newer laptop invents counts as `Closed`.
    pub fn parse(text: &str) -> NoAnswer {
        match text {
            "refused" => NoAnswer::Refused,
            "malformed" => NoAnswer::Malformed,
            "unknown" => NoAnswer::Unknown,
            _ => NoAnswer::Closed,
        }
    }
}

/// `POST /v1/claim`: ask for a session and bind it to the SSH connection that asks. Over the unix socket: refused.
/// Answers: 200 [`Claimed`]; 409 [`Refusal`] with a `holder`; 4xx/5xx [`Refusal`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// [`VERSION`] of the laptop.
    pub protocol: u32,
    /// The service's name; the user is the SSH user.
    pub service: String,
    /// The laptop's host name, for messages to people.
    pub host: String,
    /// The laptop's program version, for messages to people.
    pub version: String,
    /// The token of the session that the laptop believes is still its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Take the tag from whoever of the same user holds it.
    #[serde(default)]
    pub takeover: bool,
    /// Which of the session's lanes this connection is (0..). A new connection for a lane that is still
    /// registered replaces it: the old one is a connection that the laptop knows to be dead.
    #[serde(default)]
    pub lane: u32,
    /// Over no other connection the laptop takes requests: all that the session still has besides this one is dead.
    #[serde(default)]
    pub only: bool,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// The tag that is now this laptop's.
    pub tag: Tag,
    /// Secret. Whoever shows it with the same SSH user comes back to the session at once.
    pub token: String,
    /// How long the session outlives its last lane, in seconds.
    pub lease_seconds: u64,
    /// When the session was first claimed, in seconds since the Unix epoch.
    pub created: u64,
    /// Whether the session existed before this claim (a return or a takeover).
    pub resumed: bool,
}

/// The most characters of a [`Claim`]'s host and version that are kept: a host name has at most 255 (RFC 1123, section 2.1).
pub const MAX_SHOWN: usize = 255;

/// What a laptop says of itself, as it may stand on other people's terminals: nothing that is not printed, and not too long.
pub fn shown(text: &str) -> String {
    let plain = |c: &char| c.is_alphanumeric() || c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(plain).take(MAX_SHOWN).collect()
}

/// `POST /v1/release`: give a session back. Answers 200 [`Released`]; releasing what is not held is fine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    /// The service's name.
    pub service: String,
    /// The session's token; over the unix socket not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The answer to a [`Release`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Released {
    /// Whether there was a session to release.
    pub released: bool,
}

/// The answer to `POST /v1/leave`, which has no body: this connection gets no new requests, and those in flight go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    /// Requests in flight on it.
    pub in_flight: u64,
}

/// `POST /v1/users/release`: free a user name, with all that is done under it. Answers 200 [`Released`]; freeing what nobody has is
/// fine. For the unix socket, and for callers whom the bastion takes for its admins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseUser {
    /// The name.
    pub user: String,
}

/// The answer to `GET /v1/users`, which is for the same callers as [`ReleaseUser`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UsersView {
    /// By name, ascending.
    pub users: Vec<UserView>,
}

/// A user name that belongs to somebody, or is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserView {
    /// The name.
    pub user: String,
    /// Whose it is: an ARN without path. Absent for a name whose keys the bastion lists itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Since when it is theirs, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// SSH connections under it now.
    pub connections: u64,
    /// Sessions under it now.
    pub sessions: u64,
}

/// The answer to `GET /v1/sessions` (the caller's own) and `GET /v1/sessions?all=true` (everyone's). Over SSH, who is no admin is told of
/// the others' only tag, state and times; all other fields are empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sessions {
    /// By tag, ascending.
    pub sessions: Vec<SessionView>,
}

/// A session as the bastion sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Whose and which.
    pub tag: Tag,
    /// Whether a lane carries it now.
    pub state: SessionState,
    /// The laptop's host name.
    pub host: String,
    /// The laptop's program version, or the SSH client's identification.
    pub version: String,
    /// First claimed, seconds since the Unix epoch.
    pub created: u64,
    /// Last time a lane of it was known to live, seconds since the Unix epoch.
    pub last_seen: u64,
    /// When the lease ends if no lane comes back, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<u64>,
    /// Requests answered through it since the daemon started.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// The last failure of a request, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Its live connections.
    pub lanes: Vec<LaneView>,
}

/// Whether a session can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It has a lane.
    Live,
    /// It waits for its laptop to come back.
    Leased,
}

/// One SSH connection of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneView {
    /// The daemon's number for it.
    pub id: u64,
    /// `ephemwork` or `openssh`.
    pub kind: String,
    /// The peer's address as the daemon sees it.
    pub address: String,
    /// Connected since, seconds since the Unix epoch.
    pub since: u64,
    /// Bytes of bodies to the laptop.
    pub bytes_in: u64,
    /// Bytes of bodies from the laptop.
    pub bytes_out: u64,
    /// Which of the session's lanes it is.
    #[serde(default)]
    pub number: u32,
    /// Requests in flight on it, of all its sessions.
    #[serde(default)]
    pub in_flight: u64,
    /// Bytes that these are expected to move still.
    #[serde(default)]
    pub outstanding: u64,
    /// Bytes a second to the laptop over the last seconds, of heads and bodies of all its sessions. 0 for `openssh`.
    #[serde(default)]
    pub in_per_second: u64,
    /// Likewise from the laptop.
    #[serde(default)]
    pub out_per_second: u64,
    /// The last round trip that was measured, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
}

/// What the bastion tells a laptop, at [`EVENT_PATH`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Another laptop of the same user took the tag.
    Displaced {
        /// Which tag.
        tag: Tag,
        /// The host that has it now.
        by: String,
    },
    /// The bastion's admin released the tag, or the bastion itself.
    Released {
        /// Which tag.
        tag: Tag,
        /// Why the bastion did, a sentence; absent when its admin did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The daemon is about to stop: connect again. Requests in flight are finished on this lane.
    Draining,
    /// What a newer bastion says and this laptop does not know.
    #[serde(other)]
    Unknown,
}

/// An answer that is not a success, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What happened.
    pub what: String,
    /// Because of what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Who holds the tag, with status 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// Who holds a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The holder's host name.
    pub host: String,
    /// The holder's address as the bastion sees it, when a lane is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Since when, seconds since the Unix epoch.
    pub since: u64,
}

/// The answer to `GET /v1/health` and `GET /v1/version`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// `serving` or `draining`.
    pub status: String,
    /// The daemon's program version.
    pub version: String,
    /// Its [`VERSION`].
    pub protocol: u32,
    /// Where the edge listens.
    pub http: String,
    /// Where SSH listens.
    pub ssh: String,
    /// Started, seconds since the Unix epoch.
    pub started: u64,
    /// Sessions it knows.
    pub sessions: u64,
    /// Live SSH connections.
    pub connections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_speak() {
        let check = |text: &str, expected: Option<(u32, &str)>| {
            let found = Speaks::parse(text);
            assert_eq!(
                found.as_ref().map(|found| (found.protocol, found.program.as_str())),
                expected,
                "{text:?}"
            );
        };
        check(&Speaks::own().to_string(), Some((VERSION, env!("CARGO_PKG_VERSION"))));
        check("2 0.3.0 and more", Some((2, "0.3.0")));
        check("2", Some((2, "?")));
        check("", None);
        check("x 0.1.0", None);
        check("99999999999 1", None);
        check(&format!("1 {}", "9".repeat(65)), None);
        check("1 \u{1b}[2J", None);
    }

    #[test]
    fn events_of_a_newer_bastion() {
        let event = |text: &str| serde_json::from_str::<Event>(text).unwrap();
        assert!(matches!(event(r#"{"event":"lunch","minutes":30}"#), Event::Unknown));
        let released = event(r#"{"event":"released","tag":"alice:api","by":"somebody"}"#);
        assert!(matches!(released, Event::Released { why: None, .. }));
    }
}
