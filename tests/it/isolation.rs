//! Two users with two services each at once: no answer is ever another request's.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Bastion, Service, Wire, heavy, service::ok};

#[test]
fn no_response_is_crossed_with_openssh_laptops() {
    crossed(|bastion, user, services| bastion.laptop(user, services));
}

#[test]
fn no_response_is_crossed_with_up() {
    crossed(|bastion, user, services| bastion.up(user, services));
}

fn crossed<L>(laptop: impl Fn(&Bastion, &str, &[(&str, u16)]) -> L) {
    const CLIENTS: usize = 12;
    const REQUESTS: usize = 150;
    let names = [("alice", "api"), ("alice", "web"), ("bob", "api"), ("bob", "Web")];
    let services: Vec<Service> = names
        .iter()
        .map(|(user, service)| {
            let tag = format!("{user}:{service}");
            Service::replying(move |head, body| {
                // What the service sees must be meant for it, and what it says names it.
                let same = head.field("x-ephemwork") == Some(&tag);
                let nonce = head.field("x-nonce").unwrap_or("none");
                ok(&format!("{tag} {same} {nonce} {}", String::from_utf8_lossy(body)))
            })
        })
        .collect();
    let bastion = Bastion::local(&[]);
    let _alice = laptop(&bastion, "alice", &[("api", services[0].port), ("web", services[1].port)]);
    let _bob = laptop(&bastion, "bob", &[("api", services[2].port), ("Web", services[3].port)]);
    let _turn = heavy();
    let nonce = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (bastion, nonce) = (&bastion, &nonce);
            scope.spawn(move || {
                let mut wire = Wire::to(bastion.http);
                for number in 0..REQUESTS {
                    // One client connection changes between all tags, as a load balancer's does.
                    let (user, service) = names[(client + number) % names.len()];
                    let nonce = nonce.fetch_add(1, Ordering::Relaxed);
                    let body = format!("{nonce}").repeat(1 + number * 7 % 500);
                    wire.send(format!(
                        "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: {user}:{service}\r\nX-Nonce: {nonce}\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                    let answer = wire.answer("POST");
                    assert_eq!(answer.text(), format!("{user}:{service} true {nonce} {body}"));
                    assert_eq!(answer.served_by(), format!("{user}:{service}"));
                }
            });
        }
    });
    let complete: usize = services.iter().map(Service::complete).sum();
    assert_eq!(complete, CLIENTS * REQUESTS);
}
