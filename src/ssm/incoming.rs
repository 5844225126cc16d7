//! The agent's stream: put in order, acknowledged one by one, held for a reader within bounds.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::Counters;
use super::id::Id;
use super::message::{Message, OVERHEAD};
use super::settings::Settings;

/// Up to here what waits for a reader may share memory with what the driver read, in bytes. A reader that is slower gets copies, so that what
/// is counted is what is held.
const SHARED: usize = 64 * 1024;

/// The agent's stream, from which messages come in any order and more than once.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The number of the message that comes next.
    expected: u64,
    /// Messages from `expected` on. The front is empty except between [`Incoming::take`] and [`Incoming::next`].
    ahead: VecDeque<Option<Part>>,
    ahead_bytes: usize,
    /// Data in order. Never empty pieces.
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// What is to be acknowledged, in the order of arrival.
    acks: VecDeque<(u64, Id)>,
}

/// One message's payload.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) payload_type: u32,
    pub(super) payload: Bytes,
}

impl Incoming {
    /// Takes a stream message: it is acknowledged unless there is no room for it. Then [`Incoming::next`] until it has no more.
    pub(super) fn take(&mut self, message: Message, settings: &Settings, counters: &mut Counters) {
        let Ok(sequence) = u64::try_from(message.sequence) else {
            counters.damaged += 1;
            return;
        };
        if self.acks.len() >= 2 * settings.pending_acks {
            counters.dropped += 1;
            return;
        }
        let distance = match sequence.checked_sub(self.expected) {
            Some(distance) if !self.holds(distance) => distance,
            // It is here already; the agent does not know.
            _ => {
                counters.duplicates += 1;
                self.acks.push_back((sequence, message.id));
                return;
            }
        };
        let cost = message.payload.len() + OVERHEAD;
        let room = match distance {
            0 => self.inbox_bytes < 2 * settings.inbox_bytes,
            _ => distance <= settings.ahead_messages as u64 && self.ahead_bytes + cost <= settings.ahead_bytes,
        };
        if !room {
            counters.dropped += 1;
            return;
        }
        self.acks.push_back((sequence, message.id));
        let distance = distance as usize;
        if self.ahead.len() <= distance {
            self.ahead.resize_with(distance + 1, || None);
        }
        counters.received += 1;
        let payload = if distance > 0 {
            Bytes::copy_from_slice(&message.payload)
        } else {
            message.payload
        };
        self.ahead[distance] = Some(Part {
            payload_type: message.payload_type,
            payload,
        });
        self.ahead_bytes += cost;
    }

    /// Whether the message so far behind the expected one is held.
    fn holds(&self, distance: u64) -> bool {
        let index = usize::try_from(distance).unwrap_or(usize::MAX);
        self.ahead.get(index).is_some_and(Option::is_some)
    }

    /// The next message in order.
    pub(super) fn next(&mut self) -> Option<Part> {
        if self.ahead.front()?.is_none() {
            return None;
        }
        let part = self.ahead.pop_front()??;
        self.ahead_bytes -= part.payload.len() + OVERHEAD;
        self.expected += 1;
        Some(part)
    }

    /// Puts data in order before the reader.
    pub(super) fn deliver(&mut self, data: Bytes, counters: &mut Counters) {
        if data.is_empty() {
            return;
        }
        counters.bytes_received += data.len() as u64;
        let data = if self.inbox_bytes > SHARED {
            Bytes::copy_from_slice(&data)
        } else {
            data
        };
        self.inbox_bytes += data.len() + OVERHEAD;
        self.inbox.push_back(data);
    }

    /// See [`Channel::recv`](super::Channel::recv).
    pub(super) fn recv(&mut self, most: usize) -> Option<Bytes> {
        let front = self.inbox.front_mut()?;
        if most == 0 {
            return None;
        }
        if front.len() > most {
            self.inbox_bytes -= most;
            return Some(front.split_to(most));
        }
        let data = self.inbox.pop_front()?;
        self.inbox_bytes -= data.len() + OVERHEAD;
        Some(data)
    }

    /// Whether `recv` has something.
    pub(super) fn readable(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether the reader and the writer keep up.
    pub(super) fn has_room(&self, settings: &Settings) -> bool {
        self.inbox_bytes < settings.inbox_bytes && self.acks.len() < settings.pending_acks
    }

    /// The next message to acknowledge: its number and its id.
    pub(super) fn ack(&mut self) -> Option<(u64, Id)> {
        self.acks.pop_front()
    }
}
