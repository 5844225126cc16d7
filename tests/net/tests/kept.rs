//! Listening sockets that outlive the daemon: whoever connects while nobody serves is answered by the next one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ephemwork_net::process::{Running, signal_to};
use ephemwork_net::{keeper, until};
use rustix::process::Signal;

use crate::faults::programs;

const PATIENCE: Duration = Duration::from_secs(40);

fn pid(state: &Path) -> Option<u32> {
    let text = std::fs::read(state.join("ready.json")).ok()?;
    let ready: serde_json::Value = serde_json::from_slice(&text).ok()?;
    ready["pid"].as_u64()?.try_into().ok()
}

#[test]
fn nobody_is_refused_between_two_daemons() {
    let programs = programs();
    let directory = std::env::temp_dir().join(format!("ephemwork-kept-{}", std::process::id()));
    let state = directory.join("state");
    std::fs::create_dir_all(&directory).unwrap();
    // A port that was free a moment ago; below the range of those that the system gives to others.
    let edge = (20_000..30_000_u16)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|at| TcpListener::bind(at).is_ok())
        .unwrap();
    let mut command = Command::new(&programs.helper);
    command.arg("keeper").arg(directory.join("notify")).arg(&programs.ephemwork);
    command
        .args(["bastiond", "--http", &edge.to_string(), "--ssh", "127.0.0.1:0", "--state"])
        .arg(&state);
    let keeper = Running::start("the keeper", &mut command, &directory.join("log")).unwrap();
    let mut daemon = until(PATIENCE, "the daemon", || pid(&state)).unwrap();
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
        signal_to(daemon, signal);
        until(PATIENCE, "the daemon to end", || {
            (!Path::new("/proc").join(daemon.to_string()).exists()).then_some(())
        })
        .unwrap();
        let mut clients: Vec<TcpStream> = (0..20)
            .map(|_| TcpStream::connect(edge).unwrap_or_else(|why| panic!("refused after {signal:?}: {why}\n{}", keeper.said())))
            .collect();
        for client in &mut clients {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
                .write_all(b"GET /ephemwork-health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}\n{}", keeper.said());
        }
        daemon = until(PATIENCE, "another daemon", || pid(&state).filter(|&now| now != daemon)).unwrap();
    }
    drop(keeper);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The keeper does as the units say.
#[test]
fn the_units_keep_sockets_as_the_keeper_does() {
    for unit in ["ephemwork-bastiond.service", "aws/ephemwork-bastiond.service"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(unit);
        let text = std::fs::read_to_string(file).unwrap();
        let has = |line: &str| text.lines().any(|one| one == line);
        let pause = format!("RestartSec={}ms", keeper::RESTART.as_millis());
        for line in [
            "Type=notify",
            "Restart=always",
            "StartLimitIntervalSec=0",
            "FileDescriptorStoreMax=4",
            &pause,
        ] {
            assert!(has(line), "{unit}: {line}");
        }
    }
}
