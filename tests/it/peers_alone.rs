//! The peers against each other without a tunnel: when one of these fails, the test bed is wrong and not the product.

use std::{net::SocketAddr, process::Command};

use crate::support::{Process, Service, fetch, get, lasting_address, need, need_module, peer, until};

/// `SERVER serve PORT` of a Python peer, listening.
#[track_caller]
pub(crate) fn serve(python: &std::path::Path, script: &str) -> (Process, SocketAddr) {
    let at = lasting_address();
    let mut command = Command::new(python);
    command.arg("-u").arg(peer(script)).args(["serve", &at.port().to_string()]);
    let mut server = Process::start(script, &mut command);
    server.wait_for("listening");
    (server, at)
}

/// The client half of a Python peer must end well and say `last`.
#[track_caller]
pub(crate) fn talk(python: &std::path::Path, script: &str, arguments: &[&str], last: &str) {
    let finished = Process::run(
        script,
        Command::new(python).arg("-u").arg(peer(script)).arg("talk").args(arguments),
    );
    assert!(
        finished.status.success() && finished.out.contains(last),
        "{script} {arguments:?}: {}\n{}{}",
        finished.status,
        finished.out,
        finished.err
    );
}

#[test]
fn websocket_peers() {
    let Some(python) = need_module("websockets") else { return };
    let (_server, at) = serve(&python, "echo.py");
    let url = format!("ws://{at}/chat?room=1");
    talk(&python, "echo.py", &[&url, "none", "4", "1000000"], "talked 4");
}

#[test]
fn grpc_peers() {
    let Some(python) = need_module("grpc") else { return };
    let (_server, at) = serve(&python, "rpc.py");
    talk(&python, "rpc.py", &[&at.to_string(), "none"], "all");
}

#[test]
fn the_wire_and_the_service() {
    let service = Service::replying(|head, body| {
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n1;x=y\r\n.\r\n0\r\nX-Len: {}\r\n\r\n",
            head.target().len(),
            head.target(),
            body.len()
        )
        .into_bytes()
    });
    let answer = get(service.address(), "none:none", "/there");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "/there."));
    assert_eq!(answer.trailers, [("X-Len".to_owned(), "0".to_owned())]);
    let post = fetch(
        service.address(),
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(post.trailers, [("X-Len".to_owned(), "3".to_owned())]);
    until("both requests to be counted", || (service.complete() == 2).then_some(()));
    assert_eq!(service.connections(), 2);
}

#[test]
fn openssh_is_there() {
    assert!(need("ssh").is_some() && need("ssh-keygen").is_some());
}
