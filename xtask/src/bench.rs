//! `cargo xtask bench`: ephemwork beside the architecture it replaces, in one run on one machine.
//!
//! Both sides get the same load and tunnel to the same service ([`load`], [`service`]); rounds are interleaved, so that whatever
//! else the machine does falls on all alike, and medians are compared. What is compared is in [`parts`], the goals are in
//! [`report`]. It never leaves this machine.

pub(crate) mod endure;
mod faults;
mod histogram;
pub(crate) mod lane;
mod load;
mod parts;
mod peer;
mod process;
mod product;
mod report;
pub(crate) mod service;
mod ssm;
mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use argh::FromArgs;
use ephemwork::host::Host;
use ephemwork::rt;
use ephemwork_net::Form;
use serde_json::json;

use process::Running;
use product::{Product, Programs};
use report::Report;

/// measure against nginx + OpenSSH, side by side: `cargo xtask bench`, or `cargo xtask bench --quick --only requests`;
/// `cargo xtask bench ssm` measures the way through Session Manager instead, `cargo xtask bench faults` what clients see of faults,
/// and `cargo xtask bench load` is half an hour of mixed traffic and faults
#[derive(FromArgs)]
#[argh(subcommand, name = "bench")]
pub(crate) struct Arguments {
    /// ssm: the way through Session Manager, against a double with the real agent's pace; faults: what clients see while things
    /// fail, in network namespaces (as root; EPHEMWORK_NET_LONG=1 for those that take minutes); load: traffic, faults and a crowd
    #[argh(positional)]
    way: Option<String>,
    /// a minute instead of some five: fewer and shorter rounds, and no more than 100 idle tunnels; load: 2 minutes and a crowd of 200
    #[argh(switch)]
    quick: bool,
    /// load: minutes of traffic and faults (default 30, with --quick 2)
    #[argh(option)]
    minutes: Option<f64>,
    /// load: users (default 50)
    #[argh(option, default = "50")]
    users: usize,
    /// load: services of each user (default 4)
    #[argh(option, default = "4")]
    services: usize,
    /// load: a number that makes the same faults and requests again
    #[argh(option)]
    seed: Option<u64>,
    /// one part: requests, bulk, beside, syscalls, idle or flat; of ssm: down, up or beside; of faults: a part of a name; of load:
    /// mixed or crowd (repeatable)
    #[argh(option)]
    only: Vec<String>,
    /// nginx's worker_processes (default auto)
    #[argh(option, default = "\"auto\".to_owned()")]
    nginx_workers: String,
    /// the ephemwork executable to measure; without it both programs are built with the profile `bench` first
    #[argh(option)]
    ephemwork: Option<PathBuf>,
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// As in the report.
    pub name: &'static str,
    /// Where requests go.
    pub edge: SocketAddr,
    /// With which tag.
    pub tag: String,
    /// Its processes on the bastion, each with all descendants.
    pub bastion: Vec<u32>,
    /// Its processes on the laptop.
    pub laptop: Vec<u32>,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    /// Interleaved rounds.
    pub rounds: usize,
    /// One measurement of a rate.
    pub slice: Duration,
    /// Requests under strace.
    pub traced: u64,
    /// Requests over which memory stays flat.
    pub many: u64,
    /// Aborted ones, likewise.
    pub aborted: u64,
    /// Idle tunnels.
    pub idle: &'static [usize],
    /// Idle tunnels of the peer, which needs a process each and three on the bastion.
    pub peer_idle: &'static [usize],
}

const FULL: Tempo = Tempo {
    rounds: 5,
    slice: Duration::from_secs(2),
    traced: 2000,
    many: 100_000,
    aborted: 10_000,
    idle: &[1, 100, 1000],
    peer_idle: &[1, 100, 1000],
};

const QUICK: Tempo = Tempo {
    rounds: 2,
    slice: Duration::from_millis(700),
    traced: 500,
    many: 20_000,
    aborted: 1000,
    idle: &[1, 100],
    peer_idle: &[1, 20],
};

/// What [`Arguments::only`] may name.
const PARTS: &[&str] = &["requests", "bulk", "beside", "syscalls", "idle", "flat"];

/// What [`Arguments::way`] may be.
const SSM: &str = "ssm";
const LOAD: &str = "load";
const FAULTS: &str = "faults";

pub(crate) fn main(host: &Host, arguments: &Arguments) -> Result<(), String> {
    let parts: Vec<&str> = match arguments.way.as_deref() {
        None => PARTS.to_vec(),
        Some(SSM) => ssm::PARTS.to_vec(),
        Some(LOAD) => endure::PARTS.to_vec(),
        Some(FAULTS) => ephemwork_net::FAULTS.iter().map(|fault| fault.name).collect(),
        Some(unknown) => {
            return Err(format!(
                "there is no way {unknown:?} to measure; there are {SSM}, {FAULTS} and {LOAD}"
            ));
        }
    };
    let fits = |only: &String| match arguments.way.as_deref() {
        Some(FAULTS) => parts.iter().any(|part| part.contains(only.as_str())),
        _ => parts.contains(&only.as_str()),
    };
    if let Some(unknown) = arguments.only.iter().find(|only| !fits(only)) {
        return Err(format!("there is no part {unknown:?}; there are {}", parts.join(", ")));
    }
    if !cfg!(target_os = "linux") {
        return Err("the benchmark reads /proc and runs on Linux only".to_owned());
    }
    match &arguments.ephemwork {
        None => build_and_become(host),
        Some(ephemwork) => {
            let programs = Programs {
                ephemwork: host.directory.join(ephemwork),
                xtask: host.executable.clone(),
            };
            let directory = PathBuf::from(host.variable("TMPDIR").unwrap_or("/tmp"));
            let directory = directory.join(format!("ephemwork-bench-{}", std::process::id()));
            clean_up_on_every_way_out(&directory)?;
            let result = match arguments.way.as_deref() {
                Some(LOAD) => endure(arguments, &programs, &directory),
                Some(FAULTS) => measure_faults(host, arguments, &programs, &directory),
                Some(_) => measure_ssm(arguments, &programs, &directory),
                None => measure(arguments, &programs, &directory),
            };
            fs::remove_dir_all(&directory).ok();
            result
        }
    }
}

/// Builds both programs as they are to be measured, and replaces this process by the one that measures.
fn build_and_become(host: &Host) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    println!("building with --profile bench");
    let mut build = Command::new("cargo");
    build
        .current_dir(crate::top())
        .args(["build", "--profile", "bench", "--locked", "--workspace", "--bins"]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = build.output().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if !output.status.success() {
        return Err("the build failed".to_owned());
    }
    let built = |name: &str| {
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let messages = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let found = messages
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(str::to_owned));
        found.ok_or_else(|| format!("cargo built no {name}"))
    };
    let mut become_it = Command::new(built("xtask")?);
    become_it.args(&host.arguments).args(["--ephemwork", &built("ephemwork")?]);
    Err(format!("the benchmark cannot be started: {}", become_it.exec()))
}

/// A signal and a panic end all children too; what returns ends its own.
fn clean_up_on_every_way_out(directory: &Path) -> Result<(), String> {
    let directory = directory.to_owned();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        process::end_all();
    }));
    let watcher = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let signalled = rt::block_on(async { Some(rt::Signals::new().ok()?.next().await) });
        if let Ok(Some(_)) = signalled {
            process::end_all();
            fs::remove_dir_all(&directory).ok();
            #[allow(
                clippy::disallowed_methods,
                reason = "the measuring thread cannot be told to return; its children have ended"
            )]
            std::process::exit(130);
        }
    });
    watcher.map(drop).map_err(|why| format!("no thread for signals: {why}"))
}

/// Measures, and reports what was measured also when a part could not be.
fn measure(arguments: &Arguments, programs: &Programs, directory: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let result = measure_into(arguments, programs, directory, &mut report);
    if let Err(why) = &result {
        report.skip(&format!("the rest: {why}"));
    }
    println!("\n{}", report.table());
    save("", &report.json(about(arguments)))?;
    result
}

/// The way through Session Manager.
fn measure_ssm(arguments: &Arguments, programs: &Programs, directory: &Path) -> Result<(), String> {
    let (_service, address) = start_service(programs)?;
    let about = about(arguments);
    let order = ssm::Order {
        quick: arguments.quick,
        only: &arguments.only,
        ephemwork: &programs.ephemwork,
        service: address,
        directory,
    };
    let (document, result) = ssm::measure(&order, &about);
    save("ssm-", &document)?;
    result
}

/// Traffic, faults and a crowd.
fn endure(arguments: &Arguments, programs: &Programs, directory: &Path) -> Result<(), String> {
    let about = about(arguments);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (minutes, laptops, idle_clients) = if arguments.quick {
        (2.0, 200, 1000)
    } else {
        (30.0, 1000, 10_000)
    };
    let order = endure::Order {
        minutes: arguments.minutes.unwrap_or(minutes),
        users: arguments.users,
        services: arguments.services,
        laptops,
        idle_clients,
        idle: Duration::from_secs(if arguments.quick { 3 } else { 60 }),
        seed: arguments.seed.unwrap_or(now.as_secs()),
        only: &arguments.only,
        directory,
    };
    let (document, result) = endure::run(&order, programs, &about);
    save("load-", &document)?;
    result
}

/// What clients see of faults.
fn measure_faults(host: &Host, arguments: &Arguments, programs: &Programs, directory: &Path) -> Result<(), String> {
    let long = host.variable("EPHEMWORK_NET_LONG").is_some();
    let order = faults::Order {
        form: match (arguments.quick, long) {
            (true, _) => Form::Short,
            (false, false) => Form::Full,
            (false, true) => Form::Long,
        },
        only: &arguments.only,
        ephemwork: &programs.ephemwork,
        helper: &programs.ephemwork.with_file_name("ephemwork-net"),
        directory,
    };
    let (document, result) = faults::measure(&order, &about(arguments));
    save("faults-", &document)?;
    result
}

fn start_service(programs: &Programs) -> Result<(Running, SocketAddr), String> {
    let mut start = Command::new(&programs.xtask);
    let mut service = Running::start("the service", start.arg("bench-service").stdout(Stdio::piped()))?;
    let address = service.ready_line()?;
    let address = address
        .parse()
        .map_err(|why| format!("the service's address {address:?}: {why}"))?;
    Ok((service, address))
}

fn measure_into(arguments: &Arguments, programs: &Programs, directory: &Path, report: &mut Report) -> Result<(), String> {
    let tempo = if arguments.quick { QUICK } else { FULL };
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let (service, address) = start_service(programs)?;
    let direct = System {
        name: report::DIRECT,
        edge: address,
        tag: "alice:api".to_owned(),
        bastion: vec![service.pid()],
        laptop: Vec::new(),
    };
    let product = Product::start(&directory.join("product"), address, programs)?;
    let peer = match peer::missing() {
        None => Some(peer::Peer::start(&directory.join("peer"), address, &arguments.nginx_workers)?),
        Some(missing) => {
            report.skip(&format!("nginx and OpenSSH: {missing}"));
            None
        }
    };
    let mut systems = vec![product.system()];
    systems.extend(peer.iter().flat_map(peer::Peer::systems));
    let say = |part: &str| println!("{part} ...");
    if wanted("requests") {
        say("1 KiB requests at concurrency 1, 16, 64");
        parts::requests(&systems, &direct, &tempo, report)?;
    }
    if wanted("bulk") {
        say("200 MB down and up");
        parts::bulk(&systems, &direct, &tempo, report)?;
    }
    if wanted("beside") {
        say("small requests beside two downloads");
        parts::beside_bulk(&systems, &tempo, report)?;
    }
    if wanted("syscalls") {
        say("system calls");
        parts::syscalls(&systems, &tempo, directory, report)?;
    }
    if wanted("flat") {
        say("memory over many requests and many aborted ones");
        parts::flat(&product.system(), &tempo, report)?;
    }
    drop(product);
    if wanted("idle") {
        say("idle tunnels");
        let product = Product::start(&directory.join("idle"), address, programs)?;
        parts::idle(product::NAME, &product.system().bastion, tempo.idle, report, |count, held| {
            product.idle(count, held)
        })?;
        if let Some(peer) = &peer {
            parts::idle(peer::STOCK, &[peer.sshd()], tempo.peer_idle, report, |count, _| {
                peer.idle(count)
            })?;
        }
    }
    Ok(())
}

/// When, with what, and where something was measured.
fn about(arguments: &Arguments) -> serde_json::Value {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([':', '\t', ' ']));
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    json!({
        "date": now,
        "quick": arguments.quick,
        "program": ephemwork::version("ephemwork"),
        "nginx": first_line("/usr/sbin/nginx", "-v"),
        "openssh": first_line("ssh", "-V"),
        "cpu": cpu,
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "tcp_congestion_control": fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok().map(|text| text.trim().to_owned()),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
    })
}

/// Keeps a document with its `about.date` in its name.
fn save(kind: &str, document: &serde_json::Value) -> Result<(), String> {
    let date = document["about"]["date"].as_str().unwrap_or_default().replace(':', "-");
    let directory = crate::top().join("target/bench");
    let file = directory.join(format!("{kind}{date}.json"));
    let text = serde_json::to_string_pretty(document).map_err(|why| why.to_string())?;
    let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&file, text + "\n"));
    written.map_err(|why| format!("{}: {why}", file.display()))?;
    println!("written to {}", file.display());
    Ok(())
}
