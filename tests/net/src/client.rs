//! A client of the edge that asks all the time, at its own pace, whatever becomes of what it asked before. Each request has a
//! connection of its own, so that it sees also what happens to connects, and nothing is ever sent twice.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::service;

/// How long a request may take before its client gives up: what load balancers and browsers have.
const PATIENCE: Duration = Duration::from_secs(60);

/// Microseconds since the epoch: the clock of all processes of a measurement.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was sent.
    pub sent: u64,
    /// When its answer, or its failure, was complete; `None` while it is under way.
    pub done: Option<u64>,
    /// `200`, or another status, or why there was none.
    pub outcome: String,
}

impl Asked {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.outcome == "200"
    }
}

/// All requests of a client, as its lines tell.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<BTreeMap<u64, Asked>>>);

impl Record {
    /// A line of [`main`].
    pub fn line(&self, line: &str) {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let (Some(request), Some(at)) = (number(), number()) else {
            return;
        };
        let mut all = self.all();
        match (words.next(), words.next()) {
            (Some("sent"), _) => {
                let asked = Asked {
                    sent: at,
                    done: None,
                    outcome: String::new(),
                };
                all.entry(request).or_insert(asked);
            }
            (Some("done"), Some(outcome)) => {
                if let Some(asked) = all.get_mut(&request) {
                    asked.done = Some(at);
                    outcome.clone_into(&mut asked.outcome);
                }
            }
            _ => {}
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that were under way at this moment or came later.
    #[must_use]
    pub fn since(&self, moment: u64) -> Vec<Asked> {
        let all = self.all();
        all.values()
            .filter(|asked| asked.done.is_none_or(|done| done >= moment))
            .cloned()
            .collect()
    }
}

/// `client EDGE TAG PER_SECOND`, until it is killed. Two lines a request: `NUMBER MICROSECONDS sent`, `NUMBER MICROSECONDS done OUTCOME`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [edge, tag, rate] = arguments else {
        return Err("EDGE TAG PER_SECOND".to_owned());
    };
    let edge: SocketAddr = edge.parse().map_err(|why| format!("{edge}: {why}"))?;
    let rate: u32 = rate.parse().map_err(|why| format!("{rate}: {why}"))?;
    let begun = Instant::now();
    for number in 0_u32.. {
        let due = begun + Duration::from_secs(1) * number / rate.max(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let tag = tag.clone();
        println!("{number} {} sent", now());
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || {
                let outcome = ask(edge, &tag, number).unwrap_or_else(|why| why);
                println!("{number} {} done {outcome}", now());
            })
            .map_err(|why| why.to_string())?;
    }
    Ok(())
}

/// Connections of [`hog`], and what each sends of its head, in bytes: a little less than a head may have.
const HOGS: usize = 600;
const HEAD: usize = 60_000;

/// `hog EDGE`: holds connections with a large head each that does not end.
pub(crate) fn hog(arguments: &[String]) -> Result<(), String> {
    let [edge] = arguments else { return Err("EDGE".to_owned()) };
    let head = format!("GET / HTTP/1.1\r\nHost: staging\r\nX-Large: {}", "x".repeat(HEAD));
    let connect = || {
        let mut stream = TcpStream::connect(edge).ok()?;
        stream.write_all(head.as_bytes()).ok()?;
        Some(stream)
    };
    let held: Vec<TcpStream> = (0..HOGS).map_while(|_| connect()).collect();
    println!("ready {}", held.len());
    loop {
        std::thread::park();
    }
}

fn ask(edge: SocketAddr, tag: &str, number: u32) -> Result<String, String> {
    let failed = |why: std::io::Error| match why.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => "cut off".to_owned(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => format!("nothing in {} s", PATIENCE.as_secs()),
        _ => why.to_string(),
    };
    let target = format!("/{tag}/{number}");
    let mut stream = TcpStream::connect_timeout(&edge, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: staging\r\nX-Ephemwork: {tag}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("cut off")?;
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
    let status = text.split(' ').nth(1).unwrap_or("no status").to_owned();
    if status == "200" {
        return if answer[head + 4..] == service::body(&target) {
            Ok(status)
        } else {
            Err("wrong bytes".to_owned())
        };
    }
    if status == "503" && !text.to_ascii_lowercase().contains("\r\nretry-after:") {
        return Err("503 without Retry-After".to_owned());
    }
    Ok(status)
}
