//! `[tunnel]`'s keys for the way to a bastion in AWS.

use toml::de::DeValue;

use super::keys;
use super::read::{Reader, Value};
use super::values::kind_of;

/// Where SSH listens on a bastion that is called by its address, when `tunnel.port` is not given.
pub(super) const DEFAULT_PORT: u16 = 22;

/// The Session Manager document that is run, when `tunnel.document` is not given.
pub(super) const DEFAULT_DOCUMENT: &str = "AWS-StartSSHSession";

/// How many bytes of SSH one message of Session Manager carries, when `tunnel.payload_bytes` is not given: as many as AWS's own.
pub(super) const DEFAULT_PAYLOAD_BYTES: usize = 1024;

/// The range of `tunnel.payload_bytes`. Less is all header; more is not known to pass AWS's gateway.
pub(super) const PAYLOAD_BYTES: std::ops::RangeInclusive<u64> = 128..=16 * 1024;

/// The range of `tunnel.lanes`: each is a session of Session Manager, and one more beyond four has not helped anybody yet.
pub(super) const LANES: std::ops::RangeInclusive<u64> = 1..=4;

/// One way to a bastion in AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// Session Manager's data channel.
    Ssm,
    /// An EC2 Instance Connect Endpoint.
    Eice,
    /// A TCP connection to `tunnel.host`: in a VPN.
    Tcp,
}

impl TransportKind {
    /// All, in the order in which `auto` tries them.
    pub const ALL: [TransportKind; 3] = [TransportKind::Ssm, TransportKind::Eice, TransportKind::Tcp];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            TransportKind::Ssm => "ssm",
            TransportKind::Eice => "eice",
            TransportKind::Tcp => "tcp",
        }
    }

    fn parse(text: &str) -> Option<TransportKind> {
        TransportKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// `tunnel.transport`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// `"auto"`: whatever is there.
    #[default]
    Auto,
    /// These, in this order; none twice.
    These(Vec<TransportKind>),
}

/// `tunnel.lanes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// `"auto"`: one, and more while requests wait for each other.
    Auto,
    /// So many.
    Fixed(u32),
}

/// `tunnel.host_key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostKey {
    /// `"parameter"`: the one that the bastion published in AWS.
    #[default]
    Parameter,
    /// `"accept-new"`: the first that is seen, and from then on no other.
    AcceptNew,
    /// This one, `ssh-ed25519 AAAA…`.
    Literal(String),
}

/// What `[tunnel]` says of the way to a bastion in AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayConfig {
    /// `transport`.
    pub transports: Transports,
    /// `host`: a name or an address, without a port.
    pub host: Option<String>,
    /// `port`: where SSH listens on it.
    pub port: u16,
    /// `document`.
    pub document: String,
    /// `payload_bytes`.
    pub payload_bytes: usize,
    /// `lanes`, where it is given.
    pub lanes: Option<Lanes>,
    /// `host_key`.
    pub host_key: HostKey,
}

impl Default for WayConfig {
    fn default() -> WayConfig {
        WayConfig {
            transports: Transports::default(),
            host: None,
            port: DEFAULT_PORT,
            document: DEFAULT_DOCUMENT.to_owned(),
            payload_bytes: DEFAULT_PAYLOAD_BYTES,
            lanes: None,
            host_key: HostKey::default(),
        }
    }
}

impl WayConfig {
    /// The ways to try, in their order.
    pub fn order(&self) -> Vec<TransportKind> {
        match &self.transports {
            Transports::These(kinds) => kinds.clone(),
            Transports::Auto => TransportKind::ALL
                .into_iter()
                .filter(|kind| *kind != TransportKind::Tcp || self.host.is_some())
                .collect(),
        }
    }
}

/// The keys that are read here.
pub(super) const KEYS: [&str; 7] = ["transport", "host", "port", "document", "payload_bytes", "lanes", "host_key"];

impl Reader<'_> {
    /// Reads one of [`KEYS`].
    pub(super) fn way(&mut self, way: &mut WayConfig, name: &str, place: &str, value: &Value<'_>) {
        match name {
            "transport" => {
                if let Some(transports) = self.transports(name, place, value) {
                    way.transports = transports;
                }
            }
            "host" => way.host = self.host(name, place, value),
            "port" => way.port = self.port(name, place, value).unwrap_or(DEFAULT_PORT),
            "document" => {
                if let Some(document) = self.shaped(name, place, value, is_document, DEFAULT_DOCUMENT) {
                    way.document = document;
                }
            }
            "payload_bytes" => {
                if let Some(bytes) = self.number(name, place, value, PAYLOAD_BYTES) {
                    way.payload_bytes = usize::try_from(bytes).unwrap_or(DEFAULT_PAYLOAD_BYTES);
                }
            }
            "lanes" => way.lanes = Some(self.lanes(name, place, value)),
            "host_key" => {
                if let Some(key) = self.host_key(name, place, value) {
                    way.host_key = key;
                }
            }
            _ => {}
        }
    }

    /// That what was read fits together; `value` is `transport`'s.
    pub(super) fn way_fits(&mut self, way: &WayConfig, place: &str, value: Option<&Value<'_>>) {
        let Transports::These(kinds) = &way.transports else { return };
        if let (true, None, Some(value)) = (kinds.contains(&TransportKind::Tcp), &way.host, value) {
            let what = format!("\"transport\" in {place} has \"tcp\", which needs a \"host\"");
            let hint = "add the bastion's name or address, as in host = \"10.0.0.5\"";
            self.wrong(value.span(), what, Some(hint.into()));
        }
    }

    fn transports(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<Transports> {
        const HINT: &str =
            "write transport = \"auto\", one of \"ssm\", \"eice\" and \"tcp\", or a list of them in the order to try";
        let DeValue::Array(items) = value.get_ref() else {
            let text = self.one_of(name, place, value, &["auto", "ssm", "eice", "tcp"])?;
            return Some(match TransportKind::parse(text) {
                Some(kind) => Transports::These(vec![kind]),
                None => Transports::Auto,
            });
        };
        if items.is_empty() {
            self.wrong(
                value.span(),
                format!("{name:?} in {place} is an empty list"),
                Some(HINT.into()),
            );
            return None;
        }
        let mut kinds = Vec::new();
        for item in items.iter() {
            let text = item.get_ref().as_str().unwrap_or_default();
            match TransportKind::parse(text) {
                Some(kind) if kinds.contains(&kind) => {
                    self.wrong(item.span(), format!("{text:?} stands twice in {name:?} of {place}"), None);
                }
                Some(kind) => kinds.push(kind),
                None => {
                    let what = format!(
                        "{name:?} in {place} is a list of \"ssm\", \"eice\" and \"tcp\", found {}",
                        kind_of(item)
                    );
                    let near = keys::nearest(text, &["ssm", "eice", "tcp"]).map(|near| format!("did you mean {near:?}?"));
                    self.wrong(item.span(), what, near.or_else(|| Some(HINT.into())));
                }
            }
        }
        Some(Transports::These(kinds))
    }

    fn host(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<String> {
        let text = self.text(name, place, value)?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<std::net::IpAddr>().is_ok();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !address && (!text.chars().all(fits) || text.starts_with(['.', '-'])) {
            let what = format!("{name:?} in {place} must be a host's name or address, found {text:?}");
            let hint = match text.rsplit_once(':') {
                Some((host, port)) if host.chars().all(fits) && port.parse::<u16>().is_ok() => {
                    format!("write host = {host:?} and port = {port}")
                }
                _ => "write it as in host = \"bastion.example.internal\"".to_owned(),
            };
            self.wrong(value.span(), what, Some(hint));
        }
        Some(bare.to_owned())
    }

    fn lanes(&mut self, name: &str, place: &str, value: &Value<'_>) -> Lanes {
        if value.get_ref().as_str() == Some("auto") {
            return Lanes::Auto;
        }
        if let DeValue::String(_) = value.get_ref() {
            let what = format!(
                "{name:?} in {place} must be \"auto\" or a whole number from 1 to 4, found {}",
                kind_of(value)
            );
            self.wrong(value.span(), what, None);
            return Lanes::Auto;
        }
        let number = self
            .number(name, place, value, LANES)
            .and_then(|number| u32::try_from(number).ok());
        number.map_or(Lanes::Auto, Lanes::Fixed)
    }

    fn host_key(&mut self, name: &str, place: &str, value: &Value<'_>) -> Option<HostKey> {
        let text = self.text(name, place, value)?.trim();
        match text {
            "parameter" => return Some(HostKey::Parameter),
            "accept-new" => return Some(HostKey::AcceptNew),
            _ => {}
        }
        if let Some(key) = host_key(text) {
            return Some(HostKey::Literal(key));
        }
        let what = format!(
            "{name:?} in {place} must be \"parameter\", \"accept-new\" or an ed25519 key, found {}",
            kind_of(value)
        );
        let hint = match keys::nearest(text, &["parameter", "accept-new"]) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "a key is written as the bastion's host_key.pub has it: host_key = \"ssh-ed25519 AAAA…\"".to_owned(),
        };
        self.wrong(value.span(), what, Some(hint));
        None
    }
}

/// A document's name or ARN ("DocumentName" in Systems Manager's API reference).
fn is_document(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    (3..=128).contains(&text.len()) && text.chars().all(fits)
}

/// The host key in a line as `host_key.pub` has it, whatever comment follows: `ssh-ed25519 AAAA…`.
pub(crate) fn host_key(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(algorithm @ "ssh-ed25519"), Some(body)) if is_ed25519(body) => Some(format!("{algorithm} {body}")),
        _ => None,
    }
}

/// The base64 of a key blob of 51 bytes: its algorithm's name, and 32 bytes (RFC 8709, section 4).
fn is_ed25519(body: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    // The byte 32, the key's length, ends in the first two bits of the next character.
    let Some(rest) = body.strip_prefix("AAAAC3NzaC1lZDI1NTE5AAAAI") else {
        return false;
    };
    body.len() == 68 && rest.starts_with(|c| ('A'..='P').contains(&c)) && rest.chars().all(base64)
}
