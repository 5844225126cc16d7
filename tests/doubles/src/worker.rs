//! The threads of an agent's session worker: one takes what the client sends, one reads the port at the real agent's pace, and
//! one for all sessions looks after their timers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::{self, BUFFER, FLUSH, HANDSHAKE, Phase};
use crate::session::{Order, Session, State};
use crate::settings::PACE;
use crate::wire::{self, Message, payload};
use crate::world::World;

/// How often the timers are looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long a thread waits at most before it looks whether its session is over.
const GLANCE: Duration = Duration::from_millis(200);
/// How long a dial of loopback may take.
const DIAL: Duration = Duration::from_secs(5);

/// Starts the worker of a session whose instance's port is at `port`.
pub(crate) fn start(session: &Arc<Session>, port: SocketAddr) {
    let session = Arc::clone(session);
    std::thread::spawn(move || {
        while let Some(message) = next(&session) {
            take(&session, port, message);
        }
    });
}

/// The next message from the client; `None` once the worker is gone.
fn next(session: &Session) -> Option<Message> {
    let mut state = session.lock();
    loop {
        if state.over.is_some() || !state.agent.alive {
            return None;
        }
        let now = Instant::now();
        let full = state.up.full();
        if let Some(message) = state.up.pop(now) {
            if full && !state.up.full() {
                state.wake_client();
            }
            return Some(message);
        }
        let until = state
            .up
            .next_due()
            .map_or(GLANCE, |due| due.saturating_duration_since(now).min(GLANCE));
        state = wait(session, state, until);
    }
}

fn wait<'a>(session: &Session, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
    session
        .changed
        .wait_timeout(state, limit)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

fn take(session: &Arc<Session>, port: SocketAddr, message: Message) {
    let mut state = session.lock();
    let now = Instant::now();
    if state.client_attached() && state.agent.attached {
        state.agent.paused = false;
    }
    if message.kind == wire::ACKNOWLEDGE {
        if let Some(number) = number_of(&message) {
            state.agent.acknowledged(number, now);
        }
        drop(state);
        session.changed.notify_all();
        return;
    }
    if message.sequence < state.agent.expected {
        state.acknowledge(&message, now);
        return;
    }
    if message.sequence > state.agent.expected {
        if state.agent.buffered.len() < BUFFER {
            state.acknowledge(&message, now);
            state.agent.buffered.insert(message.sequence, message);
        }
        return;
    }
    drop(state);
    if !process(session, port, &message) {
        return;
    }
    let mut state = session.lock();
    state.acknowledge(&message, Instant::now());
    loop {
        state.agent.expected += 1;
        let expected = state.agent.expected;
        state.judge.acked(expected);
        let Some(message) = state.agent.buffered.remove(&expected) else {
            return;
        };
        drop(state);
        // It is acknowledged already, so that it must not be lost now.
        while !process(session, port, &message) {
            let state = session.lock();
            if state.over.is_some() || !state.agent.alive {
                return;
            }
            drop(wait(session, state, TICK));
        }
        state = session.lock();
    }
}

fn number_of(message: &Message) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_slice(&message.payload).ok()?;
    value["AcknowledgedMessageSequenceNumber"].as_i64()
}

/// Does what the next message says; false when it cannot yet, and the client has to send it again.
fn process(session: &Arc<Session>, port: SocketAddr, message: &Message) -> bool {
    let mut state = session.lock();
    let phase = state.agent.phase;
    match (message.payload_type, phase) {
        (payload::HANDSHAKE_RESPONSE, Phase::Asked(since)) => {
            let now = Instant::now();
            state.agent.phase = Phase::Dialling;
            let complete = agent::handshake_complete(now.duration_since(since));
            let complete = state.agent.stream(payload::HANDSHAKE_COMPLETE, &complete, now);
            state.agent_says(complete, now);
            let (session, dial) = (Arc::clone(session), state.settings.dial);
            std::thread::spawn(move || read(&session, port, dial));
            true
        }
        (payload::DATA, Phase::Dialling) => false,
        (payload::DATA, Phase::Ready) => {
            let stream = state.agent.port.clone();
            drop(state);
            stream.is_some_and(|stream| (&*stream).write_all(&message.payload).is_ok())
        }
        (payload::FLAG, _) => {
            state.agent.phase = Phase::Finishing(Instant::now());
            state.close_port();
            true
        }
        _ => true,
    }
}

/// Dials the port once, and sends what it says: at most so many bytes a message, and a sleep after each.
fn read(session: &Session, port: SocketAddr, dial: Duration) {
    // The test asks for a slow dial, to widen the time in which nothing is acknowledged.
    std::thread::sleep(dial);
    let stream = TcpStream::connect_timeout(&port, DIAL).and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(Arc::new(stream))
    });
    let mut state = session.lock();
    let Ok(stream) = stream else {
        // The real worker closes the connection that it never had, and is no more.
        state.agent.crash = Some(Instant::now() + state.settings.crash_after);
        state.kill_agent();
        return;
    };
    // The client may have ended the session while this dialled.
    if state.over.is_some() || !state.agent.alive || state.agent.phase != Phase::Dialling {
        return;
    }
    state.agent.port = Some(Arc::clone(&stream));
    state.agent.phase = Phase::Ready;
    drop(state);
    session.changed.notify_all();
    let mut piece = Vec::new();
    let mut begun: Option<Instant> = None;
    loop {
        let mut state = session.lock();
        if let Some(begun) = begun.take() {
            state.paced += begun.elapsed();
        }
        while state.agent.paused || state.down_full() || !state.client_attached() {
            if state.over.is_some() || !state.agent.alive {
                return;
            }
            state = wait(session, state, GLANCE);
        }
        let (most, paced) = (state.settings.payload, state.settings.paced);
        drop(state);
        piece.resize(most, 0);
        let length = (&*stream).read(&mut piece).unwrap_or(0);
        let mut state = session.lock();
        if state.over.is_some() || !state.agent.alive {
            return;
        }
        let now = Instant::now();
        begun = Some(now);
        if length == 0 {
            if state.agent.phase == Phase::Ready {
                state.agent.phase = Phase::Finishing(now);
            }
            return;
        }
        let message = state.agent.stream(payload::DATA, &piece[..length], now);
        state.agent_says(message, now);
        drop(state);
        if paced {
            std::thread::sleep(PACE);
        }
    }
}

/// The timers of all sessions, for ever.
pub(crate) fn keep(world: &World) {
    loop {
        std::thread::sleep(TICK);
        for session in world.open_sessions() {
            look(&session);
        }
    }
}

fn look(session: &Session) {
    let mut state = session.lock();
    let now = Instant::now();
    if state.agent.back.is_some_and(|back| back <= now) {
        state.agent_back(now);
        session.changed.notify_all();
    }
    state.resend(now);
    if due(state.standing.cut_agent_every, state.last_cut_agent, now) && state.agent.attached {
        let pause = state.settings.agent_back;
        state.cut_agent(pause, now);
    }
    let cut = due(state.standing.cut_client_every, state.last_cut_client, now) && state.client_attached();
    if cut {
        state.last_cut_client = now;
    }
    let late = state.agent.alive && matches!(state.agent.phase, Phase::Asked(since) if now.duration_since(since) > HANDSHAKE);
    let flushed = state.agent.flushed();
    let finished = matches!(state.agent.phase, Phase::Finishing(since) if flushed || now.duration_since(since) > FLUSH);
    let crashed = state.agent.crash.is_some_and(|at| at <= now);
    let overdue = if state.client_attached() {
        state.judge.overdue(now)
    } else {
        Ok(())
    };
    let alive = state.agent.alive;
    drop(state);
    if cut {
        session.order(Order::Cut);
    }
    if let Err(why) = overdue {
        session.violate(&why);
    } else if crashed {
        session.crashed();
    } else if late {
        session.end("no HandshakeResponse", "\n----------ERROR-------\nHandshake timed out. Please ensure that you have the latest version of the session manager plugin.");
    } else if finished && alive {
        session.end("the port was closed", "");
    }
}

fn due(every: Option<Duration>, last: Instant, now: Instant) -> bool {
    every.is_some_and(|every| now.duration_since(last) >= every)
}
