//! How fast a lane is: a channel on which the bastion echoes, sends or takes bytes, and the laptop that times it. Both ends use this file.
//!
//! The laptop says one byte: [`ECHO`], and everything after it comes back; [`SOURCE`], and bytes come until it ends the channel;
//! [`SINK`], and what it sends until its end is counted, and the count (8 bytes, big-endian) is the answer. Nothing is kept.

use std::time::{Duration, Instant};

use crate::rt::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const ECHO: u8 = b'e';
const SOURCE: u8 = b's';
const SINK: u8 = b'k';

/// The most bytes of one direction that the bastion sends or takes: two seconds at 16 MB/s.
const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// How long the bastion has one channel of this kind open.
const MOST_TIME: Duration = Duration::from_secs(15);

/// How long bytes of one direction are sent for.
const FOR: Duration = Duration::from_secs(3);

/// What of that is not counted: windows open in it, and what waits on its way is brought to the pace.
const WARM: Duration = Duration::from_millis(500);

/// How many round trips are timed; the middle one counts.
const ROUNDS: usize = 9;

/// How much is sent at once, in bytes.
const PIECE: usize = 16 * 1024;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) round_trip: Duration,
    /// Bytes a second to the laptop.
    pub(crate) down: f64,
    /// Bytes a second from the laptop.
    pub(crate) up: f64,
}

/// The bastion's half, on a channel that was opened; ends by itself.
pub(crate) async fn serve(mut channel: impl AsyncRead + AsyncWrite + Unpin) {
    let serving = async {
        match channel.read_u8().await? {
            ECHO => echo(&mut channel).await,
            SOURCE => source(&mut channel).await,
            SINK => sink(&mut channel).await,
            _ => Ok(()),
        }
    };
    // A laptop that went away has no use for an answer.
    drop(rt::timeout(MOST_TIME, serving).await);
}

async fn echo(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    let (mut piece, mut left) = (vec![0; PIECE], MOST_BYTES);
    loop {
        let count = channel.read(&mut piece).await?;
        left = left.saturating_sub(count as u64);
        if count == 0 || left == 0 {
            return channel.shutdown().await;
        }
        channel.write_all(&piece[..count]).await?;
        channel.flush().await?;
    }
}

async fn source(channel: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let noise = noise();
    let mut sent = 0;
    while sent < MOST_BYTES {
        channel.write_all(&noise).await?;
        sent += noise.len() as u64;
    }
    channel.shutdown().await
}

async fn sink(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    let (mut piece, mut count) = (vec![0; PIECE], 0u64);
    while count < MOST_BYTES {
        match channel.read(&mut piece).await? {
            0 => break,
            more => count += more as u64,
        }
    }
    channel.write_all(&count.to_be_bytes()).await?;
    channel.shutdown().await
}

/// Bytes that do not compress.
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

/// The middle of some round trips of one byte.
pub(super) async fn round_trip(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<Duration> {
    channel.write_all(&[ECHO]).await?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        channel.write_all(b".").await?;
        channel.flush().await?;
        channel.read_u8().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[ROUNDS / 2])
}

/// Bytes a second from the bastion.
pub(super) async fn down(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<f64> {
    channel.write_all(&[SOURCE]).await?;
    channel.flush().await?;
    let mut piece = vec![0; 4 * PIECE];
    let (begun, mut counted, mut since) = (Instant::now(), 0u64, None);
    loop {
        let count = channel.read(&mut piece).await? as u64;
        let now = Instant::now();
        match since {
            None if now - begun >= WARM => since = Some(now),
            None => {}
            Some(_) => counted += count,
        }
        if count == 0 || now - begun >= FOR {
            // Everything came before it was warm: the whole counts.
            let since = since.unwrap_or(begun);
            let time = (now - since).as_secs_f64().max(f64::EPSILON);
            let all = if counted == 0 { MOST_BYTES } else { counted };
            return Ok(all as f64 / time);
        }
    }
}

/// Bytes a second to the bastion.
pub(super) async fn up(channel: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<f64> {
    channel.write_all(&[SINK]).await?;
    let noise = noise();
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < FOR && sent + noise.len() as u64 <= MOST_BYTES {
        channel.write_all(&noise).await?;
        sent += noise.len() as u64;
    }
    channel.shutdown().await?;
    let count = channel.read_u64().await?;
    Ok(count as f64 / begun.elapsed().as_secs_f64().max(f64::EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_understand_each_other() {
        rt::block_on(async {
            let pair = || {
                let (near, far) = rt::duplex(PIECE);
                (near, rt::spawn(serve(far)))
            };
            let (mut near, served) = pair();
            assert!(round_trip(&mut near).await.unwrap() < MOST_TIME);
            drop(near);
            served.await;
            let (mut near, served) = pair();
            assert!(down(&mut near).await.unwrap() > 0.0);
            drop(near);
            served.await;
            let (mut near, served) = pair();
            assert!(up(&mut near).await.unwrap() > 0.0);
            served.await;
            let (mut near, served) = pair();
            near.write_all(b"x").await.unwrap();
            served.await;
            assert_eq!(near.read(&mut [0; 4]).await.unwrap(), 0);
        })
        .unwrap();
    }
}
