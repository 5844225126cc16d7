//! A daemon that runs out of file descriptors, and clients that vanish without a word.
#![cfg(target_os = "linux")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Bastion, Service, Wire, get, heavy, until};

/// How many descriptors the daemon has open.
fn open(bastion: &Bastion) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", bastion.process.pid()))
        .unwrap()
        .count()
}

/// Lets the daemon open so many more; what its limit was.
fn leave(bastion: &Bastion, spare: usize) -> Rlimit {
    let few = Rlimit {
        current: Some((open(bastion) + spare) as u64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    limit(bastion, few)
}

fn limit(bastion: &Bastion, limit: Rlimit) -> Rlimit {
    prlimit(Pid::from_raw(bastion.process.pid() as i32), Resource::Nofile, limit).unwrap()
}

/// Processor time of the daemon so far, in ticks of 10 ms.
fn ticks(bastion: &Bastion) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", bastion.process.pid())).unwrap();
    let behind = text.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn out_of_descriptors_is_said_and_passes() {
    const SPARE: usize = 8;
    const WATCHED: Duration = Duration::from_secs(2);
    let service = Service::saying("yes");
    let mut bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let _turn = heavy();
    let ask = |wire: &mut Wire| {
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
        wire.answer("GET").text()
    };
    let mut kept = Wire::to(bastion.http);
    assert_eq!(ask(&mut kept), "yes");

    let usual = leave(&bastion, SPARE);
    let mut crowd: Vec<TcpStream> = (0..SPARE * 5).map(|_| TcpStream::connect(bastion.http).unwrap()).collect();
    until("the shortage to be said", || {
        bastion.process.err().contains("raise its limit of open files").then_some(())
    });
    // Who is connected is served on, and waiting for descriptors costs next to nothing.
    assert_eq!(ask(&mut kept), "yes");
    let (before, begun) = (ticks(&bastion), Instant::now());
    until("some time to pass", || (begun.elapsed() > WATCHED).then_some(()));
    let busy = ticks(&bastion) - before;
    assert!(busy < 60, "{busy} ticks in {WATCHED:?}");
    assert!(bastion.process.ended().is_none(), "{}", bastion.process.said());
    let said = bastion.process.err().matches("are not accepted").count();
    assert!(said <= 3, "said {said} times:\n{}", bastion.process.err());

    crowd.clear();
    let begun = Instant::now();
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    until("its end to be said", || {
        bastion.process.err().contains("accepted again").then_some(())
    });
    limit(&bastion, usual);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
}

/// It said so ten times a second.
#[test]
fn ssh_out_of_descriptors_is_said_once() {
    const SPARE: usize = 8;
    const WATCHED: Duration = Duration::from_secs(2);
    let service = Service::saying("yes");
    let mut bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    let usual = leave(&bastion, SPARE);
    let mut crowd: Vec<TcpStream> = (0..SPARE * 5).map(|_| TcpStream::connect(bastion.ssh).unwrap()).collect();
    until("the shortage to be said", || {
        let said = bastion.process.err();
        said.contains("connections to SSH are not accepted, they wait").then_some(())
    });
    let (before, begun) = (ticks(&bastion), Instant::now());
    until("some time to pass", || (begun.elapsed() > WATCHED).then_some(()));
    let busy = ticks(&bastion) - before;
    assert!(busy < 60, "{busy} ticks in {WATCHED:?}");
    assert!(bastion.process.ended().is_none(), "{}", bastion.process.said());
    let err = bastion.process.err();
    assert_eq!(err.matches("not accepted").count(), 1, "{err}");
    assert!(err.contains("raise its limit of open files"), "{err}");

    crowd.clear();
    let bob = bastion.laptop("bob", &[("api", service.port)]);
    until("its end to be said", || {
        let said = bastion.process.err();
        said.contains("connections to SSH are accepted again").then_some(())
    });
    drop(bob);
    limit(&bastion, usual);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
}

/// A client whose machine is gone sends nothing, not even its end: only the system's own questions find out.
#[test]
fn silent_clients_are_asked_whether_they_are_there() {
    let bastion = Bastion::start();
    let silent = TcpStream::connect(bastion.http).unwrap();
    let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
    let (theirs, ours) = (port(silent.local_addr().unwrap()), port(bastion.http));
    until("the keep-alive timer to run", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields.len() > 5 && fields[1].ends_with(&ours) && fields[2].ends_with(&theirs))
            // proc_net_tcp: timer 2 is "another timer (e.g. delayed ack or keepalive)".
            .filter(|fields| fields[5].starts_with("02:"))
            .map(|_| ())
    });
}
