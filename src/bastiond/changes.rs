//! "Something changed", for any number of waiters and without a lost wakeup: whoever asks before the change is told of it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::OnceLock;

use smol::channel::{Receiver, Sender};

/// See the module. Nothing is ever sent; a change drops the sender, which wakes every receiver. Nobody waits for most sessions, so
/// there is no channel before somebody does.
#[derive(Default)]
pub(crate) struct Changes(OnceLock<(Sender<Infallible>, Receiver<Infallible>)>);

impl Changes {
    /// Wakes everyone who waits now.
    pub(crate) fn tell(&mut self) {
        self.0.take();
    }

    /// Resolves at the first [`Changes::tell`] after this call, also when it is first polled much later.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let (_, waiting) = self.0.get_or_init(|| smol::channel::bounded(1));
        let waiting = waiting.clone();
        async move {
            // An error is the message: the sender is gone.
            if let Ok(never) = waiting.recv().await {
                match never {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asked_before_a_change_is_told() {
        let mut changes = Changes::default();
        changes.tell();
        let (one, other) = (changes.next(), changes.next());
        changes.tell();
        let later = changes.next();
        smol::block_on(async {
            one.await;
            other.await;
            assert!(smol::future::poll_once(later).await.is_none());
        });
    }
}
