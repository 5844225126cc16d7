//! `--authorize eic`: a key may log in while EC2 Instance Connect says so, in the name of whoever sent it.
//!
//! Nothing is kept between lookups: keys live for a minute, and the signer's certificate changes when AWS likes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::blocks::{self, Block};
use super::imds::{Imds, Session};
use crate::bastiond::keys::Blob;
use crate::bastiond::principal::Principal;
use crate::name::User;
use crate::rt;
use crate::rt::certificates::{Roots, Signer};

/// How long one lookup may take, waiting for its turn included; under a laptop's own limit for the whole connection (15 s).
const LIMIT: Duration = Duration::from_secs(5);

/// Lookups at once. IMDS allows an instance some thousand packets a second, and each lookup is six exchanges.
const AT_ONCE: usize = 16;

/// The longest user name that EC2 Instance Connect takes (SendSSHPublicKey, InstanceOSUser).
const MAX_USER: usize = 32;

/// The source of keys.
pub(crate) struct InstanceConnect {
    imds: Imds,
    roots: Option<PathBuf>,
    turns: smol::lock::Semaphore,
}

/// A key that may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub by: Principal,
    /// Seconds since the epoch from which on it may not.
    pub until: u64,
}

/// What the instance is, as it says itself.
struct Place {
    instance: String,
    /// The name that the signer's certificate must have.
    signer: String,
}

impl InstanceConnect {
    pub(crate) fn new(imds: Imds, roots: Option<PathBuf>) -> InstanceConnect {
        InstanceConnect {
            imds,
            roots,
            turns: smol::lock::Semaphore::new(AT_ONCE),
        }
    }

    /// Who sent this key for this user, or a sentence about why it may not log in. `clock` gives seconds since the epoch.
    pub(crate) async fn sender(&self, user: &User, key: &Blob, clock: fn() -> u64) -> Result<Sent, String> {
        if !possible(user) {
            return Err(format!(
                "the user name {user} is none that EC2 Instance Connect takes: at most {MAX_USER} characters, a letter or _ first"
            ));
        }
        let began = Instant::now();
        let look = async {
            let _turn = self.turns.acquire().await;
            self.look(user, key, clock).await
        };
        let found = rt::timeout(LIMIT, look).await;
        tracing::debug!(%user, milliseconds = began.elapsed().as_millis(), "looked for keys of EC2 Instance Connect");
        found.unwrap_or_else(|| {
            Err(format!(
                "the instance metadata service did not answer within {} s",
                LIMIT.as_secs()
            ))
        })
    }

    async fn look(&self, user: &User, key: &Blob, clock: fn() -> u64) -> Result<Sent, String> {
        let mut imds = self.imds.open().await?;
        let active = imds.read(&format!("managed-ssh-keys/active-keys/{user}/")).await?;
        let (found, warnings) = blocks::parse(&active.unwrap_or_default());
        for warning in warnings {
            tracing::warn!(%user, "a key of EC2 Instance Connect is left out: {warning}");
        }
        // The same key may have been sent twice; the one that lives longest counts, if it is good.
        let mut mine: Vec<Block> = found.into_iter().filter(|block| block.key == *key).collect();
        mine.sort_by_key(|block| std::cmp::Reverse(block.until));
        if mine.is_empty() {
            return Err(format!(
                "the key is not among the active keys of {user}: it is valid for 60 s after SendSSHPublicKey to this instance with InstanceOSUser {user}"
            ));
        }
        let place = place(&mut imds).await?;
        let chain = imds.need("managed-ssh-keys/signer-cert").await?;
        let signer = self.signer(chain, place.signer.clone(), clock()).await?;
        let mut first = None;
        for block in mine {
            match judge(&block, &place, &signer, clock()) {
                Ok(by) => {
                    let request = block.request.unwrap_or_default();
                    tracing::info!(%user, caller = %by, request = request.escape_debug().to_string(), "EC2 Instance Connect vouches for a key");
                    return Ok(Sent { by, until: block.until });
                }
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or_default())
    }

    /// Roots are files of the system, and a chain is some milliseconds of arithmetic: neither belongs to the thread of all tunnels.
    async fn signer(&self, chain: String, name: String, now: u64) -> Result<Signer, String> {
        let file = self.roots.clone();
        rt::unblock(move || {
            let roots = Roots::load(file.as_deref()).map_err(|why| {
                let whose = file.map_or_else(|| "the system's roots".to_owned(), |file| file.display().to_string());
                format!("{whose} cannot be used: {why}")
            })?;
            Signer::verify(chain.as_bytes(), &name, &roots, now)
                .map_err(|why| format!("the certificate of EC2 Instance Connect's signer is not trusted: {why}"))
        })
        .await
    }
}

/// Whether a block whose key was shown is good here and now, and whose it is.
fn judge(block: &Block, place: &Place, signer: &Signer, now: u64) -> Result<Principal, String> {
    if block.instance != place.instance {
        return Err(format!(
            "the key was sent for the instance {}, this is {}",
            block.instance.escape_debug(),
            place.instance.escape_debug()
        ));
    }
    if block.until <= now {
        return Err(format!(
            "the key's 60 s are over for {} s; send it again, and see that the bastion's clock is right",
            now - block.until
        ));
    }
    if !signer.signed(block.signed.as_bytes(), &block.signature) {
        return Err("the key's block is not signed by EC2 Instance Connect".to_owned());
    }
    let caller = block.caller.as_deref().ok_or("the key's block does not say who sent it")?;
    Principal::parse(caller).map_err(|why| format!("the key was sent by {}: {why}", caller.escape_debug()))
}

async fn place(imds: &mut Session) -> Result<Place, String> {
    let instance = imds.need("instance-id").await?;
    let region = match imds.read("placement/region").await? {
        Some(region) => region.trim().to_owned(),
        // Older than 2020; the zone is the region and a letter.
        None => {
            let zone = imds.need("placement/availability-zone").await?;
            zone.trim_end_matches(|c: char| c.is_ascii_lowercase()).to_owned()
        }
    };
    let domain = imds.need("services/domain").await?;
    Ok(Place {
        instance,
        signer: format!("managed-ssh-signer.{region}.{domain}"),
    })
}

/// The names of `[a-z0-9._-]` that SendSSHPublicKey takes. A path with anything else in it (`..`) would ask IMDS for something else.
fn possible(user: &User) -> bool {
    let name = user.as_str();
    name.len() <= MAX_USER
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && (name.len() < MAX_USER || !name.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_asked_for() {
        let check = |name: &str, expected: bool| assert_eq!(possible(&User::parse(name).unwrap()), expected, "{name}");
        check("..", false);
        check(".alice", false);
        check("0alice", false);
        check("-a", false);
        check(&"a".repeat(33), false);
        check("alice", true);
        check("_a", true);
        check("alice.b-c_d", true);
        check(&"a".repeat(32), true);
    }
}
