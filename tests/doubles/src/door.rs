//! The websockets' door: TLS on loopback, and behind it data channels and the endpoint's tunnels by their paths.

use std::net::TcpListener;
use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::json;
use tungstenite::handshake::derive_accept_key;

use crate::http::{self, Head};
use crate::pump::{self, Socket};
use crate::tls::Tls;
use crate::world::World;
use crate::{eice, wire};

pub(crate) const CHANNEL: &str = "/v1/data-channel/";
const TUNNEL: &str = "/openTunnel";

/// Accepts for ever; a thread a connection.
pub(crate) fn listen(world: &Arc<World>, config: &Arc<ServerConfig>, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let (world, config) = (Arc::clone(world), Arc::clone(config));
        std::thread::spawn(move || {
            let Ok(mut tls) = Tls::new(&config, stream) else { return };
            // A client that does not trust the certificate, or goes away, is no violation.
            if let Ok(head) = tls.head() {
                serve(&world, tls, head);
            }
        });
    }
}

/// Serves a request whose head is read, to the connection's end.
pub(crate) fn serve(world: &Arc<World>, tls: Tls, mut head: Head) {
    if let Some(id) = head.path().strip_prefix(CHANNEL) {
        let id = id.to_owned();
        channel(world, tls, &mut head, &id);
    } else if head.path() == TUNNEL {
        eice::serve(world, tls, &mut head);
    } else {
        refuse(tls, 404, "application/json", "{\"message\":\"Not Found\"}");
    }
}

fn channel(world: &World, tls: Tls, head: &mut Head, id: &str) {
    let known = world.session(id);
    let say = |text: &str| json!({"message": text}).to_string();
    if let Some(status) = world.lock().refuse_upgrade {
        return refuse(
            tls,
            status,
            "text/html",
            "<html><body>Web sockets are not allowed here.</body></html>",
        );
    }
    if !upgrades(head) {
        return refuse(tls, 400, "application/json", &say("Expected a WebSocket upgrade"));
    }
    let Some(session) = known else {
        world.violations.record(id, "a data channel of a session that never was");
        return refuse(tls, 404, "application/json", &say("Session not found"));
    };
    if let Err(why) = well_formed(world, head) {
        session.violate(&why);
        return refuse(tls, 400, "application/json", &say(&why));
    }
    if let Some(socket) = accept(tls, head) {
        pump::run(socket, &session);
    }
}

/// Whether a request asks for a websocket.
pub(crate) fn upgrades(head: &Head) -> bool {
    head.has("upgrade", "websocket") && head.has("connection", "upgrade")
}

fn well_formed(world: &World, head: &Head) -> Result<(), String> {
    if head.method != "GET" {
        return Err(format!("a data channel is opened with {}", head.method));
    }
    if head.query() != "role=publish_subscribe" {
        return Err(format!("the data channel's query is {:?}, not as in StreamUrl", head.query()));
    }
    let port = world.secure.port();
    let host = head.field("host").unwrap_or_default();
    if ![format!("127.0.0.1:{port}"), format!("localhost:{port}")].contains(&host.to_owned()) {
        return Err(format!("Host is {host:?}, not as in StreamUrl"));
    }
    if head.field("sec-websocket-version") != Some("13") || head.field("sec-websocket-key").is_none_or(|key| key.len() != 24) {
        return Err("an upgrade without version 13 and a key of 16 bytes".to_owned());
    }
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        if let Some(value) = head.field(name) {
            return Err(format!("the upgrade offers {name}: {value}"));
        }
    }
    Ok(())
}

/// Answers an upgrade.
pub(crate) fn accept(mut tls: Tls, head: &mut Head) -> Option<Socket> {
    let key = derive_accept_key(head.field("sec-websocket-key")?.as_bytes());
    let id = wire::uuid_text(&crate::chance::uuid());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\
         x-amzn-requestid: {id}\r\n\r\n"
    );
    tls.say(answer.as_bytes()).ok()?;
    Some(Socket::new(tls, std::mem::take(&mut head.rest)))
}

/// Answers with an error and ends.
pub(crate) fn refuse(mut tls: Tls, status: u16, kind: &str, body: &str) {
    let mut answer = Vec::new();
    // Into memory; and a client that is gone needs no answer.
    http::answer(&mut answer, status, kind, body)
        .and_then(|()| tls.say(&answer))
        .ok();
    tls.finish();
}
