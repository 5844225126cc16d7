//! Keys are changed often under load: no transfer may suffer.

use crate::support::{
    Bastion, Service, Wire, heavy,
    service::{After, ok},
};

/// Bytes of each transfer.
const SIZE: usize = 24 << 20;

/// So that 16 transfers pass dozens of key exchanges.
const REKEY: &str = "16777216";

/// Half of them down, half up, at once; each byte is checked by its place.
fn transfers(http: std::net::SocketAddr, count: usize) {
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || {
                let mut wire = Wire::to(http);
                let expected = pattern(number);
                if number % 2 == 0 {
                    wire.send(format!("GET /{number} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n"));
                    assert_eq!(wire.head().expect("no head").status(), 200);
                    for at in 0..SIZE / expected.len() {
                        assert!(
                            wire.take(expected.len()) == expected,
                            "transfer {number} differs at piece {at}"
                        );
                    }
                } else {
                    wire.send(format!(
                        "PUT /{number} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: {SIZE}\r\n\r\n"
                    ));
                    for _ in 0..SIZE / expected.len() {
                        wire.send(&expected);
                    }
                    assert_eq!(wire.answer("PUT").text(), "right", "transfer {number}");
                }
            });
        }
    });
}

fn pattern(number: usize) -> Vec<u8> {
    (0..1usize << 16).map(|at| (at * 31 + at / 251 + number * 97) as u8).collect()
}

fn service() -> Service {
    Service::start(|head, wire| {
        let expected = pattern(head.target()[1..].parse().unwrap());
        let pieces = SIZE / expected.len();
        if head.method() == "GET" {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
            for _ in 0..pieces {
                if wire.try_send(&expected).is_err() {
                    return After::Close;
                }
            }
        } else {
            let right = (0..pieces).all(|_| wire.take(expected.len()) == expected);
            wire.send(ok(if right { "right" } else { "wrong" }));
        }
        After::Keep
    })
}

#[test]
fn sixteen_transfers_pass_rekeys_with_up() {
    let service = service();
    let bastion = Bastion::local(&["--rekey-bytes", REKEY]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let _turn = heavy();
    transfers(bastion.http, 16);
}

#[test]
fn sixteen_transfers_pass_rekeys_with_an_openssh_laptop() {
    let service = service();
    let bastion = Bastion::with(&["--rekey-bytes", REKEY]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    transfers(bastion.http, 16);
}

#[test]
fn sixteen_transfers_pass_rekeys_of_the_other_side() {
    let service = service();
    let bastion = Bastion::start();
    let forward = format!("api:0:127.0.0.1:{}", service.port);
    let options = ["-v", "-N", "-o", "RekeyLimit=16M", "-R", &forward];
    let mut ssh = crate::support::Process::start("ssh", &mut bastion.ssh("alice", "alice", &options));
    ssh.wait_for("Allocated port");
    let _turn = heavy();
    transfers(bastion.http, 16);
    let rekeys = ssh.err().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(rekeys > 4, "only {rekeys} key exchanges");
}
