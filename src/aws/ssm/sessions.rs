//! Agents on instances, and sessions with them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::super::call::{Ask, Call, Page, Reply, Service, Unreadable, paged};
use super::super::json;
use super::ask;

/// The longest time since 1970 that is read, in seconds: the year 9999, past which no calendar here goes.
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Seconds since 1970, as the JSON protocol writes times.
fn time(object: &Map<String, Value>, name: &str) -> Option<SystemTime> {
    let seconds = object.get(name)?.as_f64()?;
    let fits = (0.0..=MAX_SECONDS).contains(&seconds);
    fits.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// Lists the agents that have ever reported.
#[derive(Clone, Debug, Default)]
pub struct DescribeInstanceInformation {
    /// Of these instances; none is all. One without an agent is left out.
    pub ids: Vec<String>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An instance's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// `i-..`.
    pub instance_id: String,
    /// `Online`, `ConnectionLost`, `Inactive`.
    pub ping: String,
    /// When it reported last.
    pub last_ping: Option<SystemTime>,
    /// `3.3.2299.0`.
    pub version: Option<String>,
}

impl Call for DescribeInstanceInformation {
    type Answer = Page<Agent>;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:DescribeInstanceInformation";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut body = json!({});
        if !self.ids.is_empty() {
            body = json!({"Filters": [{"Key": "InstanceIds", "Values": self.ids}]});
        }
        json::put_some(&mut body, "NextToken", self.next.as_ref());
        ask("DescribeInstanceInformation", &body)
    }

    fn answer(reply: &Reply) -> Result<Page<Agent>, Unreadable> {
        json::page(reply, "InstanceInformationList", |object| {
            Ok(Agent {
                instance_id: json::need(object, "InstanceId")?,
                ping: json::text(object, "PingStatus").unwrap_or_default(),
                last_ping: time(object, "LastPingDateTime"),
                version: json::text(object, "AgentVersion"),
            })
        })
    }
}

paged!(DescribeInstanceInformation => Agent);

/// Opens a session.
#[derive(Clone, Debug)]
pub struct StartSession {
    /// `i-..`.
    pub target: String,
    /// `AWS-StartPortForwardingSession`, `AWS-StartSSHSession`, ...
    pub document: String,
    /// What the document asks for.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// Why; stands in CloudTrail.
    pub reason: Option<String>,
}

/// A session that can be joined once.
#[derive(Clone, PartialEq, Eq)]
pub struct Started {
    /// `alice-0a1b..`.
    pub session_id: String,
    /// Opens the data channel; who has it has the session.
    pub token: String,
    /// `wss://ssmmessages..`.
    pub stream_url: String,
}

impl fmt::Debug for Started {
    /// Without what opens it: the URL may carry the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

fn started(reply: &Reply) -> Result<Started, Unreadable> {
    let object = json::read(reply)?;
    Ok(Started {
        session_id: json::need(&object, "SessionId")?,
        token: json::need(&object, "TokenValue")?,
        stream_url: json::need(&object, "StreamUrl")?,
    })
}

impl Call for StartSession {
    type Answer = Started;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:StartSession";

    fn resource(&self) -> Option<String> {
        Some(self.target.clone())
    }

    fn request(&self) -> Ask {
        let mut body = json!({"Target": self.target, "DocumentName": self.document, "Parameters": self.parameters});
        json::put_some(&mut body, "Reason", self.reason.as_ref());
        ask("StartSession", &body)
    }

    fn answer(reply: &Reply) -> Result<Started, Unreadable> {
        started(reply)
    }
}

/// Asks for a new token for a session whose data channel broke.
#[derive(Clone, Debug)]
pub struct ResumeSession {
    /// Which.
    pub session_id: String,
}

impl Call for ResumeSession {
    /// `None` when the session cannot be resumed any more: AWS answers without a token then.
    type Answer = Option<Started>;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:ResumeSession";

    fn resource(&self) -> Option<String> {
        Some(self.session_id.clone())
    }

    fn request(&self) -> Ask {
        ask("ResumeSession", &json!({"SessionId": self.session_id}))
    }

    fn answer(reply: &Reply) -> Result<Option<Started>, Unreadable> {
        let token = json::text(&json::read(reply)?, "TokenValue");
        match token.is_some_and(|token| !token.is_empty()) {
            true => started(reply).map(Some),
            false => Ok(None),
        }
    }
}

/// Ends a session; one that has ended is fine.
#[derive(Clone, Debug)]
pub struct TerminateSession {
    /// Which.
    pub session_id: String,
}

impl Call for TerminateSession {
    type Answer = ();
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:TerminateSession";

    fn resource(&self) -> Option<String> {
        Some(self.session_id.clone())
    }

    fn request(&self) -> Ask {
        ask("TerminateSession", &json!({"SessionId": self.session_id}))
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        json::read(reply).map(|_| ())
    }
}

/// Lists sessions that are open.
#[derive(Clone, Debug, Default)]
pub struct DescribeSessions {
    /// Those that fit all of these.
    pub filters: Vec<SessionFilter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// Narrows a list of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFilter {
    /// With this instance.
    Target(String),
    /// Of the caller with this ARN.
    Owner(String),
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `alice-0a1b..`.
    pub id: String,
    /// `i-..`.
    pub target: String,
    /// `Connected`, `Connecting`, `Disconnected`, ...
    pub status: Option<String>,
    /// The caller's ARN.
    pub owner: Option<String>,
    /// What runs in it.
    pub document: Option<String>,
    /// Since when.
    pub started: Option<SystemTime>,
    /// What StartSession gave as its reason.
    pub reason: Option<String>,
}

impl Call for DescribeSessions {
    type Answer = Page<Session>;
    const SERVICE: Service = Service::Ssm;
    const ACTION: &'static str = "ssm:DescribeSessions";

    fn request(&self) -> Ask {
        let mut body = json!({"State": "Active"});
        if let (false, Some(object)) = (self.filters.is_empty(), body.as_object_mut()) {
            let filters = self.filters.iter().map(|filter| match filter {
                SessionFilter::Target(target) => json!({"key": "Target", "value": target}),
                SessionFilter::Owner(owner) => json!({"key": "Owner", "value": owner}),
            });
            object.insert("Filters".to_owned(), filters.collect());
        }
        json::put_some(&mut body, "NextToken", self.next.as_ref());
        ask("DescribeSessions", &body)
    }

    fn answer(reply: &Reply) -> Result<Page<Session>, Unreadable> {
        json::page(reply, "Sessions", |object| {
            Ok(Session {
                id: json::need(object, "SessionId")?,
                target: json::text(object, "Target").unwrap_or_default(),
                status: json::text(object, "Status"),
                owner: json::text(object, "Owner"),
                document: json::text(object, "DocumentName"),
                started: time(object, "StartDate"),
                reason: json::text(object, "Reason"),
            })
        })
    }
}

paged!(DescribeSessions => Session);

/// Lets a public key in to an instance for a minute.
#[derive(Clone, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "AWS's own name")]
pub struct SendSSHPublicKey {
    /// `i-..`.
    pub instance_id: String,
    /// The user it is for; IAM can bind it (`ec2:osuser`).
    pub user: String,
    /// `ssh-ed25519 AAAA..`.
    pub public_key: String,
}

impl Call for SendSSHPublicKey {
    type Answer = ();
    const SERVICE: Service = Service::Ec2InstanceConnect;
    const ACTION: &'static str = "ec2-instance-connect:SendSSHPublicKey";

    fn resource(&self) -> Option<String> {
        Some(self.instance_id.clone())
    }

    fn request(&self) -> Ask {
        let body = json!({
            "InstanceId": self.instance_id,
            "InstanceOSUser": self.user,
            "SSHPublicKey": self.public_key,
        });
        json::ask("AWSEC2InstanceConnectService.SendSSHPublicKey".to_owned(), &body)
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        match json::read(reply)?.get("Success").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(Unreadable(
                "EC2 Instance Connect did not take the key, and does not say why".to_owned(),
            )),
        }
    }
}
