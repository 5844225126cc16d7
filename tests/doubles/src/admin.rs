//! What a test says and asks; the paths are listed in main.rs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::control::locked;
use crate::lane::Odds;
use crate::proxy;
use crate::session::{Counters, Order, Session, Standing};
use crate::world::{Instance, Key, World};

type Given = Map<String, Value>;

pub(crate) fn answer(world: &Arc<World>, path: &str, given: &Given) -> Result<Value, String> {
    match path {
        "sessions" => Ok(world.sessions().iter().map(|session| seen(session)).collect()),
        "violations" => Ok(world.violations.all().iter().map(sentence).collect()),
        "forgive" => Ok(world.violations.take().iter().map(sentence).collect()),
        "settings" => settings(world, given),
        "instance" => instance(world, given),
        "key" => key(world, given),
        "fault" => fault(world, given),
        "tunnels" => Ok(world
            .lock()
            .endpoint
            .tunnels
            .iter()
            .map(|tunnel| tunnel_seen(&locked(tunnel)))
            .collect()),
        "endpoint" => endpoint(world, given),
        "upgrade" => {
            let status = optional(given, "status", Value::as_u64)?;
            world.lock().refuse_upgrade = status.and_then(|status| u16::try_from(status).ok());
            Ok(Value::Null)
        }
        "proxy" => {
            world.lock().proxy = proxy::Mode::parse(text(given, "mode")?)?;
            Ok(Value::Null)
        }
        _ => Err(format!("no admin path {path:?}")),
    }
}

fn sentence((place, what): &(String, String)) -> Value {
    json!(format!("{place}: {what}"))
}

fn text<'a>(given: &'a Given, name: &str) -> Result<&'a str, String> {
    given
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{name} is missing or no text"))
}

/// A member that may be missing or null.
fn optional<'a, T>(given: &'a Given, name: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>, String> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| format!("{name} is {value}")),
    }
}

fn seen(session: &Session) -> Value {
    let state = session.lock();
    let counted = |counted: Counters| {
        json!({
            "messages": counted.messages,
            "bytes": counted.bytes,
            "acks": counted.acks,
            "retransmissions": counted.retransmissions,
        })
    };
    json!({
        "number": session.facts.number,
        "id": session.facts.id,
        "target": session.facts.target,
        "document": session.facts.document,
        "owner": session.facts.owner,
        "reason": session.facts.reason,
        "open": state.over.is_none(),
        "over": state.over,
        "client": state.client_attached(),
        "agent": state.agent.attached && state.agent.alive,
        "phase": format!("{:?}", state.agent.phase).split('(').next(),
        "complete": state.judge.complete(),
        "websockets": state.websockets,
        "up": counted(state.counted_up),
        "down": counted(state.counted_down),
        "paced_us": u64::try_from(state.paced.as_micros()).unwrap_or(u64::MAX),
        "most_outstanding": state.most_outstanding,
    })
}

fn settings(world: &World, given: &Given) -> Result<Value, String> {
    let mut known = world.lock();
    let mut changed = known.settings;
    for (name, value) in given {
        changed.set(name, value)?;
    }
    known.settings = changed;
    let sessions: Vec<Arc<Session>> = known.sessions.values().cloned().collect();
    drop(known);
    for session in sessions {
        let mut state = session.lock();
        state.settings = changed;
        state.judge.ack_limit(changed.ack_limit);
    }
    Ok(json!({"settings": format!("{changed:?}")}))
}

fn instance(world: &World, given: &Given) -> Result<Value, String> {
    let id = text(given, "instance")?.to_owned();
    let mut known = world.lock();
    if given.get("address") == Some(&Value::Null) {
        known.instances.remove(&id);
        return Ok(Value::Null);
    }
    let before = known.instances.get(&id).cloned();
    let port = match (optional(given, "address", Value::as_str)?, &before) {
        (Some(address), _) => address.parse().map_err(|why| format!("address {address:?}: {why}"))?,
        (None, Some(before)) => before.port,
        (None, None) => return Err(format!("{id} is new and has no address")),
    };
    let private = match optional(given, "private_ip", Value::as_str)? {
        Some(address) => Some(address.parse().map_err(|why| format!("private_ip {address:?}: {why}"))?),
        None => before.as_ref().and_then(|before| before.private),
    };
    let connected = optional(given, "connected", Value::as_bool)?;
    let connected = connected.unwrap_or_else(|| before.is_none_or(|before| before.connected));
    known.instances.insert(
        id,
        Instance {
            port,
            private,
            connected,
        },
    );
    Ok(Value::Null)
}

fn key(world: &World, given: &Given) -> Result<Value, String> {
    let id = text(given, "id")?.to_owned();
    let token = optional(given, "token", Value::as_str)?.map(str::to_owned);
    let secret = optional(given, "secret", Value::as_str)?.map(str::to_owned);
    let mut known = world.lock();
    match secret {
        Some(secret) => known.keys.insert(id, Key { secret, token }),
        None => known.keys.remove(&id),
    };
    Ok(Value::Null)
}

fn tunnel_seen(tunnel: &crate::eice::Tunnel) -> Value {
    json!({
        "endpoint": tunnel.endpoint,
        "seconds": tunnel.seconds,
        "up": tunnel.up,
        "down": tunnel.down,
        "open": tunnel.over.is_none(),
        "over": tunnel.over,
    })
}

fn endpoint(world: &World, given: &Given) -> Result<Value, String> {
    let mut known = world.lock();
    if given.get("cut").and_then(Value::as_bool) == Some(true) {
        known.endpoint.tunnels.iter().for_each(|tunnel| locked(tunnel).cut = true);
    }
    if let Some(refuse) = given.get("refuse") {
        let status = refuse["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let body = refuse["message"].as_str().unwrap_or("refused").to_owned();
        known.endpoint.refuse = status.map(|status| (status, body));
    }
    Ok(Value::Null)
}

/// Strikes one session, or all that are open; what lasts strikes later sessions too when none is named.
fn fault(world: &World, given: &Given) -> Result<Value, String> {
    let named = optional(given, "session", Value::as_str)?;
    let sessions = match named {
        Some(id) => vec![world.session(id).ok_or_else(|| format!("no session {id:?}"))?],
        None => world.open_sessions(),
    };
    let mut later = world.lock().standing;
    for (name, value) in given {
        if name == "session" || standing(&mut later, name, value)? {
            continue;
        }
        for session in &sessions {
            once(session, name, value)?;
        }
    }
    for session in &sessions {
        let mut state = session.lock();
        let mut now = state.standing;
        for (name, value) in given {
            standing(&mut now, name, value)?;
        }
        state.standing = now;
        drop(state);
        session.refresh();
    }
    if named.is_none() {
        world.lock().standing = later;
    }
    Ok(json!({"struck": sessions.len()}))
}

/// Sets what lasts; false when `name` is nothing that lasts.
fn standing(standing: &mut Standing, name: &str, value: &Value) -> Result<bool, String> {
    let number = || {
        value
            .as_u64()
            .ok_or_else(|| format!("{name} takes a whole number, not {value}"))
    };
    let truth = || {
        value
            .as_bool()
            .ok_or_else(|| format!("{name} takes true or false, not {value}"))
    };
    let every = || number().map(|number| (number > 0).then(|| Duration::from_millis(number)));
    match name {
        "up" => standing.up = odds(value)?,
        "down" => standing.down = odds(value)?,
        "refuse_resume" => standing.refuse_resume = truth()?,
        "stall" => standing.stall = truth()?,
        "close_above" => standing.close_above = number()? as usize,
        "cut_client_every_ms" => standing.cut_client_every = every()?,
        "cut_agent_every_ms" => standing.cut_agent_every = every()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn odds(value: &Value) -> Result<Odds, String> {
    let members = value.as_object().ok_or_else(|| format!("odds are an object, not {value}"))?;
    let mut odds = Odds::default();
    for (name, value) in members {
        let fraction = value.as_f64().filter(|fraction| (0.0..=1.0).contains(fraction));
        let fraction = fraction.ok_or_else(|| format!("{name} takes 0 to 1, not {value}"))?;
        match name.as_str() {
            "drop" => odds.drop = fraction,
            "duplicate" => odds.duplicate = fraction,
            "reorder" => odds.reorder = fraction,
            "corrupt" => odds.corrupt = fraction,
            _ => return Err(format!("no odds {name:?}")),
        }
    }
    Ok(odds)
}

/// What happens once, now.
fn once(session: &Session, name: &str, value: &Value) -> Result<(), String> {
    let now = Instant::now();
    match name {
        // A session whose client is away has nothing to cut.
        "cut_client" => drop(session.order(Order::Cut)),
        "bye" => {
            session.order(Order::Close(1000, "Bye"));
            let mut state = session.lock();
            let pause = state.settings.agent_back;
            state.cut_agent(pause, now);
        }
        "blackhole" => drop(session.order(Order::Blackhole)),
        "cut_agent" => {
            let mut state = session.lock();
            let pause = value.as_u64().map_or(state.settings.agent_back, Duration::from_millis);
            state.cut_agent(pause, now);
        }
        "kill_agent" => session.lock().kill_agent(),
        "crash" => {
            let mut state = session.lock();
            state.agent.crash = Some(now + state.settings.crash_after);
            state.kill_agent();
        }
        "end" => {
            let text = value.as_str().unwrap_or_default();
            session.end(&format!("ended by the test: {text}"), text);
        }
        _ => return Err(format!("no fault {name:?}")),
    }
    Ok(())
}
