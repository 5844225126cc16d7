//! The bastion's service manager: starts bastiond, keeps its listening sockets, and starts it again however it ends, as systemd does it
//! by the units in assets (`Type=notify`, `Restart=always`, `RestartSec`, `FileDescriptorStoreMax`).

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// The pause before a start, as the units have it; see the test.
pub const RESTART: Duration = Duration::from_millis(100);

/// The longest notification, in bytes.
const MAX_MESSAGE: usize = 512;

/// What is kept, by name.
type Kept = Arc<Mutex<BTreeMap<String, OwnedFd>>>;

/// `keeper NOTIFY_SOCKET PROGRAM ARGUMENTS`, until it is killed.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [socket, program @ ..] = arguments else {
        return Err("NOTIFY_SOCKET PROGRAM ARGUMENTS".to_owned());
    };
    // The one of a run before.
    fs::remove_file(socket).ok();
    let receiver = UnixDatagram::bind(socket).map_err(|why| format!("{socket}: {why}"))?;
    let kept = Kept::default();
    let keeps = Arc::clone(&kept);
    std::thread::spawn(move || {
        while let Err(why) = receive(&receiver, &keeps) {
            eprintln!("keeper: {why}");
        }
    });
    loop {
        let status = start(socket, program, &kept)?;
        eprintln!("keeper: it ended with {status}");
        std::thread::sleep(RESTART);
    }
}

/// Runs the program to its end, with what is kept as its descriptors from 3 on (sd_listen_fds(3)).
fn start(socket: &str, program: &[String], kept: &Kept) -> Result<String, String> {
    // Only stdin and stdout can be given to a child by safe means; the shell moves them to their places.
    const MOVE: [&str; 3] = [
        r#"exec "$@" </dev/null >&2"#,
        r#"exec 3<&0 </dev/null >&2; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#,
        r#"exec 3<&0 4<&1 </dev/null >&2; LISTEN_FDS=2 LISTEN_PID=$$ exec "$@""#,
    ];
    let mut handed = Vec::new();
    for socket in kept.lock().unwrap_or_else(PoisonError::into_inner).values() {
        handed.push(socket.as_fd().try_clone_to_owned().map_err(|why| why.to_string())?);
    }
    let line = MOVE.get(handed.len()).ok_or("it gave away more sockets than are expected")?;
    let mut handed = handed.into_iter().map(Stdio::from);
    let mut child = Command::new("/bin/sh")
        .args(["-c", line, "sh"])
        .args(program)
        .env("NOTIFY_SOCKET", socket)
        .stdin(handed.next().unwrap_or_else(Stdio::null))
        .stdout(handed.next().unwrap_or_else(Stdio::null))
        .spawn()
        .map_err(|why| format!("{program:?}: {why}"))?;
    child.wait().map(|status| status.to_string()).map_err(|why| why.to_string())
}

/// Takes notifications until one is wrong.
fn receive(receiver: &UnixDatagram, kept: &Kept) -> Result<(), String> {
    loop {
        let mut text = [0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut text)];
        let received = rustix::net::recvmsg(receiver, parts, &mut control, RecvFlags::CMSG_CLOEXEC);
        let count = received.map_err(|why| why.to_string())?.bytes;
        let message = String::from_utf8_lossy(&text[..count]).into_owned();
        let fields: BTreeMap<&str, &str> = message.lines().filter_map(|line| line.split_once('=')).collect();
        let name = fields.get("FDNAME").copied().unwrap_or("stored");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if fields.contains_key("FDSTOREREMOVE") {
            kept.remove(name);
        }
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        for descriptor in descriptors.flatten() {
            kept.insert(name.to_owned(), descriptor);
        }
    }
}
