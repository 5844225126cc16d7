//! Tells the service manager how the daemon is (sd_notify(3)). Without NOTIFY_SOCKET it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

/// The daemon serves.
pub(crate) const READY: &str = "READY=1";
/// The daemon drains and ends.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Sends one state to the socket that NOTIFY_SOCKET names: a path, or `@name` for Linux's abstract ones.
///
/// # Errors
/// The socket is not there, or the system has no such sockets.
pub(crate) fn tell(socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else {
        return Ok(());
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the daemon.
    sender.set_nonblocking(true)?;
    match socket.as_bytes() {
        [b'@', name @ ..] => send_abstract(&sender, name, state),
        _ => sender.send_to(state.as_bytes(), socket).map(drop),
    }
}

#[cfg(target_os = "linux")]
fn send_abstract(sender: &UnixDatagram, name: &[u8], state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_: &UnixDatagram, _: &[u8], _: &str) -> io::Result<()> {
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
