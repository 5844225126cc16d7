//! Every shape of request smuggling, and what is no shape but is read in two ways somewhere, through the real edge and both kinds of
//! laptop to three real servers: no request hidden in another is ever served, and no answer is anybody else's.
//!
//! Named after the HTTP Garden, which compares servers in this way.

use std::{net::TcpStream, process::Command};

use crate::{
    smuggling::SHAPES,
    support::{Bastion, Process, Wire, lasting_address, need, need_module, peer, until},
};

/// What a smuggler wants to have understood as a request of its own.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: TAG\r\nX-Nonce: hidden\r\n\r\n";

/// Right as they stand; `~` is the usual fields, `#` the hidden request, `%` its length, `$` the same in hexadecimal digits.
#[rustfmt::skip] // A table: one shape a line.
const GOOD: &[(&str, &str)] = &[
    ("GET with a body", "GET / HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("GET with a chunk", "GET / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("HEAD with a body", "HEAD / HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("HEAD with a chunk", "HEAD / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("DELETE with a body", "DELETE / HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("OPTIONS with a chunk", "OPTIONS / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("POST with a body", "POST / HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("POST with a chunk", "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("POST with a long size", "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n0000000000$\r\n#\r\n000\r\n\r\n"),
    ("POST with an extension", "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$;a=\"0\"\r\n#\r\n0\r\n\r\n"),
    ("POST with a trailer", "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\nX-Trailer: a\r\n\r\n"),
    ("POST that expects", "POST / HTTP/1.1\r\n~Expect: 100-continue\r\nContent-Length: %\r\n\r\n#"),
    ("PUT with a chunk that expects", "PUT / HTTP/1.1\r\n~Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("POST of nothing", "POST / HTTP/1.1\r\n~Content-Length: 0\r\n\r\n"),
    ("POST of no chunk", "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("an offer of h2c", "GET / HTTP/1.1\r\n~Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: %\r\n\r\n#"),
    ("the length as a hop's own", "POST / HTTP/1.1\r\n~Connection: content-length\r\nContent-Length: %\r\n\r\n#"),
    ("the coding as a hop's own", "POST / HTTP/1.1\r\n~Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n$\r\n#\r\n0\r\n\r\n"),
    ("the host as a hop's own", "POST / HTTP/1.1\r\n~Connection: host, x-ephemwork\r\nContent-Length: %\r\n\r\n#"),
    ("an absolute target", "POST http://shop.test/abs HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("a target of two slashes", "POST //other.test/a HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("an empty line before", "\r\nPOST / HTTP/1.1\r\n~Content-Length: %\r\n\r\n#"),
    ("a field that looks like a coding", "POST / HTTP/1.1\r\n~X-Transfer-Encoding: chunked\r\nContent-Length: %\r\n\r\n#"),
    ("a field with an underscore", "POST / HTTP/1.1\r\n~Transfer_Encoding: chunked\r\nContent_Length: 0\r\nContent-Length: %\r\n\r\n#"),
];

/// The answers of the service in what came back, by nonce, in order.
fn nonces(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let parts = text.split("nonce=").skip(1);
    parts.filter_map(|part| Some(part.split(' ').next()?.to_owned())).collect()
}

struct Server {
    name: &'static str,
    process: Process,
    port: u16,
}

impl Server {
    #[track_caller]
    fn start(name: &'static str, command: impl FnOnce(u16) -> Command) -> Server {
        let port = lasting_address().port();
        let process = Process::start(name, &mut command(port));
        until("the server to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        Server { name, process, port }
    }
}

fn servers() -> Option<Vec<Server>> {
    let (uvicorn, node, python) = (need("uvicorn")?, need("node")?, need_module("uvicorn")?);
    let plain = |version: &'static str| {
        let python = python.clone();
        move |port: u16| {
            let mut command = Command::new(python);
            command.arg("-u").arg(peer("garden.py")).args([&port.to_string(), version]);
            command
        }
    };
    let asgi = |port: u16| {
        let mut command = Command::new(uvicorn);
        command.args(["--app-dir", peer("").to_str().unwrap(), "--log-level", "critical"]);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "garden:app"]);
        command
    };
    let nodes = |port: u16| {
        let mut command = Command::new(node);
        command.arg(peer("garden.mjs")).arg(port.to_string());
        command
    };
    Some(vec![
        Server::start("uvicorn", asgi),
        Server::start("node", nodes),
        Server::start("http.server 1.0", plain("1.0")),
        Server::start("http.server 1.1", plain("1.1")),
    ])
}

/// What is wrong with how one shape was taken.
fn faults(bastion: &Bastion, tag: &str, bytes: &str, good: bool, number: usize) -> Vec<String> {
    let fields = format!("Host: shop.test\r\nX-Ephemwork: {tag}\r\nX-Nonce: shape\r\n");
    let hidden = HIDDEN.replace("TAG", tag);
    let bytes = bytes
        .replace('%', &hidden.len().to_string())
        .replace('$', &format!("{:x}", hidden.len()))
        .replace('~', &fields)
        .replace('#', &hidden)
        .replace("alice:api", tag);
    let following =
        |nonce: &str| format!("GET /follow HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: {tag}\r\nX-Nonce: {nonce}\r\n\r\n");
    let mut faults = Vec::new();
    let mut wire = Wire::to(bastion.http);
    // A wrong shape has the hidden request behind it, where it would be read as one.
    let behind = if good { String::new() } else { hidden };
    wire.try_send(format!("{bytes}{behind}{}", following("follow")).as_bytes())
        .ok();
    wire.finish_sending();
    let said = nonces(&wire.rest());
    let right = match said.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["shape", "follow"] => good,
        // What follows an offer was not looked at, so the edge ends the connection.
        ["shape"] => good && bytes.contains("Upgrade: "),
        // An answer to HEAD says nothing.
        ["follow"] => good && bytes.starts_with("HEAD"),
        [] => !good,
        _ => false,
    };
    if !right {
        faults.push(format!("on the same connection: {said:?}"));
    }
    for again in 0..3 {
        let nonce = format!("{number}-{again}");
        let mut wire = Wire::to(bastion.http);
        wire.send(following(&nonce));
        wire.finish_sending();
        let rest = wire.rest();
        let said = nonces(&rest);
        if said != [nonce] {
            faults.push(format!("on another connection: {:?}", String::from_utf8_lossy(&rest)));
        }
    }
    faults
}

#[test]
fn nothing_comes_out_of_step() {
    let Some(servers) = servers() else { return };
    let bastion = Bastion::local(&[]);
    let ports: Vec<(String, u16)> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| (format!("s{at}"), server.port))
        .collect();
    let claims: Vec<(&str, u16)> = ports.iter().map(|(name, port)| (name.as_str(), *port)).collect();
    let _up = bastion.up("alice", &claims);
    let _ssh = bastion.laptop("bob", &claims);
    let taken = |at: usize, server: &Server| {
        let mut wrong = Vec::new();
        for user in ["alice", "bob"] {
            let tag = format!("{user}:s{at}");
            let shapes = SHAPES.iter().map(|&(name, _, _, shape)| (name, shape, false));
            let all = shapes.chain(GOOD.iter().map(|&(name, shape)| (name, shape, true)));
            for (number, (name, shape, good)) in all.enumerate() {
                let found = faults(&bastion, &tag, shape, good, number);
                wrong.extend(found.iter().map(|fault| format!("{}, {user}: {name}: {fault}", server.name)));
            }
        }
        let seen = server.process.out();
        if seen.contains("/hidden") {
            wrong.push(format!("{}: it served the hidden request", server.name));
        }
        assert!(
            seen.contains("seen GET /follow"),
            "{}: {}",
            server.name,
            server.process.said()
        );
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let taken = &taken;
        let runs: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(at, server)| scope.spawn(move || taken(at, server)))
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
