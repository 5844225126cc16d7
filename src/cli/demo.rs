//! `ephemwork demo`: a built-in service through the real local bastion, one request with the header and one without.
//!
//! Everything lies in a private directory that goes with it, the bastion included.

use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use argh::FromArgs;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::say::{self, Screen};
use crate::config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::{HEADER, HEADER_DISPLAY, User};
use crate::rt::{self, Signals};
use crate::session::bastion::Bastion;
use crate::session::home::{Home, private_directory};
use crate::session::plan::{Choices, Plan, Runner};
use crate::session::records::Records;
use crate::session::system::Process;
use crate::session::{self, Outcome, Restart, Said, Takeover, control, identity, local, port};

/// Ports for the demo's own service; none of them is one that a system gives away by itself (they begin at 32768 on Linux, 49152 on macOS).
const PORTS: std::ops::Range<u16> = 18_100..18_300;
/// How long one of the two requests may take.
const REQUEST: Duration = Duration::from_secs(10);
/// The largest answer that is looked at, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The demo's bastion ends this long after a demo that was killed.
const IDLE: Duration = Duration::from_secs(10);
/// How long its end is waited for.
const END: Duration = Duration::from_secs(5);

/// See it work: a built-in service, reached through a bastion on this machine.
#[derive(FromArgs)]
#[argh(subcommand, name = "demo", example = "{command_name}", example = "{command_name} --once")]
pub(super) struct Arguments {
    /// end after the two requests; exit code 0 when both were answered as they should
    #[argh(switch)]
    once: bool,
    /// be the demo's service on PORT
    #[argh(switch, hidden_help)]
    serve: bool,
}

/// One of the demo's two services.
#[derive(Clone, Copy)]
struct Page {
    text: &'static str,
    html: &'static str,
}

const LAPTOP: Page = Page {
    text: include_str!("../../assets/demo/laptop.txt"),
    html: include_str!("../../assets/demo/laptop.html"),
};
const STAGING: Page = Page {
    text: include_str!("../../assets/demo/staging.txt"),
    html: include_str!("../../assets/demo/staging.html"),
};

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    super::block_on(async {
        if arguments.serve {
            return serve_laptop(host).await;
        }
        let mut signals = super::up::signals()?;
        let root =
            PathBuf::from(host.variable("TMPDIR").unwrap_or("/tmp")).join(format!("ephemwork-demo-{}", std::process::id()));
        private_directory(&root)
            .map_err(|why| Error::new(Exit::Config, format!("{} cannot be made", root.display())).because(why))?;
        let shown = show(host, &root, &arguments, &mut signals).await;
        end_bastion(&root).await;
        // What is left in a directory for temporary files goes with the next cleaning.
        std::fs::remove_dir_all(&root).ok();
        shown
    })
}

async fn show(host: &Host, root: &Path, arguments: &Arguments, signals: &mut Signals) -> Result<Exit> {
    let staging = rt::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let staging = staging.map_err(|why| Error::new(Exit::Bug, "the demo's staging cannot listen").because(why))?;
    let address = staging
        .local_addr()
        .map_err(|why| Error::new(Exit::Bug, "the demo's staging has no address").because(why))?;
    let _staging = rt::spawn(serve(staging, STAGING));
    // The lock is held for as long as the demo lives.
    let (_lock, port, listen) = places(host).await?;
    let plan = plan(host, root, address, port, listen)?;
    let tag = plan.services[0].tag.to_string();
    let screen =
        Screen::demo(&plan, host.colour()).map_err(|why| Error::new(Exit::Bug, "the system refuses a thread").because(why))?;
    let screen = Arc::new(screen);
    let (ready, is_ready) = smol::channel::bounded(1);
    let shown = screen.clone();
    let tell = Arc::new(move |said: Said| {
        if let Said::Ready(place) = &said {
            // It is ready once only.
            ready.try_send(place.url.clone().unwrap_or_default()).ok();
        }
        shown.show(said);
    });
    let (home, once, asker) = (plan.home.clone(), arguments.once, screen.clone());
    let asking = rt::spawn(async move {
        let Ok(url) = is_ready.recv().await else { return false };
        let behaved = ask_twice(&asker, &url, &tag).await;
        match once {
            true => end_session(&home).await,
            false => asker.text("Ctrl-C ends the demo.\n"),
        }
        behaved
    });
    let exit = match session::run(plan, signals, tell).await {
        Outcome::Fine if once && !asking.await => Exit::Unreachable,
        Outcome::Fine => Exit::Fine,
        Outcome::Interrupted => Exit::Interrupted,
        Outcome::Failed(error) => {
            // What helps an `up` would not find the demo's directory.
            let error = error.hint("once more: ephemwork demo");
            screen.failure(&error);
            error.exit
        }
    };
    screen.finish();
    Ok(exit)
}

/// A plan as an ephemwork.toml would give it, in the demo's own directory.
fn plan(host: &Host, root: &Path, staging: SocketAddr, port: u16, listen: SocketAddr) -> Result<Plan> {
    let mut host = host.clone();
    host.environment.insert("EPHEMWORK_HOME".into(), root.into());
    let quoted = host.executable.display().to_string().replace('\'', r"'\''");
    let text = include_str!("../../assets/demo/ephemwork.toml")
        .replace("{port}", &port.to_string())
        .replace("{staging}", &staging.to_string());
    let file = root.join(config::FILE);
    let mut config = config::parse(&text, &file).map_err(|mistakes| config::failure(&mistakes, &text, &file))?;
    config.tunnel.listen = listen;
    for service in config.services.values_mut() {
        service.run_command = Some(format!("exec '{quoted}' demo --serve"));
    }
    let user = identity::user(&host).or_else(|_| User::parse("demo"));
    let user = user.map_err(|why| Error::new(Exit::Bug, "the demo has no user").because(why))?;
    let choices = Choices {
        runner: Runner::Us,
        restart: Restart::Never,
        takeover: Takeover::No,
    };
    let mut plan = Plan::make(&host, &Home::open(&host)?, config, user, &["api".to_owned()], choices)?;
    if let Bastion::Local(local) = plan.bastion {
        plan.bastion = Bastion::Local(Box::new(local.with_idle(IDLE)));
    }
    Ok(plan)
}

/// Where the service and the edge are to listen. Demos that begin at the same moment look for the one from different ports on, and only
/// one of them, who holds the lock on the executable, takes the usual address for the other.
async fn places(host: &Host) -> Result<(Option<File>, u16, SocketAddr)> {
    let executable = File::open(&host.executable).ok();
    let alone = executable
        .as_ref()
        .is_none_or(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    rt::unblock(move || {
        let first = std::process::id() as usize % PORTS.len();
        let port = PORTS
            .cycle()
            .skip(first)
            .take(PORTS.len())
            .find(|&port| !port::is_taken(port));
        let port = port.ok_or_else(|| {
            let what = format!("all ports from {} to {} are taken", PORTS.start, PORTS.end - 1);
            Error::new(Exit::Conflict, what).hint("see who listens: ss -ltnp, or: lsof -nP -iTCP -sTCP:LISTEN")
        })?;
        let listen = match alone && !port::is_taken(config::DEFAULT_LISTEN.port()) {
            true => config::DEFAULT_LISTEN,
            false => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        Ok((executable, port, listen))
    })
    .await
}

/// Makes both requests and shows what happened; whether both were answered as they should.
async fn ask_twice(screen: &Screen, url: &str, tag: &str) -> bool {
    let cases = [
        (Some(tag), LAPTOP, "with the header: the service on this machine answers"),
        (None, STAGING, "without it: staging answers, and nobody notices you"),
    ];
    let mut behaved = true;
    for (header, expected, caption) in cases {
        let begun = Instant::now();
        let answer = rt::timeout(REQUEST, ask(url, header))
            .await
            .unwrap_or_else(|| Err(format!("no answer within {} s", REQUEST.as_secs())));
        let mut text = format!("{caption}\n  > GET {url}/\n");
        if let Some(tag) = header {
            text += &format!("  > {HEADER_DISPLAY}: {tag}\n");
        }
        match answer {
            Ok((head, body)) => {
                text += &format!("  < {} in {}\n", head.status, say::time(begun.elapsed()));
                if let Some(by) = head.headers.get("x-ephemwork-served-by").and_then(|by| by.to_str().ok()) {
                    text += &format!("  < X-Ephemwork-Served-By: {by}\n");
                }
                body.lines().for_each(|line| text += &format!("  < {line}\n"));
                if !head.status.is_success() || body != expected.text {
                    behaved = false;
                    text += "  this is not what was expected\n";
                }
            }
            Err(why) => {
                behaved = false;
                text += &format!("  failed: {why}\n");
            }
        }
        text.push('\n');
        screen.text(&text);
    }
    behaved
}

async fn ask(url: &str, tag: Option<&str>) -> std::result::Result<(http::response::Parts, String), String> {
    let address = url.trim_start_matches("http://");
    let stream = rt::TcpStream::connect(address).await.map_err(|why| why.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(rt::io(stream))
        .await
        .map_err(|why| why.to_string())?;
    let _driver = rt::spawn(connection);
    let mut request = Request::get("/").header("host", address);
    if let Some(tag) = tag {
        request = request.header(HEADER, tag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|why| why.to_string())?;
    let answer = sender.send_request(request).await.map_err(|why| why.to_string())?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|why| why.to_string())?;
    Ok((head, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Asks this process's own `up` to end, as `ephemwork down` does.
async fn end_session(home: &Home) {
    let ups = control::running(&Records::of(home)).await.unwrap_or_default();
    for (up, _) in ups {
        // If it does not hear this, it ends by itself or by Ctrl-C.
        control::down(&up.socket, &[]).await.ok();
    }
}

async fn end_bastion(root: &Path) {
    let directories = std::fs::read_dir(root.join("local")).into_iter().flatten().flatten();
    for directory in directories {
        let Some(ready) = local::serving(&directory.path()).await else {
            continue;
        };
        let Some(daemon) = rt::unblock(move || Process::of(ready.pid)).await else {
            continue;
        };
        daemon.signal(rustix::process::Signal::TERM);
        let until = Instant::now() + END;
        while Instant::now() < until && daemon.lives() {
            rt::sleep(Duration::from_millis(20)).await;
        }
        daemon.signal(rustix::process::Signal::KILL);
    }
}

/// The demo's service itself, as a child of the `up`.
async fn serve_laptop(host: &Host) -> Result<Exit> {
    let port = host.variable("PORT").and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| Error::new(Exit::Usage, "PORT is not set to a port's number"))?;
    let listener = rt::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(|why| Error::new(Exit::Conflict, format!("port {port} cannot be used")).because(why))?;
    say::out(&format!("the demo's service listens on port {port}\n"));
    serve(listener, LAPTOP).await;
    Ok(Exit::Fine)
}

async fn serve(listener: rt::TcpListener, page: Page) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            rt::sleep(Duration::from_millis(50)).await;
            continue;
        };
        rt::spawn(async move {
            let service = service_fn(move |request| answer(request, page));
            // Who hangs up in the middle needs no answer.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(rt::io(stream), service)
                .await
                .ok();
        })
        .detach();
    }
}

async fn answer(request: Request<Incoming>, page: Page) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let accept = request
        .headers()
        .get("accept")
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let (kind, text) = match accept.contains("text/html") {
        true => ("text/html; charset=utf-8", page.html),
        false => ("text/plain; charset=utf-8", page.text),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(kind));
    headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
    Ok(response)
}
