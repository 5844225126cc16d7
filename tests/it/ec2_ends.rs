//! How connections to a bastion in AWS end, and what comes after them: an endpoint's hour, a bastion that is made anew, Ctrl-C.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::relay::Relay;
use crate::support::{
    Remote, Service, fetch, get, heavy, lasting_address,
    service::{After, ok},
    until,
};

/// An answer that takes its time: `/slow` is 20 pieces of 16 bytes in a second, everything else a short text.
fn dripping() -> Service {
    const PIECES: usize = 20;
    Service::start(|head, wire| {
        if head.target() != "/slow" {
            wire.send(ok("short"));
            return After::Keep;
        }
        let mut sent = wire
            .try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECES * 16).as_bytes())
            .is_ok();
        for piece in 0..PIECES {
            std::thread::sleep(Duration::from_millis(50));
            sent = sent && wire.try_send(format!("{piece:015};").as_bytes()).is_ok();
        }
        if sent { After::Keep } else { After::Close }
    })
}

fn dripped() -> String {
    (0..20).map(|piece| format!("{piece:015};")).collect()
}

#[test]
fn an_endpoints_connection_is_replaced_before_its_end() {
    let Some(mut remote) = Remote::start(&[]) else { return };
    let Some(()) = remote.endpoint() else { return };
    remote.environment.push(("EPHEMWORK_EICE_SECONDS", "6".to_owned()));
    let service = dripping();
    let workshop = remote.workshop("carol", "transport = \"eice\"", &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let edge = remote.edge();
    let ask = |path: &str, expected: &str| {
        while !stop.load(Ordering::SeqCst) {
            let answer = get(edge, "carol:api", path);
            if answer.status() != 200 || answer.text() != expected {
                stop.store(true, Ordering::SeqCst);
                panic!("{path}: {} {}", answer.status(), answer.text());
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    };
    let slow = dripped();
    std::thread::scope(|scope| {
        scope.spawn(|| ask("/", "short"));
        // At any moment some of these are on their way.
        scope.spawn(|| ask("/slow", &slow));
        scope.spawn(|| ask("/slow", &slow));
        until("three renewals", || {
            let tunnels = remote.ssm.admin("tunnels", json!({}));
            let left = |tunnel: &&serde_json::Value| tunnel["open"] == false;
            let left = tunnels.as_array().unwrap().iter().filter(left).count();
            (left >= 3 || stop.load(Ordering::SeqCst)).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
    });
    assert!(done.load(Ordering::SeqCst) > 20, "only {done:?} answers");
    for tunnel in remote.ssm.admin("tunnels", json!({})).as_array().unwrap() {
        assert_eq!(tunnel["seconds"], 6, "{tunnel}");
        assert_ne!(tunnel["over"], "maxTunnelDuration is over", "{tunnel}");
    }
    let said = up.said();
    for word in ["lost", "about to stop", "connected again"] {
        assert!(!said.contains(word), "{word:?} is in:\n{said}");
    }
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130), "{}", up.said());
}

#[test]
fn a_bastion_made_anew_is_known_once_its_key_is_published() {
    let Some(mut remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    let service = Service::saying("still here");
    let workshop = remote.workshop("carol", "transport = \"ssm\"", &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    let before = remote.host_key();
    remote.bastion.replace();
    let now = remote.host_key();
    assert_ne!(before, now);
    // The key that was published is still the old one: nothing is said to who shows another, and a person hears which.
    up.wait_for("pinned SHA256:");
    let said = up.said();
    let fingerprint = |key: &str| {
        let line = format!("{key}\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), line).unwrap();
        let done = std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    };
    for part in [
        format!("pinned {}", fingerprint(&before)),
        format!("shown {}", fingerprint(&now)),
        "/ephemwork/shop/host-key".to_owned(),
    ] {
        assert!(said.contains(&part), "{part:?} is missing in:\n{said}");
    }
    assert!(remote.bastion.session("carol:api").is_none());
    assert!(up.ended().is_none(), "{said}");
    remote.publish(&now);
    up.wait_for("connected again");
    assert_eq!(get(remote.edge(), "carol:api", "/").text(), "still here");
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130), "{}", up.said());
    assert_eq!(remote.ssm.open_sessions().len(), 0);
}

#[test]
fn interrupted_while_connecting_nothing_is_left() {
    // The agent takes long to reach port 22, so that SSH has not begun.
    let Some(remote) = Remote::start(&["dial_ms=8000"]) else {
        return;
    };
    let service = Service::saying("never");
    let workshop = remote.workshop("carol", "transport = \"ssm\"", &[("api", service.port)]);
    for (presses, signal) in [(1, Signal::INT), (2, Signal::INT), (1, Signal::TERM)] {
        let mut up = remote.begin(&workshop, &["up", "api", "--no-run"]);
        until("a session", || (!remote.ssm.open_sessions().is_empty()).then_some(()));
        let begun = Instant::now();
        for _ in 0..presses {
            up.signal(signal);
        }
        assert_eq!(up.wait().code(), Some(130), "{}", up.said());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let open = remote.ssm.open_sessions();
        assert_eq!(open.len(), 0, "after {presses} {signal:?}: {open:?}");
    }
    // At once: before, while or after the session is asked for. A shell's background job begins with SIGINT ignored, and so do the
    // programs that it starts.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let is_ignored = ignored & 1 << (Signal::INT.as_raw() - 1) != 0;
    let signal = if is_ignored { Signal::TERM } else { Signal::INT };
    for wait in [0, 100, 200, 400, 800] {
        let mut up = remote.begin(&workshop, &["up", "api", "--no-run"]);
        std::thread::sleep(Duration::from_millis(wait));
        up.signal(signal);
        up.wait();
        let open = remote.ssm.open_sessions();
        assert_eq!(open.len(), 0, "after {wait} ms: {open:?}");
    }
    let asked = remote.ssm.sessions().len();
    assert!(asked >= 3, "{asked}");
}

#[test]
fn a_second_interrupt_leaves_no_session_either() {
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    let port = lasting_address().port();
    let workshop = remote.workshop("carol", "transport = \"ssm\"", &[("api", port)]);
    let file = workshop.project().join("ephemwork.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let serve = format!("trap '' INT TERM; exec python3 -m http.server {port} --bind 127.0.0.1");
    std::fs::write(
        &file,
        format!("{text}run_command = \"{serve}\"\nstop_timeout_seconds = 600\n"),
    )
    .unwrap();
    let mut up = remote.begin(&workshop, &["up", "api"]);
    up.wait_for("X-Ephemwork: ");
    assert_eq!(remote.ssm.open_sessions().len(), 1);
    up.signal(Signal::INT);
    up.wait_for("stopping");
    // A person who sees that nothing happens.
    std::thread::sleep(Duration::from_secs(2));
    assert!(up.ended().is_none(), "{}", up.said());
    up.signal(Signal::INT);
    assert_eq!(up.wait_within(Duration::from_secs(15)).code(), Some(130), "{}", up.said());
    assert_eq!(remote.ssm.open_sessions().len(), 0);
    assert!(remote.bastion.session("carol:api").is_none(), "the tag was not given back");
}

/// Text as services send it: it shrinks to a small part, and differs from place to place.
fn text(bytes: usize) -> String {
    let line = |at: usize| {
        format!(
            "{{\"id\": {at:08}, \"name\": \"item number {at}\", \"price\": {}, \"stock\": true}}\n",
            at % 977
        )
    };
    let mut text: String = (0..bytes / 60).map(line).collect();
    text.truncate(bytes);
    text
}

#[test]
fn session_manager_carries_text_compressed_and_tcp_does_not() {
    const BYTES: usize = 4_000_000;
    let _turn = heavy();
    let Some(remote) = Remote::start(&[]) else { return };
    let body = text(BYTES);
    assert_eq!(body.len(), BYTES);
    let expected = body.clone();
    let service = Service::replying(move |head, sent| match head.method() {
        "GET" => ok(&expected),
        _ => ok(if sent == expected.as_bytes() { "the same" } else { "another" }),
    });
    let request = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Ephemwork: carol:api\r\nContent-Length: {length}\r\n\r\n{}",
            &body[..length]
        )
    };
    let workshop = remote.workshop("carol", "transport = \"ssm\"\nlanes = 1", &[("api", service.port)]);
    let mut up = remote.up(&workshop, &["api"]);
    let begun = Instant::now();
    assert_eq!(fetch(remote.edge(), request(BYTES)).text(), "the same");
    let down = begun.elapsed();
    assert!(
        get(remote.edge(), "carol:api", "/").text() == body,
        "the answer came otherwise"
    );
    let sessions = remote.ssm.sessions();
    let carried = |way: &str| sessions[0][way]["bytes"].as_u64().unwrap() as usize;
    let least = Duration::from_micros((BYTES / 1024 * 1000) as u64);
    eprintln!(
        "{BYTES} bytes down as {} in {down:?}, uncompressed at least {least:?}; up as {}",
        carried("down"),
        carried("up")
    );
    assert!(
        carried("down") < BYTES / 3 && carried("up") < BYTES / 3,
        "{} {}",
        carried("down"),
        carried("up")
    );
    // The bytes say how much quicker it is where the pace is all that counts; a busy machine has other things to wait for.
    assert!(down < least, "{down:?} of {least:?}");
    up.signal(Signal::INT);
    up.wait();

    const LESS: usize = 500_000;
    let relay = Relay::before(&remote.bastion);
    let tunnel = format!("transport = \"tcp\"\nhost = \"127.0.0.1\"\nport = {}", relay.address.port());
    let workshop = remote.workshop("carol", &tunnel, &[("api", service.port)]);
    let _up = remote.up(&workshop, &["api"]);
    assert_eq!(fetch(remote.edge(), request(LESS)).text(), "another");
    assert!(relay.down() > LESS as u64, "{}", relay.down());
}
