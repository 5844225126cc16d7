//! Sessions at AWS from StartSession to TerminateSession: none is forgotten, whoever is interrupted and whenever.
//!
//! A session is entered in the records before it is started, with a reason that nobody else gives. Who is killed in between leaves an
//! entry, and a later run finds the session by that reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::aws::{Aws, Failure, Place, ssm};
use crate::error::Result;
use crate::host::Host;
use crate::rt;
use crate::session::records::Records;
use crate::session::records::sessions::Started;
use crate::session::system::Process;

/// How long TerminateSession may take on the way out; what it does not end in time, a later run does.
const TERMINATE: Duration = Duration::from_secs(2);

/// Between two looks at whether the last StartSession was answered.
const LOOK: Duration = Duration::from_millis(20);

/// How long a later run may take to end what a killed one left.
const SWEEP: Duration = Duration::from_secs(10);

/// After this long AWS has ended a session by itself that nobody uses: the idle limit is an hour at most ("Session Manager
/// preferences" in the Systems Manager User Guide).
const ENDED: u64 = 2 * 3600;

/// What a reason begins with.
const REASON: &str = "ephemwork";

/// The sessions of this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// StartSession was sent, and there is no answer yet.
    starting: usize,
    /// Open ones by reason.
    open: BTreeMap<String, Open>,
}

/// A session that is open.
#[derive(Clone)]
pub(crate) struct Open {
    aws: Aws,
    records: Records,
    sessions: Sessions,
    started: Started,
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one. When the caller is dropped meanwhile, [`Sessions::end`] still knows of it.
    pub(super) async fn start(
        &self,
        aws: &Aws,
        records: &Records,
        target: &str,
        document: &str,
    ) -> Result<Result<(ssm::Started, Open), Failure>> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).ok();
        let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut started = Started {
            owner: Process::own(),
            region: aws.region().to_owned(),
            profile: aws.profile().map(str::to_owned),
            target: target.to_owned(),
            reason: format!("{REASON} {} {nonce}", std::process::id()),
            session: None,
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        records.set_session(&started).await?;
        let call = ssm::StartSession {
            target: target.to_owned(),
            document: document.to_owned(),
            parameters: BTreeMap::from([("portNumber".to_owned(), vec!["22".to_owned()])]),
            reason: Some(started.reason.clone()),
        };
        let (tell, told) = smol::channel::bounded(1);
        let (this, aws, records) = (self.clone(), aws.clone(), records.clone());
        this.lock().starting += 1;
        let work = async move {
            let answered = aws.call(&call).await;
            let answer = match answered {
                Ok(answer) => {
                    started.session = Some(answer.session_id.clone());
                    let open = Open {
                        aws: aws.clone(),
                        records: records.clone(),
                        sessions: this.clone(),
                        started: started.clone(),
                    };
                    {
                        let mut inner = this.lock();
                        inner.starting -= 1;
                        inner.open.insert(started.reason.clone(), open.clone());
                    }
                    let entered = records.set_session(&started).await;
                    entered.map(|()| Ok((answer, open)))
                }
                Err(failure) => {
                    this.lock().starting -= 1;
                    let removed = match failure.is_uncertain() {
                        // It may have been started all the same.
                        true => Ok(()),
                        false => records.remove_session(&started.reason).await,
                    };
                    removed.map(|()| Err(failure))
                }
            };
            // Who asked may be gone; then nobody wants it.
            if let Err(unheard) = tell.try_send(answer)
                && let Ok(Ok((_, open))) = unheard.into_inner()
            {
                open.end().await;
            }
        };
        rt::spawn(work).detach();
        match told.recv().await {
            Ok(answer) => answer,
            // The task always answers; it ends with the process only.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends all that are open, and the one that is just being started. The caller bounds the time.
    pub(super) async fn end(&self) {
        while self.lock().starting > 0 {
            rt::sleep(LOOK).await;
        }
        let open: Vec<Open> = self.lock().open.values().cloned().collect();
        let ends: Vec<_> = open.into_iter().map(|open| rt::spawn(open.end())).collect();
        for end in ends {
            end.await;
        }
    }
}

impl Open {
    /// Ends it, bounded in time.
    pub(crate) async fn end(self) {
        let Some(session) = &self.started.session else { return };
        match rt::timeout(TERMINATE, terminate(&self.aws, session)).await {
            Some(Ok(())) => {
                self.sessions.lock().open.remove(&self.started.reason);
                if let Err(why) = self.records.remove_session(&self.started.reason).await {
                    tracing::debug!("{why}");
                }
            }
            // It is tried once more at the end, and by a later run.
            Some(Err(failure)) => tracing::warn!("session {session} is left at AWS for now: {failure}"),
            None => tracing::warn!(
                "session {session} is left at AWS for now: no answer in {} s",
                TERMINATE.as_secs()
            ),
        }
    }
}

async fn terminate(aws: &Aws, session: &str) -> Result<(), Failure> {
    let call = ssm::TerminateSession {
        session_id: session.to_owned(),
    };
    match aws.call(&call).await {
        Err(failure) if failure.code() == Some("DoesNotExistException") => Ok(()),
        other => other,
    }
}

/// Ends what killed `up`s of this machine left at AWS; a sentence for each. What cannot be ended now stays entered.
pub(crate) async fn sweep(host: &Host, records: &Records) -> Vec<String> {
    let mut told = Vec::new();
    let work = async {
        let all = records.sessions().await?;
        let mut places: BTreeMap<(String, Option<String>), Option<Aws>> = BTreeMap::new();
        for started in all {
            let owner = started.owner.clone();
            if rt::unblock(move || owner.lives()).await {
                continue;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            if started.since + ENDED < now {
                records.remove_session(&started.reason).await?;
                continue;
            }
            let place = (started.region.clone(), started.profile.clone());
            let aws = match places.get(&place) {
                Some(aws) => aws.clone(),
                None => {
                    let asked = Place {
                        region: Some(place.0.clone()),
                        profile: place.1.clone(),
                    };
                    // Without credentials it waits for a run that has them.
                    let aws = Aws::open(host, &asked).await.ok();
                    places.insert(place, aws.clone());
                    aws
                }
            };
            let Some(aws) = aws else { continue };
            match left(&aws, &started).await {
                Ok(ended) => {
                    records.remove_session(&started.reason).await?;
                    told.extend(
                        ended
                            .into_iter()
                            .map(|id| format!("ended session {id}, which a killed up had left at AWS")),
                    );
                }
                Err(failure) => tracing::debug!("{}: {failure}", started.reason),
            }
        }
        Ok::<(), crate::error::Error>(())
    };
    match rt::timeout(SWEEP, work).await {
        Some(Err(why)) => tracing::debug!("{why}"),
        Some(Ok(())) | None => {}
    }
    told
}

/// Ends the session of an entry, by its id or, where that was never learned, by its reason.
async fn left(aws: &Aws, started: &Started) -> Result<Vec<String>, Failure> {
    let ids = match &started.session {
        Some(id) => vec![id.clone()],
        None => {
            let call = ssm::DescribeSessions {
                filters: vec![ssm::SessionFilter::Target(started.target.clone())],
                next: None,
            };
            let all = aws.all(&call).await?;
            let ours = all
                .into_iter()
                .filter(|session| session.reason.as_deref() == Some(&started.reason));
            ours.map(|session| session.id).collect()
        }
    };
    for id in &ids {
        terminate(aws, id).await?;
    }
    Ok(ids)
}
