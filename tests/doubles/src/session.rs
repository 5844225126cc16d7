//! One session: the gateway between a client's websocket and an agent's worker.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::{self, Agent, Outgoing, Phase};
use crate::chance::{self, Dice};
use crate::judge::{Judge, Seen};
use crate::lane::{Lane, Odds};
use crate::settings::Settings;
use crate::wire::{self, Message};
use crate::world::Violations;

/// How failure texts begin.
const ERROR: &str = "\n----------ERROR-------\n";

/// What StartSession said.
pub(crate) struct Facts {
    /// How many there were before.
    pub(crate) number: usize,
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) document: String,
    pub(crate) port: u16,
    pub(crate) owner: String,
    pub(crate) reason: Option<String>,
    /// Milliseconds since the epoch.
    pub(crate) started: u64,
}

/// What a message to the client is, for the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Stream {
        number: i64,
        kind: u32,
        whole: bool,
    },
    Other,
    /// channel_closed: nothing comes behind it.
    Last,
}

/// What a client's websocket is told to do by the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Resets the connection.
    Cut,
    /// Closes it with this code and text.
    Close(u16, &'static str),
    /// From now on swallows what comes, and answers nothing.
    Blackhole,
}

/// The client's websocket.
struct Client {
    generation: u64,
    waker: UnixStream,
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: u64,
    /// Of payload in stream messages.
    pub(crate) bytes: u64,
    pub(crate) acks: u64,
    pub(crate) retransmissions: u64,
}

/// What lasts until the test says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) up: Odds,
    pub(crate) down: Odds,
    pub(crate) refuse_resume: bool,
    /// The client's websocket is not read.
    pub(crate) stall: bool,
    /// Messages longer than this close the websocket with 1009; 0 is no limit.
    pub(crate) close_above: usize,
    pub(crate) cut_client_every: Option<Duration>,
    pub(crate) cut_agent_every: Option<Duration>,
}

pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) standing: Standing,
    pub(crate) agent: Agent,
    pub(crate) judge: Judge,
    pub(crate) up: Lane<Message>,
    down: Lane<(Vec<u8>, Note)>,
    client: Option<Client>,
    /// Token -> whether it was used.
    tokens: BTreeMap<String, bool>,
    /// Why it is over.
    pub(crate) over: Option<String>,
    pub(crate) ended: u64,
    pub(crate) websockets: u64,
    pub(crate) counted_up: Counters,
    pub(crate) counted_down: Counters,
    /// How long the agent was at work on what it read of its port, or asleep behind it: not waiting for the port, nor for the client.
    pub(crate) paced: Duration,
    pub(crate) most_outstanding: i64,
    dice: Dice,
    pub(crate) last_cut_client: Instant,
    pub(crate) last_cut_agent: Instant,
}

pub(crate) struct Session {
    pub(crate) facts: Facts,
    pub(crate) changed: Condvar,
    state: Mutex<State>,
    violations: Arc<Violations>,
}

impl Session {
    pub(crate) fn new(facts: Facts, settings: Settings, standing: Standing, violations: Arc<Violations>) -> Session {
        let now = Instant::now();
        let state = State {
            agent: Agent::new(now),
            judge: Judge::new(settings.ack_limit, now),
            up: Lane::default(),
            down: Lane::default(),
            client: None,
            tokens: BTreeMap::new(),
            over: None,
            ended: 0,
            websockets: 0,
            counted_up: Counters::default(),
            counted_down: Counters::default(),
            paced: Duration::ZERO,
            most_outstanding: 0,
            dice: Dice(settings.seed),
            last_cut_client: now,
            last_cut_agent: now,
            settings,
            standing,
        };
        Session {
            facts,
            changed: Condvar::new(),
            state: Mutex::new(state),
            violations,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh token for one opening.
    pub(crate) fn token(&self) -> String {
        let token = chance::hex(&chance::bytes::<96>());
        self.lock().tokens.insert(token.clone(), false);
        token
    }

    /// The client's first message on a new websocket: gives the number of this websocket.
    pub(crate) fn open(&self, text: &str, waker: UnixStream) -> Result<u64, String> {
        let mut state = self.lock();
        let now = Instant::now();
        let opened = state
            .judge
            .opening(text, now)
            .and_then(|token| match state.tokens.get_mut(&token) {
                None => Err("a token that this session never gave".to_owned()),
                Some(used) if *used => Err("a token is used for the second time".to_owned()),
                Some(used) => {
                    *used = true;
                    Ok(())
                }
            });
        if let Err(why) = opened {
            drop(state);
            self.violate(&why);
            return Err(why);
        }
        if let Some(why) = &state.over {
            return Err(format!("the session is over: {why}"));
        }
        state.websockets += 1;
        let generation = state.websockets;
        state.last_cut_client = now;
        if let Some(before) = state.client.replace(Client {
            generation,
            waker,
            order: None,
        }) {
            wake(&before.waker);
        }
        state.down.clear();
        if state.agent.attached {
            state.agent.paused = false;
            state.tell(agent::notice(wire::START), Note::Other, now);
        } else {
            state.tell(agent::notice(wire::PAUSE), Note::Other, now);
        }
        if state.agent.phase == Phase::Waiting && state.agent.alive {
            state.agent.phase = Phase::Asked(now);
            let request = agent::handshake_request(&self.facts.document, self.facts.port);
            let message = state.agent.stream(wire::payload::HANDSHAKE_REQUEST, &request, now);
            state.agent_says(message, now);
        }
        drop(state);
        self.changed.notify_all();
        Ok(generation)
    }

    /// The client's websocket is gone.
    pub(crate) fn leave(&self, generation: u64) {
        let mut state = self.lock();
        if state.client.as_ref().is_some_and(|client| client.generation == generation) {
            state.client = None;
            state.down.clear();
            state.agent.paused = true;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// A binary message from the client's websocket. An error has been recorded, and the session is over.
    pub(crate) fn client_says(&self, bytes: &[u8]) -> Result<(), String> {
        let mut state = self.lock();
        let now = Instant::now();
        let judged = state.judge.message(bytes, chance::now_ms(), now);
        let (message, seen) = match judged {
            Ok(judged) => judged,
            // What is still on its way when a session ends is nobody's fault.
            Err(_) if state.over.is_some() => return Ok(()),
            Err(why) => {
                drop(state);
                self.violate(&why);
                return Err(why);
            }
        };
        let counted = &mut state.counted_up;
        match seen {
            Seen::Acknowledges(_) => counted.acks += 1,
            Seen::Again => counted.retransmissions += 1,
            Seen::New => {
                counted.messages += 1;
                counted.bytes += message.payload.len() as u64;
            }
        }
        state.most_outstanding = state.most_outstanding.max(state.judge.outstanding());
        state.relay_up(message, now);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// What the client gets next on this websocket, up to `most` bytes. `None` when it is no longer the client's websocket.
    pub(crate) fn client_gets(&self, generation: u64, most: usize) -> Option<Batch> {
        let mut state = self.lock();
        let now = Instant::now();
        if state.client.as_ref().is_none_or(|client| client.generation != generation) {
            return None;
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        while bytes < most && !batch.last {
            let Some((message, note)) = state.down.pop(now) else { break };
            if let Note::Stream {
                number,
                kind,
                whole: true,
            } = note
            {
                state.judge.delivered(number, kind);
            }
            bytes += message.len();
            batch.last = note == Note::Last;
            batch.messages.push(message);
        }
        batch.order = state.client.as_mut().and_then(|client| client.order.take());
        batch.wait = state.down.next_due().map(|due| due.saturating_duration_since(now));
        batch.hold = state.standing.stall || state.up.full();
        batch.deliveries = state.judge.deliveries();
        batch.close_above = state.standing.close_above;
        drop(state);
        if bytes > 0 {
            self.changed.notify_all();
        }
        Some(batch)
    }

    /// The client answered a ping that was sent after this many deliveries.
    pub(crate) fn pong(&self, deliveries: u64) {
        self.lock().judge.proof(deliveries, Instant::now());
    }

    /// Records a violation and ends the session.
    pub(crate) fn violate(&self, why: &str) {
        self.violations.record(&self.facts.id, why);
        self.end(
            &format!("protocol violation: {why}"),
            &format!("{ERROR}protocol violation: {why}"),
        );
    }

    /// Ends the session, unless it is over: `output` is channel_closed's text.
    pub(crate) fn end(&self, why: &str, output: &str) {
        let mut state = self.lock();
        if state.over.is_some() {
            return;
        }
        state.over = Some(why.to_owned());
        state.ended = chance::now_ms();
        state.close_port();
        let message = agent::closed(&self.facts.id, &self.facts.target, output);
        state.tell(message, Note::Last, Instant::now());
        drop(state);
        self.changed.notify_all();
    }

    /// Ends it as AWS does when a worker crashed.
    pub(crate) fn crashed(&self) {
        let text =
            "document process failed unexpectedly: document worker timed out, check [ssm-session-worker] log for crash reason";
        self.end("the worker crashed", &format!("{ERROR}{text}"));
    }

    /// Carries out what the test told this client's websocket; false when there is none.
    pub(crate) fn order(&self, order: Order) -> bool {
        let mut state = self.lock();
        let Some(client) = state.client.as_mut() else { return false };
        client.order = Some(order);
        wake(&client.waker);
        true
    }

    /// Wakes the client's websocket, because something that lasts has changed.
    pub(crate) fn refresh(&self) {
        self.lock().wake_client();
        self.changed.notify_all();
    }
}

/// What a client's websocket does next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Vec<u8>>,
    /// The last of the messages is channel_closed.
    pub(crate) last: bool,
    pub(crate) order: Option<Order>,
    /// Until the next message is due.
    pub(crate) wait: Option<Duration>,
    /// Do not read for now.
    pub(crate) hold: bool,
    pub(crate) deliveries: u64,
    pub(crate) close_above: usize,
}

impl State {
    pub(crate) fn client_attached(&self) -> bool {
        self.client.is_some()
    }

    /// Whether the worker can hand over nothing more for now.
    pub(crate) fn down_full(&self) -> bool {
        self.down.full()
    }

    /// A message of the gateway's own to the client; no fault strikes it.
    fn tell(&mut self, bytes: Vec<u8>, note: Note, now: Instant) {
        if let Some(client) = &self.client {
            self.down.push(now + self.settings.latency, bytes.len(), (bytes, note));
            wake(&client.waker);
        }
    }

    /// A new stream message of the agent's.
    pub(crate) fn agent_says(&mut self, message: Outgoing, now: Instant) {
        self.judge.made(message.id);
        self.counted_down.messages += 1;
        self.counted_down.bytes += (message.bytes.len() - 120) as u64;
        let note = Note::Stream {
            number: message.number,
            kind: message.kind,
            whole: true,
        };
        self.relay_down(&message.bytes, note, now);
    }

    /// The agent's acknowledgement of a message.
    pub(crate) fn acknowledge(&mut self, message: &Message, now: Instant) {
        self.counted_down.acks += 1;
        self.relay_down(&agent::acknowledgement(message), Note::Other, now);
    }

    /// The agent's timer.
    pub(crate) fn resend(&mut self, now: Instant) {
        if self.client.is_none() || !self.agent.attached || !self.agent.alive {
            return;
        }
        if let Some((bytes, number, kind)) = self.agent.resend(now) {
            self.counted_down.retransmissions += 1;
            let note = Note::Stream {
                number,
                kind,
                whole: true,
            };
            self.relay_down(&bytes, note, now);
        }
    }

    /// From the agent's websocket towards the client. What finds one of the two missing is lost.
    fn relay_down(&mut self, bytes: &[u8], note: Note, now: Instant) {
        let Some(client) = &self.client else { return };
        if !self.agent.attached || !self.agent.alive {
            return;
        }
        for copy in self.standing.down.strike(&mut self.dice) {
            let mut bytes = bytes.to_vec();
            let mut note = note;
            if let (true, Note::Stream { number, kind, .. }) = (copy.corrupt, note) {
                agent::corrupt(&mut bytes, &mut self.dice);
                note = Note::Stream {
                    number,
                    kind,
                    whole: false,
                };
            }
            let due = now + self.settings.latency + copy.late;
            self.down.push(due, bytes.len(), (bytes, note));
        }
        wake(&client.waker);
    }

    /// From the client towards the agent.
    fn relay_up(&mut self, message: Message, now: Instant) {
        if !self.agent.attached || !self.agent.alive {
            return;
        }
        for copy in self.standing.up.strike(&mut self.dice) {
            // The real agent does not look at digests, so that a damaged message is as good as lost here.
            if copy.corrupt && message.kind == wire::INPUT {
                continue;
            }
            let due = now + self.settings.latency + copy.late;
            self.up.push(due, message.payload.len() + 120, message.clone());
        }
    }

    /// The agent's websocket breaks, and comes back after `pause`.
    pub(crate) fn cut_agent(&mut self, pause: Duration, now: Instant) {
        self.agent.attached = false;
        self.agent.back = Some(now + pause);
        self.last_cut_agent = now;
        self.up.clear();
        self.tell(agent::notice(wire::PAUSE), Note::Other, now);
    }

    pub(crate) fn agent_back(&mut self, now: Instant) {
        self.agent.attached = true;
        self.agent.back = None;
        self.agent.paused = self.client.is_none();
        self.tell(agent::notice(wire::START), Note::Other, now);
    }

    /// The worker is gone without a word.
    pub(crate) fn kill_agent(&mut self) {
        self.agent.alive = false;
        self.up.clear();
        self.close_port();
    }

    /// Wakes the client's websocket.
    pub(crate) fn wake_client(&self) {
        if let Some(client) = &self.client {
            wake(&client.waker);
        }
    }

    pub(crate) fn close_port(&mut self) {
        if let Some(port) = self.agent.port.take() {
            // It may be closed from the other side already.
            port.shutdown(Shutdown::Both).ok();
        }
    }
}

fn wake(mut waker: &UnixStream) {
    // A full pipe has woken it already.
    waker.write_all(&[1]).ok();
}
