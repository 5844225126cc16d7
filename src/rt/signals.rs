//! SIGINT, SIGTERM and SIGHUP as a stream, armed from the first line of a program on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{self, SignalKind};

/// What the system asked of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: for the daemon, read keys and config again; for `up`, the terminal is gone.
    Hangup,
}

/// The signals that arrive from its making on; none is lost between two calls of [`Signals::next`].
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Replaces the default actions (ending the process) from now on.
    ///
    /// # Errors
    /// The system refused the handler.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            if self.interrupt.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Interrupt);
            }
            if self.terminate.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Terminate);
            }
            if self.hangup.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Hangup);
            }
            Poll::Pending
        })
        .await
    }
}
