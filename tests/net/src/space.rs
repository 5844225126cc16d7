//! Four network namespaces: a laptop, a bastion and a client, and a router between them on whose links faults are put.
//!
//! Their names have this process' number in them. Everything goes when the owner is dropped; what a killed run left goes at the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::process::{self, run};

/// Before the process' number in every name.
const PREFIX: &str = "ephnet";

/// The laptop's first address, and the one that it moves to.
pub(crate) const LAPTOP: [&str; 2] = ["10.77.1.2", "10.77.1.3"];
/// Where bastiond listens.
pub(crate) const BASTION: &str = "10.77.2.2";
/// AWS and the name server, which stand at the router.
pub(crate) const ELSEWHERE: &str = "10.77.1.1";

/// Who has a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Laptop,
    Bastion,
    Client,
    Router,
}

/// Each with the letter of its namespace, its network's third byte, and its link's name at the router.
const HOSTS: [(Host, &str, u8, &str); 3] = [
    (Host::Laptop, "l", 1, "to-laptop"),
    (Host::Bastion, "b", 2, "to-bastion"),
    (Host::Client, "c", 3, "to-client"),
];

/// The counters of the packets that begin a connection to the bastion, and of all between laptop and bastion.
const ATTEMPTS: &str = "attempts";
const PACKETS: &str = "through";

/// Both ways between laptop and bastion: the links at the router, and the network that the second leads to.
const NARROW: [(&str, &str, &str); 2] = [
    ("to-laptop", "to-bastion", "10.77.2.0/24"),
    ("to-bastion", "to-laptop", "10.77.1.0/24"),
];

/// The namespaces of this process.
#[derive(Debug)]
pub(crate) struct Space {
    number: u32,
}

/// What is missing here, in words; `None` where namespaces can be made.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("root".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("ss", "iproute2"), ("nft", "nftables")] {
        if find(program).is_none() {
            return Some(format!("{program} (package {package})"));
        }
    }
    let name = format!("{PREFIX}{}-probe", std::process::id());
    let made = run("ip", &["netns", "add", &name]);
    let tried = made.and_then(|_| {
        let table = "add table inet f; add chain inet f way { type filter hook forward priority 0; }";
        run("ip", &["netns", "exec", &name, &nft(), table])
    });
    run("ip", &["netns", "del", &name]).ok();
    tried.err().map(|why| format!("the right to make network namespaces ({why})"))
}

/// Where a program of the system is; /usr/sbin is not in everybody's PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.exists())
}

fn nft() -> String {
    find("nft").unwrap_or_default().display().to_string()
}

impl Space {
    /// Makes them, and removes those of runs that were killed.
    pub(crate) fn make() -> Result<Space, String> {
        sweep();
        let space = Space {
            number: std::process::id(),
        };
        // What is there of it goes with it when something fails.
        space.build()?;
        Ok(space)
    }

    fn build(&self) -> Result<(), String> {
        let router = self.name(Host::Router);
        run("ip", &["netns", "add", &router])?;
        self.exec(Host::Router, &["ip", "link", "set", "lo", "up"])?;
        for (host, _, net, link) in HOSTS {
            let name = self.name(host);
            run("ip", &["netns", "add", &name])?;
            let pair = [
                "link", "add", "eth0", "netns", &name, "type", "veth", "peer", "name", link, "netns", &router,
            ];
            run("ip", &pair)?;
            let (here, gateway) = (format!("10.77.{net}.2/24"), format!("10.77.{net}.1"));
            for line in [
                &["ip", "link", "set", "lo", "up"][..],
                &["ip", "link", "set", "eth0", "up"],
                &["ip", "addr", "add", &here, "dev", "eth0"],
                &["ip", "route", "add", "default", "via", &gateway],
            ] {
                self.exec(host, line)?;
            }
            let there = format!("{gateway}/24");
            self.exec(Host::Router, &["ip", "link", "set", link, "up"])?;
            self.exec(Host::Router, &["ip", "addr", "add", &there, "dev", link])?;
        }
        self.exec(
            Host::Router,
            &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"],
        )?;
        self.nft("add table inet f; add chain inet f way { type filter hook forward priority 0; }")?;
        // Before any fault, so that attempts count that get nowhere.
        self.nft(&format!(
            "add counter inet f {ATTEMPTS}; add counter inet f {PACKETS}; \
             add chain inet f before {{ type filter hook forward priority -10; }}; \
             add rule inet f before iifname to-laptop tcp dport 2222 tcp flags & (syn|ack) == syn counter name {ATTEMPTS}; \
             add rule inet f before tcp dport 2222 counter name {PACKETS}; \
             add rule inet f before tcp sport 2222 counter name {PACKETS}"
        ))?;
        let directory = self.etc();
        fs::create_dir_all(&directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        let resolv = format!("nameserver {ELSEWHERE}\noptions timeout:1 attempts:2\n");
        fs::write(directory.join("resolv.conf"), resolv).map_err(|why| why.to_string())
    }

    /// What `ip netns exec` shows the laptop of /etc.
    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(self.name(Host::Laptop))
    }

    /// A name for what else there is once a process.
    pub(crate) fn label(&self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    fn name(&self, host: Host) -> String {
        let letter = HOSTS.iter().find(|(other, ..)| *other == host);
        format!("{PREFIX}{}-{}", self.number, letter.map_or("r", |(_, letter, ..)| letter))
    }

    /// A program in a namespace; it keeps the number of the process that is started.
    pub(crate) fn command(&self, host: Host, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }

    /// Runs a program of the system in a namespace to its end.
    pub(crate) fn exec(&self, host: Host, line: &[&str]) -> Result<String, String> {
        let program = find(line[0]).ok_or_else(|| format!("{} is not installed", line[0]))?;
        let program = program.display().to_string();
        let name = self.name(host);
        let mut arguments = vec!["netns", "exec", &name, &program];
        arguments.extend(&line[1..]);
        run("ip", &arguments)
    }

    /// Rules of the router.
    pub(crate) fn nft(&self, rules: &str) -> Result<(), String> {
        self.exec(Host::Router, &["nft", rules]).map(drop)
    }

    /// Adds one for what is forwarded.
    pub(crate) fn rule(&self, rule: &str) -> Result<(), String> {
        self.nft(&format!("add rule inet f way {rule}"))
    }

    /// How many packets of the laptop tried to connect to the bastion.
    pub(crate) fn attempts(&self) -> Result<u64, String> {
        self.counted(ATTEMPTS)
    }

    /// How many packets of the tunnel came to the router.
    pub(crate) fn packets(&self) -> Result<u64, String> {
        self.counted(PACKETS)
    }

    fn counted(&self, counter: &str) -> Result<u64, String> {
        let text = self.exec(Host::Router, &["nft", "list", "counter", "inet", "f", counter])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        let count = words.nth(1).and_then(|count| count.parse().ok());
        count.ok_or_else(|| format!("no counter in {text:?}"))
    }

    /// Between laptop and bastion only packets of 1,300 bytes and less get through, and the router does not tell.
    pub(crate) fn narrow(&self) -> Result<(), String> {
        self.nft(
            "add table inet quiet; add chain inet quiet out { type filter hook output priority 0; }; \
             add rule inet quiet out icmp type destination-unreachable drop",
        )?;
        for (from, to, net) in NARROW {
            let route = ["ip", "route", "add", net, "dev", to, "mtu", "lock", "1300", "table", "78"];
            self.exec(Host::Router, &route)?;
            self.exec(Host::Router, &["ip", "rule", "add", "iif", from, "to", net, "lookup", "78"])?;
        }
        Ok(())
    }

    /// Everything gets through again.
    pub(crate) fn wide(&self) -> Result<(), String> {
        for (from, _, net) in NARROW {
            self.exec(Host::Router, &["ip", "rule", "del", "iif", from, "to", net, "lookup", "78"])?;
            self.exec(Host::Router, &["ip", "route", "del", net, "table", "78"])?;
        }
        self.nft("delete table inet quiet")
    }

    /// Forwards everything again.
    pub(crate) fn clear(&self) -> Result<(), String> {
        self.nft("flush chain inet f way")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        remove(&format!("{PREFIX}{}-", self.number));
    }
}

/// Removes what runs that do not live any more have left.
fn sweep() {
    let listed = run("ip", &["netns", "list"]).unwrap_or_default();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some((number, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if number.parse::<u32>().is_ok() && !Path::new("/proc").join(number).exists() {
            remove(&format!("{PREFIX}{number}-"));
        }
    }
}

/// Removes all namespaces whose names begin so, with what runs in them.
fn remove(beginning: &str) {
    let listed = run("ip", &["netns", "list"]).unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| name.starts_with(beginning)) {
        let pids = run("ip", &["netns", "pids", name]).unwrap_or_default();
        let pids = pids.lines().filter_map(|line| line.trim().parse().ok());
        pids.for_each(|pid| process::signal_to(pid, Signal::KILL));
        run("ip", &["netns", "del", name]).ok();
        fs::remove_dir_all(Path::new("/etc/netns").join(name)).ok();
    }
    // Only when nobody else has one.
    fs::remove_dir("/etc/netns").ok();
}
