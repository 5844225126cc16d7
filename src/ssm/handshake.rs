//! The handshake before the first byte of data: what the agent asks for, what it is answered, and what it says at the end.
//!
//! AWS's programs do not agree with each other on every field, so whatever is not needed may be missing or of another type.

use serde::Serialize;
use serde_json::{Value, json};

use super::event::Refusal;

/// What a client calls itself: a version from which on agents do not expect keepalives of a client that multiplexes.
pub(crate) const CLIENT_VERSION: &str = "1.2.700.0";

/// The same when the document is one for which agents multiplex with clients from 1.1.70 on: older, so that they do not.
const UNMULTIPLEXED: &str = "1.1.69.0";

/// The document property `type` that makes agents multiplex.
const MULTIPLEXING: &str = "LocalPortForwarding";

/// The last agent that does not know the flag TerminateSession.
const WITHOUT_TERMINATE: [u64; 4] = [2, 3, 722, 0];

/// Actions asked for at most; AWS has two.
const MAX_ACTIONS: usize = 16;

/// An unknown action's name is given back up to here, in characters.
const MAX_NAME: usize = 64;

/// What the agent asks for: HandshakeRequest, payload type 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Four numbers with dots; empty when missing.
    pub agent_version: String,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Port { multiplexing: bool },
    Refused { name: String, refusal: Refusal },
}

impl Request {
    /// `None` when it is not JSON, has no list of actions, or too many.
    pub fn parse(payload: &[u8]) -> Option<Request> {
        let request: Value = serde_json::from_slice(payload).ok()?;
        let actions = request.get("RequestedClientActions")?.as_array()?;
        if actions.len() > MAX_ACTIONS {
            return None;
        }
        Some(Request {
            agent_version: text(&request, "AgentVersion").to_owned(),
            actions: actions.iter().map(Action::of).collect(),
        })
    }

    /// HandshakeResponse, payload type 6: one entry for each action, in order. With any entry that is not a success the agent
    /// cancels the session.
    pub fn response(&self) -> Vec<u8> {
        let multiplexing = self.actions.contains(&Action::Port { multiplexing: true });
        let errors: Vec<String> = self.refusals().map(Refusal::to_string).collect();
        let response = json!({
            "ClientVersion": if multiplexing { UNMULTIPLEXED } else { CLIENT_VERSION },
            "ProcessedClientActions": self.actions.iter().map(Action::processed).collect::<Vec<Value>>(),
            "Errors": if errors.is_empty() { Value::Null } else { json!(errors) },
        });
        response.to_string().into_bytes()
    }

    /// The first action that is not for us; `None` when the session can go on.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusals().next()
    }

    fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.actions.iter().filter_map(|action| match action {
            Action::Port { .. } => None,
            Action::Refused { refusal, .. } => Some(refusal),
        })
    }
}

impl Action {
    fn of(action: &Value) -> Action {
        let name: String = text(action, "ActionType").chars().take(MAX_NAME).collect();
        let parameters = action.get("ActionParameters").unwrap_or(&Value::Null);
        let refusal = match name.as_str() {
            "SessionType" => match text(parameters, "SessionType") {
                "Port" => {
                    let properties = parameters.get("Properties").unwrap_or(&Value::Null);
                    return Action::Port {
                        multiplexing: text(properties, "type") == MULTIPLEXING,
                    };
                }
                other => Refusal::SessionType(other.chars().take(MAX_NAME).collect()),
            },
            "KMSEncryption" => Refusal::Encryption,
            _ => Refusal::Action(name.clone()),
        };
        Action::Refused { name, refusal }
    }

    fn processed(&self) -> Value {
        let (name, status, error) = match self {
            Action::Port { .. } => ("SessionType", 1, String::new()),
            // 2: failed.
            Action::Refused {
                name,
                refusal: refusal @ Refusal::SessionType(_),
            } => (name.as_str(), 2, refusal.to_string()),
            // 3: unsupported.
            Action::Refused { name, refusal } => (name.as_str(), 3, refusal.to_string()),
        };
        json!({ "ActionType": name, "ActionStatus": status, "ActionResult": null, "Error": error })
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What the agent says at the end: HandshakeComplete, payload type 7.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complete {
    /// A sentence for the person, often empty.
    pub customer_message: String,
}

impl Complete {
    /// What cannot be read is empty: that it came is what counts.
    pub fn parse(payload: &[u8]) -> Complete {
        let complete: Value = serde_json::from_slice(payload).unwrap_or_default();
        Complete {
            customer_message: text(&complete, "CustomerMessage").trim().to_owned(),
        }
    }
}

/// Whether an agent of this version ends the session when it is sent the flag. One that does not say is taken for a newer one.
pub(crate) fn terminates(agent_version: &str) -> bool {
    let mut numbers = [0; 4];
    for (number, part) in numbers.iter_mut().zip(agent_version.split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    numbers == [0; 4] || numbers > WITHOUT_TERMINATE
}

/// The first message of a websocket, as text (OpenDataChannelInput).
#[derive(Serialize)]
pub(crate) struct Open<'a> {
    #[serde(rename = "MessageSchemaVersion")]
    pub(crate) schema: &'a str,
    #[serde(rename = "RequestId")]
    pub(crate) request: &'a str,
    #[serde(rename = "TokenValue")]
    pub(crate) token: &'a str,
    #[serde(rename = "ClientId")]
    pub(crate) client: &'a str,
    #[serde(rename = "ClientVersion")]
    pub(crate) version: &'a str,
}
