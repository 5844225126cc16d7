//! An SSH channel as a byte stream.
//!
//! russh has one of its own, which makes an SSH packet of every write. HTTP/2 writes each small frame by itself; here a writing
//! task takes what the frames of one turn of the executor left, so that concurrent answers share packets, wake-ups and allocations.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use crate::rt::{self, AsyncRead, AsyncWrite, ReadBuf};
use crate::tunnel::traffic::Traffic;

/// What may wait for the writing task, in bytes: some full packets, so that a bulk transfer never waits for the task to run.
const MAX_WAITING: usize = 8 * super::PACKET as usize;

/// The same over a transport that is itself slower than the task ever waits: what is in front of a small answer delays it.
const FEW_WAITING: usize = super::PACKET as usize;

/// See the module. Dropping it closes the channel when what was written is sent.
pub(crate) struct ChannelIo {
    reader: ChannelReadHalf,
    outbox: Arc<Outbox>,
    /// How many bytes the outbox takes.
    room: usize,
    traffic: Arc<Traffic>,
    /// Received and not yet read.
    current: Bytes,
    at_end: bool,
}

/// What waits between a stream and its writing task.
#[derive(Default)]
struct Outbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: BytesMut,
    /// No more bytes will come, and the other side is to know.
    shut: bool,
    /// The stream was dropped.
    dropped: bool,
    /// The channel takes nothing more.
    closed: bool,
    /// A piece is on its way into the connection.
    sending: bool,
    task: Option<Waker>,
    stream: Option<Waker>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn wake_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.wake();
        }
    }
}

impl ChannelIo {
    pub(crate) fn new<M>(channel: Channel<M>) -> ChannelIo
    where
        M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let (reader, writer) = channel.split();
        let outbox = Arc::new(Outbox::default());
        rt::spawn(send(writer, Arc::clone(&outbox))).detach();
        ChannelIo {
            reader,
            outbox,
            room: MAX_WAITING,
            traffic: Arc::default(),
            current: Bytes::new(),
            at_end: false,
        }
    }

    /// For a slow transport.
    pub(crate) fn narrow(mut self) -> ChannelIo {
        self.room = FEW_WAITING;
        self
    }

    /// What goes through it.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }
}

/// What the writing task does next.
enum Next {
    Send(Bytes),
    Eof,
    Close,
}

/// Sends what the stream leaves in the outbox, until the stream is dropped or the channel closed.
async fn send<M>(writer: ChannelWriteHalf<M>, outbox: Arc<Outbox>)
where
    M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    let mut told = false;
    loop {
        let next = poll_fn(|cx| {
            let mut waiting = outbox.lock();
            if !waiting.bytes.is_empty() {
                waiting.sending = true;
                let piece = waiting.bytes.split().freeze();
                waiting.wake_stream();
                return Poll::Ready(Next::Send(piece));
            }
            waiting.sending = false;
            waiting.wake_stream();
            if waiting.dropped {
                return Poll::Ready(Next::Close);
            }
            if waiting.shut && !told {
                return Poll::Ready(Next::Eof);
            }
            waiting.task = Some(cx.waker().clone());
            Poll::Pending
        });
        let result = match next.await {
            Next::Send(piece) => writer.data_bytes(piece).await,
            Next::Eof => {
                told = true;
                writer.eof().await
            }
            Next::Close => {
                // An error means that the connection is gone, and the channel with it.
                drop(writer.close().await);
                return;
            }
        };
        if result.is_err() {
            let mut waiting = outbox.lock();
            waiting.closed = true;
            waiting.wake_stream();
            return;
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the SSH connection is closed")
}

impl AsyncRead for ChannelIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.current.is_empty() && !this.at_end {
            // Made anew for each poll: it holds nothing but the place in the queue, and loses no message when dropped.
            let message = ready!(pin!(this.reader.wait()).poll(cx));
            match message {
                Some(ChannelMsg::Data { data }) => this.current = data,
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => this.at_end = true,
                Some(_) => {}
            }
        }
        let count = this.current.len().min(out.remaining());
        out.put_slice(&this.current[..count]);
        this.current.advance(count);
        this.traffic.received(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChannelIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut waiting = self.outbox.lock();
        if waiting.closed || waiting.shut {
            return Poll::Ready(Err(closed()));
        }
        if waiting.bytes.len() >= self.room {
            waiting.stream = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = waiting.bytes.len();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        waiting.bytes.reserve(wanted.min(self.room - before));
        for slice in slices {
            let room = self.room.saturating_sub(waiting.bytes.len());
            waiting.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = waiting.bytes.len() - before;
        waiting.wake_task();
        self.traffic.sent(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is written is on its way: the task needs nobody's help to send it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbox.lock().closed {
            Poll::Ready(Err(closed()))
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.outbox.lock();
        if waiting.closed {
            return Poll::Ready(Ok(()));
        }
        if !waiting.shut {
            waiting.shut = true;
            waiting.wake_task();
        }
        if waiting.bytes.is_empty() && !waiting.sending {
            return Poll::Ready(Ok(()));
        }
        waiting.stream = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ChannelIo {
    fn drop(&mut self) {
        let mut waiting = self.outbox.lock();
        waiting.dropped = true;
        waiting.wake_task();
    }
}
