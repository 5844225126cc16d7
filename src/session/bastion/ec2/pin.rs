//! Which host key is the bastion's: the one that is pinned, published again, or seen first.

use std::sync::PoisonError;

use super::{ATTEMPTS, Account, Ec2, Missed};
use crate::config::HostKey;
use crate::error::{Error, Exit, Result};
use crate::session::bastion::find::{self, Target};
use crate::session::bastion::trouble;
use crate::session::home::private_directory;
use crate::session::local::key::write_private;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) key: String,
    pub(super) from: String,
}

impl Ec2 {
    /// The key that the bastion must show; `None` when the first will do.
    pub(super) async fn pin(&self, account: &Account) -> Result<Option<Pin>> {
        if let Some(pin) = self.0.pin.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(Some(pin));
        }
        let pin = match &self.0.way.host_key {
            HostKey::Literal(key) => Some(Pin {
                key: key.clone(),
                from: "tunnel.host_key".to_owned(),
            }),
            HostKey::Parameter => Some(Pin {
                key: find::published(&account.aws, &account.names).await?,
                from: account.names.host_key(),
            }),
            HostKey::AcceptNew => {
                let path = find::accepted(self.0.home.root(), &account.names);
                std::fs::read_to_string(&path).ok().map(|key| Pin {
                    key: key.trim().to_owned(),
                    from: path.display().to_string(),
                })
            }
        };
        *self.0.pin.lock().unwrap_or_else(PoisonError::into_inner) = pin.clone();
        Ok(pin)
    }

    /// Another key was shown: pins the first, or the one that was published since.
    pub(super) async fn shown(
        &self,
        account: &Account,
        target: &Target,
        pin: Option<Pin>,
        shown: String,
        attempt: u32,
    ) -> Result<(), Missed> {
        let Some(pin) = pin else {
            let path = find::accepted(self.0.home.root(), &account.names);
            let kept = path
                .parent()
                .map_or(Ok(()), private_directory)
                .and_then(|()| write_private(&path, &format!("{shown}\n")));
            return kept.map_err(|why| {
                let what = format!("the host key cannot be kept in {}", path.display());
                Missed::All(Error::new(Exit::Config, what).because(why))
            });
        };
        *self.0.pin.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let now = self.pin(account).await?;
        if attempt < ATTEMPTS && now.is_some_and(|now| now.key != pin.key) {
            return Ok(());
        }
        Err(Missed::All(trouble::wrong_host_key(&target.id, &pin.key, &shown, &pin.from)))
    }
}
