//! Walks the tree of a parsed file and collects what is right and everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Table, home, known};
use super::mistake::{Lines, Mistake};
use super::url::StagingUrl;
use super::values::kind_of;
use super::way::{self, WayConfig};
use super::{AwsConfig, BastionConfig, Config, Kind, ListenerArn, Protocol, S3Uri, ServiceConfig, TunnelConfig, TunnelKind};
use super::{DEFAULT_HEALTH_TIMEOUT, DEFAULT_LISTEN, DEFAULT_STOP_TIMEOUT, MAX_BYTES};
use crate::name::Service;

/// How many mistakes of either kind are kept: enough for any file that a person wrote, and a bound on what a file full of
/// rubbish costs.
const MAX_MISTAKES: usize = 1000;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

pub(super) fn config(text: &str, file: &Path) -> Result<Config, Vec<Mistake>> {
    if text.len() > MAX_BYTES {
        let what = format!("the file is {} bytes long; at most {MAX_BYTES} are read", text.len());
        return Err(vec![Lines::of("").mistake(0..0, what, None)]);
    }
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader = Reader {
        lines: Lines::of(text),
        directory: &directory,
        syntax: Vec::new(),
        found: Vec::new(),
    };
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let what = not_toml(error.message(), text.get(span.clone()).unwrap_or_default());
        let mistake = reader.lines.mistake(span, what, None);
        // Behind the first on a line the parser guesses.
        if reader.syntax.last().is_none_or(|last| last.line != mistake.line) && reader.syntax.len() < MAX_MISTAKES {
            reader.syntax.push(mistake);
        }
    }
    let (tunnel, bastion, services) = reader.root(root.get_ref());
    let mistakes = reader.mistakes();
    if mistakes.is_empty() {
        let services = services
            .into_iter()
            .filter_map(|found| Some((found.name?, found.config?)))
            .collect();
        let file = file.to_owned();
        Ok(Config {
            file,
            directory,
            tunnel,
            bastion,
            services,
        })
    } else {
        Err(mistakes)
    }
}

pub(super) struct Reader<'t> {
    lines: Lines<'t>,
    pub(super) directory: &'t Path,
    /// What the TOML parser could not read.
    syntax: Vec<Mistake>,
    /// What is TOML and wrong.
    found: Vec<Mistake>,
}

/// A `[service.NAME]` as it was read; what was wrong is `None`.
struct FoundService {
    name: Option<Service>,
    shown: String,
    port: Option<(u16, Range<usize>)>,
    config: Option<ServiceConfig>,
}

impl Reader<'_> {
    fn root(&mut self, table: &DeTable<'_>) -> (TunnelConfig, BastionConfig, Vec<FoundService>) {
        let mut tunnel = None;
        let mut bastion = None;
        let mut services = Vec::new();
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "tunnel" => tunnel = self.table(key.get_ref(), value, "write [tunnel]"),
                "bastion" => bastion = self.table(key.get_ref(), value, "write [bastion]"),
                "service" => {
                    if let Some(table) = self.table(key.get_ref(), value, "write [service.NAME]") {
                        services.extend(table.iter().map(|(name, value)| self.service(name, value)));
                    }
                }
                name => self.unknown(name, key.span(), value, Table::Root, "at the top of the file"),
            }
        }
        let tunnel = self.tunnel(tunnel);
        self.clashes(&mut services, &tunnel);
        (tunnel, self.bastion(bastion), services)
    }

    fn tunnel(&mut self, table: Option<&DeTable<'_>>) -> TunnelConfig {
        const PLACE: &str = "[tunnel]";
        let (mut kind, mut aws, mut way) = (None, AwsConfig::default(), WayConfig::default());
        let (mut project_name, mut listen, mut staging_url) = (None, None, None);
        let mut remote = Vec::new();
        for (key, value) in table.into_iter().flat_map(|table| table.iter()) {
            let name = key.get_ref().as_ref();
            match name {
                "type" => kind = self.one_of(name, PLACE, value, &["local", "ec2"]),
                "region" => {
                    remote.push((name, key.span()));
                    aws.region = self.shaped(name, PLACE, value, is_region, "eu-west-1");
                }
                "instance_type" => {
                    remote.push((name, key.span()));
                    aws.instance_type = self.shaped(name, PLACE, value, is_instance_type, "t4g.nano");
                }
                "expected_vpc_id" => {
                    remote.push((name, key.span()));
                    aws.expected_vpc_id = self.parsed(name, PLACE, value, |text| Kind::Vpc.parse(text));
                }
                "project_name" => project_name = self.project_name(name, PLACE, value),
                "listen" => listen = self.listen(name, PLACE, value),
                "staging_url" => staging_url = self.staging_url(name, PLACE, value).map(|url| (url, value.span())),
                _ if way::KEYS.contains(&name) => {
                    remote.push((name, key.span()));
                    self.way(&mut way, name, PLACE, value);
                }
                _ => self.unknown(name, key.span(), value, Table::Tunnel, PLACE),
            }
        }
        self.way_fits(&way, PLACE, table.and_then(|table| table.get("transport")));
        let typed = table.is_some_and(|table| table.contains_key("type"));
        for (name, span) in remote.into_iter().filter(|_| !typed) {
            let what = format!("{name:?} in {PLACE} needs type = \"ec2\", and there is no type");
            self.wrong(
                span,
                what,
                Some("add type = \"ec2\", or type = \"local\" to keep it for later".into()),
            );
        }
        let kind = match kind {
            Some("ec2") => TunnelKind::Ec2,
            _ => TunnelKind::Local,
        };
        let listen = listen.unwrap_or(DEFAULT_LISTEN);
        let staging_url = staging_url.map(|(url, span)| {
            if kind == TunnelKind::Local && is_here(&url, listen) {
                let what = format!("\"staging_url\" in {PLACE} is where ephemwork itself listens ({listen})");
                self.wrong(span, what, Some("give the staging environment's address".into()));
            }
            url
        });
        let project_name = project_name.unwrap_or_else(|| super::project_name_of(self.directory));
        TunnelConfig {
            kind,
            aws,
            way,
            project_name,
            listen,
            staging_url,
        }
    }

    fn bastion(&mut self, table: Option<&DeTable<'_>>) -> BastionConfig {
        const PLACE: &str = "[bastion]";
        let mut bastion = BastionConfig::default();
        for (key, value) in table.into_iter().flat_map(|table| table.iter()) {
            let name = key.get_ref().as_ref();
            let mut id = |kind: Kind| self.parsed(name, PLACE, value, |text| kind.parse(text));
            match name {
                "ami_id" => bastion.ami_id = id(Kind::Image),
                "subnet_id" => bastion.subnet_id = id(Kind::Subnet),
                "alb_security_group_id" => bastion.alb_security_group_id = id(Kind::SecurityGroup),
                "expected_account_id" => bastion.expected_account_id = id(Kind::Account),
                "bastion_binary_s3_uri" => bastion.binary = self.parsed(name, PLACE, value, S3Uri::parse),
                "listener_arn" => bastion.listener_arn = self.parsed(name, PLACE, value, ListenerArn::parse),
                "eice" => bastion.eice = self.truth(name, PLACE, value),
                _ => self.unknown(name, key.span(), value, Table::Bastion, PLACE),
            }
        }
        bastion
    }

    fn service(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, value: &Value<'_>) -> FoundService {
        let text = name.get_ref().as_ref();
        let known_name = Service::parse(text);
        let shown = match &known_name {
            Ok(_) => format!("[service.{text}]"),
            Err(_) => format!("[service.{text:?}]"),
        };
        let mut found = FoundService {
            name: None,
            shown,
            port: None,
            config: None,
        };
        let Some(table) = value.get_ref().as_table() else {
            // `[service]` with a service's keys directly below it.
            let what = match known(Table::Service).contains(&text) {
                true => format!("{text:?} stands in [service], which has only tables"),
                false => format!("\"service.{text}\" must be a table, found {}", kind_of(value)),
            };
            self.wrong(name.span(), what, Some("write [service.NAME] above a service's keys".into()));
            return found;
        };
        match known_name {
            Ok(name) => found.name = Some(name),
            Err(why) => self.wrong(name.span(), format!("{text:?} is not a service name: {why}"), None),
        }
        found.config = self.service_keys(&mut found.port, &found.shown, name.span(), table);
        found
    }

    fn service_keys(
        &mut self,
        port: &mut Option<(u16, Range<usize>)>,
        place: &str,
        header: Range<usize>,
        table: &DeTable<'_>,
    ) -> Option<ServiceConfig> {
        let mut config = ServiceConfig {
            port: 0,
            bootstrap_command: None,
            build_command: None,
            run_command: None,
            health_check_path: None,
            protocol: Protocol::default(),
            host_header: super::HostHeader::default(),
            env: BTreeMap::new(),
            env_file: None,
            working_directory: self.directory.to_owned(),
            health_timeout: DEFAULT_HEALTH_TIMEOUT,
            stop_timeout: DEFAULT_STOP_TIMEOUT,
        };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            match name {
                "port" => *port = self.port(name, place, value).map(|port| (port, value.span())),
                "bootstrap_command" => config.bootstrap_command = self.command(name, place, value),
                "build_command" => config.build_command = self.command(name, place, value),
                "run_command" => config.run_command = self.command(name, place, value),
                "health_check_path" => config.health_check_path = self.health_check_path(name, place, value),
                "protocol" => {
                    if self.one_of(name, place, value, &["http1", "h2c"]) == Some("h2c") {
                        config.protocol = Protocol::H2c;
                    }
                }
                "host_header" => config.host_header = self.host_header(name, place, value),
                "env" => config.env = self.env(name, place, value),
                "env_file" => config.env_file = self.path(name, place, value),
                "working_directory" => {
                    if let Some(path) = self.path(name, place, value) {
                        config.working_directory = path;
                    }
                }
                "health_timeout_seconds" => {
                    if let Some(timeout) = self.timeout(name, place, value) {
                        config.health_timeout = timeout;
                    }
                }
                "stop_timeout_seconds" => {
                    if let Some(timeout) = self.timeout(name, place, value) {
                        config.stop_timeout = timeout;
                    }
                }
                _ => self.unknown(name, key.span(), value, Table::Service, place),
            }
        }
        let meant = |key: &str| keys::nearest(key, known(Table::Service)) == Some("port");
        if !table.keys().any(|key| meant(key.get_ref())) && self.syntax.is_empty() {
            let hint = "add the port on which it listens, as in port = 8000";
            self.wrong(header, format!("{place} has no \"port\""), Some(hint.into()));
        }
        config.port = port.as_ref()?.0;
        Some(config)
    }

    /// Two services on one port, or one on the edge's.
    fn clashes(&mut self, services: &mut [FoundService], tunnel: &TunnelConfig) {
        services.sort_by_key(|service| service.port.as_ref().map(|(_, span)| span.start));
        let mut taken: BTreeMap<u16, (&str, usize)> = BTreeMap::new();
        for service in services.iter() {
            let Some((port, span)) = &service.port else {
                continue;
            };
            if let Some((other, line)) = taken.get(port) {
                let what = format!("port {port} is already that of {other} (line {line})");
                self.wrong(span.clone(), what, Some("give each service its own".into()));
            } else if tunnel.kind == TunnelKind::Local && tunnel.listen.port() == *port {
                let what = format!(
                    "port {port} is where ephemwork itself listens (tunnel.listen, {})",
                    tunnel.listen
                );
                self.wrong(span.clone(), what, Some("change one of them".into()));
            }
            let line = self.lines.index(span.start) + 1;
            taken.entry(*port).or_insert((&service.shown, line));
        }
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, value: &Value<'_>, table: Table, place: &str) {
        let what = match (table, value.get_ref().is_table()) {
            (Table::Root, true) => format!("unknown table [{name}]"),
            (_, true) => format!("unknown table {name:?} in {place}"),
            (Table::Root, false) => format!("unknown key {name:?} {place}"),
            (_, false) => format!("unknown key {name:?} in {place}"),
        };
        let near = keys::nearest(name, known(table)).map(|near| format!("did you mean {near:?}?"));
        let hint = near.or_else(|| home(name).map(|home| format!("it belongs in {home}")));
        let hint = hint.unwrap_or_else(|| format!("known are {}", known(table).join(", ")));
        self.wrong(span, what, Some(hint));
    }

    pub(super) fn wrong(&mut self, span: Range<usize>, what: String, hint: Option<String>) {
        if self.found.len() < MAX_MISTAKES {
            self.found.push(self.lines.mistake(span, what, hint));
        }
    }

    /// Everything, in the file's order. Where the TOML parser had to guess, what follows from the guess is left out:
    /// the broken line itself, and behind a broken `[header]` everything up to the next one.
    fn mistakes(self) -> Vec<Mistake> {
        let Reader {
            lines, syntax, found, ..
        } = self;
        let broken: BTreeSet<usize> = syntax.iter().map(|mistake| mistake.line).collect();
        let headers: Vec<usize> = lines.headers();
        let guessed = |mistake: &Mistake| {
            let above = headers.partition_point(|&header| header <= mistake.line);
            let header = above.checked_sub(1).map(|last| headers[last]);
            broken.contains(&mistake.line) || header.is_some_and(|header| broken.contains(&header))
        };
        let found = found.into_iter().filter(|mistake| !guessed(mistake));
        let mut all: Vec<Mistake> = found.chain(syntax.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The parser's message, the frequent ones in words of ours; `covered` is the text that it marks.
fn not_toml(message: &str, covered: &str) -> String {
    let ours = match message {
        "duplicate key" => format!("{covered:?} stands twice"),
        _ if message.starts_with("string values must be quoted") && covered.trim().is_empty() => {
            "a value is missing behind '='".into()
        }
        _ if message.starts_with("string values must be quoted") => format!("text must stand in quotes: {covered:?}"),
        _ if message.starts_with("invalid basic string, expected `\"`") => "the closing '\"' is missing".into(),
        _ if message.starts_with("invalid literal string, expected `'`") => "the closing \"'\" is missing".into(),
        _ if message.starts_with("invalid multi-line basic string, expected") => "the closing '\"\"\"' is missing".into(),
        _ if message.starts_with("unclosed table") => "the closing ']' is missing behind the table's name".into(),
        _ if message.starts_with("key with no value") => "a key must be followed by '=' and its value".into(),
        _ => message.to_owned(),
    };
    format!("this is not TOML: {ours}")
}

/// `eu-west-1`, `us-gov-west-1`: groups of letters and a number at the end.
pub(crate) fn is_region(text: &str) -> bool {
    let mut groups: Vec<&str> = text.split('-').collect();
    let number = groups.pop().unwrap_or_default();
    let digits = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let words = groups
        .iter()
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_lowercase()));
    digits && words && (2..=4).contains(&groups.len())
}

/// `t4g.nano`, `u-6tb1.56xlarge`, `m7i.metal-24xl`: a family and a size.
fn is_instance_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let family = |text: &str| part(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    text.len() <= 32 && text.split_once('.').is_some_and(|(name, size)| family(name) && part(size))
}

fn is_here(url: &StagingUrl, listen: SocketAddr) -> bool {
    let loopback = url.host == "localhost" || url.host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    loopback && url.port == listen.port()
}
