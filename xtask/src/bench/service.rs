//! The developer's service, as quick as one thread can be: `GET /bytes/N` answers with N bytes, `POST` with how many it got.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use argh::FromArgs;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::wire::{self, Body};

/// Bytes read or written at a time.
const PIECE: usize = 256 * 1024;

/// The listener's token; connections count from 1.
const LISTENER: Token = Token(0);

/// the service that the benchmark tunnels to; the benchmark starts it itself
#[derive(FromArgs)]
#[argh(subcommand, name = "bench-service")]
pub(crate) struct Arguments {}

struct Connection {
    stream: TcpStream,
    /// Bytes of a request's head that is not complete yet.
    buffer: Vec<u8>,
    request: Option<Asked>,
    /// What is still to be sent: a head, then so many bytes of body.
    head: Vec<u8>,
    body_left: u64,
}

struct Asked {
    /// `None` for an upload.
    download: Option<u64>,
    body: Body,
    content: u64,
}

pub(crate) fn main(_: &Arguments) -> Result<(), String> {
    serve().map_err(|why| format!("the benchmark's service: {why}"))
}

fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready {}", listener.local_addr()?);
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut next = 1;
    let mut events = Events::with_capacity(1024);
    let mut space = vec![0; PIECE];
    let pattern = wire::pattern(PIECE);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(next);
                    next += 1;
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                    connections.insert(token, Connection::new(stream));
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&event.token()) else {
                continue;
            };
            let alive = connection.send(&pattern)
                && connection.receive(&mut space, &pattern)
                // An end that came together with a request is not told again.
                && (!event.is_read_closed() || connection.receive(&mut space, &pattern));
            if !alive {
                connections.remove(&event.token());
            }
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            buffer: Vec::new(),
            request: None,
            head: Vec::new(),
            body_left: 0,
        }
    }

    /// Sends what the socket takes; false when the connection is of no use any more.
    fn send(&mut self, pattern: &[u8]) -> bool {
        while !self.head.is_empty() || self.body_left > 0 {
            // A small answer goes out in one piece.
            let with_head = !self.head.is_empty();
            if with_head {
                let room = PIECE.saturating_sub(self.head.len());
                let part = self.body_left.min(room as u64) as usize;
                self.head.extend_from_slice(&pattern[..part]);
                self.body_left -= part as u64;
            }
            let piece = if with_head {
                &self.head[..]
            } else {
                &pattern[..self.body_left.min(PIECE as u64) as usize]
            };
            match self.stream.write(piece) {
                Ok(sent) if with_head => drop(self.head.drain(..sent)),
                Ok(sent) => self.body_left -= sent as u64,
                Err(why) => return why.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Reads one request or all there is; false when the connection is of no use any more.
    fn receive(&mut self, space: &mut [u8], pattern: &[u8]) -> bool {
        loop {
            let read = match self.stream.read(space) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(why) => return why.kind() == io::ErrorKind::WouldBlock,
            };
            match self.understand(&space[..read]) {
                Ok(Some(())) => return self.send(pattern),
                Ok(None) => {}
                Err(_) => return false,
            }
        }
    }

    /// `Some` once a request is complete; its answer is then to be sent.
    fn understand(&mut self, arrived: &[u8]) -> Result<Option<()>, String> {
        let whole;
        let mut rest = arrived;
        if self.request.is_none() {
            self.buffer.extend_from_slice(rest);
            let Some(head) = wire::head(&self.buffer)? else {
                return Ok(None);
            };
            whole = std::mem::take(&mut self.buffer);
            rest = &whole[head.length..];
            let download = head
                .line
                .strip_prefix("GET /bytes/")
                .and_then(|rest| rest.split(' ').next()?.parse().ok());
            self.request = Some(Asked {
                download,
                body: head.body,
                content: 0,
            });
        }
        let Some(asked) = &mut self.request else { return Ok(None) };
        asked.content += asked.body.take(rest).content;
        if !asked.body.over() {
            return Ok(None);
        }
        self.head
            .extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ");
        match asked.download {
            Some(bytes) => {
                self.head.extend_from_slice(format!("{bytes}\r\n\r\n").as_bytes());
                self.body_left = bytes;
            }
            None => {
                let text = asked.content.to_string();
                self.head
                    .extend_from_slice(format!("{}\r\n\r\n{text}", text.len()).as_bytes());
            }
        }
        self.request = None;
        Ok(Some(()))
    }
}
