//! The client's stream: cut into messages, each kept until it is acknowledged, sent again when it seems lost.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::Moment;
use super::event::{Counters, Violation};
use super::id::Ids;
use super::message::{OVERHEAD, Writer, flag, payload};
use super::rate::{Rate, Sent};
use super::settings::{MAX_PAYLOAD, MIN_PAYLOAD, PLAIN_PAYLOAD, Settings};

/// The timeout of the first data, until anything shows that the agent has connected to the port: before that it throws data away without a word, and
/// otherwise the first exchange would wait for a full timeout.
const EARLY: Duration = Duration::from_millis(30);
/// The longest that [`EARLY`] grows by doubling.
const EARLY_MOST: Duration = Duration::from_secs(1);
/// Messages that are sent again in one go.
const BURST: usize = 128;
/// Between two such goes: 12,800 messages a second at most.
const BETWEEN_BURSTS: Duration = Duration::from_millis(10);
/// After so many websockets closed because of a message's size, smaller ones do not help.
const MOST_REFUSALS: u32 = 4;

/// The client's stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Data that is in no message yet.
    staged: BytesMut,
    /// The answer to the handshake, until it is in a message.
    response: Option<Vec<u8>>,
    /// Whether data may go: HandshakeComplete was there.
    pub(super) open: bool,
    ending: Ending,
    /// Messages from `base` on, of which the first is never acknowledged.
    slots: VecDeque<Slot>,
    /// The number of the first of `slots`.
    base: u64,
    /// Payload of `slots` that is not acknowledged, in bytes.
    unacked: usize,
    /// Messages on their way in the order in which they were handed out last, each as (order, number). Those that no longer are, are skipped.
    timeline: VecDeque<(u64, u64)>,
    /// Counts what was handed out.
    order: u64,
    /// The latest message in that order which has arrived.
    arrived: u64,
    /// Numbers of messages that are to be sent again. Ascending, as far as they were not sent on this websocket.
    resend: VecDeque<u64>,
    /// Everything handed out until then is lost, and goes to `resend` burst by burst.
    lost_until: Option<Moment>,
    /// Nothing counts as lost before.
    gate: Moment,
    pub(super) rate: Rate,
    /// The payload of a full message.
    payload: usize,
    /// Counts websockets.
    link: u32,
    /// The largest payload that has arrived.
    largest_arrived: usize,
    refusals: u32,
    /// Whether the agent is known to be connected to the port.
    pub(super) proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    No,
    /// No more data is taken; the flag goes behind what there is.
    Wanted,
    Flagged,
}

/// A message that was handed out at least once.
#[derive(Debug)]
struct Slot {
    /// The whole websocket message; empty when it is acknowledged.
    frame: Bytes,
    payload_type: u32,
    length: usize,
    acked: bool,
    /// The last time.
    sent: Sent,
    order: u64,
    times: u32,
    /// The last websocket.
    link: u32,
}

impl Outgoing {
    pub(super) fn new(payload: usize) -> Outgoing {
        Outgoing {
            staged: BytesMut::new(),
            response: None,
            open: false,
            ending: Ending::No,
            slots: VecDeque::new(),
            base: 0,
            unacked: 0,
            timeline: VecDeque::new(),
            order: 0,
            arrived: 0,
            resend: VecDeque::new(),
            lost_until: None,
            gate: Moment::ZERO,
            rate: Rate::default(),
            payload: payload.clamp(MIN_PAYLOAD, MAX_PAYLOAD),
            link: 0,
            largest_arrived: 0,
            refusals: 0,
            proven: false,
        }
    }

    /// How much [`Outgoing::send`] would take.
    pub(super) fn room(&self, settings: &Settings) -> usize {
        match self.ending {
            Ending::No => settings.staged_bytes.saturating_sub(self.staged.len()),
            _ => 0,
        }
    }

    pub(super) fn send(&mut self, data: &[u8], settings: &Settings) -> usize {
        let taken = data.len().min(self.room(settings));
        self.staged.extend_from_slice(&data[..taken]);
        taken
    }

    /// The answer to the handshake: the first message.
    pub(super) fn respond(&mut self, response: Vec<u8>) {
        self.response = Some(response);
    }

    /// No more data; `flag` whether the agent understands to be told.
    pub(super) fn finish(&mut self, flag: bool) {
        if self.ending == Ending::No {
            self.ending = if flag { Ending::Wanted } else { Ending::Flagged };
        }
    }

    /// Whether data is on its way or waits to be.
    pub(super) fn has_data(&self) -> bool {
        let sent = |slot: &Slot| slot.payload_type == payload::OUTPUT;
        self.open && (!self.staged.is_empty() || self.slots.back().is_some_and(sent))
    }

    /// Whether a message waits for its acknowledgement.
    pub(super) fn has_unacked(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Whether everything, the end included, has arrived.
    pub(super) fn drained(&self) -> bool {
        self.slots.is_empty() && self.staged.is_empty() && self.response.is_none() && self.ending != Ending::Wanted
    }

    /// Messages and bytes that are not acknowledged.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.slots.len(), self.unacked)
    }

    /// The next message to write: first what is to be sent again, then what is new, as far as the window is open.
    pub(super) fn poll(
        &mut self,
        now: Moment,
        settings: &Settings,
        writer: &mut Writer,
        ids: &mut Ids,
        counters: &mut Counters,
    ) -> Option<Bytes> {
        while let Some(number) = self.resend.pop_front() {
            if let Some(index) = self.outstanding(number) {
                counters.retransmitted += 1;
                return Some(self.hand_out(index, now));
            }
        }
        if let Some(response) = self.response.take() {
            return Some(self.add(now, payload::HANDSHAKE_RESPONSE, &response, writer, ids, counters));
        }
        if !self.open || self.slots.len() >= settings.window_messages {
            return None;
        }
        if !self.staged.is_empty() {
            let length = self.staged.len().min(self.payload);
            let window = self.rate.window(self.payload, settings.window_bytes);
            if self.unacked > 0 && self.unacked + length > window {
                return None;
            }
            let data = self.staged.split_to(length);
            counters.bytes_sent += length as u64;
            return Some(self.add(now, payload::OUTPUT, &data, writer, ids, counters));
        }
        if self.ending == Ending::Wanted {
            self.ending = Ending::Flagged;
            let flag = flag::TERMINATE_SESSION.to_be_bytes();
            return Some(self.add(now, payload::FLAG, &flag, writer, ids, counters));
        }
        None
    }

    /// Makes a message of the next number.
    fn add(
        &mut self,
        now: Moment,
        payload_type: u32,
        payload: &[u8],
        writer: &mut Writer,
        ids: &mut Ids,
        counters: &mut Counters,
    ) -> Bytes {
        let number = self.base + self.slots.len() as u64;
        self.slots.push_back(Slot {
            frame: writer.stream(now, number, ids.next(), payload_type, payload),
            payload_type,
            length: payload.len(),
            acked: false,
            sent: Sent::default(),
            order: 0,
            times: 0,
            link: 0,
        });
        counters.sent += 1;
        let idle = self.unacked == 0;
        self.unacked += payload.len();
        let index = self.slots.len() - 1;
        if idle {
            self.rate.sent(now, true);
        }
        self.hand_out(index, now)
    }

    fn hand_out(&mut self, index: usize, now: Moment) -> Bytes {
        self.order += 1;
        let slot = &mut self.slots[index];
        slot.sent = self.rate.sent(now, false);
        slot.order = self.order;
        slot.times += 1;
        slot.link = self.link;
        let frame = slot.frame.clone();
        self.timeline.push_back((self.order, self.base + index as u64));
        self.prune();
        frame
    }

    /// Where in `slots` a message is that is not acknowledged.
    fn outstanding(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.slots.get(index).filter(|slot| !slot.acked).map(|_| index)
    }

    /// The agent has this message.
    pub(super) fn acknowledged(&mut self, sequence: i64, now: Moment, counters: &mut Counters) {
        let Some(index) = u64::try_from(sequence).ok().and_then(|number| self.outstanding(number)) else {
            counters.acks_repeated += 1;
            return;
        };
        let slot = &mut self.slots[index];
        slot.acked = true;
        slot.frame = Bytes::new();
        self.unacked -= slot.length;
        self.largest_arrived = self.largest_arrived.max(slot.length);
        self.proven |= slot.payload_type == payload::OUTPUT;
        let once = slot.times == 1;
        // The acknowledgement of a message that was sent again may be the first sending's; one that is too quick certainly is.
        if once || now.saturating_sub(slot.sent.at) >= self.rate.least() {
            self.arrived = self.arrived.max(slot.order);
        }
        self.rate.acknowledged(now, slot.sent, slot.length, once);
        while self.slots.front().is_some_and(|slot| slot.acked) {
            self.slots.pop_front();
            self.base += 1;
        }
        self.prune();
    }

    /// Brings a message that is on its way to the front of the timeline.
    fn prune(&mut self) {
        while let Some(&(order, number)) = self.timeline.front() {
            let current = self.outstanding(number).is_some_and(|index| self.slots[index].order == order);
            if current {
                return;
            }
            self.timeline.pop_front();
        }
        self.lost_until = None;
    }

    /// When the oldest message on its way counts as lost.
    fn deadline(&self) -> Option<Moment> {
        let &(order, number) = self.timeline.front()?;
        let slot = &self.slots[self.outstanding(number)?];
        let at = slot.sent.at;
        if self.lost_until.is_some_and(|until| at <= until) {
            return Some(self.gate);
        }
        let mut deadline = at + self.timeout(slot);
        if order < self.arrived {
            deadline = deadline.min(at + self.rate.overtaken());
        }
        Some(deadline.max(self.gate))
    }

    fn timeout(&self, slot: &Slot) -> Duration {
        if self.proven || slot.payload_type == payload::HANDSHAKE_RESPONSE {
            return self.rate.timeout();
        }
        (EARLY * (1 << self.rate.backoff())).min(EARLY_MOST)
    }

    /// When [`Outgoing::expire`] is due.
    pub(super) fn expires(&self) -> Option<Moment> {
        // What is to be sent again already is handed out first.
        self.resend.is_empty().then(|| self.deadline()).flatten()
    }

    /// Finds what is lost. It is handed out again, burst by burst.
    pub(super) fn expire(&mut self, now: Moment) {
        for _ in 0..BURST {
            let Some(&(order, number)) = self.timeline.front() else {
                return;
            };
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            let Some(index) = self.outstanding(number) else { return };
            let at = self.slots[index].sent.at;
            if order > self.arrived && self.lost_until.is_none_or(|until| at > until) {
                // One timeout stands for all that would have been answered by now; they do not double it again.
                self.lost_until = Some(at.max(now.saturating_sub(self.rate.usual())));
                self.rate.back_off();
            }
            self.timeline.pop_front();
            self.resend.push_back(number);
            self.prune();
        }
        self.gate = now + BETWEEN_BURSTS;
    }

    /// Nothing counts as lost within a timeout from now: acknowledgements could not be read.
    pub(super) fn forgive(&mut self, now: Moment) {
        self.gate = now + self.rate.timeout();
    }

    /// Everything on its way is lost; it is sent again in order, before anything new.
    pub(super) fn requeue(&mut self) {
        self.timeline.clear();
        self.lost_until = None;
        self.resend.clear();
        let numbers = (self.base..).zip(&self.slots).filter(|(_, slot)| !slot.acked);
        self.resend.extend(numbers.map(|(number, _)| number));
    }

    /// One message to find out whether the agent is there again.
    pub(super) fn probe(&mut self) {
        if self.resend.is_empty() && !self.slots.is_empty() {
            self.resend.push_back(self.base);
        }
    }

    /// There is another websocket.
    pub(super) fn connected(&mut self, now: Moment) {
        self.link += 1;
        self.connected_again(now);
    }

    /// The agent is attached again.
    pub(super) fn connected_again(&mut self, now: Moment) {
        self.gate = now;
        self.rate.restart();
        self.requeue();
    }

    /// The gateway closed the websocket because of a message's size. Data is sent in plain messages from now on, and what is provably
    /// not with the agent is cut anew.
    ///
    /// The argument. The gateway reads a websocket's messages in order and refuses those above a limit that does not change. So the largest message
    /// of this websocket is above it, was refused on every websocket that it was sent on, and has not arrived. On each of them every later number
    /// was first sent behind it (numbers go out in order after each opening), so it was not read either. The largest, the first of that size, and all
    /// that follows may therefore be numbered anew without a gap or a repetition. What stands before it may have arrived, and is sent again as it is.
    /// An acknowledgement that contradicts this shows that the limit is something else; then nothing is cut anew.
    pub(super) fn too_large(&mut self) -> Result<(), Violation> {
        self.refusals += 1;
        let of_this = |slot: &Slot| !slot.acked && slot.link == self.link;
        let sizes = self.slots.iter().filter(|slot| of_this(slot)).map(|slot| slot.length);
        let largest = sizes.max().unwrap_or(0);
        let first = self.slots.iter().position(|slot| of_this(slot) && slot.length == largest);
        if self.refusals > MOST_REFUSALS {
            return Err(Violation::TooLarge(largest));
        }
        self.payload = self.payload.min(PLAIN_PAYLOAD);
        let Some(first) = first.filter(|_| largest > PLAIN_PAYLOAD) else {
            // Nothing could be smaller. It may have been something else that was refused.
            return Ok(());
        };
        let movable = |slot: &Slot| !slot.acked && slot.payload_type != payload::HANDSHAKE_RESPONSE;
        if self.largest_arrived >= largest || !self.slots.range(first..).all(movable) {
            return Ok(());
        }
        let mut data = BytesMut::new();
        for slot in self.slots.drain(first..) {
            self.unacked -= slot.length;
            if slot.payload_type == payload::FLAG {
                self.ending = Ending::Wanted;
            } else {
                data.extend_from_slice(slot.frame.slice(OVERHEAD..).chunk());
            }
        }
        data.extend_from_slice(&self.staged);
        self.staged = data;
        self.requeue();
        Ok(())
    }
}
