//! A crowd: a thousand laptops, ten thousand idle clients, and all laptops back at once after each way in which the bastion can end.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::chance::Chance;
use super::client::{Client, Fate, Kind};
use super::daemon::{Daemon, lasting};
use super::{Order, Report};
use crate::bench::lane;
use crate::bench::process::{self, Running, pause};
use crate::bench::product::Programs;

/// How long a thousand may take to come, on a busy machine with two cores and a debug build.
const ALL_THERE: Duration = Duration::from_secs(180);

/// Descriptors that this process and the daemon need beside a laptop's two and a client's one.
const SPARE: u64 = 512;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

struct Crowd {
    daemon: Daemon,
    laptops: Running,
    _services: Running,
    status: PathBuf,
    count: usize,
}

/// What the laptops' process says of them.
#[derive(Clone, Debug, Default)]
struct Status {
    standing: usize,
    attempts: u64,
    turned_away: u64,
    why: String,
}

pub(super) fn run(order: &Order<'_>, programs: &Programs, report: &mut Report) -> Result<(), String> {
    let clients = descriptors(order.laptops, order.idle_clients)?;
    let mut crowd = Crowd::start(order, programs)?;
    let empty = process::own_memory(crowd.daemon.pid()).unwrap_or_default();
    let mut rows: Vec<(String, String)> = Vec::new();
    println!("{} laptops ...", crowd.count);
    let took = crowd.all_there(0)?;
    let with_laptops = process::own_memory(crowd.daemon.pid()).unwrap_or_default();
    rows.push((
        format!("{} laptops connect", crowd.count),
        format!(
            "{:.1} s; {:.0} MiB, {:.0} KiB each",
            took.as_secs_f64(),
            with_laptops,
            (with_laptops - empty) * 1024.0 / crowd.count as f64
        ),
    ));
    println!("{clients} idle clients ...");
    let idle = crowd.idle(clients, order.idle, order.seed)?;
    rows.push((
        format!(
            "{clients} idle clients, each with an answer before and another after {} s",
            order.idle.as_secs()
        ),
        format!(
            "{:.1} KiB and {:.1} descriptors each",
            (idle.memory - with_laptops) * 1024.0 / clients as f64,
            idle.descriptors / clients as f64
        ),
    ));
    let mut bursts = Vec::new();
    for (name, end) in [
        (
            "killed (-9) and started",
            Daemon::kill as fn(&mut Daemon) -> Result<(), String>,
        ),
        ("drained (SIGTERM) and started", Daemon::end),
    ] {
        println!("bastiond {name} ...");
        let burst = crowd.burst(end)?;
        let text = format!(
            "all {} back {:.2} s after it serves again; {} of {} logins refused",
            crowd.count, burst.seconds, burst.refused, burst.logins
        );
        rows.push((format!("bastiond {name}"), text.clone()));
        report.demand(&format!("bastiond {name}: {text}: {}", burst.why), burst.refused == 0);
        bursts.push(json!({"after": name, "seconds": burst.seconds, "refused": burst.refused, "logins": burst.logins}));
    }
    let well = crowd.spot_check(order.seed)?;
    rows.push((
        "then a request to each tag".to_owned(),
        format!("{well} of {} whole", crowd.count),
    ));
    report.demand("a tag of the crowd does not answer", well == crowd.count);
    let mut table = String::from("| crowd | |\n|---|---|\n");
    for (what, result) in &rows {
        table.push_str(&format!("| {what} | {result} |\n"));
    }
    report.tables.push(table);
    report.parts.push((
        "crowd",
        json!({
            "laptops": crowd.count, "clients": clients, "rows": rows.iter().map(|(what, result)| json!([what, result])).collect::<Value>(),
            "bursts": bursts, "database_bytes": crowd.daemon.database(),
        }),
    ));
    crowd.leave()
}

/// Raises the limit of open files as far as the system allows it; how many clients fit.
fn descriptors(laptops: usize, clients: usize) -> Result<usize, String> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * laptops as u64 + clients as u64 + SPARE;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|now| now < wanted) {
        let raised = Rlimit {
            current: Some(wanted.min(most)),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).map_err(|why| format!("the limit of open files: {why}"))?;
    }
    if most >= wanted {
        return Ok(clients);
    }
    let fit = most.saturating_sub(2 * laptops as u64 + SPARE) as usize;
    println!("only {fit} idle clients: this system allows {most} open files (ulimit -Hn)");
    match fit {
        0 => Err(format!(
            "{laptops} laptops need more open files than this system allows: {most}"
        )),
        fit => Ok(fit),
    }
}

struct Idle {
    memory: f64,
    descriptors: f64,
}

struct Burst {
    seconds: f64,
    refused: u64,
    logins: u64,
    why: String,
}

impl Crowd {
    fn start(order: &Order<'_>, programs: &Programs) -> Result<Crowd, String> {
        let directory = order.directory.join("crowd");
        let state = directory.join("state");
        let broken = |why: std::io::Error| format!("{}: {why}", directory.display());
        fs::create_dir_all(&state).map_err(broken)?;
        let (_, private, public) = ephemwork::tunnel::ClientKey::generate().map_err(|why| why.to_string())?;
        let key = directory.join("key");
        fs::write(&key, private).map_err(broken)?;
        let users = 0..order.laptops.div_ceil(lane::IDLE_PER_USER);
        let line = |user| format!("environment=\"EPHEMWORK_USER={user}\" {}\n", public.trim());
        let keys: String = users.map(|user| line(lane::idle_user(user * lane::IDLE_PER_USER))).collect();
        fs::write(state.join("authorized_keys"), keys).map_err(broken)?;
        let daemon = Daemon::start(&programs.ephemwork, state, &["--lease", "120"])?;
        let port = lasting()?.port();
        let complaints = directory.join("complaints");
        let mut services = Command::new(&programs.xtask);
        services
            .args(["bench-echo", "--by-host", "--serve", &format!("all={port}"), "--complaints"])
            .arg(complaints);
        let mut services = Running::start("services", services.stdout(Stdio::piped()))?;
        services.ready_line()?;
        let status = directory.join("status");
        let mut laptops = Command::new(&programs.xtask);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("laptops.log"));
        laptops
            .args(["bench-lane", "--ssh", &daemon.ssh.to_string(), "--host-key", &daemon.host_key])
            .args(["--port", &port.to_string(), "--idle", &order.laptops.to_string(), "--key"])
            .arg(&key)
            .arg("--stay")
            .arg(&status)
            .stderr(log.map_err(broken)?);
        let laptops = Running::start("laptops", &mut laptops)?;
        Ok(Crowd {
            daemon,
            laptops,
            _services: services,
            status,
            count: order.laptops,
        })
    }

    fn status(&self) -> Status {
        let text = fs::read(&self.status).unwrap_or_default();
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        Status {
            standing: number("standing") as usize,
            attempts: number("attempts"),
            turned_away: number("turned_away"),
            why: value["why"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Waits until every laptop stands and has its tag, and says how long that took; with more attempts than so many.
    fn all_there(&mut self, attempts: u64) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            if let Some(how) = self.laptops.ended() {
                return Err(format!("the laptops' process ended: {how}"));
            }
            if let Some(how) = self.daemon.ended() {
                return Err(format!("bastiond ended by itself: {how}"));
            }
            let status = self.status();
            let metrics = self.daemon.metrics()?;
            let live = metrics.value("sessions{state=\"live\"}");
            let there = live == self.count as f64 && metrics.value("lanes") == self.count as f64;
            if there && status.standing == self.count && status.attempts > attempts {
                return Ok(began.elapsed());
            }
            if began.elapsed() > ALL_THERE {
                return Err(format!(
                    "after {} s {live} of {} sessions are live, {status:?}",
                    ALL_THERE.as_secs(),
                    self.count
                ));
            }
            pause(LOOK);
        }
    }

    fn tag(&self, number: usize) -> String {
        let number = number % self.count;
        format!("{}:s{number}", lane::idle_user(number))
    }

    /// So many clients that each ask once, are silent for a while, and ask once more over the same connection.
    fn idle(&self, count: usize, silent: Duration, seed: u64) -> Result<Idle, String> {
        let mut chance = Chance::new(seed);
        let edge: SocketAddr = self.daemon.http;
        let mut clients: Vec<Client> = (0..count).map(|_| Client::new(edge, chance.split())).collect();
        let mut idle = None;
        for round in ["first", "second"] {
            for (number, client) in clients.iter_mut().enumerate() {
                let tag = self.tag(number);
                let kept = client.is_connected();
                let fate = client.exchange(Kind::Small, &tag);
                if fate != Fate::Whole || kept != (round == "second") {
                    return Err(format!(
                        "the {round} request of idle client {number}: {fate:?}, connected before: {kept}"
                    ));
                }
            }
            if idle.is_none() {
                let connections = self.daemon.metrics()?.value("http_connections");
                if connections != count as f64 {
                    return Err(format!("the edge counts {connections} connections of {count} clients"));
                }
                idle = Some(Idle {
                    memory: process::own_memory(self.daemon.pid()).unwrap_or_default(),
                    descriptors: self.daemon.descriptors() as f64 - 2.0 * self.count as f64,
                });
                pause(silent);
            }
        }
        drop(clients);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.daemon.metrics()?.value("http_connections") != 0.0 {
            if Instant::now() > deadline {
                return Err("connections of clients that left are still counted".to_owned());
            }
            pause(LOOK);
        }
        idle.ok_or_else(|| "no idle clients".to_owned())
    }

    /// The daemon ends in some way and begins again; everybody comes back.
    fn burst(&mut self, end: fn(&mut Daemon) -> Result<(), String>) -> Result<Burst, String> {
        let before = self.status();
        end(&mut self.daemon)?;
        self.daemon.run()?;
        let took = self.all_there(before.attempts)?;
        let after = self.status();
        let metrics = self.daemon.metrics()?;
        let refused_here = metrics.value("handshake_failures_total") as u64;
        Ok(Burst {
            seconds: took.as_secs_f64(),
            refused: refused_here.max(after.turned_away - before.turned_away),
            logins: metrics.value("lanes_total") as u64,
            why: after.why,
        })
    }

    /// How many tags answer.
    fn spot_check(&self, seed: u64) -> Result<usize, String> {
        let mut client = Client::new(self.daemon.http, Chance::new(seed ^ 1));
        let whole = (0..self.count).filter(|number| client.exchange(Kind::Small, &self.tag(*number)) == Fate::Whole);
        Ok(whole.count())
    }

    /// The laptops are gone at once, and the daemon has nothing left but leases.
    fn leave(mut self) -> Result<(), String> {
        self.laptops.kill();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let metrics = self.daemon.metrics()?;
            let (lanes, in_flight) = (metrics.value("lanes"), metrics.value("requests_in_flight"));
            if lanes == 0.0 && in_flight == 0.0 {
                return self.daemon.end();
            }
            if Instant::now() > deadline {
                return Err(format!("{lanes} lanes and {in_flight} requests are left"));
            }
            pause(LOOK);
        }
    }
}
