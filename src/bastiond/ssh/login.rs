//! Who a peer turns out to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Shared;
use crate::bastiond::authorize::Admitted;
use crate::bastiond::end::End;
use crate::bastiond::keys::Blob;
use crate::bastiond::principal::Principal;
use crate::bastiond::state::{Daemon, Refused};
use crate::name::User;
use crate::rt;
use crate::tunnel::ssh as common;

/// How long after a key was refused a peer is told why, unless it tries another. A refusal of SSH has no text (RFC 4252, section
/// 5.1), the end of a connection has; a stock client that has another key shows it within a round trip.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// Keys whose sender is remembered until the peer has proved that it has one of them.
const MAX_OFFERS: usize = 4;

/// A peer that has proved which key it has.
pub(super) enum Who {
    /// The user, and the caller of AWS behind it.
    Member { user: User, principal: Option<Principal> },
    /// Somebody else than the name's owner: told so, and nothing else.
    Stranger(Arc<Refused>),
}

/// What one connection has shown so far.
#[derive(Default)]
pub(super) struct Login {
    /// Keys that are let in, so that an offer and its proof ask once.
    offers: Vec<(User, Blob, Admitted)>,
    tries: Arc<AtomicU64>,
}

impl Login {
    /// Whether this key may log in as this user, or why not.
    pub(super) async fn admit(
        &mut self,
        daemon: &Daemon,
        user: &str,
        key: &russh::keys::PublicKey,
    ) -> Result<(User, Admitted), String> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let user = User::parse(user).map_err(|why| format!("{user:?} is not a user name: {why}"))?;
        let key = Blob::parse(&common::public_line(key))?;
        let now = daemon.now();
        self.offers.retain(|(_, _, admitted)| match admitted {
            Admitted::Listed => false,
            Admitted::Sent(sent) => sent.until > now,
        });
        if let Some((_, _, admitted)) = self.offers.iter().find(|(name, blob, _)| *name == user && *blob == key) {
            return Ok((user, admitted.clone()));
        }
        let admitted = daemon.admit(&user, &key).await?;
        if self.offers.len() < MAX_OFFERS {
            self.offers.push((user.clone(), key, admitted.clone()));
        }
        Ok((user, admitted))
    }

    /// The key is proved: the user, if the name is theirs.
    pub(super) async fn enter(daemon: &Arc<Daemon>, user: User, admitted: Admitted, address: &str) -> Who {
        match admitted {
            Admitted::Listed => Who::Member { user, principal: None },
            Admitted::Sent(sent) => match daemon.enter(&user, &sent.by, address).await {
                Ok(()) => Who::Member {
                    user,
                    principal: Some(sent.by),
                },
                Err(refused) => {
                    tracing::warn!(%user, caller = %sent.by, "refused: {}", refused.refusal.what);
                    Who::Stranger(Arc::new(refused))
                }
            },
        }
    }

    /// Nothing more is to be proved.
    pub(super) fn done(&mut self) {
        self.offers = Vec::new();
    }

    /// A key was refused: when the peer has no other, it is told why.
    pub(super) fn refused(&self, why: String, shared: &Arc<Shared>, end: &End) {
        let (tries, shared, end) = (Arc::clone(&self.tries), Arc::clone(shared), end.clone());
        let tried = tries.load(Ordering::Relaxed);
        let tell = async move {
            rt::sleep(TELL_AFTER).await;
            if tries.load(Ordering::Relaxed) == tried && !shared.authenticated.load(Ordering::Relaxed) {
                end.now(why);
            }
        };
        rt::spawn(tell).detach();
    }
}
