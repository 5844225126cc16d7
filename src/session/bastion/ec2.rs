//! The bastion in AWS: found by its tags, told from others by its host key, reached by the first transport that works.
//!
//! Each connection has a key of its own, made in memory and pushed through EC2 Instance Connect for the minute that logging in takes.

mod open;
mod pin;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use open::closed;
use pin::Pin;

use super::find::{self, Target};
use super::sessions::Sessions;
use super::{Place, Reached, trouble};
use crate::aws::{self, Aws, ssm};
use crate::config::{Config, TransportKind, WayConfig};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::User;
use crate::provision::names::Names;
use crate::provision::settle;
use crate::provision::wanted::Wanted;
use crate::rt::{self, Dialer};
use crate::session::home::Home;
use crate::session::local::Say;
use crate::session::records::Records;
use crate::tunnel::{ClientKey, Link, Login, Narrows, Unconnected};

/// How often a person is told what is awaited.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long the look before anything starts may take; what takes longer is dealt with when the bastion is needed.
const GLANCE: Duration = Duration::from_secs(10);

/// How often a key is pushed for one connection. The second time is for a metadata service that shows a key late, and for a host key
/// that was published anew.
const ATTEMPTS: u32 = 3;

/// After which time AWS is asked again by a laptop that comes back, and how many such questions are under way at once: each has 12 s, in
/// which TCP, TLS and the call are done over a way of three seconds' round trip.
const ASK_AGAIN: Duration = Duration::from_secs(3);
const ASKED_AT_ONCE: usize = 4;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ec2(Arc<Inner>);

struct Inner {
    host: Host,
    home: Home,
    user: User,
    wanted: Wanted,
    way: WayConfig,
    staging: Option<String>,
    profile: Option<String>,
    account: smol::lock::Mutex<Option<Account>>,
    /// The host key of this run, and where it comes from.
    pin: Mutex<Option<Pin>>,
    /// What worked last.
    good: Mutex<Option<TransportKind>>,
    sessions: Sessions,
    /// Of the way by TCP.
    narrows: Narrows,
}

/// The caller and what follows from its region.
#[derive(Clone)]
struct Account {
    aws: Aws,
    names: Names,
    dialer: Dialer,
}

/// Why one way did not lead to the bastion.
enum Missed {
    /// Another way, or another instance, may.
    This(Error),
    /// None will.
    All(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Missed {
        match error.exit {
            // Who has no credentials has none for the next way either.
            Exit::Unreachable | Exit::Config => Missed::This(error),
            Exit::Credentials if error.what.contains("no right to") => Missed::This(error),
            // AWS's own mistakes pass; who is up already tries again.
            Exit::Bug => Missed::This(Error {
                exit: Exit::Unreachable,
                ..error
            }),
            _ => Missed::All(error),
        }
    }
}

impl Ec2 {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The user's name is none for EC2 Instance Connect.
    pub(crate) fn new(host: &Host, home: &Home, user: &User, config: &Config, profile: Option<&str>) -> Result<Ec2> {
        if let Some(why) = trouble::unfit(user.as_str()) {
            return Err(trouble::bad_user(user.as_str(), why));
        }
        Ok(Ec2(Arc::new(Inner {
            host: host.clone(),
            home: home.clone(),
            user: user.clone(),
            wanted: Wanted::of(config),
            way: config.tunnel.way.clone(),
            staging: config.tunnel.staging_url.as_ref().map(ToString::to_string),
            profile: profile.map(str::to_owned),
            account: smol::lock::Mutex::new(None),
            pin: Mutex::new(None),
            good: Mutex::new(None),
            sessions: Sessions::default(),
            narrows: Narrows::default(),
        })))
    }

    /// Looks whether there are credentials, and a bastion that runs.
    pub(super) async fn check(&self, say: Say<'_>) -> Result<()> {
        let look = async {
            let account = self.account().await?;
            find::bastions(&account.aws, &account.names, SystemTime::now()).await
        };
        match rt::timeout(GLANCE, told(say, "looking for the bastion", look)).await {
            Some(found) => found.map(drop),
            None => Ok(()),
        }
    }

    /// Connects by the first way that leads there.
    pub(super) async fn connect(&self, records: &Records, say: Say<'_>) -> Result<Reached> {
        match self.reach(records, say).await {
            // A laptop that is offline cannot renew credentials either; that passes.
            Err(error) if error.exit == Exit::Credentials && self.worked_before() && !lasting(&error) => Err(Error {
                exit: Exit::Unreachable,
                ..error
            }),
            reached => reached,
        }
    }

    fn worked_before(&self) -> bool {
        self.0.good.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn reach(&self, records: &Records, say: Say<'_>) -> Result<Reached> {
        let account = told(say, "asking for AWS credentials", self.account()).await?;
        let look = self.asked(|| find::bastions(&account.aws, &account.names, SystemTime::now()));
        let targets = told(say, "looking for the bastion", look).await?;
        let mut missed = Vec::new();
        for kind in self.order() {
            match self.by(kind, &account, &targets, records, say).await {
                Ok(reached) => {
                    self.worked(kind, &missed, say);
                    return Ok(reached);
                }
                Err(Missed::All(error)) => return Err(error),
                Err(Missed::This(error)) => missed.push((kind, error)),
            }
        }
        Err(none(missed))
    }

    /// Connects by this way and no other.
    pub(crate) async fn connect_by(&self, kind: TransportKind, records: &Records, say: Say<'_>) -> Result<Reached> {
        let account = self.account().await?;
        let targets = find::bastions(&account.aws, &account.names, SystemTime::now()).await?;
        let reached = self.by(kind, &account, &targets, records, say).await;
        reached.map_err(|missed| match missed {
            Missed::This(error) | Missed::All(error) => error,
        })
    }

    /// What is learnt about how large packets get through.
    pub(super) fn narrows(&self) -> &Narrows {
        &self.0.narrows
    }

    /// The ways that are configured, in their order.
    pub(crate) fn ways(&self) -> Vec<TransportKind> {
        self.0.way.order()
    }

    /// Ends what is open at AWS. The caller bounds the time.
    pub(crate) async fn leave(&self) {
        self.0.sessions.end().await;
    }

    /// What worked last comes first.
    fn order(&self) -> Vec<TransportKind> {
        let mut order = self.0.way.order();
        if let Some(good) = *self.0.good.lock().unwrap_or_else(PoisonError::into_inner) {
            order.sort_by_key(|kind| *kind != good);
        }
        order
    }

    fn worked(&self, kind: TransportKind, missed: &[(TransportKind, Error)], say: Say<'_>) {
        let before = self.0.good.lock().unwrap_or_else(PoisonError::into_inner).replace(kind);
        if before == Some(kind) || missed.is_empty() {
            return;
        }
        for (other, error) in missed {
            say(format!("{}: {}", other.as_str(), brief(error)));
        }
        say(format!("the bastion is reached by {} instead", kind.as_str()));
    }

    async fn account(&self) -> Result<Account> {
        let mut place = self.0.account.lock().await;
        if let Some(account) = &*place {
            return Ok(account.clone());
        }
        let asked = aws::Place {
            region: self.0.wanted.region.clone(),
            profile: self.0.profile.clone(),
        };
        let aws = Aws::open(&self.0.host, &asked).await?;
        if self.0.wanted.expected_account.is_some() {
            settle::caller(&aws, &self.0.wanted).await?;
        }
        let account = Account {
            names: self.0.wanted.names(aws.region()),
            dialer: Dialer::new(aws.network()),
            aws,
        };
        *place = Some(account.clone());
        Ok(account)
    }

    async fn by(
        &self,
        kind: TransportKind,
        account: &Account,
        targets: &[Target],
        records: &Records,
        say: Say<'_>,
    ) -> Result<Reached, Missed> {
        let mut last = None;
        for target in targets {
            if let (Some(vpc), Some(subnet)) = (&target.vpc, &target.subnet) {
                self.0.wanted.guard_vpc(vpc, subnet).map_err(Missed::All)?;
            }
            let what = format!("connecting to {} by {}", target.id, kind.as_str());
            match told(say, &what, self.to(kind, account, target, records)).await {
                Ok(reached) => return Ok(reached),
                Err(Missed::All(error)) if targets.len() == 1 => return Err(Missed::All(error)),
                // During an upgrade there are two, and one of them may not serve yet, or has another host key.
                Err(missed) => last = Some(missed),
            }
        }
        Err(last.unwrap_or_else(|| Missed::All(trouble::no_bastion(&account.names.project, &account.names.region))))
    }

    async fn to(&self, kind: TransportKind, account: &Account, target: &Target, records: &Records) -> Result<Reached, Missed> {
        let mut refused = None;
        for attempt in 1..=ATTEMPTS {
            let pin = self.pin(account).await?;
            let (key, _, _) = ClientKey::generate()?;
            let pushing = self.push(account, target, &key);
            let opening = self.open(kind, account, target, records);
            let (pushed, opened) = smol::future::zip(pushing, opening).await;
            let opened = opened?;
            if let Err(error) = pushed {
                opened.rest.end().await;
                return Err(error.into());
            }
            let login = Login {
                user: self.0.user.clone(),
                key,
                host_key: pin.as_ref().map(|pin| pin.key.clone()).unwrap_or_default(),
            };
            let local = opened.stream.local();
            let why = match Link::over(opened.stream, &login).await {
                Ok((link, requests)) => {
                    return Ok(Reached {
                        link,
                        requests,
                        place: self.place(kind, account, target),
                        host_key: login.host_key,
                        local,
                        until: opened.until,
                        rest: opened.rest,
                    });
                }
                Err(why) => why,
            };
            opened.rest.end().await;
            match why {
                Unconnected::HostKey { shown, .. } => self.shown(account, target, pin, shown, attempt).await?,
                Unconnected::Key(error) => refused = error.why,
                Unconnected::Silent(error) => {
                    self.0.narrows.suspect();
                    return Err(Missed::This(translated(kind, opened.name.as_deref(), target, error)));
                }
                Unconnected::Other(error) => return Err(Missed::This(translated(kind, opened.name.as_deref(), target, error))),
            }
        }
        Err(Missed::All(trouble::key_refused(self.0.user.as_str(), &target.id, refused)))
    }

    /// Asks AWS something that may be asked twice. Who comes back waits for the answer, and the pooled connection that it is asked over may
    /// be as dead as the one to the bastion, so it is asked again beside the first time.
    async fn asked<F: Future>(&self, ask: impl Fn() -> F) -> F::Output {
        match self.worked_before() {
            true => rt::beside(ASK_AGAIN, ASKED_AT_ONCE, |_| ask()).await,
            false => ask().await,
        }
    }

    fn place(&self, kind: TransportKind, account: &Account, target: &Target) -> Place {
        let how = match kind {
            TransportKind::Ssm => "Session Manager".to_owned(),
            TransportKind::Eice => "EC2 Instance Connect Endpoint".to_owned(),
            TransportKind::Tcp => self.address(),
        };
        Place {
            url: self.0.staging.clone(),
            through: Some(format!("{}: {how}, {} in {}", kind.as_str(), target.id, account.names.region)),
        }
    }

    async fn push(&self, account: &Account, target: &Target, key: &ClientKey) -> Result<()> {
        let call = ssm::SendSSHPublicKey {
            instance_id: target.id.clone(),
            user: self.0.user.to_string(),
            public_key: key.public_line(),
        };
        let sent = self.asked(|| account.aws.call(&call)).await;
        sent.map_err(|failure| trouble::not_sent(self.0.user.as_str(), &target.id, failure))
    }
}

/// SSH's failure in words of the way that it went.
fn translated(kind: TransportKind, name: Option<&str>, target: &Target, error: Error) -> Error {
    let why = error.why.clone().unwrap_or_default();
    match (kind, name) {
        (TransportKind::Eice, Some(name)) if why.contains("the endpoint closed the connection") => {
            trouble::endpoint_refused(name, &target.id, &why)
        }
        (TransportKind::Ssm, _) if why.contains("Session Manager") || why.contains("of the instance") => closed(target, &why),
        _ if error.hint.is_none() => error.hint("see what works: ephemwork doctor --transport"),
        _ => error,
    }
}

/// Whether trouble with credentials stays until a person does something.
fn lasting(error: &Error) -> bool {
    ["expired", "no SSO session", "no right to", "does not accept"]
        .iter()
        .any(|words| error.what.contains(words))
}

/// A failure on one line.
fn brief(error: &Error) -> String {
    match &error.why {
        Some(why) => format!("{}: {}", error.what, why.trim().replace('\n', " ")),
        None => error.what.clone(),
    }
}

/// No way leads there. The first one's repair is told, and what became of the others.
fn none(missed: Vec<(TransportKind, Error)>) -> Error {
    let mut missed = missed.into_iter();
    let Some((_, first)) = missed.next() else {
        return Error::new(Exit::Config, "no transport is configured").hint("see transport under [tunnel] in ephemwork.toml");
    };
    let others: String = missed
        .map(|(kind, error)| format!("\n  by {}: {}", kind.as_str(), brief(&error)))
        .collect();
    if others.is_empty() {
        return first;
    }
    let why = first.why.clone().unwrap_or_default();
    first.because(format!("{}{others}", why.trim_end()))
}

/// Tells every second that something is awaited.
async fn told<T>(say: Say<'_>, what: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let tell = async {
        loop {
            rt::sleep(PROGRESS).await;
            say(format!("{what}, {} s", begun.elapsed().as_secs()));
        }
    };
    smol::future::or(work, tell).await
}
