//! gRPC with PyPI's grpcio as client and server: unary and the three streaming kinds, statuses, deadlines.

use crate::{
    peers_alone::{serve, talk},
    support::{Workshop, need_module},
};

use rustix::process::Signal;

#[test]
fn all_four_kinds_through_up() {
    let Some(python) = need_module("grpc") else { return };
    let (_server, at) = serve(&python, "rpc.py");
    let workshop = Workshop::new("alice", &format!("[service.rpc]\nport = {}\nprotocol = \"h2c\"\n", at.port()));
    let _up = workshop.up(&["rpc"], &["--no-run"]);
    talk(&python, "rpc.py", &[&workshop.edge.to_string(), "alice:rpc"], "all");
}

/// In HTTP/2 the host is `:authority`, which `host_header` replaces like HTTP/1's Host.
#[test]
fn the_authority_is_kept_or_replaced_as_it_is_told() {
    let Some(python) = need_module("grpc") else { return };
    let (_server, at) = serve(&python, "rpc.py");
    let workshop = Workshop::new("alice", "");
    let port = at.port();
    for (host_header, expected) in [
        ("", "staging.example.com none".to_owned()),
        ("host_header = \"local\"", format!("localhost:{port} staging.example.com")),
        ("host_header = \"my.test:1\"", "my.test:1 staging.example.com".to_owned()),
    ] {
        workshop.write(
            "",
            &format!("[service.rpc]\nport = {port}\nprotocol = \"h2c\"\n{host_header}\n"),
        );
        let mut up = workshop.up(&["rpc"], &["--no-run"]);
        let edge = workshop.edge.to_string();
        talk(&python, "rpc.py", &[&edge, "alice:rpc", "staging.example.com"], &expected);
        up.signal(Signal::INT);
        up.wait();
    }
}
