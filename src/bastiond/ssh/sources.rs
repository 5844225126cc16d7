//! Where those come from who are not logged in: one address has no more of the places than its share.
//!
//! Loopback has no share. Session Manager's agent is there, and with it every laptop that comes by it; what a laptop may open there
//! AWS counts. A unix socket's peer has no address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::bastiond::clients::Client;

/// Peers of one address that may be logging in at once: a quarter of all. More wait for their turn, as a team behind one VPN does after
/// a restart.
const MAX_LOGINS: usize = 64;

/// Connections of one address that are not logged in, most of them waiting: a quarter of all.
pub(super) const MAX_WAITING: usize = 1024;

#[derive(Default)]
pub(super) struct Sources(Mutex<HashMap<Client, Source>>);

struct Source {
    waiting: usize,
    logins: Arc<Semaphore>,
}

/// A connection that is not logged in, until it is dropped.
pub(super) struct Arrival {
    sources: Arc<Sources>,
    from: Option<(Client, Arc<Semaphore>)>,
}

impl Sources {
    /// Somebody connected; `None` when their address has too many.
    pub(super) fn arrive(self: &Arc<Sources>, peer: Option<IpAddr>) -> Option<Arrival> {
        let client = peer.filter(|peer| !peer.to_canonical().is_loopback()).map(Client::of);
        let from = match client {
            None => None,
            Some(client) => {
                let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let source = sources.entry(client).or_insert_with(|| Source {
                    waiting: 0,
                    logins: Arc::new(Semaphore::new(MAX_LOGINS)),
                });
                if source.waiting >= MAX_WAITING {
                    return None;
                }
                source.waiting += 1;
                Some((client, Arc::clone(&source.logins)))
            }
        };
        let sources = Arc::clone(self);
        Some(Arrival { sources, from })
    }
}

impl Arrival {
    /// Waits until one of its address's places is free.
    pub(super) async fn turn(&self) -> Option<SemaphoreGuardArc> {
        match &self.from {
            Some((_, logins)) => Some(logins.acquire_arc().await),
            None => None,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let Some((client, _)) = &self.from else { return };
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get_mut(client) {
            source.waiting -= 1;
            if source.waiting == 0 {
                sources.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share() {
        let sources = Arc::new(Sources::default());
        let arrive = |peer: &str| sources.arrive(peer.parse().ok());
        let crowd: Vec<_> = (0..MAX_WAITING).map(|_| arrive("10.1.2.3").unwrap()).collect();
        assert!(arrive("10.1.2.3").is_none());
        assert!(arrive("::ffff:10.1.2.3").is_none());
        assert!(arrive("10.1.2.4").is_some());
        let turns: Vec<_> = crowd
            .iter()
            .map(|arrival| smol::block_on(smol::future::poll_once(arrival.turn())))
            .collect();
        assert_eq!(turns.iter().filter(|turn| turn.is_some()).count(), MAX_LOGINS);
        // Who comes by Session Manager, or by a socket file, waits for nobody of the same address.
        let near: Vec<_> = ["127.0.0.1", "::1", "unix"]
            .into_iter()
            .map(|peer| arrive(peer).unwrap())
            .collect();
        for arrival in &near {
            assert!(smol::block_on(smol::future::poll_once(arrival.turn())).is_some_and(|turn| turn.is_none()));
        }
        drop((crowd, turns));
        assert!(arrive("10.1.2.3").is_some());
        assert!(sources.0.lock().unwrap().is_empty());
    }
}
