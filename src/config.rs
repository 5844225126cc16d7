//! ephemwork.toml: its text becomes a [`Config`] that is valid, or all of its [`Mistake`]s at once.
//!
//! Pure: the caller reads the file, and whether a directory or an env file exists is found out by whoever uses it.
//! A file without any service is not a mistake: `status` and `down` need none, and `up SERVICE` says by itself that
//! the service is not there.

mod aws;
mod flat;
mod keys;
mod mistake;
mod read;
mod url;
mod values;
mod way;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use aws::{BadAws, Kind, ListenerArn, S3Uri};
pub(crate) use flat::flat;
pub(crate) use keys::nearest;
pub use keys::{Table, known};
pub use mistake::{Mistake, failure, render};
pub(crate) use read::is_region;
pub use url::{BadUrl, Scheme, StagingUrl};
pub(crate) use way::host_key;
pub use way::{HostKey, Lanes, TransportKind, Transports, WayConfig};

use crate::name::Service;

/// What the file is called.
pub const FILE: &str = "ephemwork.toml";

/// The longest file that is read, in bytes. A thousand services with long commands fit; a file given by mistake
/// (a log, a disk image) is refused before it costs memory and time.
pub const MAX_BYTES: usize = 1 << 20;

/// How many directories [`find`] looks into at most; deeper trees are symbolic link loops.
const MAX_LEVELS: usize = 128;

/// Where local mode's edge listens when `tunnel.listen` is not given.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

/// How long a service may take until it is healthy when `health_timeout_seconds` is not given: a bundler's first
/// build or a JVM's start takes tens of seconds.
pub const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a service may take to stop when `stop_timeout_seconds` is not given; Docker and Kubernetes users know 10 s to 30 s.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The range of both timeouts, in seconds; more than an hour is a typing error.
pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// The longest `tunnel.project_name`, in bytes. Names of AWS resources are made of it, and the shortest of their
/// limits (64, an IAM role) must also hold our own prefix and suffix.
pub const MAX_PROJECT_NAME: usize = 32;

/// A valid ephemwork.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from, as it was given to [`parse`].
    pub file: PathBuf,
    /// The file's directory, to which the paths in it are relative.
    pub directory: PathBuf,
    /// `[tunnel]`.
    pub tunnel: TunnelConfig,
    /// `[bastion]`: what `ephemwork bastion` makes in AWS.
    pub bastion: BastionConfig,
    /// Every `[service.NAME]`; may be empty.
    pub services: BTreeMap<Service, ServiceConfig>,
}

/// `[tunnel]`: how requests come to the laptop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// `type`.
    pub kind: TunnelKind,
    /// Where the bastion is and on what it runs; for `local` it is kept for later.
    pub aws: AwsConfig,
    /// How it is reached there; for `local` it is kept for later.
    pub way: WayConfig,
    /// `project_name`: lower case letters, digits and `-`, 1 to [`MAX_PROJECT_NAME`] bytes.
    pub project_name: String,
    /// `listen`: a loopback address with a port that is not 0.
    pub listen: SocketAddr,
    /// `staging_url`: where untagged requests go in local mode.
    pub staging_url: Option<StagingUrl>,
}

/// `tunnel.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// The bastion is on this machine; the default.
    Local,
    /// The bastion is an EC2 instance.
    Ec2,
}

/// What `[tunnel]` says of AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// `region`, shaped like `eu-west-1`; the AWS profile's when absent.
    pub region: Option<String>,
    /// `instance_type`, shaped like `t4g.nano`.
    pub instance_type: Option<String>,
    /// `expected_vpc_id`: nothing is written when the bastion would stand in another one.
    pub expected_vpc_id: Option<String>,
}

/// `[bastion]`; what is absent is discovered, or not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BastionConfig {
    /// `ami_id`: the image; AWS's newest Amazon Linux 2023 when absent.
    pub ami_id: Option<String>,
    /// `subnet_id`: where the instance stands.
    pub subnet_id: Option<String>,
    /// `alb_security_group_id`: the load balancer's group, which alone may reach the bastion's edge.
    pub alb_security_group_id: Option<String>,
    /// `bastion_binary_s3_uri`: what the instance runs.
    pub binary: Option<S3Uri>,
    /// `listener_arn`: where the rules are made; without it the team makes them.
    pub listener_arn: Option<ListenerArn>,
    /// `eice`: whether an EC2 Instance Connect Endpoint may reach the bastion's SSH; what is there stays when absent.
    pub eice: Option<bool>,
    /// `expected_account_id`: nothing is written in another account.
    pub expected_account_id: Option<String>,
}

/// One `[service.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where the service listens on the laptop; not 0, and no other service of the file has it.
    pub port: u16,
    /// Run first of the three, once for each `up` (start a database, install a tool).
    pub bootstrap_command: Option<String>,
    /// Run second, once for each `up`.
    pub build_command: Option<String>,
    /// The service itself; without it only `up --no-run` works.
    pub run_command: Option<String>,
    /// Asked until it answers 2xx or 3xx; starts with `/`.
    pub health_check_path: Option<String>,
    /// What the service speaks.
    pub protocol: Protocol,
    /// The `Host` of the requests that it gets.
    pub host_header: HostHeader,
    /// Set for all three commands.
    pub env: BTreeMap<String, String>,
    /// A file of `NAME=value` lines to set as well; absolute if the config file's path is.
    pub env_file: Option<PathBuf>,
    /// Where the commands run; absolute if the config file's path is.
    pub working_directory: PathBuf,
    /// How long it may take until it is healthy.
    pub health_timeout: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
}

/// `service.X.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `"http1"`: HTTP/1.1, the default.
    #[default]
    Http1,
    /// `"h2c"`: HTTP/2 without TLS and with prior knowledge, as gRPC servers speak it.
    H2c,
}

/// `service.X.host_header`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// `"keep"`: as the client sent it, the default.
    #[default]
    Keep,
    /// `"local"`: `localhost:PORT`, which every development server takes.
    Local,
    /// This host, with a port if it has one.
    Value(String),
}

/// Reads a whole ephemwork.toml. `file` names it in messages and is what its paths are relative to; it is not opened.
///
/// # Errors
/// Every mistake, by line and column.
pub fn parse(text: &str, file: &Path) -> Result<Config, Vec<Mistake>> {
    read::config(text, file)
}

/// The nearest [`FILE`] in `start` or a directory above it.
pub fn find(start: &Path, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    start
        .ancestors()
        .take(MAX_LEVELS)
        .map(|directory| directory.join(FILE))
        .find(|file| exists(file))
}

/// A directory's name made fit to be a project name: `My Shop_2` becomes `my-shop-2`; `project` when nothing is left.
pub fn project_name_of(directory: &Path) -> String {
    let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    fit(&name)
}

/// Lower case, `-` for every run of other characters, none at either end, cut to [`MAX_PROJECT_NAME`].
pub(crate) fn fit(text: &str) -> String {
    let mut fitting = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if fitting.len() == MAX_PROJECT_NAME {
            break;
        }
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            fitting.push(c);
        } else if !fitting.is_empty() && !fitting.ends_with('-') {
            fitting.push('-');
        }
    }
    let fitting = fitting.trim_end_matches('-');
    if fitting.is_empty() {
        "project".to_owned()
    } else {
        fitting.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_walking_up() {
        let check = |start: &str, there: &str, expected: Option<&str>| {
            let found = find(Path::new(start), |file| file == Path::new(there));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{start} {there}");
        };
        check("/a/b/c", "/a/b/c/ephemwork.toml", Some("/a/b/c/ephemwork.toml"));
        check("/a/b/c", "/a/ephemwork.toml", Some("/a/ephemwork.toml"));
        check("/a/b/c", "/ephemwork.toml", Some("/ephemwork.toml"));
        check("/a/b/c", "/a/x/ephemwork.toml", None);
        check("/a/b", "/a/b/c/ephemwork.toml", None);
    }

    #[test]
    fn project_names() {
        let check = |directory: &str, expected: &str| {
            assert_eq!(project_name_of(Path::new(directory)), expected, "{directory}");
        };
        check("/", "project");
        check("/home/alice/shop", "shop");
        check("/home/alice/My Shop_2", "my-shop-2");
        check("/home/alice/--", "project");
        check("/home/alice/日本", "project");
        check("/home/alice/日本-app.v2.", "app-v2");
        check(&format!("/{}", "ab-".repeat(20)), "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab");
    }

    #[test]
    fn the_first_example_loads() {
        let text = "[tunnel]\ntype = \"ec2\"\nregion = \"us-east-1\"\ninstance_type = \"t4g.nano\"\n\
            [service.api]\nport = 8000\nbuild_command = \"uv sync\"\n\
            run_command = \"uvicorn app.main:app --host 0.0.0.0 --port 8000 --reload\"\nhealth_check_path = \"/health\"\n\
            [service.front-end]\nport = 5173\nrun_command = \"npm run dev\"\n";
        let config = parse(text, Path::new("/home/alice/Shop/ephemwork.toml")).unwrap();
        assert_eq!(config.tunnel.kind, TunnelKind::Ec2);
        assert_eq!(config.tunnel.aws.region.as_deref(), Some("us-east-1"));
        assert_eq!(config.tunnel.aws.instance_type.as_deref(), Some("t4g.nano"));
        assert_eq!(config.tunnel.project_name, "shop");
        assert_eq!(config.tunnel.listen, DEFAULT_LISTEN);
        let api = &config.services[&Service::parse("api").unwrap()];
        assert_eq!(api.port, 8000);
        assert_eq!(api.health_check_path.as_deref(), Some("/health"));
        assert_eq!(api.working_directory, Path::new("/home/alice/Shop"));
        assert_eq!(api.health_timeout, DEFAULT_HEALTH_TIMEOUT);
        let front_end = &config.services[&Service::parse("front-end").unwrap()];
        assert_eq!(front_end.run_command.as_deref(), Some("npm run dev"));
        assert_eq!(front_end.protocol, Protocol::Http1);
    }
}
