//! A gigabyte each way: every byte right, and bastiond's memory flat.

use std::time::Instant;

use crate::support::{
    Bastion, Process, Service, Wire, heavy,
    service::{After, ok},
};

/// Bytes of one transfer. EPHEMWORK_TEST_BULK_MB makes it smaller on a slow machine.
fn size() -> usize {
    let megabytes = std::env::var("EPHEMWORK_TEST_BULK_MB")
        .ok()
        .and_then(|text| text.parse().ok());
    megabytes.unwrap_or(1024usize) << 20
}

/// One piece of a transfer.
const PIECE: usize = 1 << 18;

/// Bytes of the transfers before, which open and fill every window once.
const FIRST: usize = 32 << 20;

/// How much bastiond may grow over its size after a first small transfer.
const GROWTH: u64 = 16 << 20;

/// The bytes at `index` pieces into the stream: a noise that differs from piece to piece, so that nothing may be lost, doubled
/// or swapped. Both ends make it; comparing all bytes is stricter than comparing hashes.
fn fill(noise: &[u8], index: usize, piece: &mut Vec<u8>) {
    let turn = (index * 7919) % PIECE;
    piece.clear();
    piece.extend_from_slice(&(index as u64).to_le_bytes());
    piece.extend_from_slice(&noise[turn..]);
    piece.extend_from_slice(&noise[..turn]);
    piece.truncate(PIECE);
}

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(PIECE);
    while bytes.len() < PIECE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn write(wire: &mut Wire, noise: &[u8], total: usize) {
    let mut piece = Vec::with_capacity(PIECE);
    for index in 0..total / PIECE {
        fill(noise, index, &mut piece);
        wire.send(&piece);
    }
}

/// The number of right bytes.
fn read(wire: &mut Wire, noise: &[u8], total: usize) -> usize {
    let mut piece = Vec::with_capacity(PIECE);
    for index in 0..total / PIECE {
        fill(noise, index, &mut piece);
        if wire.take(PIECE) != piece {
            return index * PIECE;
        }
    }
    total
}

/// `VmHWM`, the most memory the process ever had, in bytes; none where the system does not tell.
fn peak(process: &Process) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Down and up with `total` bytes each.
fn transfers(bastion: &Bastion, noise: &[u8], total: usize) {
    let start = Instant::now();
    let mut wire = Wire::to(bastion.http);
    wire.send(format!("GET /{total} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n"));
    let head = wire.head().expect("no head");
    assert_eq!(head.field("content-length"), Some(total.to_string().as_str()), "{head:?}");
    assert_eq!(
        read(&mut wire, noise, total),
        total,
        "the download differs behind this many bytes"
    );
    let down = start.elapsed();

    let start = Instant::now();
    wire.send(format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: {total}\r\n\r\n"
    ));
    write(&mut wire, noise, total);
    let answer = wire.answer("PUT");
    assert_eq!(answer.text(), total.to_string(), "the upload differs behind this many bytes");
    println!("{} MB down in {down:?}, up in {:?}", total >> 20, start.elapsed());
}

fn flat<L>(laptop: impl FnOnce(&Bastion, u16) -> L, total: usize) {
    let noise = noise();
    let own = noise.clone();
    let service = Service::start(move |head, wire| {
        if head.method() == "GET" {
            let total: usize = head.target()[1..].parse().unwrap();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
            write(wire, &own, total);
        } else {
            let total: usize = head.field("content-length").unwrap().parse().unwrap();
            let right = read(wire, &own, total);
            wire.send(ok(&right.to_string()));
        }
        After::Keep
    });
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, service.port);
    let _turn = heavy();
    transfers(&bastion, &noise, FIRST);
    let before = peak(&bastion.process);
    transfers(&bastion, &noise, total);
    if let (Some(before), Some(after)) = (before, peak(&bastion.process)) {
        println!("bastiond's peak: {} KB, then {} KB", before >> 10, after >> 10);
        assert!(
            after.saturating_sub(before) < GROWTH,
            "bastiond grew from {before} to {after} bytes"
        );
    }
}

#[test]
fn a_gigabyte_down_and_up_is_right_and_leaves_memory_flat() {
    flat(|bastion, port| bastion.up("alice", &[("api", port)]), size());
}

#[test]
fn an_openssh_laptop_leaves_memory_flat_too() {
    flat(|bastion, port| bastion.laptop("alice", &[("api", port)]), size() / 4);
}
