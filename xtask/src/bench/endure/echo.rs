//! The developers' services: a process that listens on a port for each tag, knows which tag a port is, and takes no part of a request on
//! trust. What it finds wrong goes into a file, because whoever sent it may be gone.
//!
//! `GET /c/NONCE/LENGTH/FRAMING` answers with content, `POST /u/NONCE/LENGTH` takes it and answers with 1 KiB of it,
//! `GET /e/NONCE/COUNT/MILLISECONDS` sends so many events, `GET /w/NONCE` is a WebSocket on which each message is checked and echoed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use argh::FromArgs;

use super::content::{BLOCK, Content};
use super::stream::{self, BINARY, CLOSE, Framing, Head, Stream};
use crate::bench::process::pause;

/// A thread's stack, in bytes: there are some hundred threads.
const STACK: usize = 256 * 1024;

/// Blocks sent at a time.
const BLOCKS: u64 = 32;

/// the services that the endurance load asks; the benchmark starts it itself
#[derive(FromArgs)]
#[argh(subcommand, name = "bench-echo")]
pub(crate) struct Arguments {
    /// a tag and its port, TAG=PORT (repeatable)
    #[argh(option)]
    serve: Vec<String>,
    /// a file for what is found wrong
    #[argh(option)]
    complaints: PathBuf,
    /// take the tag from the request's Host, which the laptop sets
    #[argh(switch)]
    by_host: bool,
}

struct Service {
    tag: String,
    by_host: bool,
    complaints: File,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    let broken = |why: io::Error| format!("the services: {why}");
    let mut listening = Vec::new();
    for pair in &arguments.serve {
        let (tag, port) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is no TAG=PORT"))?;
        let port: u16 = port.parse().map_err(|why| format!("{pair:?}: {why}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(broken)?;
        let complaints = OpenOptions::new().create(true).append(true).open(&arguments.complaints);
        let service = Arc::new(Service {
            tag: tag.to_owned(),
            by_host: arguments.by_host,
            complaints: complaints.map_err(broken)?,
        });
        let builder = thread::Builder::new().stack_size(STACK);
        listening.push(builder.spawn(move || accept(&listener, &service)).map_err(broken)?);
    }
    println!("ready {}", listening.len());
    for thread in listening {
        thread.join().ok();
    }
    Ok(())
}

fn accept(listener: &TcpListener, service: &Arc<Service>) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else {
            // Out of descriptors, say: what comes later may be taken again.
            pause(Duration::from_millis(50));
            continue;
        };
        let service = Arc::clone(service);
        let talk = move || {
            if let Err(why) = service.talk(socket)
                && why.kind() == io::ErrorKind::InvalidData
            {
                service.complain(&why.to_string());
            }
        };
        // Without a thread the connection is closed, which its client sees.
        thread::Builder::new().stack_size(STACK).spawn(talk).map(drop).ok();
    }
}

impl Service {
    fn complain(&self, what: &str) {
        let line = format!("{}: {what}\n", self.tag);
        // The benchmark is told by the answer, too, wherever there is one.
        (&self.complaints).write_all(line.as_bytes()).ok();
    }

    /// One connection to its end. `InvalidData`: something was wrong with what came.
    fn talk(&self, socket: TcpStream) -> io::Result<()> {
        let mut stream = Stream::new(socket)?;
        while let Some(head) = stream.head()? {
            if let Err(why) = self.answer(&mut stream, &head) {
                if why.kind() == io::ErrorKind::InvalidData {
                    let text = why.to_string();
                    let length = text.len();
                    let answer = format!("HTTP/1.1 409 Conflict\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}");
                    stream.send(answer.as_bytes()).ok();
                }
                return Err(why);
            }
        }
        Ok(())
    }

    fn answer(&self, stream: &mut Stream, head: &Head) -> io::Result<()> {
        let wrong = |what: &str| stream::wrong(format!("{what}: {:?}", head.line));
        let named = head.field("x-ephemwork").unwrap_or_default();
        let tag = match (self.by_host, head.field("host")) {
            (true, Some(host)) => host.replacen('.', ":", 1),
            (true, None) => return Err(wrong("no Host")),
            (false, _) => self.tag.clone(),
        };
        if named != tag {
            return Err(wrong(&format!("crossed: a request of {named:?} came to {tag}")));
        }
        let target = head.line.split(' ').nth(1).unwrap_or_default();
        let parts: Vec<&str> = target.split('/').collect();
        let number = |place: usize| {
            let text = parts.get(place).copied().unwrap_or_default();
            text.parse::<u64>().map_err(|_| wrong("no number"))
        };
        let text = parts.get(2).copied().unwrap_or_default();
        let nonce = u64::from_str_radix(text, 16).map_err(|_| wrong("no nonce"))?;
        match parts.get(1).copied() {
            Some("c") => {
                let content = Content::new(&tag, nonce, number(3)?);
                self.content(stream, &content, parts.get(4) == Some(&"chunked"))
            }
            Some("u") => {
                let mut checker = Content::new(&tag, nonce, number(3)?).checker();
                let mut framing = head.framing(Framing::Length(0))?;
                while let Some(bytes) = stream.body(&mut framing, BLOCKS as usize * BLOCK)? {
                    checker.take(&bytes).map_err(|why| wrong(&why))?;
                }
                checker.end().map_err(|why| wrong(&why))?;
                self.content(stream, &Content::new(&tag, nonce, BLOCK as u64), false)
            }
            Some("e") => self.events(stream, &tag, nonce, number(3)?, Duration::from_millis(number(4)?)),
            Some("w") => {
                let key = head.field("sec-websocket-key").ok_or_else(|| wrong("no key"))?;
                self.echo(stream, &tag, nonce, key)
            }
            _ => Err(wrong("an unknown path")),
        }
    }

    fn content(&self, stream: &mut Stream, content: &Content, chunked: bool) -> io::Result<()> {
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", content.length),
        };
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n").into_bytes();
        for piece in content.pieces(BLOCKS) {
            if chunked {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            }
            bytes.extend(piece);
            if chunked {
                bytes.extend(b"\r\n");
            }
            stream.send(&bytes)?;
            bytes.clear();
        }
        if chunked {
            bytes.extend(b"0\r\n\r\n");
        }
        stream.send(&bytes)
    }

    fn events(&self, stream: &mut Stream, tag: &str, nonce: u64, count: u64, gap: Duration) -> io::Result<()> {
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for number in 0..count {
            pause(gap);
            let event = event(tag, nonce, number);
            stream.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        }
        stream.send(b"0\r\n\r\n")
    }

    fn echo(&self, stream: &mut Stream, tag: &str, nonce: u64, key: &str) -> io::Result<()> {
        let accept = stream::accept(key);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.send(answer.as_bytes())?;
        for number in 0.. {
            let (kind, payload) = stream.frame()?;
            if kind == CLOSE {
                stream.send_frame(CLOSE, &payload, None)?;
                // Behind it comes nothing but the end.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let content = Content::new(tag, nonce.wrapping_add(number), payload.len() as u64);
            let mut checker = content.checker();
            checker.take(&payload).map_err(stream::wrong)?;
            stream.send_frame(BINARY, &payload, None)?;
        }
        Ok(())
    }
}

/// One event as it is sent.
pub(super) fn event(tag: &str, nonce: u64, number: u64) -> String {
    format!("id: {number}\ndata: {tag} {nonce:016x} {number}\n\n")
}
