//! The plain HTTP door: what the AWS gateway forwards under /control/, and what a test says under /admin/.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value, json};

use crate::door::CHANNEL;
use crate::session::{Facts, Session};
use crate::world::World;
use crate::{admin, chance, http, worker};

/// An error of AWS's: its code and its sentence.
pub(crate) struct Refusal(&'static str, String);

/// Accepts for ever; a thread a connection.
pub(crate) fn listen(world: &Arc<World>, listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let world = Arc::clone(world);
        std::thread::spawn(move || {
            let Ok(Some((head, body))) = http::request(&mut stream) else {
                return;
            };
            let (status, value) = answer(&world, &head, &body);
            // A test that went away needs no answer.
            http::answer(&mut stream, status, "application/json", &value.to_string()).ok();
        });
    }
}

fn answer(world: &Arc<World>, head: &http::Head, body: &[u8]) -> (u16, Value) {
    let given = if body.is_empty() {
        Ok(json!({}))
    } else {
        serde_json::from_slice(body)
    };
    let Ok(Value::Object(given)) = given else {
        return (400, json!({"error": "the body is no JSON object"}));
    };
    if let Some(operation) = head.path().strip_prefix("/control/") {
        let caller = head.field("x-caller-arn").unwrap_or_default();
        return match carry_out(world, operation, &given, caller) {
            Ok(value) => (200, value),
            Err(Refusal(code, message)) => (400, json!({"code": code, "message": message})),
        };
    }
    match head
        .path()
        .strip_prefix("/admin/")
        .map(|path| admin::answer(world, path, &given))
    {
        Some(Ok(value)) => (200, value),
        Some(Err(why)) => (400, json!({"error": why})),
        None => (
            404,
            json!({"error": format!("{} is neither /control/ nor /admin/", head.path())}),
        ),
    }
}

fn carry_out(world: &Arc<World>, operation: &str, given: &Map<String, Value>, caller: &str) -> Result<Value, Refusal> {
    match operation {
        "StartSession" => start(world, given, caller),
        "ResumeSession" => {
            let session = existing(world, given)?;
            let over = {
                let state = session.lock();
                state.over.is_some() || state.standing.refuse_resume
            };
            Ok(if over {
                json!({"SessionId": session.facts.id})
            } else {
                opened(world, &session)
            })
        }
        "TerminateSession" => {
            let id = given.get("SessionId").and_then(Value::as_str).unwrap_or_default();
            if let Some(session) = world.session(id) {
                session.end("terminated by the API", "");
            }
            Ok(json!({"SessionId": id}))
        }
        "DescribeSessions" => {
            let history = given.get("State").and_then(Value::as_str) == Some("History");
            let all = world.sessions();
            let wanted = all.iter().filter(|session| session.lock().over.is_some() == history);
            Ok(json!({"Sessions": wanted.map(|session| described(session)).collect::<Vec<_>>()}))
        }
        _ => Err(Refusal(
            "UnknownOperationException",
            format!("{operation} is not served here"),
        )),
    }
}

fn existing(world: &World, given: &Map<String, Value>) -> Result<Arc<Session>, Refusal> {
    let id = given.get("SessionId").and_then(Value::as_str).unwrap_or_default();
    let unknown = || Refusal("DoesNotExistException", format!("Session {id} does not exist"));
    world.session(id).ok_or_else(unknown)
}

fn start(world: &Arc<World>, given: &Map<String, Value>, caller: &str) -> Result<Value, Refusal> {
    let text = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (target, document) = (text("Target"), text("DocumentName"));
    let Some(name) = caller.rsplit(['/', ':']).next().filter(|name| !name.is_empty()) else {
        return Err(Refusal("BadRequest", "the forwarding gateway names no caller".to_owned()));
    };
    let port = parameters(&document, given.get("Parameters"))?;
    let mut known = world.lock();
    let instance = known.instances.get(&target).filter(|instance| instance.connected);
    let Some(instance) = instance.cloned() else {
        return Err(Refusal("TargetNotConnected", format!("{target} is not connected.")));
    };
    let id = format!("{name}-{}", &chance::hex(&chance::bytes::<9>())[..17]);
    let facts = Facts {
        number: known.sessions.len(),
        id: id.clone(),
        target,
        document,
        port,
        owner: caller.to_owned(),
        reason: given.get("Reason").and_then(Value::as_str).map(str::to_owned),
        started: chance::now_ms(),
    };
    let violations = Arc::clone(&world.violations);
    let session = Arc::new(Session::new(facts, known.settings, known.standing, violations));
    known.sessions.insert(id, Arc::clone(&session));
    drop(known);
    worker::start(&session, instance.port);
    Ok(opened(world, &session))
}

/// The port that a document's parameters name; only port 22 is anywhere here.
fn parameters(document: &str, given: Option<&Value>) -> Result<u16, Refusal> {
    let invalid = |what: String| Refusal("InvalidParameters", what);
    let known: &[&str] = match document {
        "AWS-StartPortForwardingSession" => &["portNumber", "localPortNumber"],
        "" | "SSM-SessionManagerRunShell" | "AWS-StartInteractiveCommand" | "AWS-StartNonInteractiveCommand" => {
            return Err(Refusal(
                "InvalidDocument",
                format!("document {document:?} makes no port session"),
            ));
        }
        // A team's own copy of AWS-StartSSHSession.
        _ => &["portNumber"],
    };
    let empty = Map::new();
    let given = given.and_then(Value::as_object).unwrap_or(&empty);
    let names: BTreeSet<&str> = given.keys().map(String::as_str).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(*name)) {
        return Err(invalid(format!("Parameter {name} is not defined in document {document}")));
    }
    match given.get("portNumber").map(|list| (list, list.as_array().map(Vec::as_slice))) {
        None => Ok(22),
        Some((_, Some([Value::String(port)]))) if port == "22" => Ok(22),
        Some((list, _)) => Err(invalid(format!("portNumber is {list}; only [\"22\"] is served here"))),
    }
}

fn opened(world: &World, session: &Session) -> Value {
    let id = &session.facts.id;
    json!({
        "SessionId": id,
        "TokenValue": session.token(),
        "StreamUrl": format!("wss://{}{CHANNEL}{id}?role=publish_subscribe", world.secure),
    })
}

fn described(session: &Session) -> Value {
    let facts = &session.facts;
    let state = session.lock();
    let mut value = json!({
        "SessionId": facts.id,
        "Target": facts.target,
        "Status": match (&state.over, state.client_attached()) {
            (Some(_), _) => "Terminated",
            (None, true) => "Connected",
            (None, false) => "Disconnected",
        },
        "StartDate": facts.started as f64 / 1000.0,
        "DocumentName": facts.document,
        "Owner": facts.owner,
    });
    if let Some(reason) = &facts.reason {
        value["Reason"] = json!(reason);
    }
    if state.over.is_some() {
        value["EndDate"] = json!(state.ended as f64 / 1000.0);
    }
    value
}

/// What a lock that a thread died with holds is as good as before: everything here is replaced as a whole.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
