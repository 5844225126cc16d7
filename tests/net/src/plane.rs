//! As much of AWS as an `up` asks for: which instance is the bastion, a key let in, sessions. The double makes the sessions, where
//! there is one; this only speaks AWS's protocol in front of it, and trusts whoever calls.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// The bastion's instance.
pub const INSTANCE: &str = "i-0bec0bec0bec0bec0";

/// Who calls, whoever it is.
const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/developer/bench";

/// How long any exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest request, in bytes: a token and a key fit many times.
const MAX_REQUEST: usize = 64 * 1024;

/// What it serves.
#[derive(Clone, Debug)]
pub struct Plane {
    /// The project of the one bastion there is.
    pub project: String,
    /// Keys that are let in are added to this file.
    pub keys: PathBuf,
    /// Where sessions are made.
    pub double: Option<SocketAddr>,
}

/// Serves on a thread until the process ends; gives the address.
///
/// # Errors
/// The address is taken.
pub fn serve(at: SocketAddr, plane: &Plane) -> Result<SocketAddr, String> {
    let broken = |why: io::Error| format!("no address for the control plane: {why}");
    let listener = TcpListener::bind(at).map_err(broken)?;
    let address = listener.local_addr().map_err(broken)?;
    let plane = plane.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let plane = plane.clone();
            std::thread::spawn(move || {
                if let Err(why) = answer(stream, &plane) {
                    eprintln!("control plane: {why}");
                }
            });
        }
    });
    Ok(address)
}

/// `plane ADDRESS PROJECT KEYS`, without sessions; prints `ready ADDRESS`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [at, project, keys] = arguments else {
        return Err("ADDRESS PROJECT KEYS".to_owned());
    };
    let at = at.parse().map_err(|why| format!("{at}: {why}"))?;
    let plane = Plane {
        project: project.clone(),
        keys: keys.into(),
        double: None,
    };
    println!("ready {}", serve(at, &plane)?);
    loop {
        std::thread::park();
    }
}

/// One request, one answer.
fn answer(mut stream: TcpStream, plane: &Plane) -> Result<(), String> {
    let keys = &plane.keys;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|why| why.to_string())?;
    let Some((head, body)) = request(&mut stream)? else {
        return Ok(());
    };
    let target = field(&head, "x-amz-target").unwrap_or_default();
    let (status, kind, text) = match (target.split_once('.'), plane.double) {
        (Some(("AmazonSSM", operation)), Some(double)) => forwarded(double, operation, &body)?,
        (Some(("AWSEC2InstanceConnectService", "SendSSHPublicKey")), _) => {
            let given: Value = serde_json::from_str(&body).map_err(|why| format!("SendSSHPublicKey: {why}"))?;
            let key = given["SSHPublicKey"].as_str().unwrap_or_default().trim();
            let file = OpenOptions::new().create(true).append(true).open(keys);
            let written = file.and_then(|mut file| file.write_all(format!("{key}\n").as_bytes()));
            written.map_err(|why| format!("{}: {why}", keys.display()))?;
            (
                200,
                "application/x-amz-json-1.1",
                json!({"RequestId": "1", "Success": true}).to_string(),
            )
        }
        _ if body.contains("Action=DescribeInstances") => (200, "text/xml", instances(&plane.project)),
        _ => {
            let refusal = json!({"__type": "UnknownOperationException", "message": "not served here"});
            eprintln!("control plane: {target:?} {body}");
            (400, "application/x-amz-json-1.1", refusal.to_string())
        }
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(text.as_bytes()));
    sent.map_err(|why| why.to_string())
}

fn forwarded(double: SocketAddr, operation: &str, body: &str) -> Result<(u16, &'static str, String), String> {
    const KIND: &str = "application/x-amz-json-1.1";
    Ok(match post(double, &format!("/control/{operation}"), body)? {
        (200, value) => (200, KIND, value.to_string()),
        (status, value) => (
            status,
            KIND,
            json!({"__type": value["code"], "message": value["message"]}).to_string(),
        ),
    })
}

/// The one instance, without a VPC: nothing is to be guarded here.
fn instances(project: &str) -> String {
    let tag = |key: &str, value: &str| format!("<item><key>{key}</key><value>{value}</value></item>");
    let tags = [tag("ephemwork:project", project), tag("ephemwork:component", "bastion")].concat();
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>{INSTANCE}</instanceId>\
         <instanceState><name>running</name></instanceState><launchTime>2026-01-01T00:00:00.000Z</launchTime>\
         <tagSet>{tags}</tagSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

/// What the double's door answers: status and JSON.
///
/// # Errors
/// It does not answer.
pub fn post(double: SocketAddr, path: &str, body: &str) -> Result<(u16, Value), String> {
    let broken = |why: io::Error| format!("the double: {path}: {why}");
    let mut stream = TcpStream::connect(double).map_err(broken)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: double\r\nX-Caller-Arn: {CALLER}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(broken)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let value = serde_json::from_str(body).map_err(|why| format!("the double: {path}: {why} in {text:?}"))?;
    Ok((status.unwrap_or_default(), value))
}

/// Head and body; `None` when the client left without asking.
fn request(stream: &mut TcpStream) -> Result<Option<(String, String)>, String> {
    let mut text = Vec::new();
    let mut space = [0; 4096];
    loop {
        let read = stream.read(&mut space).map_err(|why| why.to_string())?;
        text.extend_from_slice(&space[..read]);
        let end = text.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&text[..end]).into_owned();
            let length = field(&head, "content-length")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            if text.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&text[end + 4..end + 4 + length]).into_owned();
                return Ok(Some((head, body)));
            }
        }
        if read == 0 && text.is_empty() {
            return Ok(None);
        }
        if read == 0 || text.len() > MAX_REQUEST {
            return Err("a request without an end".to_owned());
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
}
