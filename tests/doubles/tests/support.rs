//! The double as a process, and a client of data channels that does as little as possible by itself, so that a test says what it
//! does right and what it does wrong.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tungstenite::{Message, WebSocket};

/// How long anything may take that takes milliseconds; reached only when a test fails.
pub const LIMIT: Duration = Duration::from_secs(20);
pub const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/developer/alice";
pub const INSTANCE: &str = "i-0123456789abcdef0";
const PATIENCE: Duration = Duration::from_millis(50);

pub struct Double {
    child: Child,
    pub control: SocketAddr,
    pub secure: SocketAddr,
    pub proxy: SocketAddr,
    pub tls: Arc<ClientConfig>,
    _directory: tempfile::TempDir,
}

impl Double {
    /// With an instance whose port 22 is `port`.
    pub fn start(port: SocketAddr, settings: &[&str]) -> Double {
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("ca.pem");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork-ssm-double"));
        command.arg("--authority").arg(&authority);
        command.args(["--instance", &format!("{INSTANCE}={port}")]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(line.strip_prefix("READY=").unwrap()).unwrap();
        let at = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Double {
            child,
            control: at("control"),
            secure: at("secure"),
            proxy: at("proxy"),
            tls: Arc::new(tls),
            _directory: directory,
        }
    }

    /// Its answer's status and body.
    pub fn say(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: double\r\nX-Caller-Arn: {CALLER}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.control).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    pub fn admin(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.say(&format!("/admin/{path}"), &body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    pub fn control(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.say(&format!("/control/{operation}"), &body);
        assert_eq!(status, 200, "{operation} {body}: {answer}");
        answer
    }

    pub fn start_session(&self) -> Value {
        self.control(
            "StartSession",
            json!({"Target": INSTANCE, "DocumentName": "AWS-StartSSHSession"}),
        )
    }

    pub fn violations(&self) -> Vec<String> {
        let found = self.admin("violations", json!({}));
        found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    pub fn demand_no_violations(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
    }

    pub fn session(&self, id: &str) -> Value {
        let all = self.admin("sessions", json!({}));
        all.as_array()
            .unwrap()
            .iter()
            .find(|session| session["id"] == id)
            .unwrap()
            .clone()
    }

    /// A TLS connection to the websockets' door.
    pub fn secure(&self) -> StreamOwned<ClientConnection, TcpStream> {
        self.over(TcpStream::connect(self.secure).unwrap())
    }

    pub fn over(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(&self.tls), name).unwrap(), stream)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that gives back what it gets, for ever.
pub fn echo() -> SocketAddr {
    serve(|stream| {
        let mut to = stream.try_clone().unwrap();
        // A connection that is cut ends it.
        std::io::copy(&mut { stream }, &mut to).ok();
    })
}

pub fn serve(each: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    at
}

/// One message, as bytes at their places.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: String,
    pub created: u64,
    pub sequence: i64,
    pub flags: u64,
    pub id: [u8; 16],
    pub payload_type: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn data(sequence: i64, payload: &[u8]) -> Frame {
        Frame::of("input_stream_data", sequence, 1, payload)
    }

    pub fn of(kind: &str, sequence: i64, payload_type: u32, payload: &[u8]) -> Frame {
        let mut id: [u8; 16] = Sha256::digest(format!("{kind} {sequence} {payload_type}"))[..16]
            .try_into()
            .unwrap();
        id[6] = id[6] & 15 | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Frame {
            kind: kind.to_owned(),
            created: now.as_millis() as u64,
            sequence,
            flags: 0,
            id,
            payload_type,
            payload: payload.to_vec(),
        }
    }

    /// The acknowledgement of this one.
    pub fn ack(&self) -> Frame {
        let content = json!({
            "AcknowledgedMessageType": "output_stream_data",
            "AcknowledgedMessageId": self.id_text(),
            "AcknowledgedMessageSequenceNumber": self.sequence,
            "IsSequentialMessage": true,
        });
        let mut ack = Frame::of("acknowledge", 0, 0, content.to_string().as_bytes());
        ack.flags = 3;
        ack
    }

    pub fn id_text(&self) -> String {
        let hex: String = self.id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = 116_u32.to_be_bytes().to_vec();
        out.extend(format!("{:<32}", self.kind).bytes());
        out.extend(1_u32.to_be_bytes());
        out.extend(self.created.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(&self.id[8..]);
        out.extend(&self.id[..8]);
        out.extend(Sha256::digest(&self.payload));
        out.extend(self.payload_type.to_be_bytes());
        out.extend((self.payload.len() as u32).to_be_bytes());
        out.extend(&self.payload);
        out
    }

    /// `None` for one whose digest is wrong, as of a notice, or of one that was damaged.
    pub fn read(bytes: &[u8]) -> (Frame, bool) {
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let payload = bytes[120..].to_vec();
        let whole = Sha256::digest(&payload)[..] == bytes[80..112] && u32_at(116) as usize == payload.len();
        let frame = Frame {
            kind: String::from_utf8(bytes[4..36].to_vec()).unwrap().trim_end().to_owned(),
            created: u64_at(40),
            sequence: u64_at(48) as i64,
            flags: u64_at(56),
            id: [&bytes[72..80], &bytes[64..72]].concat().try_into().unwrap(),
            payload_type: u32_at(112),
            payload,
        };
        (frame, whole)
    }
}

/// A websocket of a data channel.
pub struct Channel {
    pub ws: WebSocket<StreamOwned<ClientConnection, TcpStream>>,
    /// Whether every whole stream message is acknowledged by itself.
    pub acks: bool,
    /// What came whole, by its number.
    pub received: BTreeMap<i64, Vec<u8>>,
    /// The end of the session, when it came before what [`Channel::deliver`] waited for.
    end: Option<Frame>,
}

/// What OpenDataChannelInput is.
pub fn opening(token: &Value) -> Value {
    json!({
        "MessageSchemaVersion": "1.0",
        "RequestId": "11111111-2222-4333-8444-555555555555",
        "TokenValue": token,
        "ClientId": "66666666-7777-4888-9999-aaaaaaaaaaaa",
        "ClientVersion": "1.2.700.0",
    })
}

impl Channel {
    /// Opens one with what StartSession or ResumeSession gave.
    pub fn open(double: &Double, session: &Value) -> Channel {
        let mut channel = Channel::upgrade(double, session);
        channel.text(&opening(&session["TokenValue"]).to_string());
        channel
    }

    pub fn upgrade(double: &Double, session: &Value) -> Channel {
        let url = session["StreamUrl"].as_str().unwrap();
        let (ws, _) = tungstenite::client(url, double.secure()).unwrap();
        Channel {
            ws,
            acks: true,
            received: BTreeMap::new(),
            end: None,
        }
    }

    pub fn text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).unwrap();
    }

    pub fn send(&mut self, frame: &Frame) {
        self.raw(frame.bytes());
    }

    pub fn raw(&mut self, bytes: Vec<u8>) {
        // The other side may close at any time, which the test sees when it reads.
        self.ws.send(Message::binary(bytes)).ok();
    }

    /// The next message of any kind within a while; `None` at the end of the websocket or when none comes.
    pub fn next(&mut self, patience: Duration) -> Option<Frame> {
        self.ws.get_ref().sock.set_read_timeout(Some(patience)).unwrap();
        loop {
            match self.ws.read() {
                Ok(Message::Binary(bytes)) => {
                    let (frame, whole) = Frame::read(&bytes);
                    if frame.kind == "output_stream_data" {
                        if !whole {
                            continue;
                        }
                        if self.acks {
                            self.send(&frame.ack());
                        }
                        self.received.insert(frame.sequence, frame.payload.clone());
                    }
                    return Some(frame);
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next message that fits.
    #[track_caller]
    pub fn wait(&mut self, what: &str, mut fits: impl FnMut(&Frame) -> bool) -> Frame {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Some(frame) = self.end.take().or_else(|| self.next(PATIENCE))
                && fits(&frame)
            {
                return frame;
            }
        }
        panic!("waited {LIMIT:?} for {what}");
    }

    /// Answers the handshake and sees it complete.
    #[track_caller]
    pub fn shake(&mut self) {
        let request = self.wait("HandshakeRequest", |frame| frame.payload_type == 5);
        assert_eq!((request.sequence, request.flags), (0, 1));
        self.send(&handshake_response());
        let complete = self.wait("HandshakeComplete", |frame| frame.payload_type == 7);
        assert_eq!((complete.sequence, complete.flags), (1, 0));
    }

    /// Sends data until it is acknowledged, as a client does while the agent still dials.
    #[track_caller]
    pub fn deliver(&mut self, frame: &Frame) {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            self.send(frame);
            let again = Instant::now();
            while again.elapsed() < 4 * PATIENCE {
                let Some(seen) = self.next(PATIENCE) else { continue };
                let about = || serde_json::from_slice::<Value>(&seen.payload).unwrap();
                if seen.kind == "acknowledge" && about()["AcknowledgedMessageSequenceNumber"] == frame.sequence {
                    assert_eq!(about()["AcknowledgedMessageId"], frame.id_text());
                    return;
                }
                if seen.kind == "channel_closed" {
                    self.end = Some(seen);
                }
            }
        }
        panic!("message {} is not acknowledged", frame.sequence);
    }

    /// The end of the session: channel_closed's text.
    #[track_caller]
    pub fn closed(&mut self) -> String {
        let frame = self.wait("channel_closed", |frame| frame.kind == "channel_closed");
        let content: Value = serde_json::from_slice(&frame.payload).unwrap();
        content["Output"].as_str().unwrap().to_owned()
    }
}

pub fn handshake_response() -> Frame {
    let content = json!({
        "ClientVersion": "1.2.700.0",
        "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}],
        "Errors": null,
    });
    Frame::of("input_stream_data", 0, 6, content.to_string().as_bytes())
}
