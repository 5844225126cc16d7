//! What a channel is made with: sizes, windows, deadlines, and what it cannot have by itself.

use std::time::Duration;

/// The payload that AWS's own programs send, in bytes, and what every gateway takes.
pub const PLAIN_PAYLOAD: usize = 1024;

/// The smallest payload, in bytes. Below it the header of 120 bytes outweighs what it carries.
pub const MIN_PAYLOAD: usize = 128;

/// The largest payload, in bytes. The agent has no limit; the gateway's is not known, and a message below 32 KiB is thought to be safe.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// How many messages may be on their way without acknowledgement: at [`PLAIN_PAYLOAD`] 1 MiB, which is 25 MB/s at a round trip
/// of 40 ms. The agent would hold 100,000.
const WINDOW_MESSAGES: usize = 1024;

/// How many bytes of payload may be on their way: what larger payloads need for 100 MB/s at 40 ms.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What `send` takes ahead of the window, in bytes: one full turn of the driver, and no more, since a small answer waits behind it.
const STAGED_BYTES: usize = 32 * 1024;

/// Bytes that have arrived and wait for `recv` before the websocket is no longer read, headers included. It is more than SSH's
/// window of 16 MiB, so that SSH never waits to send until it has received while the channel waits for the reverse.
const INBOX_BYTES: usize = 20 * 1024 * 1024;

/// How far ahead of a gap messages are kept, in messages. The agent fills gaps at ten messages a second while it goes on sending
/// a thousand: this is enough for a cut that lost 300.
const AHEAD_MESSAGES: usize = 32 * 1024;

/// The same in bytes, headers included.
const AHEAD_BYTES: usize = 40 * 1024 * 1024;

/// Acknowledgements that wait to be written before the websocket is no longer read.
const PENDING_ACKS: usize = 8 * 1024;

/// From the first websocket to HandshakeComplete. The agent needs well under 1 s, starts a process first, and gives up after 15 s itself.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// From the first data until anything of it is acknowledged. The agent dials the port before that; a dial that is refused kills
/// its worker without a word, and the service takes up to 60 s to say so.
const FIRST_ACK: Duration = Duration::from_secs(10);

/// How long a websocket may bring nothing at all while acknowledgements are awaited before it counts as dead. Short enough that
/// another one can be open before SSH's keepalive gives up at 15 s.
const SILENCE: Duration = Duration::from_secs(8);

/// See the fields; [`Settings::new`] has the numbers for use, tests make them smaller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The payload of a full message in bytes, brought into [`MIN_PAYLOAD`]`..=`[`MAX_PAYLOAD`].
    pub payload: usize,
    /// Unacknowledged messages at most.
    pub window_messages: usize,
    /// Unacknowledged bytes of payload at most.
    pub window_bytes: usize,
    /// Bytes that `send` takes ahead of the window.
    pub staged_bytes: usize,
    /// Bytes in order that wait for `recv`, past which [`wants_input`](super::Channel::wants_input) says no.
    pub inbox_bytes: usize,
    /// Messages behind a gap at most; others are dropped without acknowledgement, so that the agent sends them again.
    pub ahead_messages: usize,
    /// Their bytes at most.
    pub ahead_bytes: usize,
    /// Acknowledgements to be written, past which `wants_input` says no.
    pub pending_acks: usize,
    /// From the first websocket to HandshakeComplete.
    pub handshake: Duration,
    /// From the first data to the first acknowledgement of data.
    pub first_ack: Duration,
    /// Silence after which a websocket counts as dead.
    pub silence: Duration,
    /// The wall clock at [`Moment`](super::Moment) zero, in milliseconds since 1970: messages say when they were made.
    pub epoch_millis: u64,
    /// 32 random bytes, from which every id follows. Two channels never have the same.
    pub seed: [u8; 32],
}

impl Settings {
    /// The settings for use. `epoch_millis` is the wall clock at moment zero, `seed` 32 random bytes of this channel alone.
    pub fn new(payload: usize, epoch_millis: u64, seed: [u8; 32]) -> Settings {
        Settings {
            payload,
            window_messages: WINDOW_MESSAGES,
            window_bytes: WINDOW_BYTES,
            staged_bytes: STAGED_BYTES,
            inbox_bytes: INBOX_BYTES,
            ahead_messages: AHEAD_MESSAGES,
            ahead_bytes: AHEAD_BYTES,
            pending_acks: PENDING_ACKS,
            handshake: HANDSHAKE,
            first_ack: FIRST_ACK,
            silence: SILENCE,
            epoch_millis,
            seed,
        }
    }
}
