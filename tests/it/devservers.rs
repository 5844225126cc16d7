//! Development servers as developers run them: FastAPI under `uvicorn --reload`, and Vite with hot reload.

use std::process::Command;

use crate::support::{Process, Workshop, fetch, get, lasting_address, need, need_module, peer, until};

#[test]
fn fastapi_under_uvicorn_reloads_behind_the_tunnel() {
    let (Some(uvicorn), Some(_)) = (need("uvicorn"), need_module("fastapi")) else {
        return;
    };
    let port = lasting_address().port();
    // `exec` is left out on purpose: uvicorn is then a grandchild with children of its own.
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {port}\nhealth_check_path = \"/health\"\n\
             run_command = \"'{}' app:app --host 127.0.0.1 --port {port} --reload\"\n",
            uvicorn.display()
        ),
    );
    let app = workshop.project().join("app.py");
    std::fs::copy(peer("app.py"), &app).unwrap();
    let mut up = workshop.up(&["api"], &[]);
    let greeting = get(workshop.edge, "alice:api", "/greeting");
    assert_eq!(greeting.text(), "{\"greeting\":\"first\"}");
    let sum = fetch(
        workshop.edge,
        "POST /sum HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n[1,2,3]",
    );
    assert_eq!(sum.text(), "{\"sum\":6}");

    let text = std::fs::read_to_string(&app).unwrap();
    std::fs::write(&app, text.replace("\"first\"", "\"second\"")).unwrap();
    until("the edited application to answer", || {
        let answer = get(workshop.edge, "alice:api", "/greeting");
        // In between the reloader's socket accepts and nobody answers, or nobody accepts.
        assert!(matches!(answer.status(), 200 | 502), "{answer:?}");
        (answer.text() == "{\"greeting\":\"second\"}").then_some(())
    });
    up.signal(rustix::process::Signal::TERM);
    up.wait();
    workshop.wait_no_orphan();
}

#[test]
fn vite_and_its_hot_reload_socket() {
    let (Some(vite), Some(python)) = (need("vite"), need_module("websockets")) else {
        return;
    };
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.front-end]\nport = {port}\nrun_command = \"'{}' --host 127.0.0.1 --port {port} --strictPort\"\n",
            vite.display()
        ),
    );
    for file in ["index.html", "main.js"] {
        std::fs::copy(peer("vite").join(file), workshop.project().join(file)).unwrap();
    }
    let _up = workshop.up(&["front-end"], &[]);
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(peer("hmr.py"))
        .args([&workshop.edge.to_string(), "alice:front-end"])
        .arg(workshop.project());
    let finished = Process::run("hmr.py", &mut command);
    assert!(finished.out.contains("fresh"), "{finished:?}");
}

/// Vite refuses names that it does not know (`server.allowedHosts`), and requests through the edge carry staging's.
#[test]
fn vite_takes_requests_for_stagings_name_when_it_is_told_its_own() {
    let Some(vite) = need("vite") else { return };
    let port = lasting_address().port();
    let services = |more: &str| {
        format!(
            "[service.front-end]\nport = {port}\nrun_command = \"'{}' --host 127.0.0.1 --port {port} --strictPort\"\n{more}",
            vite.display()
        )
    };
    let workshop = Workshop::new("alice", "");
    for file in ["index.html", "main.js"] {
        std::fs::copy(peer("vite").join(file), workshop.project().join(file)).unwrap();
    }
    for (more, status) in [
        ("", 403),
        ("host_header = \"local\"\n", 200),
        ("host_header = \"shop.localhost\"\n", 200),
    ] {
        workshop.write("", &services(more));
        let mut up = workshop.up(&["front-end"], &[]);
        let answer = fetch(
            workshop.edge,
            "GET /main.js HTTP/1.1\r\nHost: staging.example.com\r\nX-Ephemwork: alice:front-end\r\n\r\n",
        );
        assert_eq!(answer.status(), status, "{more}: {answer:?}");
        up.signal(rustix::process::Signal::INT);
        up.wait();
    }
}
