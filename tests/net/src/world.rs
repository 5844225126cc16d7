//! A bastion, a laptop with its `up`, and a client that asks all the time, each in its namespace.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::Record;
use crate::process::{self, Running};
use crate::router;
use crate::space::{BASTION, ELSEWHERE, Host, Space};
use crate::{pause, until};

/// How long anything may take to become ready; a debug build on a busy machine takes some seconds.
pub const READY: Duration = Duration::from_secs(40);

/// Requests a second of the client.
pub const RATE: u32 = 50;

/// How long nothing goes over a tunnel that is idle, between two signs of life.
const IDLE: Duration = Duration::from_millis(600);

/// The tag of the laptop's service.
const TAG: &str = "alice:api";

/// What the bastion is called, by the name server.
const NAME: &str = "bastion.net.test";

const PROJECT: &str = "net";

/// The edge's port, SSH's, AWS's and the service's. Nobody else is in these namespaces.
const PORTS: [u16; 4] = [8080, 2222, 8000, 18000];

/// Variables of whoever runs this that would lead a laptop elsewhere.
const FOREIGN: &[&str] = &[
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The programs that are run, of one build.
#[derive(Clone, Debug)]
pub struct Programs {
    pub ephemwork: PathBuf,
    /// `ephemwork-net`.
    pub helper: PathBuf,
}

/// See the module. Everything ends with it.
pub struct World {
    pub(crate) up: Running,
    pub(crate) keeper: Running,
    client: Option<Child>,
    _rest: Vec<Running>,
    slow: Option<Running>,
    /// How many large bodies there were.
    bodies: u32,
    /// Where clocks that are not the machine's are set.
    pub(crate) clock: Option<PathBuf>,
    pub(crate) space: Space,
    pub record: Record,
    programs: Programs,
    directory: Directory,
}

/// A directory with a small file system for the bastion's state in it; both go when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn make(path: &Path) -> Result<Directory, String> {
        let broken = |why: std::io::Error| format!("{}: {why}", path.display());
        let directory = Directory(path.to_owned());
        directory.remove();
        fs::create_dir_all(directory.0.join("state")).map_err(broken)?;
        let state = directory.state();
        process::run("mount", &["-t", "tmpfs", "-o", "size=8m,mode=0700", "ephemwork-net", &state])?;
        Ok(directory)
    }

    fn state(&self) -> String {
        self.0.join("state").display().to_string()
    }

    fn remove(&self) {
        // It is not mounted before it is made, nor twice.
        process::run("umount", &["-l", &self.state()]).ok();
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.remove();
    }
}

impl World {
    /// In a directory that is made for it; its lasts as long as the world. With `clock` both programs' clocks can be set, where
    /// libfaketime is installed.
    ///
    /// # Errors
    /// Something of it does not start.
    pub fn start(directory: &Path, programs: &Programs, clock: bool) -> Result<World, String> {
        let space = Space::make()?;
        let directory = Directory::make(directory)?;
        let file = |name: &str| directory.0.join(name);
        let broken = |why: std::io::Error| format!("{}: {why}", directory.0.display());
        let [http, ssh, aws, port] = PORTS;
        let helper = |host: Host, role: &str, arguments: &[&str]| -> Result<Running, String> {
            let mut command = space.command(host, &programs.helper);
            let mut running = Running::start(role, command.arg(role).args(arguments), &file(&format!("{role}.log")))?;
            running.wait_for("ready")?;
            Ok(running)
        };
        let keys = file("keys").display().to_string();
        fs::write(&keys, "").map_err(broken)?;
        let rest = vec![
            helper(Host::Router, "plane", &[&format!("{ELSEWHERE}:{aws}"), PROJECT, &keys])?,
            helper(Host::Router, "names", &[&format!("{ELSEWHERE}:53"), BASTION])?,
            helper(Host::Laptop, "service", &[&format!("127.0.0.1:{port}")])?,
        ];

        let clock_file = clock.then(|| file("clock"));
        let faked = clock_file.as_deref().map(faked).transpose()?.unwrap_or_default();
        let mut start = space.command(Host::Bastion, &programs.helper);
        start.arg("keeper").arg(file("notify")).arg("/usr/bin/env").args(&faked);
        start
            .arg(&programs.ephemwork)
            .args([
                "bastiond",
                "--http",
                &format!("{BASTION}:{http}"),
                "--ssh",
                &format!("{BASTION}:{ssh}"),
            ])
            .args(["--authorized-keys-command", &format!("/bin/cat {keys}")])
            .args(["--state", &directory.state()])
            .env("EPHEMWORK_LOG", "info");
        let keeper = Running::start("the bastion", &mut start, &file("bastion.log"))?;
        let ready = ready(&directory.0.join("state"))?;

        let project = file("project");
        fs::create_dir_all(&project).map_err(broken)?;
        let config = format!(
            "[tunnel]\ntype = \"ec2\"\nproject_name = \"{PROJECT}\"\ntransport = \"tcp\"\nhost = \"{NAME}\"\nport = {ssh}\n\
             host_key = \"{}\"\n\n[service.api]\nport = {port}\n",
            ready["host_key"].as_str().unwrap_or_default()
        );
        fs::write(project.join("ephemwork.toml"), config).map_err(broken)?;
        let mut start = space.command(Host::Laptop, Path::new("/usr/bin/env"));
        for name in FOREIGN {
            start.env_remove(name);
        }
        start
            .args(&faked)
            .arg(&programs.ephemwork)
            .args(["up", "--no-run", "api"])
            .current_dir(&project)
            .envs([("EPHEMWORK_USER", "alice"), ("AWS_REGION", "eu-west-1"), ("NO_COLOR", "1")])
            .envs([
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "net"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ])
            .env("AWS_ENDPOINT_URL", format!("http://{ELSEWHERE}:{aws}"))
            .env("EPHEMWORK_HOME", file("home"))
            .env("HOME", &directory.0);
        let mut up = Running::start("ephemwork up", &mut start, &file("up.log"))?;
        up.wait_for("X-Ephemwork: ")?;
        let mut world = World {
            up,
            keeper,
            client: None,
            _rest: rest,
            slow: None,
            bodies: 0,
            clock: clock_file,
            space,
            record: Record::default(),
            programs: programs.clone(),
            directory,
        };
        world.ask()?;
        Ok(world)
    }

    /// Starts the client.
    fn ask(&mut self) -> Result<(), String> {
        let mut command = self.space.command(Host::Client, &self.programs.helper);
        let edge = format!("{BASTION}:{}", PORTS[0]);
        command.args(["client", &edge, TAG, &RATE.to_string()]).stdin(Stdio::null());
        let client = command.stdout(Stdio::piped()).spawn();
        let mut client = client.map_err(|why| format!("the client cannot be started: {why}"))?;
        let lines = client.stdout.take().ok_or("the client has no output")?;
        self.client = Some(client);
        let record = self.record.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                record.line(&line);
            }
        });
        Ok(())
    }

    /// A client that moves so many bytes `down` or `up` in one body; it says `begun` in the middle and `done` at the end.
    pub(crate) fn bulk(&mut self, way: &str, bytes: u64) -> Result<Running, String> {
        let mut command = self.space.command(Host::Client, &self.programs.helper);
        let edge = format!("{BASTION}:{}", PORTS[0]);
        command.args(["bulk", &edge, TAG, way, &bytes.to_string()]);
        self.bodies += 1;
        let log = self.directory.0.join(format!("body-{}.log", self.bodies));
        Running::start("a large body", &mut command, &log)
    }

    /// How many packets go between laptop and bastion in this time once nobody asks anything any more.
    ///
    /// # Errors
    /// They cannot be counted.
    pub fn idle_packets(&mut self, time: Duration) -> Result<u64, String> {
        self.end_client();
        let before = until(READY, "the tunnel to be idle", || {
            let before = self.space.packets().ok()?;
            pause(IDLE);
            (self.space.packets().ok()? == before).then_some(before)
        })?;
        pause(time);
        Ok(self.space.packets()? - before)
    }

    fn end_client(&mut self) {
        if let Some(mut client) = self.client.take() {
            // It may have ended.
            client.kill().ok();
            client.wait().ok();
        }
    }

    /// Clients that send large heads and do not end them, until it is dropped.
    pub(crate) fn hog(&self) -> Result<Running, String> {
        let mut command = self.space.command(Host::Client, &self.programs.helper);
        let edge = format!("{BASTION}:{}", PORTS[0]);
        Running::start("the hog", command.args(["hog", &edge]), &self.directory.0.join("hog.log"))
    }

    /// What `up` said since it was this long.
    pub(crate) fn up_said(&self, from: usize) -> String {
        self.up.said().get(from..).unwrap_or_default().to_owned()
    }

    /// The bastion's process; what was ready before and was killed has the same file.
    pub(crate) fn daemon(&self) -> Result<u32, String> {
        let ready = ready(&self.directory.0.join("state"))?;
        ready["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .ok_or_else(|| format!("no pid in {ready}"))
    }

    /// The directory of the bastion's state, a file system of its own.
    pub(crate) fn state(&self) -> String {
        self.directory.state()
    }

    /// The session as the bastion sees it.
    pub(crate) fn session(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.directory.0.join("state/control.sock")).ok()?;
        stream.set_read_timeout(Some(READY)).ok()?;
        let request = "GET /v1/sessions?all=true HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let all: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        all["sessions"]
            .as_array()?
            .iter()
            .find(|session| session["tag"] == TAG)
            .cloned()
    }

    /// Leads everything between laptop and bastion over a link of this one-way delay that loses so many of a hundred packets.
    pub(crate) fn slow(&mut self, delay_ms: u32, loss: u32) -> Result<(), String> {
        let [delay, lost] = [delay_ms, loss].map(|number| number.to_string());
        let netem = [
            "qdisc",
            "replace",
            "dev",
            "to-laptop",
            "root",
            "netem",
            "delay",
            &format!("{delay}ms"),
            "loss",
            &format!("{lost}%"),
        ];
        let mut line = vec!["tc"];
        line.extend(netem);
        if self.space.exec(Host::Router, &line).is_ok() {
            line[4] = "to-bastion";
            return self.space.exec(Host::Router, &line).map(drop);
        }
        let exec = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            self.space.exec(Host::Router, &words).map(drop)
        };
        let device = router::DEVICE;
        exec(&format!("ip tuntap add dev {device} mode tun"))?;
        exec(&format!("ip link set {device} up"))?;
        exec(&format!("ip link set {device} txqueuelen 10000"))?;
        let mut command = self.space.command(Host::Router, &self.programs.helper);
        let log = self.directory.0.join("router.log");
        let mut running = Running::start("the slow link", command.args(["router", &delay, &lost]), &log)?;
        running.wait_for("ready")?;
        self.slow = Some(running);
        exec(&format!("ip route add default dev {device} table 77"))?;
        exec("ip rule add iif to-laptop to 10.77.2.0/24 lookup 77")?;
        exec("ip rule add iif to-bastion to 10.77.1.0/24 lookup 77")
    }

    /// The link is as it was.
    pub(crate) fn quick(&mut self) -> Result<(), String> {
        let exec = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            self.space.exec(Host::Router, &words).map(drop)
        };
        if self.slow.is_none() {
            exec("tc qdisc del dev to-laptop root")?;
            return exec("tc qdisc del dev to-bastion root");
        }
        exec("ip rule del iif to-laptop to 10.77.2.0/24 lookup 77")?;
        exec("ip rule del iif to-bastion to 10.77.1.0/24 lookup 77")?;
        // What is under way still comes out.
        pause(Duration::from_millis(500));
        self.slow = None;
        exec(&format!("ip link del {}", router::DEVICE))
    }

    /// What helps to understand what went wrong.
    #[must_use]
    pub fn logs(&self) -> String {
        format!("--- up\n{}\n--- bastion\n{}", self.up.said(), self.keeper.said())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_client();
    }
}

/// `ready.json` of the daemon that runs.
fn ready(state: &Path) -> Result<Value, String> {
    until(READY, "the bastion to be ready", || {
        let text = fs::read(state.join("ready.json")).ok()?;
        let ready: Value = serde_json::from_slice(&text).ok()?;
        let lives = Path::new("/proc").join(ready["pid"].to_string()).exists();
        lives.then_some(ready)
    })
}

/// What env(1) is given for a program whose clock is set by a file.
fn faked(file: &Path) -> Result<Vec<String>, String> {
    let library = library().ok_or("libfaketime is not installed")?;
    fs::write(file, "+0\n").map_err(|why| format!("{}: {why}", file.display()))?;
    Ok(vec![
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ])
}

/// libfaketime, where Debian puts it.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let all = fs::read_dir("/usr/lib").ok()?.flatten();
    all.map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
}

/// Sets the clocks of both programs, in seconds from the machine's.
pub(crate) fn set_clock(file: &Path, seconds: i64) -> Result<(), String> {
    // Read at each look at the clock, so never half of it.
    let next = file.with_extension("next");
    let written = fs::write(&next, format!("{seconds:+}\n")).and_then(|()| fs::rename(&next, file));
    written.map_err(|why| format!("{}: {why}", file.display()))
}

/// A program of the system with a number of its own to look at.
pub(crate) fn limits(pid: u32, limit: &str) -> Result<(), String> {
    let mut prlimit = Command::new("prlimit");
    let done = prlimit.args(["--pid", &pid.to_string(), limit]).output();
    let done = done.map_err(|why| format!("prlimit: {why}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("prlimit {limit}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}
