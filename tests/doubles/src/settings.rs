//! What can be set at the start and while the double runs.

use std::time::Duration;

use serde_json::Value;

/// See `--help`; a session keeps to the settings of its start, or to later ones that the test gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// One way between client and agent.
    pub(crate) latency: Duration,
    /// Whether the agent sleeps after each message.
    pub(crate) paced: bool,
    /// The most bytes that the agent reads for one message.
    pub(crate) payload: usize,
    /// How long a message that the client has read may be without acknowledgement.
    pub(crate) ack_limit: Duration,
    /// How long after a worker's crash the gateway closes the channel.
    pub(crate) crash_after: Duration,
    /// How long the agent takes to dial, during which it acknowledges nothing.
    pub(crate) dial: Duration,
    /// How long an agent whose websocket broke takes to come back.
    pub(crate) agent_back: Duration,
    /// What an hour is, for the endpoint's longest tunnel.
    pub(crate) hour: Duration,
    /// The start of the dice that strike messages.
    pub(crate) seed: u64,
}

/// The real agent's: 1 KiB a message, then a sleep of 1 ms.
pub(crate) const PACE: Duration = Duration::from_millis(1);
const PAYLOAD: usize = 1024;
/// What an unpaced agent reads at once.
const PAYLOAD_UNPACED: usize = 16 * 1024;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            latency: Duration::ZERO,
            paced: true,
            payload: PAYLOAD,
            ack_limit: Duration::from_secs(10),
            crash_after: Duration::from_secs(60),
            dial: Duration::ZERO,
            agent_back: Duration::from_millis(150),
            hour: Duration::from_secs(3600),
            seed: 1,
        }
    }
}

impl Settings {
    /// Changes one by its name; durations in milliseconds.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let number = || {
            value
                .as_u64()
                .ok_or_else(|| format!("{name} takes a whole number, not {value}"))
        };
        let time = || number().map(Duration::from_millis);
        match name {
            "latency_ms" => self.latency = time()?,
            "paced" => {
                self.paced = value
                    .as_bool()
                    .ok_or_else(|| format!("paced takes true or false, not {value}"))?;
                self.payload = if self.paced { PAYLOAD } else { PAYLOAD_UNPACED };
            }
            "payload_bytes" => self.payload = (number()? as usize).clamp(1, 1024 * 1024),
            "ack_limit_ms" => self.ack_limit = time()?,
            "crash_after_ms" => self.crash_after = time()?,
            "dial_ms" => self.dial = time()?,
            "agent_back_ms" => self.agent_back = time()?,
            "hour_ms" => self.hour = time()?,
            "seed" => self.seed = number()?,
            _ => return Err(format!("no setting {name:?}")),
        }
        Ok(())
    }
}
