//! How many large bodies are on their way through this laptop's lanes: what more lanes are made for, and dropped after.
//!
//! Both directions count, because small requests and small answers wait behind either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smol::channel::{Receiver, Sender};

use super::happened::Teller;
use super::machine::Event;
use crate::rt;

/// A body of this many bytes is large: what a lane at the pace of Session Manager's agent is busy with for 70 ms.
const LARGE: u64 = 64 * 1024;

/// How long there have to be large bodies before it matters: on a quick transport they are over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Load {
    large: AtomicUsize,
    /// Holds one message while there is a change that nobody looked at.
    change: (Sender<()>, Receiver<()>),
}

impl Load {
    pub(super) fn new() -> Arc<Load> {
        Arc::new(Load {
            large: AtomicUsize::new(0),
            change: smol::channel::bounded(1),
        })
    }

    fn now(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        // A full channel says it already.
        self.change.0.try_send(()).unwrap_or_default();
    }
}

/// Tells the loop how many there are, for ever.
pub(super) async fn watch(load: Arc<Load>, teller: Teller) {
    let mut told = 0;
    while load.change.1.recv().await.is_ok() {
        rt::sleep(SETTLE).await;
        let now = load.now();
        if now != told {
            told = now;
            teller.tell(Event::Bulk(now)).await;
        }
    }
}

/// One body, counted as long as it is known to be large and not dropped.
#[derive(Debug)]
pub(super) struct Watched {
    load: Option<Arc<Load>>,
    moved: u64,
    large: bool,
}

impl Watched {
    /// A body of this length; one whose length nobody knows is large once it was.
    pub(super) fn new(load: &Arc<Load>, length: Option<u64>) -> Watched {
        let mut watched = Watched {
            load: match length {
                Some(length) if length < LARGE => None,
                _ => Some(Arc::clone(load)),
            },
            moved: 0,
            large: false,
        };
        if length.is_some() {
            watched.enter();
        }
        watched
    }

    /// So much of it came by.
    pub(super) fn moved(&mut self, count: u64) {
        if self.load.is_some() && !self.large {
            self.moved = self.moved.saturating_add(count);
            if self.moved >= LARGE {
                self.enter();
            }
        }
    }

    fn enter(&mut self) {
        if let Some(load) = &self.load {
            self.large = true;
            load.large.fetch_add(1, Ordering::Relaxed);
            load.changed();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let (true, Some(load)) = (self.large, &self.load) {
            load.large.fetch_sub(1, Ordering::Relaxed);
            load.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_are_counted_while_they_live() {
        let load = Load::new();
        let check = |expected, what| assert_eq!(load.now(), expected, "{what}");
        let small = Watched::new(&load, Some(LARGE - 1));
        check(0, "a small one");
        let large = Watched::new(&load, Some(LARGE));
        check(1, "a large one");
        let mut unknown = Watched::new(&load, None);
        unknown.moved(LARGE - 1);
        check(1, "one of unknown length that is small so far");
        unknown.moved(1);
        unknown.moved(LARGE);
        check(2, "it is not small");
        drop(large);
        drop(small);
        check(1, "two are over");
        drop(unknown);
        check(0, "all are over");
    }
}
