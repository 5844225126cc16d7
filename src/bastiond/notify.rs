//! Tells the service manager how the daemon is (sd_notify(3)), and gives it the listening sockets to keep. Without NOTIFY_SOCKET it does
//! nothing.
//!
//! What the manager keeps (systemd.service(5), FileDescriptorStoreMax) is handed to the next daemon, however this one ended: whoever
//! connects in between waits in the socket's queue instead of being refused.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// The daemon serves.
pub(crate) const READY: &str = "READY=1";
/// The daemon drains and ends.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Sends one state to the socket that NOTIFY_SOCKET names: a path, or `@name` for Linux's abstract ones.
///
/// # Errors
/// The socket is not there, or the system has no such sockets.
pub(crate) fn tell(socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    match connect(socket)? {
        Some(sender) => sender.send(state.as_bytes()).map(drop),
        None => Ok(()),
    }
}

/// Has the manager close what it keeps under a name.
///
/// # Errors
/// As [`tell`].
pub(crate) fn forget(socket: Option<&OsStr>, name: &str) -> io::Result<()> {
    tell(socket, &format!("FDSTOREREMOVE=1\nFDNAME={name}"))
}

/// Gives the manager a listening socket to keep under a name.
///
/// # Errors
/// As [`tell`].
pub(crate) fn keep(socket: Option<&OsStr>, name: &str, listener: impl AsFd) -> io::Result<()> {
    let Some(sender) = connect(socket)? else { return Ok(()) };
    let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
    let listener: [BorrowedFd<'_>; 1] = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&listener)) {
        return Err(io::Error::other("one descriptor does not fit into a message"));
    }
    rustix::net::sendmsg(&sender, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty())?;
    Ok(())
}

fn connect(socket: Option<&OsStr>) -> io::Result<Option<UnixDatagram>> {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else {
        return Ok(None);
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the daemon.
    sender.set_nonblocking(true)?;
    match socket.as_bytes() {
        [b'@', name @ ..] => connect_abstract(&sender, name)?,
        _ => sender.connect(socket)?,
    }
    Ok(Some(sender))
}

#[cfg(target_os = "linux")]
fn connect_abstract(sender: &UnixDatagram, name: &[u8]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    sender.connect_addr(&address)
}

#[cfg(not(target_os = "linux"))]
fn connect_abstract(_: &UnixDatagram, _: &[u8]) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "abstract sockets exist on Linux only",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        assert!(tell(Some(path.as_os_str()), READY).is_err());
        let socket = UnixDatagram::bind(&path).unwrap();
        tell(Some(path.as_os_str()), READY).unwrap();
        assert_eq!(received(&socket), "READY=1");
        tell(None, READY).unwrap();
        tell(Some(OsStr::new("")), READY).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("ephemwork-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        tell(Some(OsStr::new(&format!("@{name}"))), STOPPING).unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }
}
