//! What the two sides of a client's connection, reading and answering, know of each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use http::Request;

use super::door::Entered;
use super::own::Format;
use crate::bastiond::guard::Refusal;

/// The path of what the parser is given instead of a refused head.
const STAND_IN_PATH: &str = "/ephemwork-refused";

/// What the two sides of a connection, reading and answering, know of each other.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Known>);

struct Known {
    /// What the connection is counted as; it lasts as long as the stream, also as an upgraded one.
    entered: Entered,
    /// Why the last request was refused, for whoever answers it.
    refusal: Mutex<Option<(Refusal, Part, Format)>>,
    /// Requests whose answer is not at its end. In HTTP/1 one; two for the moment in which the next came and the parser has not
    /// dropped the last answer yet.
    open: AtomicUsize,
    /// Requests so far.
    number: AtomicUsize,
    /// The last request's answer has begun.
    answered: AtomicBool,
    /// Who waits for that.
    waker: Mutex<Option<Waker>>,
}

/// What of a message was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Body,
}

/// A request that is being answered, until it is dropped.
pub(crate) struct Open(Shared);

impl Shared {
    pub(crate) fn new(entered: Entered) -> Shared {
        Shared(Arc::new(Known {
            entered,
            refusal: Mutex::default(),
            open: AtomicUsize::new(0),
            number: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
            waker: Mutex::default(),
        }))
    }

    /// As what the connection was let in.
    pub(crate) fn entered(&self) -> &Entered {
        &self.0.entered
    }

    /// A request came.
    pub(crate) fn open(&self) -> Open {
        self.0.number.fetch_add(1, Ordering::AcqRel);
        self.0.answered.store(false, Ordering::Release);
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Open(self.clone())
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire) > 0
    }

    /// Which request it is that came last.
    pub(super) fn number(&self) -> usize {
        self.0.number.load(Ordering::Acquire)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.0.answered.load(Ordering::Acquire)
    }

    /// Why the request with this head is not to be answered otherwise, if so, and in which format the client may want to know.
    /// Requests that came before a wrong head are right.
    pub(crate) fn refusal_of<B>(&self, request: &Request<B>) -> Option<(Refusal, Format)> {
        let (refusal, part, format) = self.refusal()?;
        match part {
            Part::Head => (request.uri().path() == STAND_IN_PATH).then_some((refusal, format)),
            Part::Body => Some((refusal, Format::of(request.headers()))),
        }
    }

    /// Why the body of a request broke off, if it was refused.
    pub(crate) fn refusal_of_body(&self) -> Option<Refusal> {
        let (refusal, part, _) = self.refusal()?;
        (part == Part::Body).then_some(refusal)
    }

    fn refusal(&self) -> Option<(Refusal, Part, Format)> {
        *self.0.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, refusal: Refusal, part: Part, format: Format) {
        *self.0.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((refusal, part, format));
    }

    pub(super) fn wake_at_the_end(&self, cx: &Context<'_>) {
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    pub(super) fn wake(&self) {
        let waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Open {
    /// Its answer begins.
    pub(super) fn answered(&self) {
        self.0.0.answered.store(true, Ordering::Release);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.wake();
    }
}
