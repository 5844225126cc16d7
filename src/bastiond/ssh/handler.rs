//! What a peer may ask for on its connection, and what is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use russh::server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, server};

use super::Shared;
use super::forwards::Forwards;
use super::laptop::{self, Requests};
use super::login::{Login, Who};
use crate::bastiond::end::End;
use crate::bastiond::lane::{Carrier, Lane, LaneKind, Peer};
use crate::bastiond::registry::Releaser;
use crate::bastiond::settings::Access;
use crate::bastiond::state::{Daemon, Refused};
use crate::name::{Service, Tag};
use crate::protocol::{self, CONTROL_SUBSYSTEM, Claim, MEASURE_SUBSYSTEM, REQUESTS_SUBSYSTEM};
use crate::rt;
use crate::tunnel::measure;
use crate::tunnel::ssh::channel::ChannelIo;

/// Session channels of one connection. A laptop needs two.
const MAX_CHANNELS: usize = 8;

/// What a stock client shows before it logs in, since a refusal of its key has no text.
const BANNER: &str = "ephemwork-bastiond: a key can log in for 60 s after EC2 Instance Connect's SendSSHPublicKey.\r\n";

/// Tags that one connection of a stock client may claim.
const MAX_FORWARDS: usize = 32;

pub(super) struct Handler {
    daemon: Arc<Daemon>,
    address: String,
    login: Login,
    who: Option<Who>,
    shared: Arc<Shared>,
    end: End,
    /// Opened, and nothing asked of them yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    /// One for each open control channel.
    controls: Arc<()>,
    forwards: HashMap<(String, u32), Tag>,
    next_port: AtomicU32,
}

impl Handler {
    pub(super) fn new(daemon: &Arc<Daemon>, address: &str, shared: &Arc<Shared>, end: End) -> Handler {
        Handler {
            daemon: Arc::clone(daemon),
            address: address.to_owned(),
            login: Login::default(),
            who: None,
            shared: Arc::clone(shared),
            end,
            channels: HashMap::new(),
            controls: Arc::new(()),
            forwards: HashMap::new(),
            next_port: AtomicU32::new(1),
        }
    }

    /// This connection as a lane; made when it is first used as one.
    fn lane(&self, kind: LaneKind, session: &mut Session) -> Option<Arc<Lane>> {
        let mut lane = self.shared.lane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lane.as_ref() {
            return (lane.kind == kind).then(|| Arc::clone(lane));
        }
        let Some(Who::Member { user, principal }) = &self.who else {
            return None;
        };
        let peer = Peer {
            id: self.daemon.next_lane_id(),
            user: user.clone(),
            principal: principal.clone(),
            address: self.address.clone(),
            client: String::from_utf8_lossy(session.remote_sshid()).trim().to_owned(),
            since: self.daemon.now(),
            pace: self.daemon.paces.of(user),
        };
        let carrier = match kind {
            LaneKind::Laptop => Carrier::Laptop(Requests::default()),
            LaneKind::OpenSsh => Carrier::OpenSsh(Forwards::of(session.handle())),
        };
        let new = Arc::new(Lane::new(peer, carrier, self.end.clone()));
        tracing::info!(user = %new.user, address = %new.address, client = new.client, "connected");
        self.daemon.lane_up(Arc::clone(&new));
        if !self.daemon.owns(&new) {
            // It was freed between login and here; whoever frees it looks for connections afterwards.
            new.close("the bastion's admin freed this user name");
        }
        *lane = Some(Arc::clone(&new));
        Some(new)
    }

    fn stream(&self, channel: Channel<Msg>) -> ChannelIo {
        ChannelIo::new(channel, Arc::clone(&self.shared.backlog)).of_calls()
    }

    /// Why this peer may do nothing, if it may not.
    fn stranger(&self) -> Option<Arc<Refused>> {
        match &self.who {
            Some(Who::Stranger(refused)) => Some(Arc::clone(refused)),
            _ => None,
        }
    }

    fn reject(&self, user: &str, why: String) -> Auth {
        // With a file of keys only, there is nothing that could be said to somebody unknown.
        if self.daemon.settings.access != Access::default() {
            tracing::info!(user = %user.escape_debug(), address = self.address, "a key is refused: {why}");
            self.login.refused(why, &self.shared, &self.end);
        }
        Auth::reject()
    }

    /// Refuses what a channel asks for.
    fn refuse(&mut self, id: ChannelId, session: &mut Session, what: &str) -> Result<(), russh::Error> {
        session.channel_failure(id)?;
        self.turn_away(id, session, what)
    }

    /// Refuses to run anything. OpenSSH leaves at once when the request itself fails and does not show the reason, so a program
    /// is started that only says it.
    fn run_nothing(&mut self, id: ChannelId, session: &mut Session, what: &str) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        self.turn_away(id, session, what)
    }

    /// Ends a channel with a reason on its standard error and exit status 1.
    fn turn_away(&mut self, id: ChannelId, session: &mut Session, what: &str) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        // A client that leaves when its request fails never shows it.
        tracing::info!(address = self.address, "refused: {what}");
        session.extended_data(id, 1, format!("ephemwork-bastiond: {what}\r\n").into_bytes())?;
        session.exit_status_request(id, 1)?;
        session.eof(id)?;
        session.close(id)
    }

    /// A laptop opens its requests channel before it says anything: that is taken and leads nowhere, and each of its calls is
    /// answered with the reason.
    fn turn_stranger_away(
        &mut self,
        id: ChannelId,
        name: &str,
        refused: Arc<Refused>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if name == REQUESTS_SUBSYSTEM {
            return session.channel_success(id);
        }
        let (Some(channel), Some(place)) = (self.channels.remove(&id), laptop::place(&self.controls)) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        rt::spawn(laptop::refuse(self.stream(channel), refused, self.end.clone(), place)).detach();
        Ok(())
    }

    async fn claim(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<(), String> {
        let service = match address {
            "" | "*" | "localhost" | "0.0.0.0" | "::" => return Err("name a service: ssh -R SERVICE:0:localhost:PORT".to_owned()),
            name => Service::parse(name).map_err(|why| format!("the service {name:?} is wrong: {why}"))?,
        };
        if let Some(refused) = self.stranger() {
            return Err(refused.sentence());
        }
        if self.forwards.len() >= MAX_FORWARDS {
            return Err(format!("one connection may claim {MAX_FORWARDS} tags at most"));
        }
        let lane = self
            .lane(LaneKind::OpenSsh, session)
            .ok_or("this connection is a laptop's; it claims over its control channel")?;
        let Carrier::OpenSsh(forwards) = &lane.carrier else {
            return Err("this connection carries no forwards".to_owned());
        };
        let number = match *port {
            0 => self.next_port.fetch_add(1, Ordering::Relaxed),
            asked => asked,
        };
        forwards.add(&service, address, number);
        let ip = self.address.rsplit_once(':').map_or(self.address.as_str(), |(ip, _)| ip);
        let claim = Claim {
            protocol: protocol::VERSION,
            service: service.as_str().to_owned(),
            host: format!("openssh@{ip}"),
            version: lane.client.clone(),
            token: None,
            takeover: false,
            lane: 0,
            only: false,
        };
        match self.daemon.claim(&lane.user, &claim, &lane).await {
            Ok(claimed) => {
                *port = number;
                self.forwards.insert((address.to_owned(), number), claimed.tag);
                Ok(())
            }
            Err(refused) => {
                forwards.remove(&service);
                Err(refused.refusal.what)
            }
        }
    }
}

/// What waits here is in a box while it runs: russh makes these futures part of a connection's own, which every idle tunnel has.
impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        match Box::pin(self.login.admit(&self.daemon, user, offer.public_key)).await {
            Ok(_) => Ok(Auth::Accept),
            Err(why) => Ok(self.reject(user, why)),
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        match Box::pin(self.login.admit(&self.daemon, user, key.public_key)).await {
            Ok((user, admitted)) => {
                self.who = Some(Box::pin(Login::enter(&self.daemon, user, admitted, &self.address)).await);
                Ok(Auth::Accept)
            }
            Err(why) => Ok(self.reject(user, why)),
        }
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        let eic = self.daemon.settings.access.eic.is_some();
        Ok(eic.then(|| BANNER.to_owned()))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.login.done();
        self.shared.authenticated.store(true, Ordering::Relaxed);
        self.shared.login.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), russh::Error> {
        if ![REQUESTS_SUBSYSTEM, CONTROL_SUBSYSTEM, MEASURE_SUBSYSTEM].contains(&name) {
            return self.refuse(id, session, &format!("there is no subsystem {name:?} here"));
        }
        if let Some(refused) = self.stranger() {
            return self.turn_stranger_away(id, name, refused, session);
        }
        let Some(lane) = self.lane(LaneKind::Laptop, session) else {
            return self.refuse(id, session, "this connection claims by forwarding; it has no subsystems");
        };
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        self.channels.shrink_to_fit();
        if name == MEASURE_SUBSYSTEM {
            let Some(place) = laptop::place(&self.controls) else {
                return self.refuse(id, session, "this connection has as many channels as it may have");
            };
            session.channel_success(id)?;
            let measuring = measure::serve(self.stream(channel));
            rt::spawn(async move {
                measuring.await;
                drop(place);
            })
            .detach();
            return Ok(());
        }
        if name == CONTROL_SUBSYSTEM {
            let Some(place) = laptop::place(&self.controls) else {
                return self.refuse(id, session, "this connection has as many control channels as it may have");
            };
            session.channel_success(id)?;
            let (stream, daemon) = (self.stream(channel), Arc::clone(&self.daemon));
            rt::spawn(laptop::control(stream, lane, daemon, place)).detach();
            return Ok(());
        }
        session.channel_success(id)?;
        if let Carrier::Laptop(requests) = &lane.carrier {
            requests.open(channel, &self.shared.backlog, &lane);
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, russh::Error> {
        match Box::pin(self.claim(address, port, session)).await {
            Ok(()) => Ok(true),
            Err(why) => {
                // A refused forward carries no text; a message for the client's log does (RFC 4253, section 11.3).
                tracing::info!(address = self.address, "claim of {address:?} refused: {why}");
                session.debug(true, &format!("ephemwork-bastiond: {why}"), "en")?;
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, russh::Error> {
        let Some(tag) = self.forwards.remove(&(address.to_owned(), port)) else {
            return Ok(false);
        };
        let lane = self.shared.lane.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(lane) = lane else { return Ok(false) };
        if let Carrier::OpenSsh(forwards) = &lane.carrier {
            forwards.remove(&tag.service);
        }
        let release = Box::pin(self.daemon.release(&tag, None, Releaser::Lane(lane.id)));
        Ok(release.await.is_ok())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        if let Some(refused) = self.stranger() {
            return self.run_nothing(id, session, &refused.sentence());
        }
        self.run_nothing(
            id,
            session,
            "there is no shell here; use ephemwork, or ssh -N -R SERVICE:0:localhost:PORT",
        )
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.run_nothing(
            id,
            session,
            "no command is run here; use ephemwork, or ssh -N -R SERVICE:0:localhost:PORT",
        )
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        session.channel_failure(id)?;
        Ok(false)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("nothing can be reached through this bastion")).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply
            .reject(prohibited("no socket can be reached through this bastion"))
            .await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("there is no X11 forwarding here")).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("only the bastion opens forwarded connections")).await;
        Ok(())
    }
}

/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, section 5.1) with a text.
fn prohibited(reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        code: 1,
        reason: reason.to_owned(),
    }
}
