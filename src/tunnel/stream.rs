//! HTTP/2 on the requests channel: its limits, and message bodies on its streams. Both ends use it. Its windows are in `window`.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};

use super::gate::Gate;
use super::window;
use crate::rt::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Requests that their clients gave up before the laptop had looked at them. h2 ends a connection with more than 20 of these, as it
/// must with strangers (CVE-2023-44487); here one page that is closed with its requests open would end the lane. The peer
/// is logged in, and 64 times all streams is more than arrives between two looks.
pub(crate) const MAX_ABANDONED: usize = 64 * window::MAX_STREAMS as usize;

/// The largest DATA frame, in bytes: a packet of SSH, less the frame's head.
pub(crate) const FRAME: u32 = crate::tunnel::ssh::PACKET - 64;

/// How much of one body may wait in this process for the channel, in bytes. It is of whole frames, or its rest would be a frame of 128 bytes.
pub(crate) const SEND_BUFFER: usize = 2 * FRAME as usize;

/// The largest head on the tunnel, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2). The edge's own limit on heads is lower.
pub(crate) const MAX_HEAD: u32 = 192 * 1024;

/// A piece of an upgraded connection, in bytes.
const PIECE: usize = 16 * 1024;

/// How long one direction of an upgraded connection may outlive the other. A WebSocket's closing handshake takes a round trip.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// A body that arrives on a stream of the tunnel.
pub(crate) struct TunnelBody {
    stream: RecvStream,
    data_ended: bool,
    remaining: Option<u64>,
}

impl TunnelBody {
    /// `length` is the message's Content-Length, where it has one.
    pub(crate) fn new(stream: RecvStream, length: Option<u64>) -> TunnelBody {
        TunnelBody {
            stream,
            data_ended: false,
            remaining: length,
        }
    }
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.data_ended {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever polls takes the bytes now: they are no longer held by the tunnel.
                    this.stream.flow_control().release_capacity(data.len())?;
                    if let Some(remaining) = &mut this.remaining {
                        *remaining = remaining.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The other side had all it wanted of this body (RFC 9113, section 8.1).
                Some(Err(why)) if why.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                None => this.data_ended = true,
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(why) => Poll::Ready(Some(Err(why))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            Some(remaining) => SizeHint::with_exact(remaining),
            None if self.stream.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(crate) enum Unsent<E> {
    /// The body's source failed.
    Source(E),
    /// The other side does not want it any more, or the lane is gone.
    Stream,
}

/// How a stream is reset whose message has more or larger trailers than are passed on; any other message that breaks off is an
/// INTERNAL_ERROR. A reset carries no words, and most of the answer is with the client already.
pub(crate) const TRAILERS_TOO_LARGE: Reason = Reason::ENHANCE_YOUR_CALM;

/// Sends a body to its end, no faster than the other side takes it and the gate lets it through. `sent` learns of every piece's length.
/// On failure the stream is reset, as `reason` says, so that the other side never takes a part for the whole.
pub(crate) async fn send_body<B>(
    mut body: B,
    stream: &mut SendStream<Bytes>,
    gate: &Gate,
    reason: impl Fn(&B::Error) -> Reason,
    mut sent: impl FnMut(u64),
) -> Result<(), Unsent<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut passing = gate.passing();
    loop {
        // What is not read yet waits with whoever sends it, not here.
        if !body.is_end_stream() {
            room(stream).await.map_err(|_| Unsent::Stream)?;
        }
        let frame = poll_fn(|cx| {
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(match reset {
                    Ok(reason) => reason.into(),
                    Err(why) => why,
                }));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok)
        });
        let frame = match frame.await.map_err(|_| Unsent::Stream)? {
            Some(Ok(frame)) => frame,
            Some(Err(why)) => {
                stream.send_reset(reason(&why));
                return Err(Unsent::Source(why));
            }
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Unsent::Stream),
        };
        match frame.into_data() {
            Ok(mut data) => {
                let last = body.is_end_stream();
                loop {
                    let piece = data.split_to(passing.next(data.len()).await);
                    let last = last && data.is_empty();
                    sent(piece.len() as u64);
                    send_data(stream, piece, last).await.map_err(|_| Unsent::Stream)?;
                    if last {
                        return Ok(());
                    }
                    if data.is_empty() {
                        break;
                    }
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.send_trailers(trailers).map_err(|_| Unsent::Stream);
                }
            }
        }
    }
}

/// Sends one piece as the window allows, and with `last` the stream's end with it.
pub(crate) async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = capacity(stream).await?;
        let piece = data.split_to(capacity.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(piece, end)?;
        if end {
            return Ok(());
        }
    }
    if last {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Waits until the other side takes something more of this stream.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    if stream.capacity() == 0 {
        stream.reserve_capacity(1);
        capacity(stream).await?;
    }
    Ok(())
}

/// How much of what was reserved may be sent now, in bytes; at least one.
async fn capacity(stream: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    loop {
        let capacity = match stream.capacity() {
            0 => match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(Reason::CANCEL.into()),
            },
            ready => ready,
        };
        if capacity > 0 {
            return Ok(capacity);
        }
    }
}

/// A direction of an upgraded connection, seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the tunnel to the socket.
    In,
    /// From the socket to the tunnel.
    Out,
}

/// Copies bytes between the socket of an upgraded connection and its stream, each as it comes, until both directions are closed
/// or one breaks. `moved` learns of every piece's length.
pub(crate) async fn relay<S>(
    socket: S,
    mut from: RecvStream,
    to: &mut SendStream<Bytes>,
    gate: &Gate,
    moved: impl Fn(Direction, u64),
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = rt::split(socket);
    let inward = async {
        while let Some(data) = from.data().await {
            let data = data.map_err(io::Error::other)?;
            from.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            writer.write_all(&data).await?;
            writer.flush().await?;
            moved(Direction::In, data.len() as u64);
        }
        // A socket that is gone already needs no end.
        drop(writer.shutdown().await);
        Ok::<_, io::Error>(())
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let count = reader.read_buf(&mut buffer).await?;
            let mut data = buffer.split().freeze();
            // Messages are small and pass; a connection that fills its buffer again and again is a large body.
            let mut passing = gate.passing();
            if count >= PIECE {
                passing.large();
            }
            loop {
                let piece = data.split_to(passing.next(data.len()).await);
                send_data(to, piece, count == 0).await.map_err(io::Error::other)?;
                if data.is_empty() {
                    break;
                }
            }
            if count == 0 {
                return Ok::<_, io::Error>(());
            }
            moved(Direction::Out, count as u64);
        }
    };
    let result = both(inward, outward).await;
    if result.is_err() {
        to.send_reset(Reason::CANCEL);
    }
    result
}

/// Runs both to their end, the second at most [`HALF_CLOSED`] longer than the first; the first failure ends both.
async fn both(a: impl Future<Output = io::Result<()>>, b: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (false, false);
    let mut rest = |cx: &mut Context<'_>, until: fn(bool, bool) -> bool| {
        if !a_done && let Poll::Ready(result) = a.as_mut().poll(cx) {
            result?;
            a_done = true;
        }
        if !b_done && let Poll::Ready(result) = b.as_mut().poll(cx) {
            result?;
            b_done = true;
        }
        if until(a_done, b_done) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    };
    poll_fn(|cx| rest(cx, |a, b| a || b)).await?;
    match rt::timeout(HALF_CLOSED, poll_fn(|cx| rest(cx, |a, b| a && b))).await {
        Some(result) => result,
        None => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "one side closed its half, the other did not",
        )),
    }
}
