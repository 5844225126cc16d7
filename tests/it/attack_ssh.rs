//! What can be done to the SSH server without a key: damaged packets, key exchanges without end, places that are taken and not used,
//! Terrapin. Byte by byte, so that nothing is sent that a library would have put right.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Bastion, Process, Service, Wire, get, heavy, need, until};

/// SSH's message numbers (RFC 4250, section 4.1.2; RFC 5656).
const IGNORE: u8 = 2;
const DEBUG: u8 = 4;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const ECDH_INIT: u8 = 30;
const ECDH_REPLY: u8 = 31;

const CURVE: &str = "curve25519-sha256";
const STRICT: &str = "curve25519-sha256,kex-strict-c-v00@openssh.com";
const HYBRID: &str = "mlkem768x25519-sha256";

/// How much a thousand half-open connections may cost, in KiB: as many as may log in at once with the largest packet that is read, and
/// room.
const HALF_OPEN: u64 = 128 * 1024;

fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

/// RFC 4253, section 6, without a cipher.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let mut bytes = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    bytes.push(padding as u8);
    bytes.extend(payload);
    bytes.extend(vec![0; padding]);
    bytes
}

fn kexinit(kex: &str) -> Vec<u8> {
    let cipher = "aes128-gcm@openssh.com";
    let mac = "hmac-sha2-256-etm@openssh.com";
    let lists = [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""];
    let mut payload = vec![KEXINIT];
    payload.extend([7; 16]);
    lists.iter().for_each(|list| payload.extend(string(list)));
    payload.extend([0; 5]);
    payload
}

/// A public key of curve25519: any 32 bytes are one.
fn ecdh(key: &[u8]) -> Vec<u8> {
    [&[ECDH_INIT][..], &string(key)].concat()
}

const GREETING: &[u8] = b"SSH-2.0-raw\r\n";

/// The numbers of the messages that the server sent in clear.
fn numbers(mut said: &[u8]) -> Vec<u8> {
    let Some(end) = said.iter().position(|&byte| byte == b'\n') else {
        return Vec::new();
    };
    said = &said[end + 1..];
    let mut numbers = Vec::new();
    while let Some(length) = said.get(..4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if said.len() < 4 + length || length < 2 {
            break;
        }
        numbers.push(said[5]);
        if said[5] == NEWKEYS {
            break;
        }
        said = &said[4 + length..];
    }
    numbers
}

/// Sends all of it and reads until the server ends the connection, or what says that it went on.
fn outcome(bastion: &Bastion, bytes: &[u8]) -> Vec<u8> {
    let mut wire = Wire::to(bastion.ssh);
    wire.try_send(bytes).ok();
    wire.finish_sending();
    numbers(&wire.rest())
}

/// Memory of the daemon, shared pages divided among their users, in KiB.
fn pss(bastion: &Bastion) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", bastion.process.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The daemon is as it was: nothing panicked, it serves, a laptop comes in.
#[track_caller]
fn unharmed(bastion: &mut Bastion) {
    let service = Service::saying("yes");
    let laptop = until("a laptop to be let in", || {
        let mut ssh = bastion.claim("alice", &[("api", service.port)]);
        until("ssh to be accepted or refused", || {
            (ssh.err().contains("Allocated port") || ssh.ended().is_some()).then_some(())
        });
        ssh.ended().is_none().then_some(ssh)
    });
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    drop(laptop);
    assert!(!bastion.process.err().contains("panicked"), "{}", bastion.process.err());
    bastion.process.signal(Signal::TERM);
    assert_eq!(bastion.process.wait().code(), Some(0));
}

#[test]
fn malformed_packets_end_their_own_connection() {
    let mut bastion = Bastion::start();
    let before = pss(&bastion);
    let good = packet(&kexinit(CURVE));
    let cut_list = [&[KEXINIT][..], &[7; 16], &u32::MAX.to_be_bytes()].concat();
    let no_utf8 = [&[KEXINIT][..], &[7; 16], &string([0xff, 0xfe, 0x2c]), &[0; 41]].concat();
    let many = kexinit(&"a,".repeat(100_000));
    let mut guess = kexinit(&format!("{HYBRID},{CURVE}"));
    let at = guess.len() - 5;
    guess[at] = 1;
    #[rustfmt::skip] // A table: one shape a line.
    let shapes: &[(&str, Vec<u8>)] = &[
        ("nothing", vec![]),
        ("rubbish", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".repeat(50)),
        ("length 0", vec![0; 64]),
        ("length 1", [&[0, 0, 0, 1, 0][..], &[0; 60]].concat()),
        ("length 3", [&[0, 0, 0, 3, 0][..], &[0; 60]].concat()),
        ("length 2^32 - 1", vec![0xff; 64]),
        ("length 2^31", [&[0x80, 0, 0, 0][..], &[0; 60]].concat()),
        ("a packet of 257 KiB", [&(257u32 * 1024 + 64).to_be_bytes()[..], &vec![0; 258 * 1024]].concat()),
        ("more padding than packet", [&[0, 0, 0, 12, 255, KEXINIT][..], &[0; 58]].concat()),
        ("no padding", [&[0, 0, 0, 12, 0, KEXINIT][..], &[0; 10]].concat()),
        ("an empty payload", [&[0, 0, 0, 12, 11][..], &[0; 11]].concat()),
        ("a cut KEXINIT", packet(&[KEXINIT, 1, 2, 3])),
        ("a list longer than its packet", packet(&cut_list)),
        ("a list that is no text", packet(&no_utf8)),
        ("a hundred thousand names", packet(&many)),
        ("nothing in common", packet(&kexinit("diffie-hellman-group1-sha1"))),
        ("empty lists", packet(&kexinit(""))),
        ("KEXINIT twice", good.repeat(2)),
        ("KEXINIT a thousand times", good.repeat(1000)),
        ("NEWKEYS at once", packet(&[NEWKEYS])),
        ("NEWKEYS after KEXINIT", [&good[..], &packet(&[NEWKEYS])].concat()),
        ("no key", [&good[..], &packet(&[ECDH_INIT])].concat()),
        ("an empty key", [&good[..], &packet(&ecdh(b""))].concat()),
        ("a key that is too short", [&good[..], &packet(&ecdh(&[9; 31]))].concat()),
        ("a key that is too long", [&good[..], &packet(&ecdh(&[9; 33]))].concat()),
        ("a key of order one", [&good[..], &packet(&ecdh(&[0; 32]))].concat()),
        ("a key longer than its packet", [&good[..], &packet(&[ECDH_INIT, 0xff, 0xff, 0xff, 0xff])].concat()),
        ("more behind the key", [&good[..], &packet(&[ecdh(&[9; 32]), vec![1, 2, 3]].concat())].concat()),
        ("a hybrid key that is too short", [&packet(&kexinit(HYBRID))[..], &packet(&ecdh(&[9; 32]))].concat()),
        ("a hybrid key out of range", [&packet(&kexinit(HYBRID))[..], &packet(&ecdh(&[0xff; 1216]))].concat()),
        ("a wrong guess, and nothing more", packet(&guess)),
    ];
    for (name, bytes) in shapes {
        let said = outcome(&bastion, &[GREETING, bytes].concat());
        assert!(!said.contains(&ECDH_REPLY), "{name}: {said:?}");
    }
    for number in 0..=255 {
        let odd = packet(&[&[number][..], &[0; 40]].concat());
        let said = outcome(&bastion, &[GREETING, &odd].concat());
        assert!(!said.contains(&ECDH_REPLY), "{number}: {said:?}");
        let said = outcome(&bastion, &[GREETING, &good, &odd].concat());
        assert!(!said.contains(&ECDH_REPLY), "{number} after KEXINIT: {said:?}");
    }
    for greeting in [
        &b"SSH-2.0-\r\n"[..],
        b"SSH-2.0-a\0b\r\n",
        b"SSH-2.0-\xff\xfe\r\n",
        b"ssh-2.0-a\r\n",
        b"SSH-1.99-a\r\n",
        b"SSH-2.0-a\n",
        b"\r\n\r\n\r\nSSH-2.0-a\r\n",
        &[b"SSH-2.0-", &[b'a'; 300][..], b"\r\n"].concat(),
        &[b'S'; 1_000_000],
    ] {
        outcome(&bastion, greeting);
    }
    // The control: the same, right, gets its answer.
    let said = outcome(&bastion, &[GREETING, &good, &packet(&ecdh(&[9; 32]))].concat());
    assert!(said.contains(&ECDH_REPLY), "{said:?}");
    let grown = pss(&bastion).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    unharmed(&mut bastion);
}

/// CVE-2023-48795: with a strict key exchange nothing may come between its messages, and the first must be KEXINIT.
#[test]
fn terrapin_finds_no_room() {
    let mut bastion = Bastion::start();
    let key = packet(&ecdh(&[9; 32]));
    let run = |parts: &[&[u8]]| outcome(&bastion, &[GREETING, &parts.concat()].concat());
    let strict = packet(&kexinit(STRICT));
    assert!(run(&[&strict, &key]).contains(&ECDH_REPLY));
    for number in [IGNORE, DEBUG, 3] {
        let between = packet(&[&[number][..], &[0; 16]].concat());
        for parts in [&[&between[..], &strict, &key][..], &[&strict, &between, &key]] {
            let said = run(parts);
            assert!(!said.contains(&ECDH_REPLY), "{number}: {said:?}");
        }
    }
    unharmed(&mut bastion);
}

#[test]
fn ssh_audit_has_nothing_to_complain_about() {
    let Some(audit) = need("ssh-audit") else { return };
    let bastion = Bastion::start();
    let mut command = std::process::Command::new(audit);
    // The rate at which one address may connect is not for loopback, where every laptop of Session Manager comes from.
    command.args(["-j", "--skip-rate-test", &bastion.ssh.to_string()]);
    let finished = Process::run("ssh-audit", &mut command);
    let report: serde_json::Value = serde_json::from_str(&finished.out).unwrap_or_else(|why| panic!("{why}: {finished:?}"));
    let mut complaints = Vec::new();
    let mut seen = 0;
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().unwrap() {
            seen += 1;
            let name = algorithm["algorithm"].as_str().unwrap();
            for level in ["fail", "warn"] {
                let notes = algorithm["notes"][level].as_array();
                complaints.extend(
                    notes
                        .into_iter()
                        .flatten()
                        .map(|note| format!("{name}: {level}: {}", note.as_str().unwrap())),
                );
            }
        }
    }
    // Stock clients before OpenSSH 9.9 know nothing else; whoever knows the hybrid gets that.
    complaints.retain(|text| {
        let old = ["curve25519-sha256", "curve25519-sha256@libssh.org"]
            .map(|name| format!("{name}: warn: does not provide protection against post-quantum attacks"));
        !old.contains(text)
    });
    assert_eq!(complaints, Vec::<String>::new());
    assert!(seen >= 10, "{finished:?}");
    for empty in ["cves", "recommendations"] {
        let found = &report[empty];
        let none = found.as_array().is_some_and(Vec::is_empty) || found.as_object().is_some_and(serde_json::Map::is_empty);
        assert!(none, "{empty}: {found}");
    }
    let offered = report["kex"].to_string();
    assert!(
        offered.find("mlkem768x25519") < offered.find("curve25519-sha256"),
        "{offered}"
    );
    assert!(offered.contains("kex-strict-s-v00@openssh.com"), "{offered}");
}

/// Each key exchange costs the bastion a signature and two products on a curve. However many there are, requests go on.
#[test]
fn a_flood_of_key_exchanges_delays_nobody_for_long() {
    const THREADS: usize = 4;
    let each: usize = std::env::var("EPHEMWORK_TEST_EXCHANGES").map_or(100, |text| text.parse().unwrap());
    let mut bastion = Bastion::start();
    let service = Service::saying("yes");
    let laptop = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    let bytes = [GREETING, &packet(&kexinit(CURVE)), &packet(&ecdh(&[9; 32]))].concat();
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..each {
                        assert!(outcome(&bastion, &bytes).contains(&ECDH_REPLY));
                    }
                })
            })
            .collect();
        while floods.iter().any(|flood| !flood.is_finished()) {
            let asked = Instant::now();
            assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
            slowest = slowest.max(asked.elapsed());
        }
    });
    let rate = (THREADS * each) as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} key exchanges a second; the slowest request beside them took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    drop(laptop);
    unharmed(&mut bastion);
}

/// Places that are taken and not used: their memory has a limit, those who are logged in notice nothing, and the next laptop gets its turn.
#[test]
fn a_thousand_half_open_connections() {
    const COUNT: usize = 1000;
    let mut bastion = Bastion::with_files(20_000, &[]);
    let service = Service::saying("yes");
    let laptop = bastion.laptop("bob", &[("api", service.port)]);
    let _turn = heavy();
    let large = [&(256u32 * 1024).to_be_bytes()[..], &[0; 64 * 1024]].concat();
    let stages: [(&str, Vec<u8>); 4] = [
        ("silent", Vec::new()),
        ("greeted", GREETING.to_vec()),
        ("in the exchange of keys", [GREETING, &packet(&kexinit(HYBRID))].concat()),
        ("a quarter of the largest packet", [GREETING, &large].concat()),
    ];
    let before = pss(&bastion);
    for (stage, bytes) in &stages {
        let mut open = Vec::new();
        for _ in 0..COUNT {
            let mut wire = Wire::to(bastion.ssh);
            wire.try_send_within(bytes, Duration::from_secs(1));
            open.push(wire);
        }
        let mut most = 0;
        for _ in 0..20 {
            assert_eq!(get(bastion.http, "bob:api", "/").text(), "yes");
            most = most.max(pss(&bastion));
        }
        let grown = most.saturating_sub(before);
        println!("{COUNT} connections, {stage}: {grown} KiB more");
        assert!(grown < HALF_OPEN, "{stage}: {grown} KiB");
        if stage.starts_with("greeted") {
            // The first have had their time; a laptop comes in though hundreds were before it.
            let mut ssh = bastion.claim("alice", &[("api", service.port)]);
            until("a laptop to be let in", || {
                assert!(ssh.ended().is_none(), "{}", ssh.err());
                ssh.err().contains("Allocated port").then_some(())
            });
        }
    }
    drop(laptop);
    unharmed(&mut bastion);
}
