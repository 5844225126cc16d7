//! A gate that does not depend on the machine's speed: system calls per small request.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Bastion, Process, Service, Wire, heavy, need, until};

/// What each of the two programs may spend on one small request.
const MOST: u64 = 8;

/// Requests counted.
const REQUESTS: u64 = 400;

/// What the two programs may do besides (timers, keep-alives) while the requests run.
const BESIDE: u64 = 200;

#[test]
fn a_small_request_costs_at_most_eight_and_eight_calls() {
    let Some(strace) = need("strace") else { return };
    let service = Service::saying(&"x".repeat(1024));
    let bastion = Bastion::local(&[]);
    let up = bastion.up("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    let mut ask = |count: u64| {
        for _ in 0..count {
            wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
            assert_eq!(wire.answer("GET").body.len(), 1024);
        }
    };
    let _turn = heavy();
    ask(50);
    let trace = |pid: u32, name: &str| {
        let file = bastion.path(name);
        let mut command = Command::new(&strace);
        command
            .args(["-f", "-c", "-U", "calls,name", "-p", &pid.to_string(), "-o"])
            .arg(&file);
        (Process::start("strace", &mut command), file)
    };
    let mut traces = [trace(bastion.process.pid(), "bastiond"), trace(up.process.pid(), "up")];
    for (strace, _) in &mut traces {
        let attached = until("strace to attach", || {
            (strace.err().contains("attached") || strace.ended().is_some()).then(|| strace.err().contains("attached"))
        });
        if !attached {
            eprintln!("skipped: strace may not attach here: {}", strace.err());
            return;
        }
    }
    ask(REQUESTS);
    for (mut strace, file) in traces {
        strace.signal(Signal::INT);
        strace.wait();
        let table = std::fs::read_to_string(&file).unwrap();
        let total = table.lines().find(|line| line.contains("total")).expect("no total");
        let calls: u64 = total.split_whitespace().next().unwrap().parse().unwrap();
        println!("{}: {calls} calls for {REQUESTS} requests\n{table}", file.display());
        assert!(calls > REQUESTS, "strace saw nothing:\n{table}");
        assert!(
            calls <= MOST * REQUESTS + BESIDE,
            "{calls} calls for {REQUESTS} requests:\n{table}"
        );
    }
}
