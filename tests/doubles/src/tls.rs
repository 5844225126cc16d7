//! TLS over a socket that never blocks: what was read and what waits to be written are looked after separately, so that a peer
//! that does not read does not keep us from reading.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection};

use crate::http::{self, Head};

/// How long a request or an answer may take on loopback.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's end of a TLS connection.
pub(crate) struct Tls {
    connection: ServerConnection,
    socket: TcpStream,
}

impl Tls {
    /// The socket is made non-blocking here.
    pub(crate) fn new(config: &Arc<ServerConfig>, socket: TcpStream) -> io::Result<Tls> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Tls { connection, socket })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether encrypted bytes wait for room in the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads a request's head, within a time.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let start = Instant::now();
        let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
        while start.elapsed() < PATIENCE {
            match self.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => bytes.extend(&piece[..length]),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::IN),
                Err(why) => return Err(why),
            }
            if let Some(head) = http::head(&bytes).map_err(io::Error::other)? {
                return Ok(head);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Writes all of it, within a time.
    pub(crate) fn say(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let done = if bytes.is_empty() {
                self.flush().map(|()| 0)
            } else {
                self.write(bytes)
            };
            match done {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(length) => bytes = &bytes[length..],
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT),
                Err(why) => return Err(why),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) {
        self.connection.send_close_notify();
        // The peer may be gone already.
        self.say(&[]).ok();
    }

    fn wait(&self, flags: PollFlags) {
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Interrupted is as good as a look in vain.
        poll(&mut [PollFd::new(&self.socket, flags)], Some(&limit)).ok();
    }

    fn write_out(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.connection.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            if let Err(why) = self.connection.process_new_packets() {
                // The alert that says why; the peer may be gone already.
                self.write_out().ok();
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            match self.write_out() {
                Err(why) if why.kind() != io::ErrorKind::WouldBlock => return Err(why),
                _ => {}
            }
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.connection.writer().write(bytes)?;
        match self.write_out() {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock && taken > 0 => Ok(taken),
            Err(why) => Err(why),
            Ok(()) if taken == 0 => self.connection.writer().write(bytes),
            Ok(()) => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()
    }
}
