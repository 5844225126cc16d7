//! The channel: what arrives, what time brings, what goes out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::Moment;
use super::event::{Counters, Event, Input, Reason, Transmit, Violation};
use super::handshake::{CLIENT_VERSION, Complete, Open, Request, terminates};
use super::id::{Id, Ids};
use super::incoming::{Incoming, Part};
use super::message::{Kind, Malformed, Message, Writer, flag, payload};
use super::outgoing::Outgoing;
use super::settings::Settings;

/// While the agent is not attached, one message is sent this often: the service need not say that it is back.
const PROBE: Duration = Duration::from_secs(5);
/// Damaged messages in a row after which it is not an accident.
const MOST_DAMAGED: u32 = 1000;
/// Events that wait to be polled. Pauses and resumptions past it are not told.
const MOST_EVENTS: usize = 64;
/// Doublings of the silence that is suffered, while websocket after websocket brings nothing.
const MOST_SILENCES: u32 = 4;

/// One session's data channel, over all its websockets. See the module for how it is driven.
///
/// After each call that changes something, the driver polls events and transmits until there are none, then asks for the timeout.
#[derive(Debug)]
pub struct Channel {
    settings: Settings,
    ids: Ids,
    writer: Writer,
    client: Id,
    link: Option<Link>,
    phase: Phase,
    agent_version: String,
    incoming: Incoming,
    outgoing: Outgoing,
    /// While the agent is not attached: when to probe.
    paused: Option<Moment>,
    /// Whether a probe may go out.
    probe: bool,
    /// Whether the driver was told not to read; what time brought meanwhile does not count.
    blocked: bool,
    /// Websockets in a row that brought nothing though something was due.
    silences: u32,
    damaged: u32,
    handshake_missed: bool,
    first_ack: FirstAck,
    events: VecDeque<Event>,
    counters: Counters,
}

/// An open websocket.
#[derive(Debug)]
struct Link {
    /// The first message, until it is handed out.
    opening: Option<String>,
    since: Moment,
    /// Since when something has been due and nothing has come.
    due_since: Option<Moment>,
    given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// HandshakeRequest is awaited.
    Fresh,
    /// HandshakeComplete is awaited.
    Answered,
    /// What was asked for was refused.
    Refused,
    Ready,
    /// Nothing more comes or goes.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum FirstAck {
    /// No data yet.
    Unasked,
    Due(Moment),
    /// It was there, or its lack was told.
    Settled,
}

impl Channel {
    /// The channel of a session that has just been started; no websocket is open.
    pub fn new(settings: Settings) -> Channel {
        let mut ids = Ids::new(settings.seed);
        Channel {
            client: ids.next(),
            ids,
            writer: Writer::new(settings.epoch_millis),
            link: None,
            phase: Phase::Fresh,
            agent_version: String::new(),
            incoming: Incoming::default(),
            outgoing: Outgoing::new(settings.payload),
            paused: None,
            probe: false,
            blocked: false,
            silences: 0,
            damaged: 0,
            handshake_missed: false,
            first_ack: FirstAck::Unasked,
            events: VecDeque::new(),
            counters: Counters::default(),
            settings,
        }
    }

    /// A websocket is open. Its first message, with the `token` of StartSession or ResumeSession, is the next to transmit; then come the acknowledgements
    /// that are owed and everything that is not acknowledged, in order. Whatever was left of another websocket is forgotten.
    pub fn connected(&mut self, now: Moment, token: &str) {
        if self.phase == Phase::Over {
            return;
        }
        let (request, client) = (self.ids.next().to_string(), self.client.to_string());
        let open = Open {
            schema: "1.0",
            request: &request,
            token,
            client: &client,
            version: CLIENT_VERSION,
        };
        self.counters.websockets += 1;
        self.link = Some(Link {
            // Strings alone cannot fail to be written.
            opening: Some(serde_json::to_string(&open).unwrap_or_default()),
            since: now,
            due_since: None,
            given_up: false,
        });
        self.paused = None;
        self.blocked = !self.wants_input();
        self.outgoing.connected(now);
        if let FirstAck::Due(_) = self.first_ack {
            self.first_ack = FirstAck::Unasked;
        }
    }

    /// The websocket is gone, for whatever reason: an error, a close of either side with any code but 1009, silence. The stream goes on with the next one.
    pub fn disconnected(&mut self) {
        self.link = None;
    }

    /// The websocket is gone, and the gateway's close code was 1009, message too big. Instead of [`Channel::disconnected`].
    /// From now on payloads are [`PLAIN_PAYLOAD`](super::PLAIN_PAYLOAD); what cannot have reached the agent is cut anew.
    pub fn payload_refused(&mut self) {
        if self.link.take().is_none() || self.phase == Phase::Over {
            return;
        }
        if let Err(violation) = self.outgoing.too_large() {
            self.violated(violation);
        }
    }

    /// Takes in one websocket message.
    pub fn handle_input(&mut self, now: Moment, input: Input<'_>) {
        let Input::Binary(bytes) = input else { return };
        if self.phase == Phase::Over {
            return;
        }
        self.unblock(now);
        match Message::parse(bytes).and_then(|message| self.message(now, message)) {
            Ok(()) => self.damaged = 0,
            Err(_) => {
                self.counters.damaged += 1;
                self.damaged += 1;
                if self.damaged >= MOST_DAMAGED {
                    self.violated(Violation::Damaged(self.damaged));
                }
            }
        }
        self.blocked = !self.wants_input();
    }

    fn message(&mut self, now: Moment, message: Message) -> Result<(), Malformed> {
        match message.kind {
            Kind::Output => {
                self.attached(now);
                self.incoming.take(message, &self.settings, &mut self.counters);
                while let Some(part) = self.incoming.next() {
                    self.part(part);
                }
            }
            Kind::Acknowledge => {
                let sequence = message.acknowledged()?;
                self.attached(now);
                self.counters.acks_received += 1;
                self.outgoing.acknowledged(sequence, now, &mut self.counters);
            }
            Kind::Start => self.attached(now),
            Kind::Pause => self.pause(now),
            Kind::Closed => {
                self.over(Event::Closed {
                    output: message.output(),
                });
                return Ok(());
            }
            Kind::Input | Kind::Other => {}
        }
        self.heard(now);
        Ok(())
    }

    /// A payload of the agent's stream, in its turn.
    fn part(&mut self, part: Part) {
        match (part.payload_type, self.phase) {
            (payload::OUTPUT, Phase::Fresh) => self.violated(Violation::NoHandshake),
            (payload::OUTPUT, _) => {
                self.outgoing.proven = true;
                self.incoming.deliver(part.payload, &mut self.counters);
            }
            (payload::HANDSHAKE_REQUEST, Phase::Fresh) => match Request::parse(&part.payload) {
                None => self.violated(Violation::Handshake),
                Some(request) => self.answer(&request),
            },
            (payload::HANDSHAKE_COMPLETE, Phase::Fresh | Phase::Answered) => {
                self.phase = Phase::Ready;
                self.outgoing.open = true;
                self.tell(Event::Ready {
                    agent_version: self.agent_version.clone(),
                    customer_message: Complete::parse(&part.payload).customer_message,
                });
            }
            (payload::FLAG, _) if part.payload[..] == flag::CONNECT_TO_PORT_ERROR.to_be_bytes() => self.tell(Event::PortRefused),
            // Errors and exit codes are of other kinds of session; a second handshake changes nothing.
            _ => {}
        }
    }

    fn answer(&mut self, request: &Request) {
        self.agent_version.clone_from(&request.agent_version);
        self.outgoing.respond(request.response());
        match request.refusal() {
            None => self.phase = Phase::Answered,
            Some(refusal) => {
                self.phase = Phase::Refused;
                self.tell(Event::Refused(refusal.clone()));
            }
        }
    }

    /// The websocket lives.
    fn heard(&mut self, now: Moment) {
        self.silences = 0;
        let due = self.outgoing.has_unacked();
        if let Some(link) = &mut self.link {
            link.due_since = due.then_some(now);
        }
    }

    fn pause(&mut self, now: Moment) {
        self.counters.pauses += 1;
        if self.paused.is_none() {
            self.paused = Some(now + PROBE);
            self.probe = false;
            self.tell(Event::Paused);
        }
    }

    /// The agent is there: the gateway or it itself says so.
    fn attached(&mut self, now: Moment) {
        if self.paused.take().is_some() {
            self.outgoing.connected_again(now);
            self.tell(Event::Resumed);
        }
    }

    /// Carries out what is due. Calling it early or late does no harm.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.unblock(now);
        let Some(link) = &self.link else { return };
        let (since, due_since, given_up) = (link.since, link.due_since, link.given_up);
        if self.phase == Phase::Over {
            return;
        }
        if self.first_ack == FirstAck::Unasked && self.outgoing.has_data() {
            self.first_ack = FirstAck::Due(now + self.settings.first_ack);
        }
        if self.outgoing.proven {
            self.first_ack = FirstAck::Settled;
        }
        if matches!(self.first_ack, FirstAck::Due(at) if at <= now) {
            self.first_ack = FirstAck::Settled;
            self.tell(Event::FirstAckMissing);
        }
        if self.handshaking() && since + self.settings.handshake <= now {
            self.handshake_missed = true;
            self.tell(Event::HandshakeMissing);
        }
        if let Some(at) = self.paused {
            if at <= now {
                self.paused = Some(now + PROBE);
                self.probe = true;
                self.outgoing.probe();
            }
            return;
        }
        if self.blocked {
            return;
        }
        self.outgoing.expire(now);
        let silence = self.silence();
        if !given_up && due_since.is_some_and(|due_since| due_since + silence <= now) {
            self.silences = (self.silences + 1).min(MOST_SILENCES);
            if let Some(link) = &mut self.link {
                link.given_up = true;
            }
            self.tell(Event::Reconnect(Reason::Silence(silence)));
        }
    }

    /// When [`Channel::handle_timeout`] is to be called; asked for anew after every other call.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let link = self.link.as_ref().filter(|_| self.phase != Phase::Over)?;
        let first_ack = match self.first_ack {
            FirstAck::Due(at) => Some(at),
            _ => None,
        };
        let handshake = self.handshaking().then(|| link.since + self.settings.handshake);
        let free = self.paused.is_none() && !self.blocked;
        let resumed = self.blocked && self.wants_input();
        let silence = link
            .due_since
            .filter(|_| free && !link.given_up)
            .map(|at| at + self.silence());
        let expires = if free { self.outgoing.expires() } else { None };
        let probe = self.paused.filter(|_| !self.outgoing.drained());
        let all = [first_ack, handshake, silence, expires, probe, resumed.then_some(Moment::ZERO)];
        all.into_iter().flatten().min()
    }

    fn handshaking(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Answered) && !self.handshake_missed
    }

    fn silence(&self) -> Duration {
        self.settings.silence * (1 << self.silences)
    }

    /// The driver reads again, after it was told not to.
    fn unblock(&mut self, now: Moment) {
        if self.blocked && self.wants_input() {
            self.blocked = false;
            self.outgoing.forgive(now);
            if let Some(link) = &mut self.link {
                link.due_since = link.due_since.map(|_| now);
            }
        }
    }

    /// The next websocket message to write, `None` when there is nothing now. Acknowledgements come ahead of data, so a driver may gather what it
    /// gets into one write.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Transmit> {
        let link = self.link.as_mut().filter(|_| self.phase != Phase::Over)?;
        if let Some(opening) = link.opening.take() {
            return Some(Transmit::Text(opening));
        }
        let paused = self.paused.is_some();
        if !paused && let Some((sequence, of)) = self.incoming.ack() {
            self.counters.acks_sent += 1;
            let id = self.ids.next();
            return Some(Transmit::Binary(self.writer.acknowledgement(now, sequence, of, id)));
        }
        if paused && !std::mem::take(&mut self.probe) {
            return None;
        }
        let message = self
            .outgoing
            .poll(now, &self.settings, &mut self.writer, &mut self.ids, &mut self.counters)?;
        link.due_since.get_or_insert(now);
        if self.first_ack == FirstAck::Unasked && self.outgoing.has_data() {
            self.first_ack = FirstAck::Due(now + self.settings.first_ack);
        }
        Some(Transmit::Binary(message))
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes data of the client and says how many bytes of it; the rest is offered again when [`Channel::capacity`] is not 0. Nothing goes out
    /// before HandshakeComplete.
    pub fn send(&mut self, data: &[u8]) -> usize {
        if self.phase == Phase::Over {
            return 0;
        }
        self.outgoing.send(data, &self.settings)
    }

    /// How many bytes [`Channel::send`] would take now.
    pub fn capacity(&self) -> usize {
        if self.phase == Phase::Over {
            return 0;
        }
        self.outgoing.room(&self.settings)
    }

    /// The next data of the agent, in order, at most so many bytes of it; never empty. What was received before [`Event::Closed`] can still be had after it.
    pub fn recv(&mut self, most: usize) -> Option<Bytes> {
        self.incoming.recv(most)
    }

    /// Whether [`Channel::recv`] has something.
    pub fn readable(&self) -> bool {
        self.incoming.readable()
    }

    /// Whether the websocket should be read: not while a reader or the driver's writing is too far behind. Once it was `false`, it is asked again
    /// after `recv` and `poll_transmit`. What arrives all the same is taken up to twice the bounds and then dropped, which only costs time.
    pub fn wants_input(&self) -> bool {
        self.incoming.has_room(&self.settings)
    }

    /// The client ends the session: no more data is taken, and behind all of it the agent is told (flag TerminateSession). It answers with
    /// `channel_closed`. An agent from before 2.3.722 is not told; TerminateSession of the API works with each.
    pub fn finish(&mut self) {
        let flag = self.phase == Phase::Ready && terminates(&self.agent_version);
        self.outgoing.finish(flag);
    }

    /// Whether everything that was sent, the end included, is acknowledged.
    pub fn drained(&self) -> bool {
        self.outgoing.drained()
    }

    /// Whether [`Event::Closed`] or [`Event::Violated`] came: nothing is taken in, and nothing goes out.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// What went through.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages, and bytes of data, that are not acknowledged.
    pub fn in_flight(&self) -> (usize, usize) {
        self.outgoing.in_flight()
    }

    fn violated(&mut self, violation: Violation) {
        self.over(Event::Violated(violation));
    }

    fn over(&mut self, event: Event) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.events.push_back(event);
        }
    }

    fn tell(&mut self, event: Event) {
        if self.phase == Phase::Over || self.events.len() >= MOST_EVENTS && matches!(event, Event::Paused | Event::Resumed) {
            return;
        }
        self.events.push_back(event);
    }
}
