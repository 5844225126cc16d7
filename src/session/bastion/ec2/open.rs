//! A byte stream to the bastion by each transport, before SSH.

use std::time::{Duration, Instant};

use super::{Account, Ec2, Missed};
use crate::aws::Service;
use crate::config::TransportKind;
use crate::error::{Error, Exit, Result};
use crate::rt;
use crate::session::bastion::find::{self, Target};
use crate::session::bastion::{Rest, trouble};
use crate::session::records::Records;
use crate::tunnel::eice::{self, EiceStream};
use crate::tunnel::ssm::{Opening, Over, SsmStream};
use crate::tunnel::{Stream, Transport};

/// How long a channel may take from StartSession's answer until the agent greets. The agent itself gives up after 15 s.
const OPEN: Duration = Duration::from_secs(30);

/// How long a TCP connection may take, in which packets are lost and sent again.
const TCP: Duration = Duration::from_secs(10);

/// The longest duration of an endpoint's connection, where a policy allows less than an hour, in seconds.
const EICE_SECONDS: &str = "EPHEMWORK_EICE_SECONDS";

/// The last part of its duration in which an endpoint's connection is replaced, as a fraction: five minutes of an hour, in which
/// what is in flight on it can finish.
const RENEWED: u32 = 12;

/// The least time for that, where a policy allows short connections only: another one must stand by then.
const RENEWING: Duration = Duration::from_secs(30);

impl Ec2 {
    pub(super) fn address(&self) -> String {
        let host = self.0.way.host.as_deref().unwrap_or_default();
        match host.contains(':') {
            true => format!("[{host}]:{}", self.0.way.port),
            false => format!("{host}:{}", self.0.way.port),
        }
    }

    pub(super) async fn open(
        &self,
        kind: TransportKind,
        account: &Account,
        target: &Target,
        records: &Records,
    ) -> Result<Opened, Missed> {
        match kind {
            TransportKind::Ssm => self.open_ssm(account, target, records).await,
            TransportKind::Eice => self.open_eice(account, target).await,
            TransportKind::Tcp => {
                let address = self.address();
                let opening = rt::timeout(TCP, Transport::Tcp(address.clone()).open(&self.0.narrows)).await;
                let late = || std::io::Error::other(format!("no answer within {} s", TCP.as_secs()));
                let stream = opening.unwrap_or_else(|| Err(late())).map_err(|why| {
                    let error = Error::new(Exit::Unreachable, format!("the bastion at {address} cannot be reached")).because(why);
                    Missed::This(error.hint("is the VPN up? The address is tunnel.host and tunnel.port"))
                })?;
                Ok(Opened::of(stream))
            }
        }
    }

    async fn open_ssm(&self, account: &Account, target: &Target, records: &Records) -> Result<Opened, Missed> {
        let document = &self.0.way.document;
        let started = self.0.sessions.start(&account.aws, records, &target.id, document).await?;
        let (started, open) = match started {
            Ok(started) => started,
            Err(failure) => return Err(trouble::not_started(&target.id, document, failure).into()),
        };
        let host = authority(&started.stream_url);
        let opening = Opening {
            aws: account.aws.clone(),
            dialer: account.dialer.clone(),
            started,
            payload: self.0.way.payload_bytes,
        };
        let opened = rt::timeout(OPEN, SsmStream::open(opening)).await;
        match opened.unwrap_or(Err(Over::NoHandshake)) {
            Ok(stream) => Ok(Opened {
                rest: Rest::Session(Box::new(open)),
                ..Opened::of(Stream::Ssm(stream))
            }),
            Err(over) => {
                open.end().await;
                Err(Missed::This(match over {
                    Over::Unopened(why) => {
                        let (name, port) = &host;
                        trouble::unopened(TransportKind::Ssm, name, account.dialer.proxy(name, *port).as_deref(), &why)
                    }
                    over => closed(target, &over.to_string()),
                }))
            }
        }
    }

    /// How long an endpoint is asked to keep a connection.
    fn longest(&self) -> Result<Duration> {
        let Some(text) = self.0.host.variable(EICE_SECONDS) else {
            return Ok(eice::LONGEST);
        };
        let asked = text.parse().ok().map(Duration::from_secs);
        asked
            .filter(|asked| (Duration::from_secs(1)..=eice::LONGEST).contains(asked))
            .ok_or_else(|| {
                let what = format!(
                    "{EICE_SECONDS} is {text:?}, not a number of seconds from 1 to {}",
                    eice::LONGEST.as_secs()
                );
                Error::new(Exit::Config, what)
                    .hint("leave it out, unless a policy's ec2-instance-connect:maxTunnelDuration allows less")
            })
    }

    async fn open_eice(&self, account: &Account, target: &Target) -> Result<Opened, Missed> {
        let longest = self.longest()?;
        let (endpoint, name) = find::endpoint(&account.aws, target).await?;
        let Some(address) = &target.address else {
            let error = Error::new(
                Exit::Unreachable,
                format!("the bastion {} has no address in its VPC", target.id),
            );
            return Err(Missed::This(error.hint("see how it is: ephemwork bastion status")));
        };
        let query = [
            ("instanceConnectEndpointId", endpoint.clone()),
            ("remotePort", "22".to_owned()),
            ("privateIpAddress", address.clone()),
            ("maxTunnelDuration", longest.as_secs().to_string()),
        ];
        let base = format!("https://{name}/openTunnel");
        let url = account.aws.presigned(Service::Ec2InstanceConnect, &base, &query).await?;
        let opened = Instant::now();
        match EiceStream::open(&account.dialer, &url.replacen("https://", "wss://", 1)).await {
            Ok(stream) => Ok(Opened {
                until: Some(opened + longest - renewed(longest)),
                name: Some(endpoint),
                ..Opened::of(Stream::Eice(Box::new(stream)))
            }),
            Err(why) => {
                let (name, port) = authority(&format!("wss://{name}"));
                let proxy = account.dialer.proxy(&name, port);
                Err(Missed::This(trouble::unopened(
                    TransportKind::Eice,
                    &name,
                    proxy.as_deref(),
                    &why,
                )))
            }
        }
    }
}

/// A stream to the bastion, before SSH.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) rest: Rest,
    pub(super) until: Option<Instant>,
    /// What is in between, for messages.
    pub(super) name: Option<String>,
}

impl Opened {
    fn of(stream: Stream) -> Opened {
        Opened {
            stream,
            rest: Rest::Nothing,
            until: None,
            name: None,
        }
    }
}

/// How long before its end an endpoint's connection of this duration is replaced: never before its half.
fn renewed(longest: Duration) -> Duration {
    (longest / RENEWED).max(RENEWING).min(longest / 2)
}

/// Host and port of a URL that AWS named.
fn authority(url: &str) -> (String, u16) {
    let uri = url.parse::<http::Uri>().unwrap_or_default();
    let host = uri.host().unwrap_or("AWS").trim_matches(['[', ']']).to_owned();
    (host, uri.port_u16().unwrap_or(443))
}

/// The session ended before SSH began, or in the middle of its beginning.
pub(super) fn closed(target: &Target, why: &str) -> Error {
    Error::new(
        Exit::Unreachable,
        format!("Session Manager does not get through to {}", target.id),
    )
    .because(why)
    .hint("does ephemwork-bastiond run there? See: ephemwork bastion status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_left_in_time() {
        let check = |longest, before| {
            let longest = Duration::from_secs(longest);
            assert_eq!(renewed(longest), Duration::from_millis(before), "{longest:?}");
        };
        check(3600, 300_000);
        check(600, 50_000);
        check(120, 30_000);
        check(60, 30_000);
        check(10, 5_000);
        check(1, 500);
    }
}
