//! Listening sockets that the service manager hands over (sd_listen_fds(3)): it kept them while nobody served.

use std::net::TcpListener as Listener;

use listenfd::ListenFd;

/// More than this are not looked at; a daemon has two.
const MOST: usize = 16;

/// The TCP listeners that this process was started with, in their order; each belongs to this process alone and is not inherited
/// further. Once a process: the variables that tell of them are forgotten. What is no TCP listener is left where it is.
#[must_use]
pub fn inherited() -> Vec<Listener> {
    let mut given = ListenFd::from_env();
    let listeners = (0..given.len().min(MOST)).filter_map(|index| given.take_tcp_listener(index).ok().flatten());
    listeners.filter(|listener| listener.set_nonblocking(true).is_ok()).collect()
}
