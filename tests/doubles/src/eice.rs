//! An EC2 Instance Connect Endpoint: a presigned websocket that carries one TCP connection, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use crate::door;
use crate::http::Head;
use crate::pump::{Came, Socket};
use crate::sigv4::Presigned;
use crate::tls::Tls;
use crate::world::World;

/// The largest message in bytes, each way.
const MOST_MESSAGE: usize = 65_000;
/// The longest tunnel in seconds, of the hour that the settings say.
const MOST_SECONDS: u32 = 3600;
/// How many tunnels an endpoint carries at once.
const MOST_TUNNELS: usize = 20;
const DIAL: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(100);

/// What the test sees of a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    pub(crate) endpoint: String,
    pub(crate) seconds: u32,
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Why it ended, once it has.
    pub(crate) over: Option<String>,
    pub(crate) cut: bool,
}

#[derive(Default)]
pub(crate) struct Endpoint {
    /// Status and body for everyone, as the test said.
    pub(crate) refuse: Option<(u16, String)>,
    pub(crate) tunnels: Vec<Arc<Mutex<Tunnel>>>,
}

/// A request that is not served.
struct Refused {
    status: u16,
    what: String,
    violation: bool,
}

/// What a request asks for.
struct Asked {
    endpoint: String,
    seconds: u32,
    port: SocketAddr,
}

pub(crate) fn serve(world: &World, tls: Tls, head: &mut Head) {
    match judge(world, head) {
        Err(refused) => {
            if refused.violation {
                world.violations.record("openTunnel", &refused.what);
            }
            let body = json!({"message": refused.what}).to_string();
            door::refuse(tls, refused.status, "application/json", &body);
        }
        Ok(asked) => {
            let Some(socket) = door::accept(tls, head) else { return };
            let tunnel = Arc::new(Mutex::new(Tunnel {
                endpoint: asked.endpoint.clone(),
                seconds: asked.seconds,
                ..Tunnel::default()
            }));
            let hour = {
                let mut known = world.lock();
                known.endpoint.tunnels.push(Arc::clone(&tunnel));
                known.settings.hour
            };
            let longest = hour * asked.seconds / MOST_SECONDS;
            let why = carry(world, socket, &asked, longest, &tunnel);
            tunnel.lock().unwrap_or_else(PoisonError::into_inner).over = Some(why);
        }
    }
}

fn judge(world: &World, head: &Head) -> Result<Asked, Refused> {
    let wrong = |what: String| Refused {
        status: 400,
        what,
        violation: true,
    };
    let denied = |what: &str, violation| Refused {
        status: 403,
        what: what.to_owned(),
        violation,
    };
    if head.method != "GET" || !door::upgrades(head) {
        return Err(Refused {
            status: 400,
            what: "Expected a WebSocket upgrade".to_owned(),
            violation: false,
        });
    }
    let host = head.field("host").unwrap_or_default();
    let presigned = Presigned::parse(head.path(), head.query(), host).map_err(wrong)?;
    let known = world.lock();
    if let Some((status, what)) = known.endpoint.refuse.clone() {
        return Err(Refused {
            status,
            what,
            violation: false,
        });
    }
    let key = known.keys.get(&presigned.key);
    // Credentials that have expired are unknown ones.
    let key = key.ok_or_else(|| denied("The security token included in the request is invalid.", false))?;
    if key.token != presigned.token {
        return Err(denied("The session token is not the one of this access key.", true));
    }
    if !presigned.verifies(&key.secret) {
        let text = "The request signature we calculated does not match the signature you provided.";
        return Err(denied(text, true));
    }
    if !presigned.in_time(crate::chance::now_ms() / 1000) {
        return Err(denied("Signature expired", false));
    }
    let mut parameters = presigned.parameters;
    let asked = read(&mut parameters).map_err(wrong)?;
    if let Some((name, _)) = parameters.first_key_value() {
        return Err(wrong(format!("the query has a parameter {name:?}")));
    }
    let (endpoint, address, seconds) = asked;
    let instance = known.instances.values().find(|instance| instance.private == Some(address));
    let Some(instance) = instance else {
        return Err(Refused {
            status: 400,
            what: format!("privateIpAddress {address} is not reachable from {endpoint}"),
            violation: false,
        });
    };
    let open = |tunnel: &&Arc<Mutex<Tunnel>>| tunnel.lock().unwrap_or_else(PoisonError::into_inner).over.is_none();
    if known.endpoint.tunnels.iter().filter(open).count() >= MOST_TUNNELS {
        return Err(Refused {
            status: 429,
            what: "The maximum number of concurrent connections has been reached".to_owned(),
            violation: false,
        });
    }
    Ok(Asked {
        endpoint,
        seconds,
        port: instance.port,
    })
}

fn read(parameters: &mut BTreeMap<String, String>) -> Result<(String, IpAddr, u32), String> {
    let mut take = |name: &str| parameters.remove(name).ok_or_else(|| format!("{name} is missing"));
    let endpoint = take("instanceConnectEndpointId")?;
    if !endpoint
        .strip_prefix("eice-")
        .is_some_and(|hex| hex.len() == 17 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(format!("instanceConnectEndpointId is {endpoint:?}"));
    }
    let port = take("remotePort")?;
    if port != "22" {
        return Err(format!("remotePort is {port:?}, not 22"));
    }
    let address = take("privateIpAddress")?;
    let address: IpAddr = address.parse().map_err(|_| format!("privateIpAddress is {address:?}"))?;
    let seconds = match parameters.remove("maxTunnelDuration") {
        None => MOST_SECONDS,
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=MOST_SECONDS).contains(number));
            number.ok_or_else(|| format!("maxTunnelDuration is {text:?}, not 1 to {MOST_SECONDS}"))?
        }
    };
    Ok((endpoint, address, seconds))
}

/// Carries bytes until one side ends; why it ended.
fn carry(world: &World, mut socket: Socket, asked: &Asked, longest: Duration, tunnel: &Mutex<Tunnel>) -> String {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&asked.port, DIAL).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    let Ok(mut stream) = stream else {
        socket.close(1011, "Unable to connect to target");
        return "the target refused".to_owned();
    };
    let mut waiting: VecDeque<u8> = VecDeque::new();
    let mut piece = vec![0; MOST_MESSAGE];
    let wrong = |socket: &mut Socket, code, what: &str| {
        world.violations.record("openTunnel", what);
        socket.close(code, what);
        what.to_owned()
    };
    loop {
        let cut = tunnel.lock().unwrap_or_else(PoisonError::into_inner).cut;
        if cut || start.elapsed() >= longest {
            socket.reset();
            return if cut { "cut" } else { "maxTunnelDuration is over" }.to_owned();
        }
        let mut busy = false;
        if waiting.is_empty() {
            match socket.read() {
                Came::Binary(bytes) if bytes.len() > MOST_MESSAGE => {
                    return wrong(&mut socket, 1009, "a message of more than 65,000 bytes");
                }
                Came::Binary(bytes) => {
                    tunnel.lock().unwrap_or_else(PoisonError::into_inner).up += bytes.len() as u64;
                    waiting.extend(&bytes);
                    busy = true;
                }
                Came::Text(_) => return wrong(&mut socket, 1003, "a text message in a tunnel"),
                Came::Pong(_) => busy = true,
                Came::Nothing => {}
                Came::End => return "the client closed".to_owned(),
            }
        }
        while !waiting.is_empty() {
            match stream.write(waiting.as_slices().0) {
                Ok(length) => drop(waiting.drain(..length)),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => waiting.clear(),
            }
        }
        if !socket.pending() {
            match stream.read(&mut piece) {
                Ok(0) => {
                    socket.close(1000, "");
                    return "the target closed".to_owned();
                }
                Ok(length) => {
                    tunnel.lock().unwrap_or_else(PoisonError::into_inner).down += length as u64;
                    if !socket.write(Message::binary(piece[..length].to_vec())) {
                        return "the client is gone".to_owned();
                    }
                    busy = true;
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    socket.close(1011, "Connection to target was reset");
                    return "the target is gone".to_owned();
                }
            }
        }
        if !socket.flush() {
            return "the client is gone".to_owned();
        }
        if !busy {
            // Bytes that the target does not take are tried again at the next glance, or when either side says something.
            let limit = if waiting.is_empty() { GLANCE } else { GLANCE / 50 };
            let left = longest.saturating_sub(start.elapsed());
            let others: &[&dyn rustix::fd::AsFd] = if socket.pending() { &[] } else { &[&stream] };
            socket.wait(waiting.is_empty(), others, Some(limit.min(left)));
        }
    }
}
