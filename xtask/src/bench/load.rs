//! The load: connections that each send a request, read its whole answer, and send the next (a closed loop), on one thread.
//!
//! It does as little as it can for each request, so that what it measures is the other side. Any answer that is not the
//! expected one ends the run: a benchmark of failures measures nothing.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::histogram::Histogram;
use super::wire::{self, Body};

/// How long nothing at all may arrive before the run counts as stuck.
const STUCK: Duration = Duration::from_secs(15);

/// Bytes read or written at a time: what a loopback socket usually has ready.
const PIECE: usize = 256 * 1024;

/// What to send.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// An answer of so many bytes.
    Download(u64),
    /// A body of so many bytes; the service answers with how many it got.
    Upload(u64),
}

/// When to stop.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// After this time.
    After(Duration),
    /// After so many answers.
    Count(u64),
    /// Once this is true, in the middle of an answer too.
    Raised(Arc<AtomicBool>),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The edge.
    pub address: SocketAddr,
    /// The value of `X-Ephemwork`.
    pub tag: String,
    /// How many connections, each with one request at a time.
    pub connections: usize,
    /// What each sends.
    pub request: Request,
    /// When to stop.
    pub end: End,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Complete answers.
    pub requests: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of each answer, from its request's first byte to its own last.
    pub latency: Histogram,
}

impl Outcome {
    /// Complete answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

struct Connection {
    stream: TcpStream,
    started: Instant,
    /// Bytes of the head and of the body that are not yet sent.
    head_left: usize,
    body_left: u64,
    /// Bytes that arrived and are not yet understood: part of an answer's head.
    buffer: Vec<u8>,
    answer: Option<Answer>,
}

struct Answer {
    body: Body,
    content: u64,
    /// The content itself, when it is a number to compare.
    text: Vec<u8>,
}

struct Run<'a> {
    load: &'a Load,
    head: Vec<u8>,
    pattern: Vec<u8>,
    space: Vec<u8>,
    requests: u64,
    latency: Histogram,
}

impl Load {
    /// Runs it to its end on this thread.
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        self.try_run().map_err(|why| format!("the load on {}: {why}", self.address))
    }

    fn try_run(&self) -> Result<Outcome, String> {
        let mut poll = Poll::new().map_err(broken)?;
        let mut connections = Vec::new();
        for index in 0..self.connections {
            let stream = std::net::TcpStream::connect(self.address).map_err(broken)?;
            stream.set_nodelay(true).map_err(broken)?;
            stream.set_nonblocking(true).map_err(broken)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(index), interest)
                .map_err(broken)?;
            connections.push(Connection::new(stream));
        }
        let mut run = Run {
            load: self,
            head: self.head(),
            pattern: wire::pattern(PIECE),
            space: vec![0; PIECE],
            requests: 0,
            latency: Histogram::new(),
        };
        let started = Instant::now();
        for connection in &mut connections {
            run.begin(connection)?;
        }
        let mut events = Events::with_capacity(1024);
        let mut heard = started;
        while !run.over(started) {
            poll.poll(&mut events, Some(Duration::from_millis(50))).map_err(broken)?;
            let now = Instant::now();
            if !events.is_empty() {
                heard = now;
            } else if now - heard > STUCK {
                return Err(format!(
                    "nothing arrived for {} s after {} answers",
                    STUCK.as_secs(),
                    run.requests
                ));
            }
            for event in &events {
                let connection = &mut connections[event.token().0];
                if event.is_writable() {
                    run.send(connection)?;
                }
                if event.is_readable() || event.is_read_closed() {
                    run.receive(connection)?;
                }
            }
        }
        Ok(Outcome {
            requests: run.requests,
            elapsed: started.elapsed(),
            latency: run.latency,
        })
    }

    fn head(&self) -> Vec<u8> {
        let (tag, address) = (&self.tag, self.address);
        match self.request {
            Request::Download(bytes) => format!("GET /bytes/{bytes} HTTP/1.1\r\nHost: {address}\r\nX-Ephemwork: {tag}\r\n\r\n"),
            Request::Upload(bytes) => {
                format!("POST /upload HTTP/1.1\r\nHost: {address}\r\nX-Ephemwork: {tag}\r\nContent-Length: {bytes}\r\n\r\n")
            }
        }
        .into_bytes()
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            started: Instant::now(),
            head_left: 0,
            body_left: 0,
            buffer: Vec::new(),
            answer: None,
        }
    }
}

impl Run<'_> {
    fn over(&self, started: Instant) -> bool {
        match &self.load.end {
            End::After(time) => started.elapsed() >= *time,
            End::Count(count) => self.requests >= *count,
            End::Raised(flag) => flag.load(Ordering::Relaxed),
        }
    }

    fn begin(&self, connection: &mut Connection) -> Result<(), String> {
        connection.started = Instant::now();
        connection.head_left = self.head.len();
        connection.body_left = match self.load.request {
            Request::Download(_) => 0,
            Request::Upload(bytes) => bytes,
        };
        self.send(connection)
    }

    /// Sends what the socket takes.
    fn send(&self, connection: &mut Connection) -> Result<(), String> {
        while connection.head_left > 0 || connection.body_left > 0 {
            let piece = if connection.head_left > 0 {
                &self.head[self.head.len() - connection.head_left..]
            } else {
                &self.pattern[..connection.body_left.min(PIECE as u64) as usize]
            };
            match connection.stream.write(piece) {
                Ok(sent) if connection.head_left > 0 => connection.head_left -= sent,
                Ok(sent) => connection.body_left -= sent as u64,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(broken(why)),
            }
        }
        Ok(())
    }

    /// Reads until the answer is complete, which begins the next request, or the socket is empty.
    fn receive(&mut self, connection: &mut Connection) -> Result<(), String> {
        loop {
            let read = match connection.stream.read(&mut self.space) {
                Ok(0) => return Err(format!("the connection was closed after {} answers", self.requests)),
                Ok(read) => read,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(broken(why)),
            };
            if self.understand(connection, read)? {
                self.requests += 1;
                self.latency.add(connection.started.elapsed());
                if let End::Count(count) = self.load.end
                    && self.requests + self.load.connections as u64 > count
                {
                    return Ok(());
                }
                self.begin(connection)?;
                return Ok(());
            }
        }
    }

    /// Whether the first `read` bytes of the space complete the answer.
    fn understand(&self, connection: &mut Connection, read: usize) -> Result<bool, String> {
        let mut rest = &self.space[..read];
        if connection.answer.is_none() {
            connection.buffer.extend_from_slice(rest);
            let Some(head) = wire::head(&connection.buffer)? else {
                return Ok(false);
            };
            if !head.line.starts_with("HTTP/1.1 200") {
                let text = String::from_utf8_lossy(&connection.buffer);
                return Err(format!("the answer is not 200: {}", text.trim()));
            }
            rest = &rest[read - (connection.buffer.len() - head.length)..];
            connection.buffer.clear();
            connection.answer = Some(Answer {
                body: head.body,
                content: 0,
                text: Vec::new(),
            });
        }
        let Some(answer) = &mut connection.answer else {
            return Ok(false);
        };
        let taken = answer.body.take(rest);
        answer.content += taken.content;
        if matches!(self.load.request, Request::Upload(_)) {
            answer.text.extend_from_slice(&rest[..taken.bytes]);
        }
        if !answer.body.over() {
            return Ok(false);
        }
        let right = match self.load.request {
            Request::Download(bytes) => answer.content == bytes,
            // Chunked or not, the number that the service counted stands in the text.
            Request::Upload(bytes) => String::from_utf8_lossy(&answer.text).contains(&bytes.to_string()),
        };
        if !right || taken.bytes != rest.len() {
            return Err(format!(
                "an answer of {} bytes is not the one to {:?}",
                answer.content, self.load.request
            ));
        }
        connection.answer = None;
        Ok(true)
    }
}

fn broken(why: io::Error) -> String {
    why.to_string()
}
