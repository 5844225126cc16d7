//! An SSH channel as a byte stream.
//!
//! russh has one of its own, which makes an SSH packet of every write. HTTP/2 writes each small frame by itself; here a writing
//! task takes what the frames of one turn of the executor left, so that concurrent answers share packets, wake-ups and allocations.
//!
//! HTTP/2 reads nothing while a frame of its own that must come first (a PING's answer, SETTINGS) finds no room, and russh sends
//! nothing while nobody reads. So what comes while a write waits is taken off russh, and kept until it is asked for.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::flushes::Flushes;
use crate::rt::{self, AsyncRead, AsyncWrite, Backlog, ReadBuf};
use crate::tunnel::traffic::Traffic;

/// What may wait for the writing task, in bytes: two full packets. More does not make a bulk transfer faster: what waits leaves the
/// processor's cache, and both ends work at the same time only on small pieces.
const MAX_WAITING: usize = 2 * super::PACKET as usize;

/// The same over a transport that is itself slower than the task ever waits: what is in front of a small answer delays it. Two packets of
/// this size wait in the connection as well; a full one would not fit into the pipe of Session Manager's stream at once, which costs a tenth.
const FEW_WAITING: usize = super::PACKET as usize / 2;

/// What is written at once of a bulk transfer, in bytes, or more: more of it will follow.
const LARGE: usize = super::PACKET as usize / 2;

/// How much is taken off russh while a write waits, in bytes. Before russh sends again a few packets come; during a key exchange the window.
const MEANWHILE: usize = super::WINDOW as usize;
/// The same for a channel on which the ends speak in turn.
const LITTLE_MEANWHILE: usize = 256 * 1024;
/// What a message costs besides its bytes, in bytes, or less.
const MESSAGE: usize = 256;

/// See the module; reader and writer must be one task. Dropping it closes the channel when what was written is sent.
pub(crate) struct ChannelIo {
    reader: ChannelReadHalf,
    outbox: Arc<Outbox>,
    /// How many bytes the outbox takes.
    room: usize,
    traffic: Arc<Traffic>,
    /// Received and not yet read.
    current: Bytes,
    /// What came behind it while a write waited, how much that is, and may be at most.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    most_kept: usize,
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
    /// `backlog` is that of the connection's stream.
    pub(crate) fn new<M>(channel: Channel<M>, backlog: Arc<Backlog>) -> ChannelIo
    where
        M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        ChannelIo::open(channel, backlog, None)
    }

    /// For calls and their answers, and for measuring: on it the ends speak in turn.
    pub(crate) fn of_calls(mut self) -> ChannelIo {
        self.most_kept = LITTLE_MEANWHILE;
        self
    }

    /// Over a slow transport, whose flushes tell when the connection can do with more.
    pub(super) fn narrow<M>(channel: Channel<M>, backlog: Arc<Backlog>, flushes: Arc<Flushes>) -> ChannelIo
    where
        M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        ChannelIo::open(channel, backlog, Some(flushes))
    }

    fn open<M>(channel: Channel<M>, backlog: Arc<Backlog>, flushes: Option<Arc<Flushes>>) -> ChannelIo
    where
        M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let (reader, writer) = channel.split();
        let outbox = Arc::new(Outbox::default());
        let room = if flushes.is_some() { FEW_WAITING } else { MAX_WAITING };
        rt::spawn(send(writer, Arc::clone(&outbox), backlog, flushes)).detach();
        ChannelIo {
            reader,
            outbox,
            room,
            traffic: Arc::default(),
            current: Bytes::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            most_kept: MEANWHILE,
            at_end: false,
        }
    }

    /// The next message's bytes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.at_end {
            // Made anew for each poll: it holds nothing but the place in the queue, and loses no message when dropped.
            match ready!(pin!(self.reader.wait()).poll(cx)) {
                // Of nothing a peer may send as much as it likes.
                Some(ChannelMsg::Data { data }) if data.is_empty() => {}
                Some(ChannelMsg::Data { data }) => return Poll::Ready(Some(data)),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => self.at_end = true,
                Some(_) => {}
            }
        }
        Poll::Ready(None)
    }

    /// Takes what there is, because a write waits.
    fn meanwhile(&mut self, cx: &mut Context<'_>) {
        let before = (self.kept.len(), self.at_end);
        while self.kept_bytes < self.most_kept
            && let Poll::Ready(Some(data)) = self.poll_next(cx)
        {
            self.kept_bytes += data.len() + MESSAGE;
            self.kept.push_back(data);
        }
        // Who waited for it must not wait for room first.
        if (self.kept.len(), self.at_end) != before {
            cx.waker().wake_by_ref();
        }
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
async fn send<M>(writer: ChannelWriteHalf<M>, outbox: Arc<Outbox>, backlog: Arc<Backlog>, flushes: Option<Arc<Flushes>>)
where
    M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    let mut told = false;
    loop {
        backlog.small().await;
        let next = poll_fn(|cx| {
            let mut waiting = outbox.lock();
            if !waiting.bytes.is_empty() {
                waiting.sending = true;
                let piece = waiting.bytes.split().freeze();
                waiting.wake_stream();
                return Poll::Ready(Next::Send(piece));
            }
            waiting.sending = false;
            // What is left of it is no more than a hold on memory that was sent.
            waiting.bytes = BytesMut::new();
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
            Next::Send(piece) => match &flushes {
                Some(flushes) => {
                    let times = flushes.times();
                    let sent = unless_over(&backlog, writer.data_bytes(piece)).await;
                    flushes.more_than(times).await;
                    sent
                }
                None => unless_over(&backlog, writer.data_bytes(piece)).await,
            },
            Next::Eof => {
                told = true;
                unless_over(&backlog, writer.eof()).await
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
            waiting.bytes = BytesMut::new();
            waiting.wake_stream();
            return;
        }
    }
}

/// russh wakes nobody who waits for a window when the connection ends.
async fn unless_over<T>(backlog: &Backlog, sent: impl Future<Output = Result<T, russh::Error>>) -> Result<T, russh::Error> {
    smol::future::or(sent, async {
        backlog.over().await;
        Err(russh::Error::Disconnect)
    })
    .await
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the SSH connection is closed")
}

impl AsyncRead for ChannelIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.current.is_empty() {
            if let Some(data) = this.kept.pop_front() {
                this.kept_bytes -= data.len() + MESSAGE;
                this.current = data;
                if this.kept.is_empty() {
                    this.kept = VecDeque::new();
                }
            } else if let Some(data) = ready!(this.poll_next(cx)) {
                this.current = data;
            } else {
                break;
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

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut waiting = self.outbox.lock();
        if waiting.closed || waiting.shut {
            return Poll::Ready(Err(closed()));
        }
        if waiting.bytes.len() >= self.room {
            waiting.stream = Some(cx.waker().clone());
            drop(waiting);
            self.meanwhile(cx);
            return Poll::Pending;
        }
        let before = waiting.bytes.len();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let (room, spare) = (self.room - before, waiting.bytes.capacity() - before);
        if spare < wanted.min(room) {
            // The piece behind a large one would move it to make room.
            waiting.bytes.reserve(if wanted < LARGE { wanted.min(room) } else { room });
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{AsyncReadExt, AsyncWriteExt};
    use crate::tunnel::ssh::flushes::Flushing;
    use crate::tunnel::ssh::{PACKET, WINDOW, new_key};
    use russh::{client, server};
    use std::time::Duration;

    /// What the stream below SSH holds, in bytes.
    const PIPE: usize = 16 * 1024;

    /// How long what takes no time may take.
    const LIMIT: Duration = Duration::from_secs(20);

    struct Anybody;

    impl client::Handler for Anybody {
        type Error = russh::Error;

        async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, russh::Error> {
            Ok(true)
        }
    }

    /// Gives the channels that are opened.
    struct Host(smol::channel::Sender<Channel<server::Msg>>);

    impl server::Handler for Host {
        type Error = russh::Error;

        async fn auth_none(&mut self, _: &str) -> Result<server::Auth, russh::Error> {
            Ok(server::Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            channel: Channel<server::Msg>,
            reply: server::ChannelOpenHandle,
            _: &mut server::Session,
        ) -> Result<(), russh::Error> {
            reply.accept().await;
            self.0.send(channel).await.ok();
            Ok(())
        }
    }

    /// Carries bytes from one end to the other while the valve is open.
    async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, valve: Arc<smol::lock::Mutex<()>>) {
        let mut piece = vec![0; PIPE];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            drop(valve.lock().await);
            if to.write_all(&piece[..count]).await.is_err() {
                return;
            }
        }
    }

    /// Both ends of a channel over one connection.
    struct Pair {
        /// Where bytes go through the valve.
        writer: ChannelIo,
        reader: ChannelIo,
        /// Dropping it breaks the connection.
        way: [rt::Task<()>; 2],
        _ends: (client::Handle<Anybody>, server::RunningSession<Host>),
    }

    async fn pair(valve: &Arc<smol::lock::Mutex<()>>) -> Pair {
        let ((near, middle), (other, far)) = (rt::duplex(PIPE), rt::duplex(PIPE));
        let ((up_in, down_out), (down_in, up_out)) = (rt::split(middle), rt::split(other));
        let way = [
            rt::spawn(carry(up_in, up_out, Arc::clone(valve))),
            rt::spawn(carry(down_in, down_out, Arc::default())),
        ];
        let (opened, channels) = smol::channel::bounded(1);
        let config = server::Config {
            keys: vec![new_key("test").unwrap()],
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            ..server::Config::default()
        };
        let flushes = Arc::<Flushes>::default();
        let stream = Flushing::new(near, Some(Arc::clone(&flushes)));
        let client = client::connect_stream(Arc::default(), stream, Anybody);
        let server = server::run_stream(Arc::new(config), far, Host(opened));
        let (client, server) = smol::future::zip(client, server).await;
        let mut client = client.unwrap();
        assert!(client.authenticate_none("anybody").await.unwrap().success());
        let channel = client.channel_open_session().await.unwrap();
        Pair {
            writer: ChannelIo::narrow(channel, Arc::default(), flushes),
            reader: ChannelIo::new(channels.recv().await.unwrap(), Arc::default()),
            way,
            _ends: (client, server.unwrap()),
        }
    }

    /// Writes until nothing more is taken; how much was.
    async fn fill(writer: &mut ChannelIo) -> usize {
        let (piece, mut taken) = (vec![7; PACKET as usize], 0);
        loop {
            // As many turns as everything needs to come to rest.
            for _ in 0..5000 {
                smol::future::yield_now().await;
            }
            match smol::future::poll_once(writer.write(&piece)).await {
                Some(count) => taken += count.unwrap(),
                None => return taken,
            }
        }
    }

    /// What a slow way does not take stays with whoever wrote it, where small answers pass it.
    #[test]
    fn little_waits_before_a_way_that_is_stuck() {
        let (taken, arrived) = rt::block_on(async {
            let valve = Arc::default();
            let mut pair = pair(&valve).await;
            let stuck = valve.lock().await;
            let taken = fill(&mut pair.writer).await;
            drop(stuck);
            let mut all = Vec::new();
            let rest = smol::future::zip(pair.writer.shutdown(), pair.reader.read_to_end(&mut all));
            let (shut, read) = rt::timeout(LIMIT, rest).await.expect("the rest arrives");
            shut.and(read.map(|_| ())).unwrap();
            (taken, all.len())
        })
        .unwrap();
        assert_eq!(arrived, taken);
        // The way's own: a pipe, what was read from it, and russh's two messages. Then the outbox.
        let most = 2 * PIPE + 3 * FEW_WAITING;
        assert!(taken <= most, "{taken} bytes, more than {most}");
    }

    /// The writing task does not wait for a connection that is gone.
    #[test]
    fn a_connection_that_ends_ends_the_wait() {
        let ended = rt::block_on(async {
            let valve = Arc::default();
            let mut pair = pair(&valve).await;
            let _stuck = valve.lock().await;
            fill(&mut pair.writer).await;
            drop(pair.way);
            let refused = async { while pair.writer.write(&[7; PIPE]).await.is_ok() {} };
            rt::timeout(LIMIT, refused).await
        })
        .unwrap();
        assert!(ended.is_some(), "writing still waits");
    }
}
