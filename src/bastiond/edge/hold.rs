//! Requests that wait for their laptop: how many may, how much they may hold, and for how long.
//!
//! What waits is a head and what of the body came with it; the rest of a body stays with its client until a lane takes it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;

use super::Edge;
use super::own::Own;
use crate::bastiond::lane::Lane;
use crate::bastiond::metrics::Counters;
use crate::bastiond::state::{Daemon, Route};
use crate::name::Tag;
use crate::rt;

/// Requests that may wait for one laptop to come back: fifty a second over the whole of the usual hold.
const MAX_HELD: usize = 512;

/// Requests that may wait in all when one more waits whose tag nobody has claimed yet.
const MAX_UNCLAIMED: usize = 512;

/// Requests that may wait in all: a connection each, and a bastion has some thousand descriptors to spare.
const MAX_ALL: usize = 4 * MAX_HELD;

/// What the heads of all that wait may take, in bytes. Ordinary heads have 1 KiB; the largest, 64 KiB, fit 256 times into it.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a request holds beside the text of its head, in bytes: tables, and the parser's buffer.
const BESIDE: usize = 2 * 1024;

/// Who waits.
#[derive(Default)]
pub(crate) struct Held(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    by_tag: HashMap<Tag, usize>,
    all: usize,
    bytes: usize,
}

/// Whether the tag of a request is claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claimed {
    Yes,
    No,
}

/// One waiting request.
struct Place<'a> {
    held: &'a Held,
    tag: &'a Tag,
    bytes: usize,
}

impl Held {
    fn enter<'a>(&'a self, tag: &'a Tag, claimed: Claimed, bytes: usize) -> Option<Place<'a>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = waiting.by_tag.get(tag).copied().unwrap_or(0);
        // Whoever sends made-up tags takes no more than a part from the others.
        let most = if claimed == Claimed::Yes { MAX_ALL } else { MAX_UNCLAIMED };
        if here >= MAX_HELD || waiting.all >= most || waiting.bytes.saturating_add(bytes) > MAX_BYTES {
            return None;
        }
        waiting.by_tag.insert(tag.clone(), here + 1);
        waiting.all += 1;
        waiting.bytes += bytes;
        Some(Place { held: self, tag, bytes })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.all -= 1;
        waiting.bytes -= self.bytes;
        if let Some(count) = waiting.by_tag.get_mut(self.tag) {
            *count -= 1;
            if *count == 0 {
                waiting.by_tag.remove(self.tag);
            }
        }
    }
}

/// What one request may still wait, over all times that it has to.
pub(super) struct Patience {
    left: Duration,
    waited: Duration,
    bytes: usize,
}

impl Patience {
    pub(super) fn begin<B>(daemon: &Daemon, request: &Request<B>) -> Patience {
        let fields = request.headers().iter();
        let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len()).sum();
        Patience {
            left: daemon.tunables().hold,
            waited: Duration::ZERO,
            bytes: BESIDE + request.uri().path().len() + fields,
        }
    }

    /// Waits, but not longer than is left.
    pub(super) async fn spend<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let done = rt::timeout(self.left, work).await;
        let took = began.elapsed();
        self.waited += took;
        self.left = self.left.saturating_sub(took);
        done
    }
}

/// The lane for a request of this tag; waits for one when the laptop is away.
pub(super) async fn lane(edge: &Edge, tag: &Tag, patience: &mut Patience) -> Result<(Arc<Lane>, Arc<Counters>), Own> {
    let claimed = match edge.daemon.route(tag) {
        Route::Lane(lane, counters) => return Ok((lane, counters)),
        Route::Unknown => return Err(Own::unknown(tag)),
        Route::Away { .. } => Claimed::Yes,
        Route::Unclaimed { .. } => Claimed::No,
    };
    let metrics = &edge.daemon.metrics;
    let Some(_place) = edge.held.enter(tag, claimed, patience.bytes) else {
        return Err(Own::crowded(
            tag,
            "is away, and as many requests as are allowed wait for it already",
        ));
    };
    let _held = Gauge::enter(&edge.daemon);
    metrics.holds.fetch_add(1, Ordering::Relaxed);
    loop {
        let change = edge.daemon.hold(tag);
        let retry_after = match edge.daemon.route(tag) {
            Route::Lane(lane, counters) => return Ok((lane, counters)),
            Route::Unknown => return Err(Own::unknown(tag)),
            Route::Away { retry_after } | Route::Unclaimed { retry_after } => retry_after,
        };
        if edge.daemon.draining() || patience.left.is_zero() || patience.spend(change).await.is_none() {
            metrics.holds_expired.fetch_add(1, Ordering::Relaxed);
            return Err(Own::away(tag, patience.waited, retry_after));
        }
    }
}

/// Counts a request as held for as long as it lives.
struct Gauge<'a>(&'a Daemon);

impl Gauge<'_> {
    fn enter(daemon: &Daemon) -> Gauge<'_> {
        daemon.metrics.held.fetch_add(1, Ordering::Relaxed);
        Gauge(daemon)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.metrics.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn who_may_wait() {
        let held = Held::default();
        let (alice, bob) = (tag("alice:api"), tag("bob:api"));
        let mut places: Vec<_> = (0..MAX_HELD).filter_map(|_| held.enter(&alice, Claimed::Yes, 1)).collect();
        assert_eq!(places.len(), MAX_HELD);
        assert!(held.enter(&alice, Claimed::Yes, 1).is_none());
        assert!(held.enter(&bob, Claimed::Yes, 1).is_some());
        // As many as may wait for tags that nobody has.
        assert!(held.enter(&bob, Claimed::No, 1).is_none());
        places.pop();
        assert!(held.enter(&alice, Claimed::Yes, 1).is_some());
        assert!(held.enter(&bob, Claimed::No, 1).is_some());
        drop(places);
        let waiting = held.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((waiting.all, waiting.bytes, waiting.by_tag.len()), (0, 0, 0));
    }

    #[test]
    fn large_heads_are_fewer() {
        let held = Held::default();
        let alice = tag("alice:api");
        let all = MAX_BYTES / 4;
        let _places: Vec<_> = (0..4).filter_map(|_| held.enter(&alice, Claimed::Yes, all)).collect();
        assert!(held.enter(&alice, Claimed::Yes, 1).is_none());
    }
}
