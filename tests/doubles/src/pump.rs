//! A client's websocket: one thread that never blocks on either direction.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tungstenite::{Bytes, Error, Message, WebSocket};

use crate::session::{Order, Session};
use crate::tls::Tls;

/// How many bytes are handed to the websocket before it is flushed.
const BATCH: usize = 256 * 1024;
/// How many messages are read before writing has its turn.
const TURN: usize = 256;
/// How long the first message may take.
const OPENING: Duration = Duration::from_secs(10);
/// How often the client is pinged; its pong says what it has read.
const PING: Duration = Duration::from_secs(1);
/// The longest wait for anything.
const GLANCE: Duration = Duration::from_millis(500);
/// How long the client may take to answer a close.
const CLOSING: Duration = Duration::from_secs(2);

/// A server's websocket on a socket that does not block.
pub(crate) struct Socket {
    ws: WebSocket<Tls>,
    pending: bool,
}

/// What came from the other side.
pub(crate) enum Came {
    Binary(Bytes),
    Text(String),
    Pong(Bytes),
    Nothing,
    End,
}

impl Socket {
    /// Behind an upgrade that is answered; `rest` came with it.
    pub(crate) fn new(tls: Tls, rest: Vec<u8>) -> Socket {
        let config = WebSocketConfig::default()
            .write_buffer_size(16 * 1024 * 1024)
            .max_message_size(None)
            .max_frame_size(None);
        Socket {
            ws: WebSocket::from_partially_read(tls, rest, Role::Server, Some(config)),
            pending: false,
        }
    }

    pub(crate) fn read(&mut self) -> Came {
        loop {
            return match self.ws.read() {
                Ok(Message::Binary(bytes)) => Came::Binary(bytes),
                Ok(Message::Text(text)) => Came::Text(text.to_string()),
                Ok(Message::Pong(bytes)) => Came::Pong(bytes),
                // The answer to a ping waits in the websocket.
                Ok(Message::Ping(_)) => {
                    self.pending = true;
                    continue;
                }
                Ok(_) => continue,
                Err(Error::Io(why)) if why.kind() == io::ErrorKind::WouldBlock => Came::Nothing,
                Err(_) => Came::End,
            };
        }
    }

    /// Hands over a message; whether the websocket still works.
    pub(crate) fn write(&mut self, message: Message) -> bool {
        self.pending = true;
        match self.ws.write(message) {
            Ok(()) => true,
            Err(Error::Io(why)) => why.kind() == io::ErrorKind::WouldBlock,
            Err(_) => false,
        }
    }

    /// Writes what the socket takes; whether the websocket still works.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.pending {
            return true;
        }
        match self.ws.flush() {
            Ok(()) => self.pending = self.ws.get_ref().wants_write(),
            Err(Error::Io(why)) if why.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }

    /// Whether something waits for room in the socket.
    pub(crate) fn pending(&self) -> bool {
        self.pending
    }

    pub(crate) fn tls(&self) -> &Tls {
        self.ws.get_ref()
    }

    /// Closes with a code and a text, and waits a little for the other side's close.
    pub(crate) fn close(&mut self, code: u16, text: &str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: text.to_owned().into(),
        };
        // The other side may be gone already.
        self.ws.close(Some(frame)).ok();
        self.pending = true;
        let start = Instant::now();
        while start.elapsed() < CLOSING && self.flush() && !matches!(self.read(), Came::End) {
            self.wait(true, &[], Some(Duration::from_millis(100)));
        }
    }

    /// Ends the connection with a reset, in the middle of whatever it was.
    pub(crate) fn reset(self) {
        // It may be gone already; then there is nothing to reset.
        set_socket_linger(self.tls().socket(), Some(Duration::ZERO)).ok();
    }

    /// Waits until the socket has something, or room for what waits, or one of `others` has something.
    pub(crate) fn wait(&self, read: bool, others: &[&dyn rustix::fd::AsFd], limit: Option<Duration>) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, self.pending);
        let mut fds = vec![PollFd::new(self.tls().socket(), flags)];
        fds.extend(
            others
                .iter()
                .map(|other| PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN)),
        );
        let limit = limit.unwrap_or(GLANCE).min(GLANCE);
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        // Interrupted is as good as a look in vain.
        poll(&mut fds, Some(&limit)).ok();
    }
}

/// Serves a data channel whose upgrade is answered, to its end.
pub(crate) fn run(mut socket: Socket, session: &Session) {
    let Some(text) = opening(&mut socket) else {
        session.violate("the first message on a websocket is no text, or did not come within 10 s");
        return socket.close(1008, "OpenDataChannelInput is missing");
    };
    let Ok((mut wakes, waker)) = UnixStream::pair() else { return };
    if wakes.set_nonblocking(true).is_err() || waker.set_nonblocking(true).is_err() {
        return;
    }
    let generation = match session.open(&text, waker) {
        Ok(generation) => generation,
        Err(why) => return socket.close(1008, short(&why)),
    };
    match serve(&mut socket, session, generation, &mut wakes) {
        End::Close(code, text) => {
            session.leave(generation);
            socket.close(code, text);
        }
        End::Gone => session.leave(generation),
        End::Reset => {
            session.leave(generation);
            socket.reset();
        }
        End::Blackhole => {
            swallow(&socket);
            session.leave(generation);
        }
    }
}

/// How a websocket ends.
enum End {
    Close(u16, &'static str),
    Gone,
    Reset,
    Blackhole,
}

fn serve(socket: &mut Socket, session: &Session, generation: u64, wakes: &mut UnixStream) -> End {
    let mut pinged = Instant::now();
    let mut drain = [0; 64];
    loop {
        while matches!(wakes.read(&mut drain), Ok(1..)) {}
        let room = if socket.pending() { 0 } else { BATCH };
        let Some(batch) = session.client_gets(generation, room) else {
            return End::Close(1000, "replaced by a later connection");
        };
        for message in batch.messages {
            if !socket.write(Message::binary(message)) {
                return End::Gone;
            }
        }
        match batch.order {
            Some(Order::Cut) => return End::Reset,
            Some(Order::Close(code, text)) => return End::Close(code, text),
            Some(Order::Blackhole) => return End::Blackhole,
            None => {}
        }
        if batch.last {
            return End::Close(1000, "session closed");
        }
        if pinged.elapsed() >= PING && !batch.hold {
            pinged = Instant::now();
            if !socket.write(Message::Ping(batch.deliveries.to_be_bytes().to_vec().into())) {
                return End::Gone;
            }
        }
        if !socket.flush() {
            return End::Gone;
        }
        let mut more = false;
        if !batch.hold {
            for turn in 0..TURN {
                match socket.read() {
                    Came::Binary(bytes) if batch.close_above > 0 && bytes.len() > batch.close_above => {
                        return End::Close(1009, "message too big");
                    }
                    Came::Binary(bytes) => {
                        // A violation is recorded, and channel_closed follows.
                        session.client_says(&bytes).ok();
                    }
                    Came::Text(_) => session.violate("a text message behind the first"),
                    Came::Pong(bytes) => {
                        if let Ok(deliveries) = <[u8; 8]>::try_from(&bytes[..]) {
                            session.pong(u64::from_be_bytes(deliveries));
                        }
                    }
                    Came::Nothing => break,
                    Came::End => return End::Gone,
                }
                more = turn + 1 == TURN;
            }
        }
        if !more {
            // What is due while the socket has no room waits for the room.
            let limit = if socket.pending() { None } else { batch.wait };
            socket.wait(!batch.hold, &[wakes], limit);
        }
    }
}

fn opening(socket: &mut Socket) -> Option<String> {
    let start = Instant::now();
    while start.elapsed() < OPENING {
        match socket.read() {
            Came::Text(text) => return Some(text),
            Came::Binary(_) | Came::End => return None,
            Came::Pong(_) => {}
            Came::Nothing => {
                if !socket.flush() {
                    return None;
                }
                socket.wait(true, &[], Some(GLANCE));
            }
        }
    }
    None
}

/// Takes bytes and says nothing, until the other side gives up.
fn swallow(socket: &Socket) {
    let mut stream = socket.tls().socket();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return,
            Err(why) if why.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) => {}
            Err(_) => socket.wait(true, &[], Some(GLANCE)),
        }
    }
}

/// A text as a close frame can carry it.
pub(crate) fn short(text: &str) -> &str {
    const MOST: usize = 123;
    let mut end = text.len().min(MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
