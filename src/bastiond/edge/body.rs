//! Bodies at the edge: on their way to a laptop, and of the edge's answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::door::Counted;
use super::exchange::{Cut, Exchange};
use crate::bastiond::lane::{Expected, Lane, Permit};
use crate::bastiond::metrics::Counters;
use crate::bastiond::pace::{Pace, Paced};
use crate::bastiond::state::Daemon;
use crate::rt::Task;
use crate::tunnel::stream::{self, TunnelBody};
use crate::upstream::{self, AnswerBody, TOO_MANY_TRAILERS};

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An error with its causes: hyper's say what happened only there.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text.push_str(&format!(": {why}"));
        cause = why.source();
    }
    text
}

/// Why an answer broke off, with a sentence.
fn broken(why: &(dyn std::error::Error + 'static)) -> (Cut, String) {
    let reset = why
        .downcast_ref::<h2::Error>()
        .filter(|why| why.is_reset() && why.is_remote());
    match (reset.and_then(h2::Error::reason), why.downcast_ref::<hyper::Error>()) {
        (Some(stream::TRAILERS_TOO_LARGE), _) => (Cut::Trailers, format!("an answer broke off: {TOO_MANY_TRAILERS}")),
        (_, Some(error)) if upstream::has_too_many_trailers(error) => {
            (Cut::Trailers, format!("an answer broke off: {TOO_MANY_TRAILERS}"))
        }
        (Some(h2::Reason::INTERNAL_ERROR), _) => (
            Cut::BrokeOff,
            "an answer broke off: the service did, in the middle of it".to_owned(),
        ),
        _ => (Cut::BrokeOff, format!("an answer broke off: {}", chain(why))),
    }
}

/// A request's body on its way out of the edge over HTTP/1.1.
pub(crate) enum Outgoing {
    Empty,
    /// A client's.
    Client(Incoming),
    /// The same to a session, counted.
    Counted(Paced<Incoming>, Upload),
}

/// The body of an answer of the edge.
pub(crate) struct EdgeBody {
    source: Source,
    /// The request's body, which may still be on its way; it is cancelled with the answer.
    upload: Option<Task<()>>,
    flight: Option<Flight>,
    /// How fast it may be, of a session.
    pace: Option<Pace>,
    exchange: Option<Exchange>,
    /// As what the request is counted.
    counted: Option<Counted>,
}

enum Source {
    Own(Option<Bytes>),
    Tunnel(TunnelBody),
    Http1(Box<AnswerBody<Outgoing>>),
}

/// A request that is being answered through a lane: counted from its beginning to its end, however it ends.
pub(crate) struct Flight {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) counters: Arc<Counters>,
    /// What of the answer is to come.
    answer: Expected,
    _permit: Option<Permit>,
}

/// What a request counts beside its bodies when lanes are compared, in bytes.
const WEIGHT: u64 = 1024;

/// A request's body on its way to the laptop, counted like [`Flight`].
pub(crate) struct Upload {
    daemon: Arc<Daemon>,
    lane: Arc<Lane>,
    counters: Arc<Counters>,
    body: Expected,
}

impl Upload {
    /// So many bytes of it went to the laptop.
    pub(crate) fn moved(&mut self, count: u64) {
        Flight::uploaded(&self.daemon, &self.lane, &self.counters, count);
        moved(&self.lane, &mut self.body, count);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.lane.outstanding.fetch_sub(self.body.left(), Relaxed);
    }
}

fn moved(lane: &Lane, body: &mut Expected, count: u64) {
    match body.moved(count) {
        (0, 0) => {}
        (0, less) => drop(lane.outstanding.fetch_sub(less, Relaxed)),
        (more, _) => drop(lane.outstanding.fetch_add(more, Relaxed)),
    }
}

impl Flight {
    /// Lanes are chosen by the sum of what their requests are expected to move.
    pub(crate) fn begin(daemon: &Arc<Daemon>, lane: &Arc<Lane>, counters: &Arc<Counters>, permit: Option<Permit>) -> Flight {
        lane.outstanding.fetch_add(WEIGHT, Relaxed);
        lane.streams.fetch_add(1, Relaxed);
        counters.in_flight.fetch_add(1, Relaxed);
        Flight {
            daemon: Arc::clone(daemon),
            lane: Arc::clone(lane),
            counters: Arc::clone(counters),
            answer: Expected::default(),
            _permit: permit,
        }
    }

    /// The request has a body of this length.
    pub(crate) fn uploads(&self, length: Option<u64>) -> Upload {
        let body = Expected::of(length);
        self.lane.outstanding.fetch_add(body.left(), Relaxed);
        Upload {
            daemon: Arc::clone(&self.daemon),
            lane: Arc::clone(&self.lane),
            counters: Arc::clone(&self.counters),
            body,
        }
    }

    /// The answer has a body of this length.
    pub(crate) fn answers(&mut self, length: Option<u64>) {
        self.lane.outstanding.fetch_sub(self.answer.left(), Relaxed);
        self.answer = Expected::of(length);
        self.lane.outstanding.fetch_add(self.answer.left(), Relaxed);
    }

    /// So many bytes of the answer's body came from the laptop.
    pub(crate) fn answered(&mut self, count: u64) {
        self.downloaded(count);
        moved(&self.lane, &mut self.answer, count);
    }

    /// So many bytes of the request's body went to the laptop.
    pub(crate) fn uploaded(daemon: &Daemon, lane: &Lane, counters: &Counters, count: u64) {
        daemon.metrics.bytes_in.fetch_add(count, Relaxed);
        lane.bytes_in.fetch_add(count, Relaxed);
        counters.bytes_in.fetch_add(count, Relaxed);
    }

    /// So many bytes of the answer's body came from the laptop.
    pub(crate) fn downloaded(&self, count: u64) {
        self.daemon.metrics.bytes_out.fetch_add(count, Relaxed);
        self.lane.bytes_out.fetch_add(count, Relaxed);
        self.counters.bytes_out.fetch_add(count, Relaxed);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.lane.outstanding.fetch_sub(WEIGHT + self.answer.left(), Relaxed);
        self.lane.streams.fetch_sub(1, Relaxed);
        self.counters.in_flight.fetch_sub(1, Relaxed);
    }
}

impl EdgeBody {
    /// Of an answer that the edge makes itself.
    pub(crate) fn own(text: impl Into<Bytes>) -> EdgeBody {
        EdgeBody {
            source: Source::Own(Some(text.into())),
            upload: None,
            flight: None,
            pace: None,
            exchange: None,
            counted: None,
        }
    }

    /// From a laptop.
    pub(crate) fn tunnel(body: TunnelBody, upload: Option<Task<()>>, flight: Flight) -> EdgeBody {
        EdgeBody {
            source: Source::Tunnel(body),
            upload,
            pace: Some(Pace::of(&flight.lane.pace)),
            flight: Some(flight),
            exchange: None,
            counted: None,
        }
    }

    /// From an HTTP/1.1 connection.
    pub(crate) fn http1(body: AnswerBody<Outgoing>, flight: Option<Flight>) -> EdgeBody {
        EdgeBody {
            source: Source::Http1(Box::new(body)),
            upload: None,
            pace: flight.as_ref().map(|flight| Pace::of(&flight.lane.pace)),
            flight,
            exchange: None,
            counted: None,
        }
    }

    /// The request that it answers, which ends with it.
    pub(crate) fn ends(&mut self, exchange: Exchange) {
        self.exchange = Some(exchange);
    }

    /// As what its request is counted until it ends.
    pub(crate) fn counts(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Nothing of it is left: its reader asks no more when it knows the length and has it all.
    fn is_whole(&self) -> bool {
        matches!(self.source, Source::Own(_)) || self.is_end_stream() || self.size_hint().exact() == Some(0)
    }
}

impl Drop for EdgeBody {
    fn drop(&mut self) {
        if self.exchange.is_some()
            && self.is_whole()
            && let Some(exchange) = self.exchange.take()
        {
            exchange.whole();
        }
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(pace) = &mut this.pace {
            ready!(pace.poll_ready(cx));
        }
        let polled: Poll<Option<Result<_, BodyError>>> = match &mut this.source {
            Source::Own(text) => Poll::Ready(text.take().filter(|text| !text.is_empty()).map(|text| Ok(Frame::data(text)))),
            Source::Tunnel(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Source::Http1(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(Into::into),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(flight), Some(data)) = (&mut this.flight, frame.data_ref()) {
                    flight.answered(data.len() as u64);
                    if let Some(pace) = &mut this.pace {
                        pace.passed(data.len());
                    }
                }
            }
            Poll::Ready(Some(Err(why))) => {
                let (cut, why) = broken(why.as_ref());
                tracing::debug!("{why}");
                if let Some(flight) = this.flight.take() {
                    flight.counters.failed(why);
                }
                if let Some(exchange) = this.exchange.take() {
                    exchange.cut(cut);
                }
            }
            Poll::Ready(None) => {
                this.flight = None;
                this.upload = None;
                this.counted = None;
                if let Some(exchange) = this.exchange.take() {
                    exchange.whole();
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Source::Tunnel(body) => body.is_end_stream(),
            Source::Http1(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Tunnel(body) => body.size_hint(),
            Source::Http1(body) => body.size_hint(),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Client(body) => Pin::new(body).poll_frame(cx),
            Outgoing::Counted(body, upload) => {
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let Some(data) = frame.data_ref()
                {
                    upload.moved(data.len() as u64);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Client(body) => body.is_end_stream(),
            Outgoing::Counted(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Client(body) => body.size_hint(),
            Outgoing::Counted(body, _) => body.size_hint(),
        }
    }
}
