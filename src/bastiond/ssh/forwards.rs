//! The claims of a stock OpenSSH client, and connections to its services through forwarded-tcpip channels.
//!
//! russh reads nothing more from a connection while one channel's queue is full. So each channel is emptied by a task of its own
//! into a bounded queue, and a channel whose reader takes nothing for [`STUCK_LIMIT`] is closed, for the sake of the others.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelWriteHalf};
use smol::channel::{Receiver, Sender};
use smol::stream::Stream;

use crate::bastiond::edge::body::Outgoing;
use crate::name::Service;
use crate::rt::{self, AsyncRead, AsyncWrite, ReadBuf, Task};
use crate::upstream::{self, Connection, Pool};

/// How long a stock client may take to open a channel; it connects to the service meanwhile.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Packets of one channel that wait for their reader: 32 KiB each, so 2 MiB, which is OpenSSH's own window.
const QUEUE: usize = 64;

/// How long a reader with a full queue may take nothing. Meanwhile the client's other channels wait with it.
const STUCK_LIMIT: Duration = Duration::from_secs(5);

/// Of one connection.
pub(crate) struct Forwards {
    handle: Option<Handle>,
    services: Mutex<HashMap<Service, Forward>>,
}

#[derive(Clone)]
struct Forward {
    /// As the client asked for it; it finds its own forward by address and port.
    address: String,
    port: u32,
    pool: Arc<Pool<Outgoing>>,
}

impl Forwards {
    pub(super) fn of(handle: Handle) -> Forwards {
        Forwards {
            handle: Some(handle),
            services: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn add(&self, service: &Service, address: &str, port: u32) {
        let forward = Forward {
            address: address.to_owned(),
            port,
            pool: Pool::new(),
        };
        self.services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(service.clone(), forward);
    }

    pub(super) fn remove(&self, service: &Service) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// The pool of connections to a service.
    pub(crate) fn pool(&self, service: &Service) -> Option<Arc<Pool<Outgoing>>> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(service).map(|forward| Arc::clone(&forward.pool))
    }

    /// A new connection to a service.
    pub(crate) async fn connect(&self, service: &Service) -> Result<Connection<Outgoing>, Unopened> {
        let forward = self
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(service)
            .cloned();
        let (Some(forward), Some(handle)) = (forward, &self.handle) else {
            return Err(Unopened::Refused(
                "the client does not forward this service any more".to_owned(),
            ));
        };
        let open = handle.channel_open_forwarded_tcpip(forward.address, forward.port, "127.0.0.1", 0);
        let channel = match rt::timeout(OPEN_LIMIT, open).await {
            Some(Ok(channel)) => channel,
            Some(Err(why @ (russh::Error::SendError | russh::Error::Disconnect))) => return Err(Unopened::Gone(why.to_string())),
            Some(Err(why)) => {
                let why = format!("the client's port does not accept connections: {why}");
                return Err(Unopened::Refused(why));
            }
            None => {
                let why = format!("the client opened no connection within {} s", OPEN_LIMIT.as_secs());
                return Err(Unopened::Refused(why));
            }
        };
        Connection::new(rt::io(ForwardIo::new(channel)), upstream::BUFFER)
            .await
            .map_err(|why| Unopened::Refused(why.to_string()))
    }
}

/// Why there is no channel to a service.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The client opens none.
    Refused(String),
    /// The client is gone.
    Gone(String),
}

/// Whether a connection to a service broke because its client is gone, and not because the service closed it.
pub(crate) fn is_gone(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|why| why.kind() == GONE)
}

/// What reading a channel gives whose client is gone; nothing else here gives it.
const GONE: io::ErrorKind = io::ErrorKind::NotConnected;

/// What reading a channel gives that was closed for the sake of the others.
const STUCK: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// A forwarded-tcpip channel as a byte stream.
struct ForwardIo {
    /// Why no more comes, when the service did not end it: [`GONE`], the connection ended before the channel did, or [`STUCK`].
    broken: Arc<OnceLock<io::ErrorKind>>,
    received: Pin<Box<Receiver<Bytes>>>,
    current: Bytes,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    channel: Arc<ChannelWriteHalf<Msg>>,
    _feeder: Task<()>,
}

impl ForwardIo {
    fn new(channel: Channel<Msg>) -> ForwardIo {
        let (mut reader, writer) = channel.split();
        let channel = Arc::new(writer);
        let (sender, received) = smol::channel::bounded(QUEUE);
        let writer = Box::pin(channel.make_writer());
        let closer = Arc::clone(&channel);
        let broken = Arc::new(OnceLock::new());
        let breaks = Arc::clone(&broken);
        let feeder = rt::spawn(async move {
            let mut sender = Some(sender);
            let mut ended = false;
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => {
                        let Some(queue) = &sender else { continue };
                        if !deliver(queue, data).await {
                            tracing::info!("a client's download is stuck; its channel is closed for the sake of the others");
                            // From here on what still comes is thrown away. Its reader must not take what it has for whole.
                            breaks.get_or_init(|| STUCK);
                            sender = None;
                            close(&closer).await;
                        }
                    }
                    ChannelMsg::Eof => {
                        ended = true;
                        sender = None;
                    }
                    ChannelMsg::Close => ended = true,
                    _ => {}
                }
            }
            // Before the queue ends, which its reader sees.
            if !ended {
                breaks.get_or_init(|| GONE);
            }
            drop(sender);
        });
        ForwardIo {
            broken,
            received: Box::pin(received),
            current: Bytes::new(),
            writer,
            channel,
            _feeder: feeder,
        }
    }
}

/// Hands a packet to the reader; not when it takes none for [`STUCK_LIMIT`].
async fn deliver(queue: &Sender<Bytes>, data: Bytes) -> bool {
    match queue.try_send(data) {
        Ok(()) => true,
        Err(smol::channel::TrySendError::Closed(_)) => true,
        Err(smol::channel::TrySendError::Full(data)) => rt::timeout(STUCK_LIMIT, queue.send(data)).await.is_some(),
    }
}

/// Closes a channel. An error means that the connection is gone, and the channel with it.
async fn close(channel: &ChannelWriteHalf<Msg>) {
    drop(channel.close().await);
}

impl Drop for ForwardIo {
    fn drop(&mut self) {
        let channel = Arc::clone(&self.channel);
        rt::spawn(async move { close(&channel).await }).detach();
    }
}

impl AsyncRead for ForwardIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.received.as_mut().poll_next(cx)) {
                Some(data) => self.current = data,
                None => {
                    return Poll::Ready(match self.broken.get() {
                        None => Ok(()),
                        Some(&STUCK) => Err(io::Error::new(STUCK, "its reader took nothing, and others waited")),
                        Some(&kind) => Err(io::Error::new(kind, "the connection to the laptop is gone")),
                    });
                }
            }
        }
        let count = self.current.len().min(out.remaining());
        out.put_slice(&self.current[..count]);
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ForwardIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writer.as_mut().poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(cx)
    }
}
