//! The original architecture, tuned: nginx with a map and kept-alive upstream connections, OpenSSH with `-R`.
//!
//! Three laptops stand behind one nginx and one sshd: `ssh -N` as people run it, which never turns Nagle's algorithm off and
//! encrypts with what OpenSSH prefers (chacha20); the same with our cipher, aes128-gcm, which moves bulk faster; and `ssh -tt`
//! with our cipher, which turns Nagle's algorithm off too.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::System;
use super::process::Running;

/// What `ssh -N -R` is called in reports; goals are against it.
pub(crate) const STOCK: &str = "nginx + ssh -N -R";

/// What `ssh -N -R` with aes128-gcm is called.
pub(crate) const AES: &str = "nginx + ssh -c aes128-gcm -N -R";

/// What `ssh -tt -R` with aes128-gcm is called.
pub(crate) const NO_NAGLE: &str = "nginx + ssh -c aes128-gcm -tt -R";

/// The cipher that the product prefers.
const OURS: &str = "aes128-gcm@openssh.com";

/// How long a session may live, in seconds: longer than any benchmark, so that a forgotten one ends too.
const SESSION: &str = "3000";

const NGINX: &str = r#"
daemon off;
pid DIR/nginx.pid;
error_log stderr error;
worker_processes WORKERS;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  tcp_nodelay on;
  keepalive_timeout 600;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_http_version 1.1;
  proxy_set_header Host $host;
  proxy_set_header Connection "";
  proxy_buffers 16 64k;
  proxy_buffer_size 64k;
  proxy_busy_buffers_size 256k;
  proxy_max_temp_file_size 0;
  map $http_x_ephemwork $laptop { default ""; "alice:api" stock; "alice:aes" aes; "alice:tty" no_nagle; }
  upstream stock { server 127.0.0.1:PORT_A; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600; }
  upstream aes { server 127.0.0.1:PORT_B; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600; }
  upstream no_nagle { server 127.0.0.1:PORT_C; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600; }
  server {
    listen EDGE backlog=4096;
    location / {
      if ($laptop = "") { return 404; }
      proxy_pass http://$laptop;
    }
  }
}
"#;

const SSHD: &str = "
ListenAddress 127.0.0.1
Port PORT
HostKey DIR/host_key
PidFile none
AuthorizedKeysFile DIR/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
MaxStartups 1000
MaxSessions 1000
PrintMotd no
PrintLastLog no
UseDNS no
LogLevel ERROR
";

/// Everything of it that runs.
#[derive(Debug)]
pub(crate) struct Peer {
    directory: PathBuf,
    ssh_port: u16,
    service: SocketAddr,
    edge: SocketAddr,
    nginx: Running,
    sshd: Running,
    stock: Running,
    aes: Running,
    no_nagle: Running,
}

/// What has to be installed and is not; `None` when all is there.
pub(crate) fn missing() -> Option<String> {
    let wanted = [
        ("nginx", "nginx-light"),
        ("sshd", "openssh-server"),
        ("ssh", "openssh-client"),
        ("ssh-keygen", "openssh-client"),
    ];
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(name, _)| find(name).is_none())
        .map(|(_, package)| *package)
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: apt-get install {}", missing.join(" ")))
}

/// A program by its name; sshd must be started by its whole path.
fn find(name: &str) -> Option<PathBuf> {
    let places = [
        "/usr/sbin",
        "/usr/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
    ];
    places
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file())
}

fn command(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| name.into()))
}

/// A port that was free a moment ago. nginx and sshd cannot be asked which port they got, so it has to be chosen before.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|why| format!("no free port: {why}"))
}

fn listening(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|why| format!("{}: {why}", path.display()))
}

impl Peer {
    /// Starts all of it in an empty directory.
    pub(crate) fn start(directory: &Path, service: SocketAddr, workers: &str) -> Result<Peer, String> {
        fs::create_dir_all(directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        for name in ["host_key", "user_key"] {
            let mut keygen = command("ssh-keygen");
            keygen
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"])
                .arg(directory.join(name));
            let status = keygen
                .status()
                .map_err(|why| format!("ssh-keygen cannot be started: {why}"))?;
            if !status.success() {
                return Err(format!("ssh-keygen ended with {status}"));
            }
        }
        let sshd_port = free_port()?;
        let (edge, port_a, port_b, port_c) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let here = directory.to_string_lossy().into_owned();
        write(
            &directory.join("sshd.conf"),
            &SSHD.replace("PORT", &sshd_port.to_string()).replace("DIR", &here),
        )?;
        let nginx = NGINX.replace("DIR", &here).replace("WORKERS", workers);
        let nginx = nginx
            .replace("PORT_A", &port_a.to_string())
            .replace("PORT_B", &port_b.to_string())
            .replace("PORT_C", &port_c.to_string());
        write(
            &directory.join("nginx.conf"),
            &nginx.replace("EDGE", &format!("127.0.0.1:{edge}")),
        )?;

        // sshd wants this directory when root starts it, and a machine without a running sshd may not have it.
        fs::create_dir_all("/run/sshd").ok();
        let mut start = command("sshd");
        start
            .args(["-D", "-e", "-f"])
            .arg(directory.join("sshd.conf"))
            .stderr(Stdio::piped());
        let mut sshd = Running::start("sshd", &mut start)?;
        sshd.wait_until(|| listening(sshd_port))?;
        let stock = ssh(directory, sshd_port, &format!("{port_a}:{service}"), None, false)?;
        let aes = ssh(directory, sshd_port, &format!("{port_b}:{service}"), Some(OURS), false)?;
        let no_nagle = ssh(directory, sshd_port, &format!("{port_c}:{service}"), Some(OURS), true)?;
        let mut start = command("nginx");
        start
            .arg("-p")
            .arg(directory)
            .arg("-c")
            .arg(directory.join("nginx.conf"))
            .args(["-e", "stderr"])
            .stderr(Stdio::piped());
        let mut nginx = Running::start("nginx", &mut start)?;
        nginx.wait_until(|| listening(edge))?;
        let mut peer = Peer {
            directory: directory.to_owned(),
            ssh_port: sshd_port,
            service,
            edge: SocketAddr::from((Ipv4Addr::LOCALHOST, edge)),
            nginx,
            sshd,
            stock,
            aes,
            no_nagle,
        };
        peer.stock.wait_until(|| listening(port_a))?;
        peer.aes.wait_until(|| listening(port_b))?;
        peer.no_nagle.wait_until(|| listening(port_c))?;
        Ok(peer)
    }

    /// It as the systems that are measured. Each counts all of nginx and sshd: those that are not measured are idle.
    pub(crate) fn systems(&self) -> [System; 3] {
        let bastion = vec![self.nginx.pid(), self.sshd.pid()];
        let of = |name: &'static str, tag: &str, laptop: &Running| System {
            name,
            edge: self.edge,
            tag: tag.to_owned(),
            bastion: bastion.clone(),
            laptop: vec![laptop.pid()],
        };
        [
            of(STOCK, "alice:api", &self.stock),
            of(AES, "alice:aes", &self.aes),
            of(NO_NAGLE, "alice:tty", &self.no_nagle),
        ]
    }

    /// sshd, whose descendants hold the tunnels.
    pub(crate) fn sshd(&self) -> u32 {
        self.sshd.pid()
    }

    /// Opens so many more tunnels that then do nothing.
    pub(crate) fn idle(&self, count: usize) -> Result<Vec<Running>, String> {
        let mut tunnels = Vec::new();
        // Few at a time: each start costs two handshakes, and sshd refuses a flood.
        while tunnels.len() < count {
            let mut batch = Vec::new();
            for _ in 0..(count - tunnels.len()).min(8) {
                batch.push(ssh(
                    &self.directory,
                    self.ssh_port,
                    &format!("0:{}", self.service),
                    None,
                    false,
                )?);
            }
            for tunnel in &mut batch {
                tunnel.stderr_until(|line| line.starts_with("Allocated port"))?;
            }
            tunnels.append(&mut batch);
        }
        Ok(tunnels)
    }
}

fn ssh(directory: &Path, port: u16, forward: &str, cipher: Option<&str>, terminal: bool) -> Result<Running, String> {
    let mut ssh = command("ssh");
    ssh.args(["-F", "none", "-p", &port.to_string(), "-R", forward, "-i"])
        .arg(directory.join("user_key"));
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "ExitOnForwardFailure=yes",
        "Compression=no",
        "LogLevel=INFO",
    ] {
        ssh.args(["-o", option]);
    }
    if let Some(cipher) = cipher {
        ssh.args(["-c", cipher]);
    }
    ssh.arg(if terminal { "-tt" } else { "-N" }).arg("127.0.0.1");
    if terminal {
        ssh.args(["sleep", SESSION]);
    }
    ssh.stdout(Stdio::null()).stderr(Stdio::piped());
    Running::start("ssh", &mut ssh)
}
