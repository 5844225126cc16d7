//! The developer's service: answers each request with its own target, filled up to some packets, so that an answer that is another's
//! or is cut is seen.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// The length of every answer, in bytes: more than two full packets.
pub const LENGTH: usize = 4096;

/// What large bodies consist of.
pub(crate) const FILL: u8 = b'.';

/// The target of a large body, before its number of bytes.
pub(crate) const LARGE: &str = "/large/";

/// What is answered to a target.
#[must_use]
pub fn body(target: &str) -> Vec<u8> {
    let mut body = target.as_bytes().to_vec();
    body.push(b'\n');
    body.resize(LENGTH, FILL);
    body
}

/// `service ADDRESS`; prints `ready ADDRESS`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [at] = arguments else { return Err("ADDRESS".to_owned()) };
    let listener = TcpListener::bind(at).map_err(|why| format!("{at}: {why}"))?;
    println!("ready {at}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let target = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        while line.trim() != "" {
            line.clear();
            lines.read_line(&mut line).ok().filter(|&count| count > 0)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        let taken = std::io::copy(&mut lines.by_ref().take(length), &mut std::io::sink());
        taken.ok().filter(|&count| count == length)?;
        if let Some(bytes) = target.strip_prefix(LARGE) {
            let bytes: u64 = bytes.parse().ok()?;
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").ok()?;
            std::io::copy(&mut std::io::repeat(FILL).take(bytes), &mut out).ok()?;
            continue;
        }
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
        answer.extend(body(&target));
        out.write_all(&answer).ok()?;
    }
}
