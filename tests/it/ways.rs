//! The three ways a request can go, with Python's http.server: to the laptop through OpenSSH, to the laptop through `up`,
//! and without a tag elsewhere.

use std::{net::SocketAddr, path::Path, process::Command};

use crate::support::{Bastion, Process, Workshop, fetch, get, lasting_address, need, until};

/// `python3 -m http.server` over a directory with one file.
fn file_server(directory: &Path, text: &str) -> Option<(Process, SocketAddr)> {
    let python = need("python3")?;
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("page.html"), text).unwrap();
    let at = lasting_address();
    let mut command = Command::new(python);
    command
        .args([
            "-u",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &at.port().to_string(),
            "--directory",
        ])
        .arg(directory);
    let mut server = Process::start("http.server", &mut command);
    server.wait_for("Serving HTTP");
    Some((server, at))
}

#[test]
fn through_openssh() {
    let bastion = Bastion::start();
    let Some((_server, at)) = file_server(&bastion.path("site"), "<h1>laptop</h1>") else {
        return;
    };
    let _ssh = bastion.laptop("alice", &[("site", at.port())]);
    let page = get(bastion.http, "alice:site", "/page.html");
    assert_eq!((page.status(), page.text().as_str()), (200, "<h1>laptop</h1>"));
    assert_eq!(page.served_by(), "alice:site");
    assert_eq!(page.head.field("content-type"), Some("text/html"));
    let missing = get(bastion.http, "alice:site", "/missing");
    assert_eq!((missing.status(), missing.served_by()), (404, "alice:site"));
    let elsewhere = fetch(bastion.http, "GET /page.html HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((elsewhere.status(), elsewhere.served_by()), (404, "edge; reason=no-tag"));
}

#[test]
fn through_up_and_past_it_to_staging() {
    let workshop = Workshop::new("alice", "");
    let Some((_staging, staging)) = file_server(&workshop.home().with_file_name("staging"), "<h1>staging</h1>") else {
        return;
    };
    let python = need("python3").unwrap();
    let port = lasting_address().port();
    std::fs::write(workshop.project().join("page.html"), "<h1>laptop</h1>").unwrap();
    // The service takes its port from the environment, as many do.
    let services = format!(
        "[service.site]\nport = {port}\nhealth_check_path = \"/page.html\"\n\
         run_command = \"echo serving as $EPHEMWORK_TAG; '{}' -u -m http.server --bind 127.0.0.1 $PORT\"\n",
        python.display()
    );
    workshop.write(&format!("staging_url = \"http://{staging}\""), &services);
    let mut up = workshop.up(&["site"], &[]);
    let said = up.said();
    assert!(said.contains("serving as alice:site"), "{said}");
    assert!(said.contains(&workshop.edge.to_string()), "the URL is not said: {said}");

    let page = get(workshop.edge, "alice:site", "/page.html");
    assert_eq!((page.status(), page.text().as_str()), (200, "<h1>laptop</h1>"));
    assert_eq!(page.served_by(), "alice:site");
    let page = fetch(workshop.edge, "GET /page.html HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!((page.status(), page.text().as_str()), (200, "<h1>staging</h1>"));
    assert!(page.served_by() != "alice:site", "{page:?}");
    assert_eq!(get(workshop.edge, "bob:site", "/page.html").status(), 404);

    // Ctrl-C ends it: the tag is released, no process stays, and staging is still there.
    up.signal(rustix::process::Signal::INT);
    let status = up.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}: {}", up.said());
    workshop.wait_no_orphan();
    until("the tag to be gone", || {
        (get(workshop.edge, "alice:site", "/page.html").status() == 404).then_some(())
    });
}

#[test]
fn untagged_without_staging_is_404() {
    let workshop = Workshop::new("alice", "");
    let Some((_server, at)) = file_server(&workshop.project(), "<h1>laptop</h1>") else {
        return;
    };
    workshop.write("", &format!("[service.site]\nport = {}\n", at.port()));
    let _up = workshop.up(&["site"], &["--no-run"]);
    assert_eq!(get(workshop.edge, "alice:site", "/page.html").text(), "<h1>laptop</h1>");
    let page = fetch(workshop.edge, "GET /page.html HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!((page.status(), page.served_by()), (404, "edge; reason=no-tag"));
}
