//! The two subsystems of a laptop, byte by byte: OpenSSH carries them, and the test is the laptop.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Bastion, Process, Service, Wire, Workshop,
    frames::{self, ACK, DATA, END_STREAM, Frames, HEADERS, Outcome, PING, SETTINGS, frame},
    get, until,
};

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
const INITIAL_WINDOW: u16 = 4;

const MIB: u32 = 1024 * 1024;

/// One SSH connection that channels are opened on.
pub(crate) struct Master<'a> {
    bastion: &'a Bastion,
    socket: String,
    _process: Process,
}

/// One channel: its program, and HTTP/2 over it.
pub(crate) struct Channel {
    program: Child,
    frames: Frames,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

impl Master<'_> {
    pub(crate) fn start(bastion: &Bastion) -> Master<'_> {
        let socket = bastion.path("master.sock");
        let shown = socket.display().to_string();
        let mut command = bastion.ssh("alice", "alice", &["-N", "-M", "-S", &shown]);
        let process = Process::start("master", &mut command);
        until("the connection", || socket.exists().then_some(()));
        Master {
            bastion,
            socket: shown,
            _process: process,
        }
    }

    fn ssh(&self, subsystem: &str, end: Stdio, answers: Stdio, errors: Stdio) -> Child {
        let mut command = self.bastion.ssh("alice", "alice", &["-T", "-S", &self.socket, "-s"]);
        command.arg(subsystem).stdin(end).stdout(answers).stderr(errors);
        command.spawn().unwrap()
    }

    fn open(&self, subsystem: &str) -> Channel {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let second = theirs.try_clone().unwrap();
        let program = self.ssh(
            subsystem,
            OwnedFd::from(theirs).into(),
            OwnedFd::from(second).into(),
            Stdio::inherit(),
        );
        Channel {
            program,
            frames: Frames(Wire::of_file(ours)),
        }
    }

    /// A control channel, on which the bastion serves.
    pub(crate) fn control(&self) -> Channel {
        let mut channel = self.open("ephemwork-control");
        channel.frames.0.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        channel.frames.send(&frame(SETTINGS, 0, 0, b""));
        channel.frames.send(&frame(SETTINGS, ACK, 0, b""));
        channel
    }
}

/// Asks on a control channel.
#[track_caller]
fn call(channel: &mut Channel, stream: u32, method: &str, path: &str, body: &str) -> String {
    call_with(channel, stream, method, path, body, &[])
}

/// The same with more fields in its head.
#[track_caller]
pub(crate) fn call_with(
    channel: &mut Channel,
    stream: u32,
    method: &str,
    path: &str,
    body: &str,
    more: &[(&str, &str)],
) -> String {
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "bastion"),
        ("content-type", "application/json"),
    ];
    fields.extend_from_slice(more);
    channel.frames.send(&frames::head(stream, 0, &fields));
    channel.frames.send(&frame(DATA, END_STREAM, stream, body.as_bytes()));
    match channel.frames.outcome(stream) {
        Outcome::Text(text) => text,
        other => panic!("{path}: {other:?}"),
    }
}

#[track_caller]
fn claim(control: &mut Channel, stream: u32) {
    let claim = json!({
        "protocol": ephemwork::protocol::VERSION, "service": "api", "host": "test", "version": "0", "takeover": false, "lane": 0,
    });
    let answer = call(control, stream, "POST", "/v1/claim", &claim.to_string());
    assert!(answer.contains("\"token\""), "{answer}");
}

/// What a laptop sees on its requests channel.
struct Requests {
    channel: Channel,
    /// The window that the bastion offered last.
    window: u32,
    /// Streams with a request that is not answered.
    open: Vec<u32>,
}

impl Requests {
    /// Takes one frame, as a laptop must.
    #[track_caller]
    fn take(&mut self) {
        let (kind, flags, stream, payload) = self.channel.frames.next().expect("the channel ended");
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks(6) {
                    if setting[..2] == INITIAL_WINDOW.to_be_bytes() {
                        self.window = u32::from_be_bytes(setting[2..].try_into().unwrap());
                    }
                }
                self.channel.frames.send(&frame(SETTINGS, ACK, 0, b""));
            }
            HEADERS => self.open.push(stream),
            _ => {}
        }
    }

    /// Reads until so many requests are open and this window is offered; asks again and again, so that there is always something to read.
    #[track_caller]
    fn wait(&mut self, open: usize, window: u32) {
        until(&format!("{open} requests and a window of {window}"), || {
            self.channel.frames.send(&frame(PING, 0, 0, b"anything"));
            self.take();
            (self.open.len() == open && self.window == window).then_some(())
        });
    }

    fn answer(&mut self) {
        let stream = self.open.remove(0);
        self.channel
            .frames
            .send(&frames::head(stream, END_STREAM, &[(":status", "204")]));
    }
}

/// One transfer alone gets a wide window, many a narrow one, and a wide one again when they are done.
#[test]
fn windows_follow_the_number_of_requests() {
    let bastion = Bastion::start();
    let master = Master::start(&bastion);
    let channel = master.open("ephemwork-requests");
    let mut control = master.control();
    claim(&mut control, 1);
    let mut asked: Vec<Wire> = Vec::new();
    let mut ask = || {
        let mut wire = Wire::to(bastion.http);
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
        asked.push(wire);
    };
    let mut requests = Requests {
        channel,
        window: 0,
        open: Vec::new(),
    };
    ask();
    assert_eq!(requests.channel.frames.0.take(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    requests.channel.frames.send(&frame(SETTINGS, 0, 0, b""));
    requests.wait(1, 4 * MIB);
    for (open, window) in [(2, MIB), (3, MIB), (4, MIB), (5, MIB / 4), (6, MIB / 4)] {
        ask();
        requests.wait(open, window);
    }
    for (open, window) in [(5, MIB / 4), (4, MIB), (1, 4 * MIB)] {
        while requests.open.len() > open {
            requests.answer();
        }
        requests.wait(open, window);
    }
    requests.answer();
    for mut wire in asked {
        assert_eq!(wire.answer("GET").status(), 204);
    }
}

/// A fifth control channel is refused with a reason; the other channels do not notice, and there is room when one is closed.
#[test]
fn control_channels_are_limited() {
    let bastion = Bastion::start();
    let master = Master::start(&bastion);
    let mut controls: Vec<Channel> = (0..4).map(|_| master.control()).collect();
    for control in &mut controls {
        call(control, 1, "GET", "/v1/sessions", "");
    }
    let mut fifth = master.ssh("ephemwork-control", Stdio::null(), Stdio::null(), Stdio::null());
    let status = until("the fifth to be refused", || fifth.try_wait().unwrap());
    assert!(!status.success());
    until("the reason", || {
        let said = bastion.process.err();
        said.contains("refused: this connection has as many control channels as it may have")
            .then_some(())
    });
    claim(&mut controls[3], 3);
    assert!(bastion.session("alice:api").is_some());
    controls.remove(0);
    until("a place to be free", || {
        let mut control = master.control();
        control.frames.send(&frame(PING, 0, 0, b"anything"));
        control.frames.next().map(|_| ())
    });
    assert_eq!(get(bastion.http, "alice:web", "/").status(), 404);
    drop(controls);
}

/// The laptop keeps its control channel only while there are calls: a thousand laptops would cost the bastion a buffer each.
#[test]
fn an_idle_control_channel_is_closed_and_opened_again() {
    let bastion = Bastion::local_with_environment(&[("EPHEMWORK_LOG", "debug")]);
    let (api, web) = (Service::saying("yes"), Service::saying("yes"));
    let table = |name: &str, port: u16| format!("[service.{name}]\nport = {port}\n");
    let workshop = Workshop::beside(&bastion, "alice", &(table("api", api.port) + &table("web", web.port)));
    let mut up = workshop.up(&["api", "web"], &["--no-run"]);
    let said = |what: &str| bastion.process.err().matches(what).count();
    until("the channel to be closed", || {
        (said("a control channel is closed") == 1).then_some(())
    });
    // Both claims went over one.
    assert_eq!(said("a control channel is open"), 1, "{}", bastion.process.err());
    assert_eq!(bastion.session("alice:api").unwrap()["state"], "live");
    assert_eq!(get(bastion.http, "alice:web", "/").text(), "yes");
    // The end of the `up` releases, which needs one again.
    up.signal(Signal::INT);
    up.wait_within(Duration::from_secs(20));
    until("the release", || bastion.session("alice:api").is_none().then_some(()));
    assert_eq!(said("a control channel is open"), 2, "{}", bastion.process.err());
}
