//! How fast one user's requests and answers may be: a token bucket for each user, over both directions and all connections.
//!
//! Bytes pass first and are paid for afterwards: a body that let a piece pass waits until the bucket has it back. The bucket is kept as
//! the time at which all is paid (the generic cell rate algorithm, ITU-T I.371), so that each waiting body knows its own time and
//! none is woken in vain. Small pieces have a bucket of their own of the same rate: they do not wait for large bodies, which wait for both.
//! Without a rate all of this is the look at one number a piece.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::name::User;
use crate::rt::{self, AsyncRead, AsyncWrite, ReadBuf};

/// What may pass at once after a pause, as time at the rate: enough that a body is not cut into a wait for each packet.
const BURST: Duration = Duration::from_millis(100);

/// The same for small pieces: a page with all that belongs to it.
const SMALL_BURST: Duration = Duration::from_secs(1);

/// So much of each body is small, in bytes: heads, JSON, and what a page needs first.
const FREE: u64 = 16 * 1024;

/// Pieces of an upgraded connection that are small however many there were, in bytes: messages.
const MESSAGE: usize = 2 * 1024;

/// The buckets of all users who are connected.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    rate: Arc<AtomicU64>,
    buckets: Mutex<HashMap<User, Weak<Bucket>>>,
}

/// One user's.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Bytes a second; 0 is no limit.
    rate: Arc<AtomicU64>,
    paid: Mutex<Paid>,
}

/// When everything that passed is paid for. Pure.
#[derive(Clone, Copy, Debug)]
struct Paid {
    all: Instant,
    small: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Small,
    Large,
}

impl Paid {
    /// A piece of `length` bytes passed at `now`; when the next one of the same body may.
    fn pass(&mut self, now: Instant, length: u64, piece: Piece, rate: u64) -> Instant {
        let cost = Duration::from_secs_f64(length as f64 / rate as f64);
        self.all = self.all.max(now) + cost;
        let (paid, burst) = match piece {
            Piece::Large => (self.all, BURST),
            Piece::Small => {
                self.small = self.small.max(now) + cost;
                (self.small, SMALL_BURST)
            }
        };
        paid.checked_sub(burst).unwrap_or(now)
    }
}

impl Paces {
    pub(crate) fn new(rate: u64) -> Paces {
        Paces {
            rate: Arc::new(AtomicU64::new(rate)),
            buckets: Mutex::default(),
        }
    }

    /// Bytes a second of each user from now on; 0 is no limit.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// The bucket of a user, which lives as long as somebody has it.
    pub(crate) fn of(&self, user: &User) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(user).and_then(Weak::upgrade) {
            return bucket;
        }
        buckets.retain(|_, bucket| bucket.strong_count() > 0);
        let now = Instant::now();
        let bucket = Arc::new(Bucket {
            rate: Arc::clone(&self.rate),
            paid: Mutex::new(Paid { all: now, small: now }),
        });
        buckets.insert(user.clone(), Arc::downgrade(&bucket));
        bucket
    }
}

impl Bucket {
    /// `None` where there is no limit.
    fn pass(&self, length: usize, piece: Piece) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 || length == 0 {
            return None;
        }
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let next = paid.pass(now, length as u64, piece, rate);
        (next > now).then_some(next)
    }
}

/// One body's pace, or one direction's of an upgraded connection.
pub(crate) struct Pace {
    bucket: Arc<Bucket>,
    passed: u64,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Pace {
    pub(crate) fn of(bucket: &Arc<Bucket>) -> Pace {
        Pace {
            bucket: Arc::clone(bucket),
            passed: 0,
            wait: None,
        }
    }

    /// Whether the next piece may pass now.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    /// A piece of a body passed.
    pub(crate) fn passed(&mut self, length: usize) {
        self.passed = self.passed.saturating_add(length as u64);
        let piece = if self.passed <= FREE { Piece::Small } else { Piece::Large };
        self.pay(length, piece);
    }

    /// Bytes of an upgraded connection passed.
    fn relayed(&mut self, length: usize) {
        self.passed = self.passed.saturating_add(length as u64);
        let small = self.passed <= FREE || length <= MESSAGE;
        self.pay(length, if small { Piece::Small } else { Piece::Large });
    }

    fn pay(&mut self, length: usize, piece: Piece) {
        if let Some(until) = self.bucket.pass(length, piece) {
            self.wait = Some(Box::pin(rt::sleep_until(until)));
        }
    }
}

/// A request's body that is no faster than its session's user may be.
pub(crate) struct Paced<B> {
    body: B,
    pace: Pace,
}

impl<B> Paced<B> {
    pub(crate) fn new(body: B, bucket: &Arc<Bucket>) -> Paced<B> {
        Paced {
            body,
            pace: Pace::of(bucket),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        ready!(this.pace.poll_ready(cx));
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            this.pace.passed(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client's end of an upgraded connection, no faster than the session's user may be.
pub(crate) struct PacedIo<S> {
    stream: S,
    reading: Pace,
    writing: Pace,
}

impl<S> PacedIo<S> {
    pub(crate) fn new(stream: S, bucket: &Arc<Bucket>) -> PacedIo<S> {
        PacedIo {
            stream,
            reading: Pace::of(bucket),
            writing: Pace::of(bucket),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.reading.poll_ready(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.reading.relayed(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.writing.poll_ready(cx));
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, data))?;
        this.writing.relayed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;
    const KIB: u64 = 1024;

    /// Bodies that always have a piece ready, in virtual time; what passed of each within so many seconds, and the small pieces' longest wait.
    fn seconds(seconds: u64, bodies: usize, small_every: Option<Duration>) -> (Vec<u64>, Duration) {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let mut paid = Paid {
            all: start,
            small: start,
        };
        let mut next: Vec<Instant> = vec![start; bodies];
        let mut passed = vec![0; bodies];
        let (mut small_at, mut longest) = (small_every.map(|_| start), Duration::ZERO);
        loop {
            let first = next.iter().enumerate().min_by_key(|(_, at)| **at);
            let large = first.map(|(body, at)| (*at, Some(body)));
            let small = small_at.map(|at| (at, None));
            let Some((at, body)) = large
                .into_iter()
                .chain(small)
                .min_by_key(|(at, _)| *at)
                .filter(|(at, _)| *at < end)
            else {
                return (passed, longest);
            };
            match body {
                Some(body) => {
                    next[body] = paid.pass(at, 16 * KIB, Piece::Large, RATE).max(at);
                    passed[body] += 16 * KIB;
                }
                None => {
                    let until = paid.pass(at, 8 * KIB, Piece::Small, RATE);
                    longest = longest.max(until.saturating_duration_since(at));
                    small_at = small_every.map(|every| at + every);
                }
            }
        }
    }

    #[test]
    fn large_bodies_share_the_rate() {
        for bodies in [1, 2, 10, 50] {
            let (passed, _) = seconds(10, bodies, None);
            let sum: u64 = passed.iter().sum();
            let slack = 16 * KIB * bodies as u64 + RATE / 5;
            assert!((10 * RATE - slack..=10 * RATE + slack).contains(&sum), "{bodies}: {sum}");
            let (least, most) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
            // The first may have the burst for itself.
            assert!(most - least <= 16 * KIB + RATE / 10, "{bodies}: {least} to {most}");
        }
    }

    #[test]
    fn small_pieces_do_not_wait_for_large_ones_and_count() {
        // 800 KiB/s of small pieces beside fifty large bodies.
        let (passed, longest) = seconds(100, 50, Some(Duration::from_millis(10)));
        assert_eq!(longest, Duration::ZERO);
        let large: u64 = passed.iter().sum();
        // What is left to them is shared, after some seconds in which they get used to it.
        let left = 100 * (RATE - 800 * KIB);
        assert!((left * 9 / 10..left + 6 * RATE).contains(&large), "{large}");
        assert!(passed.iter().all(|&one| one > left / 100), "{passed:?}");
        // More of them than the rate allows wait as well.
        let (_, longest) = seconds(10, 0, Some(Duration::from_millis(4)));
        assert!(longest > Duration::from_secs(5), "{longest:?}");
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let paces = Paces::default();
        let user = User::parse("alice").unwrap();
        let bucket = paces.of(&user);
        assert_eq!(bucket.pass(1 << 30, Piece::Large), None);
        paces.set_rate(1024);
        assert!(bucket.pass(1 << 20, Piece::Large).is_some());
        assert!(Arc::ptr_eq(&bucket, &paces.of(&user)), "one user has one bucket");
        paces.set_rate(0);
        assert_eq!(bucket.pass(1 << 30, Piece::Small), None);
        drop(bucket);
        paces.of(&User::parse("bob").unwrap());
        assert_eq!(paces.buckets.lock().unwrap().len(), 1, "alice's is gone");
    }
}
