//! The audit: who did what with which tag or name. Only metadata; no header, no path, no query is ever in it.

use serde::{Deserialize, Serialize};

/// One entry, as the store keeps it, the log prints it and `GET /v1/audit` answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Ascending in the order in which things happened, never used twice by one store; 0 before it is stored.
    pub number: u64,
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// What happened.
    pub event: Happened,
    /// The user name that it is about.
    pub user: String,
    /// The service; absent where it is about the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Who did it: an ARN without path. Absent for keys that the bastion lists itself, for its own admin, and for time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What the laptop calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `ssm`, `eice`, `tcp` or `unix` as the laptop says; `openssh` for a stock client; `control-socket` for the bastion's own admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The peer's address as the bastion sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The host that lost the tag, with [`Happened::TookOver`]; the owner that lost the name, with [`Happened::NameFreed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What went through the session since its holder claimed it, wherever a holding ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// Why it was refused, or ended; a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// So many refusals alike, within a minute, are one entry.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// A tag that nobody held was claimed.
    Claimed,
    /// The holder came back as another program version or without its token.
    Returned,
    /// A tag was taken from another host of the same user.
    TookOver,
    /// A tag was given back, or taken by an admin.
    Released,
    /// No laptop came back within the lease.
    LeaseOver,
    /// The session was as old as sessions may become.
    LifetimeOver,
    /// Somebody asked for what is not theirs, or for more than there is.
    Refused,
    /// A name became a caller's.
    NameGiven,
    /// A name became nobody's.
    NameFreed,
    /// What a newer bastion says.
    #[serde(other)]
    Other,
}

/// What went through a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Requests answered.
    #[serde(default)]
    pub requests: u64,
    /// Bytes of bodies to the laptop.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of bodies from the laptop.
    #[serde(default)]
    pub bytes_out: u64,
}

/// The answer to `GET /v1/audit?since=SECONDS&user=NAME&after=NUMBER` (each may be left out), for the callers of `GET /v1/users`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuditPage {
    /// In the order of their numbers.
    pub entries: Vec<Entry>,
    /// There may be more: ask again with this `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Happened {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Happened::Claimed => "claimed",
            Happened::Returned => "returned",
            Happened::TookOver => "took-over",
            Happened::Released => "released",
            Happened::LeaseOver => "lease-over",
            Happened::LifetimeOver => "lifetime-over",
            Happened::Refused => "refused",
            Happened::NameGiven => "name-given",
            Happened::NameFreed => "name-freed",
            Happened::Other => "other",
        }
    }
}

fn once() -> u64 {
    1
}

fn is_once(times: &u64) -> bool {
    *times == 1
}
