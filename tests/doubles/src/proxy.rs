//! An office's HTTP proxy: it lets CONNECT through, or refuses it, or looks inside TLS and takes websocket upgrades out.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::ServerConfig;

use crate::tls::Tls;
use crate::world::World;
use crate::{door, http};

/// What it does with CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Allow,
    /// 403 with a page for people.
    Refuse,
    /// Ends TLS itself, with a certificate of the test's authority, and passes the request on without its upgrade.
    Strip,
}

impl Mode {
    pub(crate) fn parse(text: &str) -> Result<Mode, String> {
        match text {
            "allow" => Ok(Mode::Allow),
            "refuse" => Ok(Mode::Refuse),
            "strip" => Ok(Mode::Strip),
            _ => Err(format!("a proxy's mode is allow, refuse or strip, not {text:?}")),
        }
    }
}

pub(crate) fn listen(world: &Arc<World>, config: &Arc<ServerConfig>, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let (world, config) = (Arc::clone(world), Arc::clone(config));
        std::thread::spawn(move || {
            // A client that goes away needs no answer.
            serve(&world, &config, stream).ok();
        });
    }
}

fn serve(world: &Arc<World>, config: &Arc<ServerConfig>, mut stream: TcpStream) -> io::Result<()> {
    let Some((head, _)) = http::request(&mut stream)? else {
        return Ok(());
    };
    let mode = world.lock().proxy;
    if head.method != "CONNECT" || mode == Mode::Refuse {
        let page = "<html><body><h1>403 Forbidden</h1>This site is not allowed by your organisation's policy.</body></html>";
        return http::answer(&mut stream, 403, "text/html", page);
    }
    if mode == Mode::Allow {
        let there = TcpStream::connect(&head.target)?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (from, to) = (stream.try_clone()?, there.try_clone()?);
        std::thread::spawn(move || copy(from, to));
        copy(there, stream);
        return Ok(());
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let mut tls = Tls::new(config, stream)?;
    let mut head = tls.head()?;
    head.strip("upgrade");
    head.strip("connection");
    door::serve(world, tls, head);
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // An error ends it as the end does.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}
