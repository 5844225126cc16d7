//! Whether a service's port is free, and who holds it if not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::system;

/// How long a connection to a port of this machine may take; one that hangs has a listener, too.
const CONNECT: Duration = Duration::from_millis(500);

/// How much of a process's command line is shown, in characters.
const MAX_SHOWN: usize = 120;

/// Why a port cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Who holds it, as a person would say it; `None` when the system does not tell.
    pub(crate) by: Option<String>,
}

/// `None` when the port is free. Blocks for a moment.
pub(crate) fn taken(port: u16) -> Option<Taken> {
    is_taken(port).then(|| Taken { by: holder(port) })
}

/// Whether somebody listens there. Blocks for a moment.
pub(crate) fn is_taken(port: u16) -> bool {
    let loopback = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    let wildcard = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    // Systems differ in whether a second listener on another address is refused, so both are tried.
    let answers = |address: &SocketAddr| match TcpStream::connect_timeout(address, CONNECT) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::TimedOut,
    };
    let refused =
        |address: &SocketAddr| matches!(TcpListener::bind(address), Err(error) if error.kind() == std::io::ErrorKind::AddrInUse);
    loopback.iter().any(answers) || loopback.iter().chain(&wildcard).any(refused)
}

#[cfg(target_os = "linux")]
fn holder(port: u16) -> Option<String> {
    let mut sockets = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        sockets.extend(table.lines().filter_map(|line| listener(line, port)));
    }
    let wanted: Vec<String> = sockets.iter().map(|(inode, _)| format!("socket:[{inode}]")).collect();
    let pid = system::all().find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|target| wanted.iter().any(|socket| target.as_os_str() == socket.as_str()))
    });
    if let Some(pid) = pid {
        return Some(process(pid));
    }
    let own = rustix::process::geteuid().as_raw();
    let (_, user) = sockets.first()?;
    (*user != own).then(|| format!("a process of the user with number {user}"))
}

#[cfg(not(target_os = "linux"))]
fn holder(port: u16) -> Option<String> {
    let output = std::process::Command::new("lsof")
        .args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fp"])
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let pid = text.lines().find_map(|line| line.strip_prefix('p')?.parse().ok())?;
    Some(process(pid))
}

fn process(pid: u32) -> String {
    match system::command_line(pid) {
        Some(line) => format!("process {pid} ({})", line.chars().take(MAX_SHOWN).collect::<String>()),
        None => format!("process {pid}"),
    }
}

/// Inode and user of a listening socket's line in /proc/net/tcp (proc_net(5)), if it listens on that port.
#[cfg(any(target_os = "linux", test))]
fn listener(line: &str, port: u16) -> Option<(u64, u32)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == LISTEN && u16::from_str_radix(local, 16) == Ok(port);
    listens.then_some((fields.get(9)?.parse().ok()?, fields.get(7)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_socket_table() {
        let line =
            "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0";
        assert_eq!(listener(line, 8000), Some((12345, 1000)));
        assert_eq!(listener(line, 8001), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8000), None);
        assert_eq!(listener("sl local_address", 8000), None);
    }

    #[test]
    fn a_listener_is_found_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = taken(port).expect("it is taken");
        if let Some(by) = taken.by {
            assert!(by.starts_with(&format!("process {}", std::process::id())), "{by}");
        }
        drop(listener);
        assert_eq!(super::taken(port), None);
    }
}
