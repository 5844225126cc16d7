//! A bastiond of another version: the real SSH and HTTP/2, and answers that the test writes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use serde_json::Value;
use tempfile::TempDir;

use super::make_key;

/// What it answers to a call: the status, what it says it speaks, the body. Gets the path and the call's body.
pub(crate) type Script = dyn Fn(&str, &Value) -> (u16, Option<&'static str>, Value) + Send + Sync;

/// See the module. It serves on a thread of its own until the test ends.
pub(crate) struct Other {
    pub(crate) address: SocketAddr,
    /// `ssh-ed25519 AAAA…`
    pub(crate) host_key: String,
    script: Arc<Mutex<Arc<Script>>>,
    events: smol::channel::Sender<Value>,
    /// How laptops answered the events.
    pub(crate) told: std::sync::mpsc::Receiver<u16>,
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<Arc<Script>>>,
    events: smol::channel::Receiver<Value>,
    telling: std::sync::mpsc::Sender<u16>,
}

struct Peer {
    shared: Shared,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Other {
    pub(crate) fn start() -> Other {
        let directory = TempDir::new().unwrap();
        let host_key = make_key(&directory.path().join("host_key"), "other");
        let key = PrivateKey::from_openssh(std::fs::read_to_string(directory.path().join("host_key")).unwrap()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let nothing: Arc<Script> = Arc::new(|path, _| panic!("nothing is to be asked: {path}"));
        let script = Arc::new(Mutex::new(nothing));
        let (events, receiver) = smol::channel::unbounded();
        let (telling, told) = std::sync::mpsc::channel();
        let shared = Shared {
            script: Arc::clone(&script),
            events: receiver,
            telling,
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(listener, key, shared));
        });
        let host_key = host_key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Other {
            address,
            host_key,
            script,
            events,
            told,
        }
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, script: impl Fn(&str, &Value) -> (u16, Option<&'static str>, Value) + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Tells the next laptop.
    pub(crate) fn tell(&self, event: Value) {
        self.events.try_send(event).unwrap();
    }
}

async fn accept(listener: std::net::TcpListener, key: PrivateKey, shared: Shared) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    });
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let peer = Peer {
            shared: shared.clone(),
            channels: HashMap::new(),
        };
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            // How a connection ends is what the laptop is asked about.
            if let Ok(session) = server::run_stream(config, stream, peer).await {
                session.await.ok();
            }
        });
    }
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let stream = self.channels.remove(&id).unwrap().into_stream();
        let shared = self.shared.clone();
        if name == ephemwork::protocol::CONTROL_SUBSYSTEM {
            tokio::spawn(control(stream, shared));
        } else {
            tokio::spawn(requests(stream, shared));
        }
        Ok(())
    }
}

async fn control(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, shared: Shared) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let mut body = request.into_body();
            let mut text = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                text.extend_from_slice(&data);
            }
            let script = Arc::clone(&shared.script.lock().unwrap());
            let (status, speaks, answer) = script(&path, &serde_json::from_slice(&text).unwrap_or_default());
            let mut head = Response::builder().status(status);
            if let Some(speaks) = speaks {
                head = head.header(ephemwork::protocol::PROTOCOL, speaks);
            }
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            stream.send_data(Bytes::from(answer.to_string()), true).unwrap();
        });
    }
}

/// Tells the laptop what there is to tell.
async fn requests(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, shared: Shared) {
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    // A connection that is over takes no event from the next one.
    let over = async {
        driver.await.ok();
    };
    let telling = async {
        while let Ok(event) = shared.events.recv().await {
            let mut sender = sender.clone().ready().await.unwrap();
            let request = Request::post("http://laptop/v1/event").body(()).unwrap();
            let (answer, mut body) = sender.send_request(request, false).unwrap();
            body.send_data(Bytes::from(event.to_string()), true).unwrap();
            shared.telling.send(answer.await.unwrap().status().as_u16()).unwrap();
        }
    };
    smol::future::or(over, telling).await;
}
