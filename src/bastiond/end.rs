//! That a connection is to end, and why: told by anybody who has to do with it, and waited for by its task.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// See the module. Clones are of one connection. Small, because every idle tunnel has one.
#[derive(Clone, Default)]
pub(crate) struct End(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    reason: Option<String>,
    waiting: Option<Waker>,
}

impl End {
    /// The connection is to end. The first reason counts.
    pub(crate) fn now(&self, reason: impl Into<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reason.is_none() {
            state.reason = Some(reason.into());
            if let Some(waker) = state.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Waits until it is to end; gives the reason. One task waits at a time.
    pub(crate) fn wait(&self) -> impl Future<Output = String> + Send + use<> {
        let end = self.clone();
        poll_fn(move |cx| {
            let mut state = end.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reason) = &state.reason {
                return Poll::Ready(reason.clone());
            }
            state.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        for told_before in [true, false] {
            let end = End::default();
            let other = end.clone();
            let tell = || {
                other.now("first");
                other.now("second");
            };
            if told_before {
                tell();
            }
            let reason = smol::block_on(async {
                let told = async {
                    if !told_before {
                        tell();
                    }
                    std::future::pending().await
                };
                smol::future::or(end.wait(), told).await
            });
            assert_eq!(reason, "first");
        }
    }
}
