//! What the SSH server refuses, tried with OpenSSH: other people's names, shells, forwards, passwords, old algorithms.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use crate::support::{Bastion, LIMIT, Process, Service, Wire, get, lasting_address, make_key, until};

/// Runs ssh to its end, which must be a failure, and gives what it said.
#[track_caller]
fn refused(bastion: &Bastion, user: &str, key: &str, options: &[&str]) -> String {
    let finished = Process::run("ssh", &mut bastion.ssh(user, key, options));
    assert!(!finished.status.success(), "ssh {options:?} was let in: {finished:?}");
    assert!(bastion_lives(bastion), "bastiond does not answer any more");
    finished.out + &finished.err
}

fn bastion_lives(bastion: &Bastion) -> bool {
    crate::support::fetch(bastion.http, "GET /ephemwork-health HTTP/1.1\r\nHost: x\r\n\r\n").status() == 200
}

#[test]
fn a_user_may_claim_only_their_own_name() {
    let bastion = Bastion::start();
    let forward = ["-N", "-R", "api:0:127.0.0.1:9"];
    for (user, key) in [
        ("bob", "alice"),
        ("alice", "bob"),
        ("root", "alice"),
        ("Alice", "alice"),
        ("carol", "alice"),
    ] {
        let said = refused(&bastion, user, key, &forward);
        assert!(
            said.contains("Permission denied (publickey)"),
            "{user} with {key}'s key: {said}"
        );
    }
    make_key(&bastion.path("stranger"), "alice@elsewhere");
    let said = refused(&bastion, "alice", "stranger", &forward);
    assert!(said.contains("Permission denied (publickey)"), "{said}");
    assert_eq!(get(bastion.http, "bob:api", "/").status(), 404);
    // The service part is a name, not a way into somebody else's tags, and not a port.
    for address in ["bob:api", "a/b", "a b", "", "*"] {
        let forward = format!("[{address}]:0:127.0.0.1:9");
        let said = refused(&bastion, "alice", "alice", &["-N", "-R", &forward]);
        assert!(said.contains("remote port forwarding failed"), "{address:?}: {said}");
    }
    assert!(bastion.session("bob:api").is_none());
}

#[test]
fn the_environment_of_a_key_names_its_user() {
    let mut bastion = Bastion::start();
    let carol = make_key(&bastion.path("carol"), "whoever@anywhere");
    let keys = bastion.path("state/authorized_keys");
    let lines = format!("# the team\n\nnonsense\nenvironment=\"EPHEMWORK_USER=carol\" {carol}\n");
    std::fs::write(&keys, lines).unwrap();
    // SIGHUP reads the keys again: carol may come, alice may not any more.
    bastion.process.signal(rustix::process::Signal::HUP);
    let service = Service::saying("carol's");
    let _ssh = until("carol to be known", || {
        let mut ssh = bastion.claim("carol", &[("api", service.port)]);
        until("ssh to be accepted or refused", || {
            (ssh.err().contains("Allocated port") || ssh.ended().is_some()).then_some(())
        });
        ssh.ended().is_none().then_some(ssh)
    });
    assert_eq!(get(bastion.http, "carol:api", "/").text(), "carol's");
    let said = refused(&bastion, "alice", "alice", &["-N"]);
    assert!(said.contains("Permission denied"), "{said}");
    assert!(
        bastion.process.err().contains("3"),
        "the line that is wrong is not named:\n{}",
        bastion.process.err()
    );
}

#[test]
fn shells_commands_and_forwards_are_refused_with_a_reason() {
    let bastion = Bastion::start();
    // A reason is a sentence of ours behind OpenSSH's own words.
    for options in [&["-T"][..], &["-tt"], &["-s", "-T"], &["-A", "-T"], &["-X", "-T"]] {
        let mut command = bastion.ssh("alice", "alice", options);
        if options.contains(&"-s") {
            command.arg("sftp");
        } else if options == ["-T"] {
            command.arg("uname -a");
        }
        let finished = Process::run("ssh", &mut command);
        assert!(!finished.status.success(), "{options:?}: {finished:?}");
        assert!(!finished.out.contains("Linux"), "{finished:?}");
        let said = finished.out + &finished.err;
        // Of a subsystem or a terminal OpenSSH says only that it failed.
        let reason = match options {
            ["-s", ..] => "subsystem request failed",
            ["-tt"] => "PTY allocation request failed",
            _ => "ephemwork-bastiond: ",
        };
        assert!(said.contains(reason), "{options:?}: {said:?}");
    }
    // ssh -L: the connection is made here and refused there, with the reason on ssh's standard error.
    let inside = Service::saying("inside");
    let at = lasting_address();
    let forward = format!("{}:127.0.0.1:{}", at, inside.port);
    let ssh = Process::start("ssh -L", &mut bastion.ssh("alice", "alice", &["-N", "-L", &forward]));
    let mut stream = until("ssh -L to listen", || TcpStream::connect(at).ok());
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).ok();
    assert_eq!(got, b"");
    until("ssh to say why", || {
        ssh.err().contains("open failed: administratively prohibited: ").then_some(())
    });
    assert_eq!(inside.connections(), 0);
    // ssh -W is the same thing in another dress, and so is a dynamic forward.
    let target = format!("127.0.0.1:{}", inside.port);
    let said = refused(&bastion, "alice", "alice", &["-W", &target]);
    assert!(said.contains("administratively prohibited"), "{said}");
    // A socket file is no service.
    let said = refused(
        &bastion,
        "alice",
        "alice",
        &["-N", "-R", "/tmp/ephemwork-test.sock:127.0.0.1:9"],
    );
    assert!(said.contains("forwarding"), "{said}");
    assert_eq!(inside.connections(), 0);
}

#[test]
fn only_public_keys_are_offered() {
    let bastion = Bastion::start();
    for method in ["password", "keyboard-interactive", "hostbased", "gssapi-with-mic", "none"] {
        let preferred = format!("PreferredAuthentications={method}");
        let said = refused(
            &bastion,
            "alice",
            "alice",
            &["-N", "-o", "PubkeyAuthentication=no", "-o", &preferred],
        );
        assert!(said.contains("Permission denied (publickey)."), "{method}: {said}");
    }
}

#[test]
fn old_algorithms_find_no_match() {
    let bastion = Bastion::start();
    let old = [
        ("KexAlgorithms=diffie-hellman-group14-sha1", "no matching key exchange method"),
        ("KexAlgorithms=diffie-hellman-group1-sha1", "no matching key exchange method"),
        (
            "KexAlgorithms=diffie-hellman-group-exchange-sha1",
            "no matching key exchange method",
        ),
        ("Ciphers=aes128-cbc", "no matching cipher"),
        ("Ciphers=aes256-cbc", "no matching cipher"),
        ("Ciphers=3des-cbc", "no matching cipher"),
        ("HostKeyAlgorithms=ssh-rsa", "no matching host key type"),
        ("HostKeyAlgorithms=ssh-dss", "no matching host key type"),
    ];
    for (option, expected) in old {
        let said = refused(&bastion, "alice", "alice", &["-N", "-o", option]);
        // A client that has dropped an algorithm altogether says that instead.
        assert!(
            said.contains(expected) || said.contains("Bad ") || said.contains("nsupported"),
            "{option}: {said}"
        );
    }
    // SHA-1 as MAC, with a cipher that needs one.
    let said = refused(
        &bastion,
        "alice",
        "alice",
        &[
            "-N",
            "-o",
            "Ciphers=aes128-ctr,aes256-ctr",
            "-o",
            "MACs=hmac-sha1,hmac-sha1-etm@openssh.com,hmac-md5",
        ],
    );
    assert!(said.contains("no matching"), "{said}");
    // What is used instead is modern, and strict (CVE-2023-48795).
    let mut command = bastion.ssh("alice", "alice", &["-vv", "-N", "-R", "api:0:127.0.0.1:9"]);
    let mut ssh = Process::start("ssh -vv", &mut command);
    ssh.wait_for("Allocated port");
    let said = ssh.err();
    assert!(said.contains("kex: host key algorithm: ssh-ed25519"), "{said}");
    assert!(said.contains("kex-strict-s-v00@openssh.com"), "{said}");
    assert!(
        said.contains("server->client cipher: aes128-gcm@openssh.com")
            || said.contains("gcm@openssh.com")
            || said.contains("chacha20-poly1305"),
        "{said}"
    );
}

#[test]
fn authentication_tries_are_limited() {
    const TRIES: usize = 24;
    const MOST: usize = 12;
    let bastion = Bastion::start();
    let wrong: Vec<String> = (0..TRIES)
        .map(|number| {
            let path = bastion.path(&format!("wrong-{number}"));
            make_key(&path, "alice@laptop");
            path.to_str().unwrap().to_owned()
        })
        .collect();
    // The right key is the last that ssh would try.
    let mut options = vec!["-v", "-N"];
    for path in &wrong[1..] {
        options.extend(["-i", path]);
    }
    let right = bastion.path("alice");
    options.extend(["-i", right.to_str().unwrap()]);
    let finished = Process::run("ssh", &mut bastion.ssh("alice", "wrong-0", &options));
    assert!(!finished.status.success(), "{finished:?}");
    let offered = finished.err.matches("Offering public key").count();
    assert!((1..=MOST).contains(&offered), "{offered} keys were tried:\n{}", finished.err);
    assert!(!finished.err.contains("Authenticated to"), "{finished:?}");
}

#[test]
fn a_silent_or_foreign_client_is_sent_away() {
    let bastion = Bastion::start();
    // HTTP on the SSH port, nonsense, and a line without end.
    let endless = "x".repeat(100_000);
    for hello in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        &endless,
        "SSH-1.5-old\r\n",
    ] {
        let mut wire = Wire::to(bastion.ssh);
        wire.try_send(hello.as_bytes()).ok();
        let said = wire.rest();
        assert!(said.len() < 4096, "{} bytes back", said.len());
    }
    // One that says nothing at all is not kept for ever.
    let mut wire = Wire::to(bastion.ssh);
    let said = wire.rest();
    assert!(
        said.starts_with(b"SSH-2.0-") || said.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&said)
    );
    assert!(bastion_lives(&bastion));
}

#[test]
fn the_host_key_is_private_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let mut bastion = Bastion::lasting(&[]);
    let key = bastion.path("state/host_key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let control = std::fs::metadata(bastion.path("state/control.sock"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(control, 0o600, "{control:o}");
    let before = std::fs::read(&key).unwrap();
    let known = std::fs::read(bastion.path("known_hosts")).unwrap();
    let shown = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&key).output().unwrap();
    assert!(String::from_utf8_lossy(&known).contains(String::from_utf8_lossy(&shown.stdout).split(' ').nth(1).unwrap().trim()));
    bastion.process.signal(rustix::process::Signal::TERM);
    assert!(bastion.process.wait().success());
    assert!(!bastion.path("state/ready.json").exists(), "ready.json outlives a clean end");
    bastion.restart();
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(std::fs::read(bastion.path("known_hosts")).unwrap(), known);
}
