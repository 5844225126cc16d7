//! Trailers beyond every limit: refused with a reason that is true, in both directions.

use crate::support::{
    Bastion, Service, Wire, Workshop, get,
    service::{After, ok},
    until,
};

fn fields(count: usize) -> String {
    (0..count).map(|number| format!("X-{number}: y\r\n")).collect()
}

/// They were a 502 that blamed the connection to the laptop.
#[test]
fn too_many_trailers_of_a_request_are_431() {
    let service = Service::replying(|_, body| ok(&format!("{} bytes", body.len())));
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let ask = |trailers: &str| {
        let mut wire = Wire::to(bastion.http);
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n"
        ));
        let answer = wire.answer("POST");
        (answer.status(), answer.served_by().to_owned())
    };
    let refused = (431, "edge; reason=trailers-too-large".to_owned());
    assert_eq!(ask(&fields(100)), (200, "alice:api".to_owned()));
    assert_eq!(ask(&format!("X: {}\r\n", "y".repeat(16_000))), (200, "alice:api".to_owned()));
    assert_eq!(ask(&fields(101)), refused);
    assert_eq!(ask(&fields(3000)), refused);
    for length in 16_370..16_400 {
        let (status, by) = ask(&format!("X: {}\r\n", "y".repeat(length)));
        assert!(status == 200 || (status, by.clone()) == refused, "{length}: {status} {by}");
    }
    assert_eq!(service.complete() > 2, service.complete() < 40);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "0 bytes");
}

/// When its trailers come, most of the answer is with the client already: it is cut off, and why is told where one looks for it.
#[track_caller]
fn cut_off<L>(bastion: &Bastion, laptop: impl FnOnce(&Bastion, u16) -> L, asks: impl FnOnce(&L)) {
    let service = Service::start(|head, wire| {
        let count = if head.target() == "/good" { 100 } else { 101 };
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        wire.send(format!("0\r\n{}\r\n", fields(count)));
        After::Keep
    });
    let laptop = laptop(bastion, service.port);
    assert_eq!(get(bastion.http, "alice:api", "/good").text(), "hello");
    let cut = || {
        let page = bastion.admin("GET", "/metrics").text();
        let line = |name: &str| {
            page.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        line("ephemwork_answers_cut_total{reason=\"trailers-too-large\"} ").unwrap()
    };
    assert_eq!(cut(), 0);
    let mut wire = Wire::to(bastion.http);
    wire.send("GET /bad HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    // An answer of the edge is as honest as one that is cut off.
    let head = wire.head();
    let own = head.as_ref().is_some_and(|head| head.status() == 502);
    if let Some(head) = head {
        assert!(own || wire.body(&head, false).is_none(), "passed off as whole: {head:?}");
    }
    let said = until("the failure to be told", || {
        bastion.session("alice:api")?["last_error"].as_str().map(str::to_owned)
    });
    assert!(said.contains("trailer"), "{said}");
    assert!(own || said.contains("broke off"), "{said}");
    until("it to be counted", || (own || cut() == 1).then_some(()));
    asks(&laptop);
    assert_eq!(get(bastion.http, "alice:api", "/good").text(), "hello");
}

#[test]
fn too_many_trailers_of_an_answer_cut_it_off() {
    cut_off(
        &Bastion::start(),
        |bastion, port| bastion.laptop("alice", &[("api", port)]),
        |_| {},
    );
}

/// It was "unexpected internal error encountered", and nothing on the laptop.
#[test]
fn too_many_trailers_of_an_answer_are_told_on_the_laptop_too() {
    let bastion = Bastion::local(&[]);
    let up = |bastion: &Bastion, port: u16| {
        let workshop = Workshop::beside(bastion, "alice", &format!("[service.api]\nport = {port}\n"));
        let process = workshop.up(&["api"], &["--no-run"]);
        (process, workshop)
    };
    cut_off(&bastion, up, |(_, workshop)| {
        until("the laptop to tell it", || {
            let status = workshop.run(&["status"]).out;
            status.contains("the service sent more or larger trailers").then_some(())
        });
    });
}
