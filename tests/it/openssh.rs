//! A stock OpenSSH client as the laptop.

use crate::support::{
    Bastion, Process, Service, Wire, fetch, get, heavy,
    service::{After, ok},
    until,
};

#[test]
fn one_line_of_ssh_makes_a_session_and_ends_it() {
    let bastion = Bastion::with(&["--lease", "1", "--hold", "0"]);
    let service = Service::saying("from the laptop");
    // The line of the manual, with a name instead of an address.
    let forward = format!("api:0:localhost:{}", service.port);
    let mut ssh = Process::start("ssh", &mut bastion.ssh("alice", "alice", &["-N", "-R", &forward]));
    ssh.wait_for("Allocated port");
    let line = ssh.err();
    let port: u32 = line
        .split("Allocated port ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap();
    assert!((1..=65535).contains(&port), "{line}");

    let answer = get(bastion.http, "alice:api", "/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "from the laptop"));
    assert_eq!(answer.served_by(), "alice:api");
    let session = bastion.session("alice:api").expect("no session");
    assert_eq!(session["state"], "live");
    assert_eq!(session["requests"], 1);
    assert_eq!(session["lanes"][0]["kind"], "openssh");
    assert!(
        session["host"].as_str().unwrap().starts_with("openssh@127.0.0.1"),
        "{session}"
    );
    assert!(session["version"].as_str().unwrap().contains("OpenSSH"), "{session}");

    ssh.signal(rustix::process::Signal::TERM);
    ssh.wait();
    until("the session to be forgotten after its lease", || {
        bastion.session("alice:api").is_none().then_some(())
    });
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 404);
}

#[test]
fn many_services_on_one_connection() {
    let bastion = Bastion::start();
    let services: Vec<Service> = (0..5).map(|number| Service::saying(&format!("service {number}"))).collect();
    let names = ["api", "web", "a.b-c_d", "UPPER", "5"];
    let claims: Vec<(&str, u16)> = names
        .iter()
        .zip(&services)
        .map(|(&name, service)| (name, service.port))
        .collect();
    let _ssh = bastion.laptop("alice", &claims);
    for (number, name) in names.iter().enumerate() {
        let answer = get(bastion.http, &format!("alice:{name}"), "/");
        assert_eq!(answer.text(), format!("service {number}"), "{name}");
    }
    // Case matters in a service's name.
    assert_eq!(get(bastion.http, "alice:upper", "/").status(), 404);
}

#[test]
fn connections_to_the_service_are_pooled_and_few() {
    const REQUESTS: usize = 200;
    let bastion = Bastion::start();
    let service = Service::saying("yes");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for _ in 0..REQUESTS {
        let answer = fetch(
            bastion.http,
            "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(answer.status(), 200);
    }
    assert!(
        service.connections() < 10,
        "{} connections for {REQUESTS} requests",
        service.connections()
    );
}

#[test]
fn a_second_claim_of_a_live_tag_is_refused() {
    let bastion = Bastion::start();
    let (mine, other) = (Service::saying("first"), Service::saying("second"));
    let _first = bastion.laptop("alice", &[("api", mine.port)]);
    let mut second = bastion.claim("alice", &[("api", other.port)]);
    assert!(!second.wait().success());
    assert!(second.err().contains("remote port forwarding failed"), "{}", second.err());
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "first");
    // The same name under another user is another tag.
    let _bob = bastion.laptop("bob", &[("api", other.port)]);
    assert_eq!(get(bastion.http, "bob:api", "/").text(), "second");
}

/// An answer that ends with its connection has nothing in it that says whether all of it came. Whoever cuts it must say so.
#[test]
fn a_download_that_is_cut_for_the_sake_of_the_others_is_not_passed_off_as_whole() {
    const MOST: usize = 512 << 20;
    let service = Service::start(|head, wire| {
        if head.target() != "/endless" {
            wire.send(ok("here"));
            return After::Keep;
        }
        wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let piece = [7; 1 << 16];
        for _ in 0..MOST / piece.len() {
            if wire.try_send(&piece).is_err() {
                return After::Close;
            }
        }
        panic!("all of it was taken");
    });
    let mut bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    let http = bastion.http;
    let mut wire = Wire::to(http);
    wire.send("GET /endless HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    let head = wire.head().expect("no head");
    assert_eq!(head.status(), 200);
    bastion.process.wait_for("a client's download is stuck");
    assert!(wire.body(&head, true).is_none(), "it looks complete");
    assert_eq!(get(http, "alice:api", "/").text(), "here");
}
