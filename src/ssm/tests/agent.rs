//! The agent's end of a basic port session with the habits of the real one, written from their description and sharing no code with the channel:
//! it recovers one message in 100 ms, always the oldest; it acknowledges and throws away what comes before its
//! HandshakeComplete; it leaves unacknowledged what comes while it connects to the port; it never looks at digests, so this one does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

const MS: Duration = Duration::from_millis(1);

/// What is told apart in a message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: String,
    pub(super) sequence: i64,
    pub(super) flags: u64,
    pub(super) id: String,
    pub(super) payload_type: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Reads what the client wrote, and insists on every byte of the layout.
    pub(super) fn read(bytes: &[u8]) -> Frame {
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(u32_at(0), 116);
        assert_eq!(u32_at(36), 1);
        assert!(u64_at(40) > 0, "CreatedDate is 0");
        let payload = bytes[120..].to_vec();
        assert_eq!(u32_at(116) as usize, payload.len());
        assert_eq!(Sha256::digest(&payload)[..], bytes[80..112], "wrong digest");
        let kind = std::str::from_utf8(&bytes[4..36]).unwrap();
        assert!(!kind.contains('\0'), "types are filled up with spaces");
        Frame {
            kind: kind.trim_end().to_owned(),
            sequence: u64_at(48) as i64,
            flags: u64_at(56),
            id: uuid(&bytes[64..80]),
            payload_type: u32_at(112),
            payload,
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(116u32.to_be_bytes());
        bytes.extend(format!("{:32}", self.kind).as_bytes());
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(1_700_000_000_000u64.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        let hex: String = self.id.chars().filter(|c| *c != '-').collect();
        let text: Vec<u8> = (0..16)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        bytes.extend(&text[8..]);
        bytes.extend(&text[..8]);
        bytes.extend(&Sha256::digest(&self.payload)[..]);
        bytes.extend(self.payload_type.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A message of the gateway itself: nothing but the type is valid.
    pub(super) fn bare(kind: &str) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[4..36].copy_from_slice(format!("{kind:\0<32}").as_bytes());
        bytes
    }

    pub(super) fn closed(output: &str) -> Vec<u8> {
        let payload = format!(r#"{{"MessageType":"channel_closed","SchemaVersion":1,"SessionId":"s","Output":"{output}"}}"#);
        let frame = Frame {
            kind: "channel_closed".into(),
            sequence: 0,
            flags: 0,
            id: id(0),
            payload_type: 0,
            payload: payload.into_bytes(),
        };
        frame.write()
    }
}

/// The text of a UUID of which the wire has the second half first.
fn uuid(wire: &[u8]) -> String {
    let hex: String = wire[8..].iter().chain(&wire[..8]).map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// How this agent is.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// Bytes in one message.
    pub(super) chunk: usize,
    /// Pause after each.
    pub(super) pace: Duration,
    /// How long connecting to the port takes.
    pub(super) dial: Duration,
    /// How long writing out one message of data takes; nothing is read meanwhile.
    pub(super) writing: Duration,
    pub(super) version: &'static str,
    /// The actions asked for, as JSON.
    pub(super) actions: &'static str,
}

pub(super) const PORT: &str =
    r#"[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22"}}}]"#;

impl Default for Habits {
    fn default() -> Habits {
        Habits {
            chunk: 1024,
            pace: MS,
            dial: MS,
            writing: Duration::ZERO,
            version: "3.3.1142.0",
            actions: PORT,
        }
    }
}

/// See the file.
#[derive(Debug)]
pub(super) struct Agent {
    habits: Habits,
    /// What the program on the instance sends.
    output: VecDeque<u8>,
    /// What it received.
    pub(super) input: Vec<u8>,
    next: i64,
    unacked: VecDeque<Kept>,
    srtt: f64,
    rttvar: f64,
    tick: Duration,
    sends_from: Duration,
    reads_from: Duration,
    expected: i64,
    early: BTreeMap<i64, Frame>,
    seen: HashMap<i64, Vec<u8>>,
    pub(super) response: Option<String>,
    complete: bool,
    dialled: Option<Duration>,
    paused: bool,
    started: bool,
    /// The flag TerminateSession came.
    pub(super) terminated: bool,
    pub(super) resent: u64,
    ids: u64,
    /// What is to be sent now.
    pub(super) outbox: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Kept {
    sequence: i64,
    bytes: Vec<u8>,
    sent: Duration,
    acked: bool,
}

impl Agent {
    pub(super) fn new(habits: Habits, output: &[u8]) -> Agent {
        Agent {
            habits,
            output: output.iter().copied().collect(),
            input: Vec::new(),
            next: 0,
            unacked: VecDeque::new(),
            srtt: 100.0,
            rttvar: 0.0,
            tick: Duration::ZERO,
            sends_from: Duration::ZERO,
            reads_from: Duration::ZERO,
            expected: 0,
            early: BTreeMap::new(),
            seen: HashMap::new(),
            response: None,
            complete: false,
            dialled: None,
            paused: false,
            started: false,
            terminated: false,
            resent: 0,
            ids: 0,
            outbox: VecDeque::new(),
        }
    }

    /// Its websocket is open, for the first time or again.
    pub(super) fn attached(&mut self, now: Duration) {
        self.paused = false;
        if !self.started {
            self.started = true;
            self.tick = now + 100 * MS;
            let request = format!(
                r#"{{"AgentVersion":"{}","RequestedClientActions":{}}}"#,
                self.habits.version, self.habits.actions
            );
            self.stream(now, 5, request.into_bytes());
        }
    }

    /// When it reads the next message: not while it writes data out.
    pub(super) fn reads_from(&self) -> Duration {
        self.reads_from
    }

    /// When it does something by itself.
    pub(super) fn due(&self) -> Option<Duration> {
        let sends = self.sends().map(|from| from.max(self.sends_from));
        let ticks = (!self.unacked.is_empty()).then_some(self.tick);
        [sends, ticks].into_iter().flatten().min()
    }

    fn sends(&self) -> Option<Duration> {
        self.dialled.filter(|_| !self.paused && !self.output.is_empty())
    }

    pub(super) fn time(&mut self, now: Duration) {
        if self.sends().is_some_and(|from| from.max(self.sends_from) <= now) {
            let length = self.output.len().min(self.habits.chunk);
            let payload = self.output.drain(..length).collect();
            self.stream(now, 1, payload);
            self.sends_from = now + self.habits.pace;
        }
        if !self.unacked.is_empty() && self.tick <= now {
            self.tick = now + 100 * MS;
            let timeout = (self.srtt + (4.0 * self.rttvar).max(10.0)).min(1000.0);
            if let Some(front) = self.unacked.front_mut()
                && (now - front.sent).as_secs_f64() * 1000.0 > timeout
            {
                front.sent = now;
                self.outbox.push_back(front.bytes.clone());
                self.resent += 1;
            }
        }
    }

    fn stream(&mut self, now: Duration, payload_type: u32, payload: Vec<u8>) {
        self.ids += 1;
        let frame = Frame {
            kind: "output_stream_data".into(),
            sequence: self.next,
            flags: u64::from(self.next == 0),
            id: id(self.ids),
            payload_type,
            payload,
        };
        let bytes = frame.write();
        if self.unacked.is_empty() {
            self.tick = self.tick.max(now);
        }
        self.unacked.push_back(Kept {
            sequence: self.next,
            bytes: bytes.clone(),
            sent: now,
            acked: false,
        });
        self.next += 1;
        self.outbox.push_back(bytes);
    }

    pub(super) fn gateway(&mut self, kind: &str) {
        self.paused = kind == "pause_publication";
    }

    /// A message of the client.
    pub(super) fn receive(&mut self, now: Duration, bytes: &[u8]) {
        let frame = Frame::read(bytes);
        self.paused = false;
        if frame.kind == "acknowledge" {
            assert_eq!((frame.sequence, frame.flags, frame.payload_type), (0, 3, 0));
            self.acknowledged(now, &String::from_utf8(frame.payload).unwrap());
            return;
        }
        assert_eq!((frame.kind.as_str(), frame.flags), ("input_stream_data", 0));
        let first = self.seen.entry(frame.sequence).or_insert_with(|| bytes.to_vec());
        assert_eq!(first, bytes, "a retransmission differs");
        if frame.sequence < self.expected {
            self.ack(&frame);
        } else if frame.sequence > self.expected {
            self.ack(&frame);
            self.early.insert(frame.sequence, frame);
        } else if self.process(now, &frame) {
            self.ack(&frame);
            self.expected += 1;
            // One that is buffered was acknowledged before.
            while let Some(frame) = self.early.remove(&self.expected) {
                assert!(self.process(now, &frame), "acknowledged and never processed");
                self.expected += 1;
            }
        }
    }

    /// Whether it was taken.
    fn process(&mut self, now: Duration, frame: &Frame) -> bool {
        match frame.payload_type {
            6 => {
                self.response = Some(String::from_utf8(frame.payload.clone()).unwrap());
                if self
                    .response
                    .as_ref()
                    .is_some_and(|text| text.contains(r#""ActionStatus":1"#))
                {
                    self.complete = true;
                    self.dialled = Some(now + self.habits.dial);
                    self.stream(
                        now,
                        7,
                        br#"{"HandshakeTimeToComplete":1000,"CustomerMessage":" hello "}"#.to_vec(),
                    );
                }
                true
            }
            1 => {
                assert!(self.complete, "data before HandshakeComplete is thrown away");
                if self.dialled.is_none_or(|at| now < at) {
                    return false;
                }
                self.input.extend(&frame.payload);
                self.reads_from = now.max(self.reads_from) + self.habits.writing;
                true
            }
            10 => {
                assert_eq!(frame.payload, 2u32.to_be_bytes());
                self.terminated = true;
                true
            }
            other => panic!("payload type {other}"),
        }
    }

    fn ack(&mut self, frame: &Frame) {
        self.ids += 1;
        let payload = format!(
            r#"{{"AcknowledgedMessageType":"{}","AcknowledgedMessageId":"{}","AcknowledgedMessageSequenceNumber":{},"IsSequentialMessage":true}}"#,
            frame.kind, frame.id, frame.sequence
        );
        let ack = Frame {
            kind: "acknowledge".into(),
            sequence: 0,
            flags: 3,
            id: id(self.ids),
            payload_type: 0,
            payload: payload.into_bytes(),
        };
        self.outbox.push_back(ack.write());
    }

    fn acknowledged(&mut self, now: Duration, payload: &str) {
        let fields: Vec<&str> = payload.trim_matches(['{', '}']).split(',').collect();
        assert_eq!(fields[0], r#""AcknowledgedMessageType":"output_stream_data""#);
        assert_eq!(fields[3], r#""IsSequentialMessage":true"#);
        assert_eq!(fields.len(), 4);
        let number = fields[2].strip_prefix(r#""AcknowledgedMessageSequenceNumber":"#).unwrap();
        let sequence: i64 = number.parse().unwrap();
        assert!(sequence < self.next, "acknowledged what was never sent");
        if let Some(kept) = self.unacked.iter_mut().find(|kept| kept.sequence == sequence) {
            assert!(payload.contains(&uuid(&kept.bytes[64..80])), "another message's id");
            kept.acked = true;
            let sample = (now - kept.sent).as_secs_f64() * 1000.0;
            self.rttvar = 0.75 * self.rttvar + 0.25 * (self.srtt - sample).abs();
            self.srtt = 0.875 * self.srtt + 0.125 * sample;
        }
        self.unacked.retain(|kept| !kept.acked);
    }

    /// Whether everything it has sent was acknowledged.
    pub(super) fn drained(&self) -> bool {
        self.output.is_empty() && self.unacked.is_empty()
    }
}
