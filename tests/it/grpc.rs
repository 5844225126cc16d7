//! gRPC with PyPI's grpcio as client and server: unary and the three streaming kinds, statuses, deadlines.

use crate::{
    peers_alone::{serve, talk},
    support::{Workshop, need_module},
};

#[test]
fn all_four_kinds_through_up() {
    let Some(python) = need_module("grpc") else { return };
    let (_server, at) = serve(&python, "rpc.py");
    let workshop = Workshop::new("alice", &format!("[service.rpc]\nport = {}\nprotocol = \"h2c\"\n", at.port()));
    let _up = workshop.up(&["rpc"], &["--no-run"]);
    talk(&python, "rpc.py", &[&workshop.edge.to_string(), "alice:rpc"], "all");
}
