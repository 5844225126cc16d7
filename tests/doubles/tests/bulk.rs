//! Many bytes through the double: unpaced, so that a test may move a gigabyte, and without a change.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::support::{Channel, Double, Frame, serve, until};

const MEGABYTES: usize = 32;
/// The client's window in messages.
const WINDOW: i64 = 512;

fn megabyte(number: usize) -> Vec<u8> {
    (0..1_048_576).map(|at| (at * 7 + at / 251 + number) as u8).collect()
}

#[test]
fn down() {
    let port = serve(|mut stream| {
        for number in 0..MEGABYTES {
            // A client that goes away early fails the test by itself.
            stream.write_all(&megabyte(number)).ok();
        }
    });
    let double = Double::start(port, &["paced=false"]);
    let mut channel = Channel::open(&double, &double.start_session());
    channel.shake();
    let start = Instant::now();
    let (mut expected, mut seen) = (Sha256::new(), Sha256::new());
    (0..MEGABYTES).for_each(|number| expected.update(megabyte(number)));
    let (mut next, mut count) = (2, 0);
    while count < MEGABYTES * 1_048_576 {
        channel.next(Duration::from_secs(20)).expect("more data");
        while let Some(payload) = channel.received.remove(&next) {
            seen.update(&payload);
            count += payload.len();
            next += 1;
        }
    }
    assert_eq!(seen.finalize(), expected.finalize());
    eprintln!("{MEGABYTES} MiB down in {:?}", start.elapsed());
    assert_eq!(channel.closed(), "");
    double.demand_no_violations();
}

/// In messages of 1 KiB, as many as the window lets through; nothing is sent twice.
#[test]
fn up() {
    let (tell, told) = mpsc::channel();
    let port = serve(move |mut stream| {
        let (mut seen, mut left, mut piece) = (Sha256::new(), MEGABYTES * 1_048_576, vec![0; 65_536]);
        while left > 0 {
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "{left} bytes are missing");
            seen.update(&piece[..length]);
            left -= length;
        }
        tell.send(seen.finalize()).unwrap();
        // Until the other side goes.
        stream.read_exact(&mut [0]).ok();
    });
    let double = Double::start(port, &[]);
    let session = double.start_session();
    let mut channel = Channel::open(&double, &session);
    channel.shake();
    let id = session["SessionId"].as_str().unwrap();
    until("the dial", || (double.session(id)["phase"] == "Ready").then_some(()));
    let start = Instant::now();
    let (mut expected, mut sent, mut acked) = (Sha256::new(), 0, 0);
    for number in 0..MEGABYTES {
        let bytes = megabyte(number);
        expected.update(&bytes);
        for payload in bytes.chunks(1024) {
            sent += 1;
            channel.send(&Frame::data(sent, payload));
            while sent - acked >= WINDOW {
                let frame = channel.next(Duration::from_secs(20)).expect("an acknowledgement");
                acked += i64::from(frame.kind == "acknowledge");
            }
        }
    }
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), expected.finalize());
    eprintln!("{MEGABYTES} MiB up in {:?}", start.elapsed());
    let seen = double.session(id);
    assert_eq!(
        (
            &seen["up"]["retransmissions"],
            seen["most_outstanding"].as_i64() <= Some(WINDOW + 1)
        ),
        (&0.into(), true)
    );
    double.demand_no_violations();
}
