//! A channel and an agent with a gateway between them, in virtual time: messages are lost, doubled, late, damaged; either side is cut off and comes back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;

use super::agent::{Agent, Frame, Habits};
use crate::ssm::{Channel, Event, Input, Settings, Transmit};

const MS: Duration = Duration::from_millis(1);

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `below` - 1.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    pub(super) fn one_of(&mut self, so_many: u64) -> bool {
        self.below(so_many) == 0
    }

    /// `in_thousand` times of a thousand.
    fn happens(&mut self, in_thousand: u64) -> bool {
        in_thousand > 0 && self.below(1000) < in_thousand
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Agent,
}

/// A side, or both, lose their websocket.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// With this message that any side is about to get, counted from 0: it is lost.
    pub(super) message: u64,
    pub(super) client: bool,
    pub(super) agent: bool,
    /// How long until the websocket is there again.
    pub(super) gone: Duration,
}

/// What the way does to messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// One way.
    pub(super) latency: Duration,
    /// At most so much more, for each message by itself: they overtake each other.
    pub(super) jitter: Duration,
    /// Of a thousand.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Only of those to the client: the agent does not look.
    pub(super) damaged: u64,
    pub(super) cuts: Vec<Cut>,
    /// The gateway takes no larger payload.
    pub(super) limit: Option<usize>,
    /// Bytes a second from the client to the gateway; 0 is without limit.
    pub(super) uplink: u64,
    /// The client's program reads nothing until then.
    pub(super) unread_until: Duration,
    /// Whether the gateway says who is attached.
    pub(super) tells: bool,
}

/// In flight.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Duration,
    order: u64,
    to: Side,
    /// The websockets of client and agent over which it goes; `None` when only the receiver's matters.
    client: Option<u32>,
    agent: Option<u32>,
    bytes: Vec<u8>,
}

/// See the file.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) client: Channel,
    pub(super) agent: Agent,
    pub(super) events: Vec<Event>,
    /// What the client's program received.
    pub(super) received: Vec<u8>,
    pub(super) way: Way,
    random: Random,
    wire: BinaryHeap<Reverse<Packet>>,
    order: u64,
    /// What the client's program has still to send.
    output: Bytes,
    links: [Link; 2],
    delivered: u64,
    uplink_free: Duration,
    /// The longest that a message waited for the uplink.
    pub(super) queued: Duration,
    /// Whether the client ends the session when both streams are through.
    pub(super) ends: bool,
    /// Received in total by then, agent's and client's.
    goal: (usize, usize),
    closed: bool,
}

#[derive(Debug, Default)]
struct Link {
    number: u32,
    up: bool,
    /// When it is opened again.
    back: Option<Duration>,
    opened: bool,
}

impl World {
    pub(super) fn new(seed: u64, settings: Settings, habits: Habits, way: Way, up: &[u8], down: &[u8]) -> World {
        World {
            now: Duration::ZERO,
            client: Channel::new(settings),
            agent: Agent::new(habits, down),
            events: Vec::new(),
            received: Vec::new(),
            way,
            random: Random(seed),
            wire: BinaryHeap::new(),
            order: 0,
            output: Bytes::copy_from_slice(up),
            links: [
                Link {
                    back: Some(Duration::ZERO),
                    ..Link::default()
                },
                Link {
                    back: Some(5 * MS),
                    ..Link::default()
                },
            ],
            delivered: 0,
            uplink_free: Duration::ZERO,
            queued: Duration::ZERO,
            ends: true,
            goal: (up.len(), down.len()),
            closed: false,
        }
    }

    /// Messages that came to either side.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Until both streams are through and, if the client is to end it, the session is closed; or until `limit`.
    pub(super) fn run(&mut self, limit: Duration) -> Result<(), String> {
        self.drive();
        loop {
            let through =
                (self.agent.input.len(), self.received.len()) == self.goal && self.agent.drained() && self.client.drained();
            if self.client.is_over() || through && !self.ends {
                return Ok(());
            }
            if through {
                self.client.finish();
                self.drive();
            }
            let at = self.next().ok_or_else(|| format!("nothing is due any more: {self:?}"))?;
            if at > limit {
                return Err(format!("not through: {self:?}"));
            }
            self.now = self.now.max(at);
            self.step();
        }
    }

    fn next(&self) -> Option<Duration> {
        let wire = self.wire.peek().map(|Reverse(packet)| packet.at);
        let backs = self.links.iter().filter_map(|link| link.back);
        let read = (!self.way.unread_until.is_zero()).then_some(self.way.unread_until);
        let others = [wire, self.client.poll_timeout(), self.agent.due(), read];
        others.into_iter().flatten().chain(backs).min()
    }

    fn step(&mut self) {
        let now = self.now;
        if self.way.unread_until <= now {
            self.way.unread_until = Duration::ZERO;
        }
        for side in [Side::Client, Side::Agent] {
            if self.links[side as usize].back.is_some_and(|back| back <= now) {
                self.open(side);
            }
        }
        while self.wire.peek().is_some_and(|Reverse(packet)| packet.at <= now) {
            if let Some(Reverse(packet)) = self.wire.pop() {
                self.arrive(packet);
            }
        }
        self.agent.time(now);
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        self.drive();
    }

    fn open(&mut self, side: Side) {
        let link = &mut self.links[side as usize];
        link.back = None;
        link.up = true;
        link.opened = false;
        link.number += 1;
        match side {
            Side::Client => self.client.connected(self.now, "the token"),
            Side::Agent => self.agent.attached(self.now),
        }
        if self.way.tells && self.links.iter().all(|link| link.up) {
            self.tell(Side::Client, "start_publication");
            self.tell(Side::Agent, "start_publication");
        }
    }

    fn shut(&mut self, side: Side, gone: Duration) {
        let link = &mut self.links[side as usize];
        if !link.up {
            return;
        }
        link.up = false;
        link.back = Some(self.now + gone);
        if side == Side::Client {
            self.client.disconnected();
        }
        let other = if side == Side::Client { Side::Agent } else { Side::Client };
        if self.way.tells && self.links[other as usize].up {
            self.tell(other, "pause_publication");
        }
    }

    /// The gateway itself says something.
    fn tell(&mut self, to: Side, kind: &str) {
        let bytes = match kind {
            "channel_closed" => Frame::closed(""),
            _ => Frame::bare(kind),
        };
        let number = self.links[to as usize].number;
        let (client, agent) = match to {
            Side::Client => (Some(number), None),
            Side::Agent => (None, Some(number)),
        };
        self.order += 1;
        self.wire.push(Reverse(Packet {
            at: self.now + self.way.latency / 2,
            order: self.order,
            to,
            client,
            agent,
            bytes,
        }));
    }

    fn ship(&mut self, to: Side, bytes: Vec<u8>) {
        // The gateway, which TCP brings everything in order, refuses a large message whether the agent is there or not.
        let refused = to == Side::Agent && self.way.limit.is_some_and(|limit| bytes.len() > 120 + limit);
        if !refused && (self.links.iter().any(|link| !link.up) || self.random.happens(self.way.lost)) {
            return;
        }
        let copies = if self.random.happens(self.way.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if to == Side::Client && self.random.happens(self.way.damaged) {
                let at = 80 + self.random.below(bytes.len() as u64 - 80) as usize;
                // Digest and payload: the header is guarded by TLS alone.
                if !(112..120).contains(&at) {
                    bytes[at] ^= 1 << self.random.below(8);
                }
            }
            let mut at = self.now
                + self.way.latency
                + MS.mul_f64(0.001 * self.random.below(1 + self.way.jitter.as_micros() as u64) as f64);
            if to == Side::Agent && self.way.uplink > 0 {
                self.uplink_free =
                    self.uplink_free.max(self.now) + Duration::from_nanos(1_000_000_000 * bytes.len() as u64 / self.way.uplink);
                self.queued = self.queued.max(self.uplink_free - self.now);
                at += self.uplink_free - self.now;
            }
            self.order += 1;
            self.wire.push(Reverse(Packet {
                at,
                order: self.order,
                to,
                client: Some(self.links[0].number),
                agent: (!refused).then_some(self.links[1].number),
                bytes,
            }));
        }
    }

    fn arrive(&mut self, mut packet: Packet) {
        let current = |link: &Link, number: Option<u32>| number.is_none_or(|number| link.up && link.number == number);
        if !current(&self.links[0], packet.client) || !current(&self.links[1], packet.agent) {
            return;
        }
        let later = match packet.to {
            Side::Client if !self.client.wants_input() => Some(self.now + 5 * MS),
            Side::Agent => Some(self.agent.reads_from()).filter(|from| *from > self.now),
            Side::Client => None,
        };
        if let Some(later) = later {
            packet.at = later;
            self.wire.push(Reverse(packet));
            return;
        }
        let count = self.delivered;
        self.delivered += 1;
        if let Some(cut) = self.way.cuts.iter().find(|cut| cut.message == count).cloned() {
            if cut.client {
                self.shut(Side::Client, cut.gone);
            }
            if cut.agent {
                self.shut(Side::Agent, cut.gone + 3 * MS);
            }
            return;
        }
        if packet.to == Side::Client {
            self.client.handle_input(self.now, Input::Binary(packet.bytes.into()));
            return;
        }
        if packet.client.is_none() {
            let kind = String::from_utf8_lossy(&packet.bytes[4..36])
                .trim_end_matches('\0')
                .to_owned();
            self.agent.gateway(&kind);
            return;
        }
        if self.way.limit.is_some_and(|limit| packet.bytes.len() > 120 + limit) {
            self.client.payload_refused();
            self.shut(Side::Client, 20 * MS);
            return;
        }
        self.agent.receive(self.now, &packet.bytes);
    }

    /// Everything that both can do at this moment.
    fn drive(&mut self) {
        while let Some(event) = self.client.poll_event() {
            if let Event::Reconnect(_) = event {
                self.shut(Side::Client, 10 * MS);
            }
            self.events.push(event);
        }
        if self.way.unread_until <= self.now {
            while let Some(data) = self.client.recv(1000) {
                assert!(!data.is_empty());
                self.received.extend(&data);
            }
        }
        loop {
            let taken = self.client.send(&self.output);
            self.output = self.output.slice(taken..);
            match self.client.poll_transmit(self.now) {
                Some(Transmit::Text(text)) => {
                    assert!(
                        !self.links[0].opened && text.contains(r#""TokenValue":"the token""#),
                        "{text}"
                    );
                    self.links[0].opened = true;
                }
                Some(Transmit::Binary(bytes)) => {
                    assert!(self.links[0].opened, "the token comes first");
                    self.ship(Side::Agent, bytes.to_vec());
                }
                None => break,
            }
        }
        while let Some(bytes) = self.agent.outbox.pop_front() {
            self.ship(Side::Client, bytes);
        }
        if self.agent.terminated && !self.closed && self.links[0].up {
            self.closed = true;
            self.tell(Side::Client, "channel_closed");
        } else if self.closed && !self.client.is_over() && self.links[0].up && self.wire.is_empty() {
            self.tell(Side::Client, "channel_closed");
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "at {:?}: sent {} of {}, received {} of {}",
            self.now,
            self.agent.input.len(),
            self.goal.0,
            self.received.len(),
            self.goal.1
        )?;
        writeln!(f, "{:?}\n{:?}\n{:?}", self.way, self.client.counters(), self.events)?;
        write!(
            f,
            "links {:?}, in flight {:?}, timeout {:?}",
            self.links,
            self.client.in_flight(),
            self.client.poll_timeout()
        )
    }
}
