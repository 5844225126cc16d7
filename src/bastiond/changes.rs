//! "Something changed", for any number of waiters and without a lost wakeup: whoever asks before the change is told of it.

use std::convert::Infallible;
use std::future::Future;

use smol::channel::{Receiver, Sender};

/// See the module. Nothing is ever sent; a change drops the sender, which wakes every receiver.
pub(crate) struct Changes {
    _alive: Sender<Infallible>,
    waiting: Receiver<Infallible>,
}

impl Changes {
    pub(crate) fn new() -> Changes {
        let (alive, waiting) = smol::channel::bounded(1);
        Changes { _alive: alive, waiting }
    }

    /// Wakes everyone who waits now.
    pub(crate) fn tell(&mut self) {
        *self = Changes::new();
    }

    /// Resolves at the first [`Changes::tell`] after this call, also when it is first polled much later.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let waiting = self.waiting.clone();
        async move {
            // An error is the message: the sender is gone.
            if let Ok(never) = waiting.recv().await {
                match never {}
            }
        }
    }
}
