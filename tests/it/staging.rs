//! Local mode's other way: requests without the header to `staging_url`, over HTTP and HTTPS, with real TLS on the other side.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use tempfile::TempDir;

use crate::{
    peers_alone::{serve, talk},
    support::{
        Bastion, LIMIT, Process, Service, Wire, fetch, heavy, lasting_address, need, need_module, peer,
        service::{After, ok},
        until,
    },
};

/// A certificate authority of the test's own, and a certificate for `localhost`.
struct Authority(TempDir);

impl Authority {
    fn new() -> Option<Authority> {
        let openssl = need("openssl")?;
        let directory = TempDir::new().unwrap();
        let run = |arguments: &[&str]| {
            let made = Process::run(
                "openssl",
                Command::new(&openssl).args(arguments).current_dir(directory.path()),
            );
            assert!(made.status.success(), "{made:?}");
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let ca = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA"];
        let name = [
            "req",
            "-x509",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        run(&[&ca[..], &key].concat());
        run(&[&name[..], &key].concat());
        Some(Authority(directory))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// TLS in front of a port.
    fn in_front_of(&self, port: u16) -> Option<(Process, SocketAddr)> {
        let python = need("python3")?;
        let at = lasting_address();
        let mut command = Command::new(python);
        command.arg("-u").arg(peer("tls.py")).args([
            "serve",
            &at.port().to_string(),
            &self.path("cert.pem"),
            &self.path("key.pem"),
            &port.to_string(),
        ]);
        let mut server = Process::start("tls.py", &mut command);
        server.wait_for("listening");
        Some((server, at))
    }

    /// A bastion that trusts this authority and no other.
    fn bastion(&self, url: &str) -> Bastion {
        Bastion::with_environment(&["--local", "--staging-url", url], &[("SSL_CERT_FILE", &self.path("ca.pem"))])
    }
}

fn plain(at: SocketAddr) -> Bastion {
    Bastion::with(&["--local", "--staging-url", &format!("http://{at}")])
}

/// Runs a case with staging behind HTTP, then behind HTTPS; it gets the bastion and the Host that staging must see.
fn both(port: u16, case: impl Fn(&Bastion, &str)) {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    case(&plain(at), &at.to_string());
    let Some(authority) = Authority::new() else { return };
    let Some((_tls, at)) = authority.in_front_of(port) else {
        return;
    };
    let host = format!("localhost:{}", at.port());
    case(&authority.bastion(&format!("https://{host}")), &host);
}

#[test]
fn heads_and_connections() {
    let service = Service::replying(|head, body| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".to_vec();
        bytes.extend(ok(&format!("{} {} {}", head.method(), head.target(), body.len())));
        bytes
    });
    both(service.port, |bastion, host| {
        let connections = service.connections();
        let mut wire = Wire::to(bastion.http);
        for number in 0..20 {
            wire.send(format!(
                "PUT /a%20b?{number} HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\n"
            ));
            assert_eq!(wire.head().map(|head| head.status()), Some(100));
            wire.send("hello");
            let answer = wire.answer("PUT");
            assert_eq!((answer.status(), answer.text()), (200, format!("PUT /a%20b?{number} 5")));
            assert_eq!(answer.served_by(), "staging");
        }
        let head = service.heads().last().unwrap().clone();
        assert_eq!(head.field("host"), Some(host));
        assert_eq!(head.field("x-forwarded-host"), Some("shop.test"));
        assert_eq!(
            (head.field("x-hop"), head.field("expect"), head.field("x-ephemwork")),
            (None, None, None)
        );
        assert!(service.connections() <= connections + 2, "connections are not kept");
        wire.send("HEAD / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-Host: outer.test\r\n\r\n");
        let answer = wire.answer("HEAD");
        assert_eq!((answer.status(), answer.body.len()), (200, 0));
        let head = service.heads().last().unwrap().clone();
        assert_eq!(head.field("x-forwarded-host"), Some("outer.test"));
    });
}

#[test]
fn both_bodies_are_streamed() {
    // Each piece goes back before the next is sent: whoever holds one back stops the exchange for good.
    let service = Service::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(piece) = wire.chunk().filter(|piece| !piece.is_empty()) {
            wire.send([format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat());
        }
        wire.trailers();
        wire.send("0\r\n\r\n");
        After::Keep
    });
    both(service.port, |bastion, _| {
        let mut wire = Wire::to(bastion.http);
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(wire.head().expect("no head").status(), 200);
        for number in 0..20 {
            let piece = format!("data: {number}\n\n");
            wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            let mut back = Vec::new();
            while back.len() < piece.len() {
                back.extend(wire.chunk().expect("cut short"));
            }
            assert_eq!(String::from_utf8_lossy(&back), piece);
        }
        wire.send("0\r\n\r\n");
        assert_eq!(wire.chunk().as_deref(), Some(&b""[..]));
    });
}

#[test]
fn large_bodies_pass_whole() {
    const SIZE: usize = 40 << 20;
    let body: Vec<u8> = (0..SIZE).map(|at| (at * 31 / 7) as u8).collect();
    let expected = body.clone();
    let service = Service::replying(move |head, body| {
        if head.method() == "GET" {
            return [
                format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes(),
                &expected,
            ]
            .concat();
        }
        ok(if body == expected { "equal" } else { "different" })
    });
    both(service.port, |bastion, _| {
        let _turn = heavy();
        let down = fetch(bastion.http, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(down.body == body, "{} bytes came", down.body.len());
        let mut wire = Wire::to(bastion.http);
        wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"));
        wire.send(&body);
        assert_eq!(wire.answer("POST").text(), "equal");
    });
}

#[test]
fn websockets_pass() {
    let Some(python) = need_module("websockets") else { return };
    let (_server, at) = serve(&python, "echo.py");
    both(at.port(), |bastion, _| {
        let url = format!("ws://{}/chat?room=1", bastion.http);
        talk(&python, "echo.py", &[&url, "none", "6", "1000000"], "talked 6");
    });
}

#[test]
fn a_staging_that_gives_no_answer_is_a_502_that_says_why() {
    let service = Service::start(|head, wire| {
        match head.target() {
            "/nonsense" => wire.send("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            "/large" => wire.send(format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(1_000_000))),
            "/many" => wire.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200))),
            _ => {}
        }
        After::Close
    });
    let refused = |bastion: &Bastion, path: &str, why: &str| {
        let answer = fetch(bastion.http, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(
            (answer.status(), answer.served_by()),
            (502, "edge; reason=staging-failed"),
            "{path}: {answer:?}"
        );
        assert!(answer.text().contains(why), "{path}: {}", answer.text());
    };
    both(service.port, |bastion, _| {
        refused(bastion, "/nonsense", "invalid HTTP");
        refused(bastion, "/closed", "closed before");
        refused(bastion, "/large", "too large");
        refused(bastion, "/many", "too large");
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&plain(nobody), "/", "refused");
    refused(
        &Bastion::with(&["--local", "--staging-url", "http://nowhere.invalid"]),
        "/",
        "nowhere.invalid",
    );

    let Some(authority) = Authority::new() else { return };
    refused(
        &authority.bastion(&format!("https://localhost:{}", service.port)),
        "/",
        "gave no answer",
    );
    let Some((_tls, at)) = authority.in_front_of(service.port) else {
        return;
    };
    // Another name than the certificate's, and a certificate that nobody here trusts.
    refused(&authority.bastion(&format!("https://{at}")), "/", "certificate");
    let other = Authority::new().unwrap();
    refused(
        &other.bastion(&format!("https://localhost:{}", at.port())),
        "/",
        "certificate",
    );
    let none = Bastion::with_environment(
        &["--local", "--staging-url", &format!("https://localhost:{}", at.port())],
        &[("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")],
    );
    refused(&none, "/", "certificate");
}

/// Whoever waits for a slow staging may leave, and staging learns of it.
#[test]
fn a_slow_staging_is_waited_for_and_left() {
    let (seen, see) = mpsc::channel();
    let seen = Mutex::new(seen);
    let service = Service::start(move |head, wire| {
        if head.target() == "/slow" {
            // It ends when the edge gives up.
            wire.rest();
            seen.lock().unwrap().send(()).unwrap();
            return After::Close;
        }
        wire.send(ok("prompt"));
        After::Keep
    });
    both(service.port, |bastion, _| {
        let count = service.heads().len();
        let mut stream = TcpStream::connect(bastion.http).unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        until("the request to arrive", || (service.heads().len() > count).then_some(()));
        assert_eq!(fetch(bastion.http, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "prompt");
        // It leaves with a reset: after a mere end of its side it would be waited for.
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        see.recv_timeout(LIMIT).expect("staging is not told that nobody waits");
    });
}

/// A connection that staging closes while it is idle costs nobody an answer.
#[test]
fn a_staging_may_close_its_idle_connections() {
    let service = Service::start(|_, wire| {
        wire.send(ok("once"));
        After::Close
    });
    both(service.port, |bastion, _| {
        let mut wire = Wire::to(bastion.http);
        for number in 0..20 {
            wire.send(format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(wire.answer("GET").text(), "once", "request {number}");
        }
    });
}

#[test]
fn nginx_over_https() {
    let (Some(nginx), Some(authority)) = (need("nginx"), Authority::new()) else {
        return;
    };
    let at = lasting_address();
    let root = authority.0.path();
    std::fs::create_dir(root.join("site")).unwrap();
    std::fs::write(root.join("site/large"), vec![b'n'; 20 << 20]).unwrap();
    std::fs::write(root.join("site/page.html"), "<h1>staging</h1>").unwrap();
    std::fs::write(root.join("nginx.conf"), nginx_conf(root, at)).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf"));
    let mut server = Process::start("nginx", &mut command);
    until("nginx to listen", || {
        assert!(server.ended().is_none(), "{}", server.said());
        TcpStream::connect(at).ok()
    });
    let bastion = authority.bastion(&format!("https://localhost:{}", at.port()));
    let mut wire = Wire::to(bastion.http);
    for _ in 0..3 {
        wire.send("GET /page.html HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        let page = wire.answer("GET");
        assert_eq!((page.status(), page.text().as_str()), (200, "<h1>staging</h1>"));
        assert_eq!(page.served_by(), "staging");
    }
    wire.send("GET /who HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(wire.answer("GET").text(), format!("localhost:{} https", at.port()));
    wire.send("GET /large HTTP/1.1\r\nHost: shop.test\r\nRange: bytes=5-\r\n\r\n");
    let part = wire.answer("GET");
    assert_eq!((part.status(), part.body.len()), (206, (20 << 20) - 5));
    wire.send("GET /missing HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(wire.answer("GET").status(), 404);
}

fn nginx_conf(root: &Path, at: SocketAddr) -> String {
    let root = root.display();
    format!(
        "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {root}/b;\nproxy_temp_path {root}/p;\nfastcgi_temp_path {root}/f;\n\
         uwsgi_temp_path {root}/u;\nscgi_temp_path {root}/s;\nserver {{\nlisten {at} ssl;\nserver_name localhost;\n\
         ssl_certificate {root}/cert.pem;\nssl_certificate_key {root}/key.pem;\nroot {root}/site;\n\
         location = /who {{ return 200 \"$http_host $scheme\"; }}\n}}\n}}\n"
    )
}
