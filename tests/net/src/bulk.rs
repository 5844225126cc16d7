//! One large body through the edge, every byte of which is known.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::service;

/// When it counts as begun, in bytes: what is under way by then fills the buffers of a slow start.
const BEGUN: u64 = 1 << 20;

/// `bulk EDGE TAG down|up BYTES`: prints `begun` and `done`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [edge, tag, way, bytes] = arguments else {
        return Err("EDGE TAG down|up BYTES".to_owned());
    };
    let bytes: u64 = bytes.parse().map_err(|why| format!("{bytes}: {why}"))?;
    let mut stream = TcpStream::connect(edge).map_err(|why| format!("{edge}: {why}"))?;
    let broken = |why: std::io::Error| format!("the body broke off: {why}");
    let head = format!("Host: staging\r\nX-Ephemwork: {tag}\r\nConnection: close\r\n");
    let mut left = bytes;
    let piece = vec![service::FILL; 64 * 1024];
    let mut told = false;
    let mut moved = |count: usize, left: &mut u64| {
        *left = left.saturating_sub(count as u64);
        if !told && bytes - *left >= BEGUN.min(bytes) {
            told = true;
            println!("begun");
        }
    };
    let ask = match way.as_str() {
        "down" => format!("GET {}{bytes} HTTP/1.1\r\n{head}\r\n", service::LARGE),
        _ => format!("POST / HTTP/1.1\r\n{head}Content-Length: {bytes}\r\n\r\n"),
    };
    stream.write_all(ask.as_bytes()).map_err(broken)?;
    if way == "up" {
        while left > 0 {
            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.write_all(&piece[..count]).map_err(broken)?;
            moved(count, &mut left);
        }
    }
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).map_err(broken)?;
    if !line.contains(" 200 ") {
        return Err(format!("the answer is {line:?}"));
    }
    if way == "down" {
        while line.trim() != "" {
            line.clear();
            answer.read_line(&mut line).map_err(broken)?;
        }
        let mut space = vec![0; 64 * 1024];
        while left > 0 {
            let count = answer.read(&mut space).map_err(broken)?;
            if count == 0 {
                return Err(format!("{left} bytes are missing"));
            }
            if space[..count].iter().any(|&byte| byte != service::FILL) {
                return Err("wrong bytes".to_owned());
            }
            moved(count, &mut left);
        }
    }
    println!("done");
    Ok(())
}
