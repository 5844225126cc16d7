//! What happens to a running `up`, on its way to the loop: bounded, and nothing is lost.
//!
//! Tasks wait while the queue is full; the loop never waits for a task while it runs, so it always makes room. What the loop finds
//! out itself while it acts has a place of its own, because nobody would make room for it.

use std::collections::VecDeque;

use smol::channel::{Receiver, Sender};

use super::machine::Event;

/// How many events wait for the loop, which takes each within microseconds: a burst of all services of a large `up` at once.
const EVENTS: usize = 64;

/// The loop's end.
pub(super) struct Happened {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    /// At most one for each action that is carried out.
    own: VecDeque<Event>,
}

impl Happened {
    pub(super) fn new() -> Happened {
        let (sender, receiver) = smol::channel::bounded(EVENTS);
        Happened {
            sender,
            receiver,
            own: VecDeque::new(),
        }
    }

    /// For a task.
    pub(super) fn teller(&self) -> Teller {
        Teller(self.sender.clone())
    }

    /// The loop tells itself.
    pub(super) fn push(&mut self, event: Event) {
        self.own.push_back(event);
    }

    /// The next event. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Event {
        match self.own.pop_front() {
            Some(event) => event,
            // It holds a sender itself, so the queue does not end before [`Happened::close`].
            None => match self.receiver.recv().await {
                Ok(event) => event,
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The loop has ended: nobody waits any more in order to tell it something.
    pub(super) fn close(&self) {
        self.receiver.close();
    }
}

/// A task's end.
#[derive(Clone)]
pub(super) struct Teller(Sender<Event>);

impl Teller {
    /// Tells the loop; waits while the queue is full.
    pub(super) async fn tell(&self, event: Event) {
        // Closed when the loop has ended, which needs to hear nothing more.
        self.0.send(event).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn more_than_fits_waits_and_none_is_lost() {
        const EACH: u64 = 100;
        rt::block_on(async {
            let mut happened = Happened::new();
            let tasks: Vec<rt::Task<()>> = (0..5)
                .map(|task| {
                    let teller = happened.teller();
                    rt::spawn(async move {
                        for number in 0..EACH {
                            teller.tell(Event::Draining(task * EACH + number)).await;
                        }
                    })
                })
                .collect();
            happened.push(Event::Tick);
            assert!(matches!(happened.next().await, Event::Tick), "the loop's own comes first");
            let mut last = [None; 5];
            for _ in 0..5 * EACH {
                let Event::Draining(number) = happened.next().await else {
                    panic!("another event")
                };
                let (task, number) = ((number / EACH) as usize, number % EACH);
                assert!(last[task].is_none_or(|last| last + 1 == number), "out of order");
                last[task] = Some(number);
            }
            assert_eq!(last, [Some(EACH - 1); 5]);
            for task in tasks {
                task.await;
            }
            // After the end nobody waits.
            happened.close();
            for _ in 0..2 * EVENTS {
                happened.teller().tell(Event::Tick).await;
            }
        })
        .unwrap();
    }
}
