//! A developer's service in the test's own process: it answers with exact bytes and counts what reaches it.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{Head, Wire};

/// Listens on loopback until it is dropped.
pub(crate) struct Service {
    pub(crate) port: u16,
    seen: Arc<Seen>,
}

/// What has reached a service.
#[derive(Default)]
struct Seen {
    stopped: AtomicBool,
    connections: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    complete: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

impl Service {
    /// One thread a connection; `exchange` gets each head, with the wire standing at its body, and answers on the wire.
    pub(crate) fn start(exchange: impl Fn(&Head, &mut Wire) -> After + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let exchange = Arc::new(exchange);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.streams().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                let exchange = Arc::clone(&exchange);
                std::thread::spawn(move || serve(stream, &shared, exchange.as_ref()));
            }
        });
        Service { port, seen }
    }

    /// Reads each request to its end; `reply` gives the answer's bytes. A request that is cut short is not answered.
    pub(crate) fn replying(reply: impl Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Service {
        Service::start(move |head, wire| {
            let Some((body, _)) = wire.body(head, false) else {
                return After::Close;
            };
            match wire.try_send(&reply(head, &body)) {
                Ok(()) => After::Keep,
                Err(_) => After::Close,
            }
        })
    }

    /// Answers every request with 200 and this text.
    pub(crate) fn saying(text: &str) -> Service {
        let text = text.to_owned();
        Service::replying(move |_, _| ok(&text))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// All heads that came, in order of arrival.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only head that came.
    #[track_caller]
    pub(crate) fn only_head(&self) -> Head {
        let heads = self.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads[0].clone()
    }

    /// Waits until so many requests came complete and were answered, and not one more: an answer is with the client before it is counted.
    pub(crate) fn completed(&self, count: usize) {
        let counted = || (self.complete() >= count).then_some(());
        super::until("the service has counted its answers", counted);
        assert_eq!(self.complete(), count);
    }

    /// How many requests came complete and were answered.
    pub(crate) fn complete(&self) -> usize {
        self.seen.complete.load(Ordering::SeqCst)
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Seen {
    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::SeqCst);
        for stream in self.seen.streams().drain(..) {
            // It may be closed already, which is what is wanted.
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the accept loop, which then closes the listener.
        TcpStream::connect(self.address()).ok();
    }
}

fn serve(stream: TcpStream, seen: &Seen, exchange: &(impl Fn(&Head, &mut Wire) -> After + ?Sized)) {
    // A pooled connection may rest for as long as the test runs; it ends when either side closes it.
    let idle = stream.try_clone().unwrap();
    let mut wire = Wire::of(stream);
    idle.set_read_timeout(None).unwrap();
    while let Some(head) = wire.head() {
        seen.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        if exchange(&head, &mut wire) == After::Close {
            break;
        }
        seen.complete.fetch_add(1, Ordering::SeqCst);
    }
    idle.shutdown(Shutdown::Both).ok();
}

/// A 200 answer with this text.
pub(crate) fn ok(text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}
