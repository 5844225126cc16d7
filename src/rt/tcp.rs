//! TCP connections of a laptop, on networks that lose packets, change, and come back.
//!
//! One attempt is not enough: TCP repeats its first packet after a second and then waits longer and longer, so that a network which has
//! just come back would be found seconds later. A shorter limit is not right either: it would never connect over a long way. So
//! another attempt is begun beside the first, as for hosts with several addresses (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs, lookup_host};

/// When another attempt is begun: when TCP repeats its first packet for the first time (RFC 6298, section 2.1).
const AGAIN: Duration = Duration::from_secs(1);

/// Attempts at a time. So each has four seconds, in which TCP repeats its first packet twice; where a round trip takes longer, no login
/// would be done in time.
const AT_ONCE: usize = 4;

/// Questions for a name at a time. A resolver whose first server is dead asks the next one after 5 s, and that must be waited for.
const QUESTIONS: usize = 10;

/// The largest segments of a way that loses larger ones, in bytes: with their headers at most 1,280, which every network carries that
/// carries IPv6 (RFC 8200, section 5). QUIC begins with as many (RFC 9000, section 14).
const SMALL: u32 = 1200;

/// How large the segments of a connection may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segments {
    /// As both ends' links allow.
    #[default]
    Full,
    /// So small that they get through wherever anything does.
    Small,
}

/// Connects to the first address of a name that answers. What is written is sent at once (no Nagle delay). The caller bounds the time.
///
/// # Errors
/// Nobody knows the name, or each of its addresses refuses.
pub async fn connect(to: impl ToSocketAddrs + Clone, segments: Segments) -> io::Result<TcpStream> {
    let found = super::beside(AGAIN, QUESTIONS, |_| {
        let to = to.clone();
        async move { Ok::<_, io::Error>(lookup_host(to).await?.collect::<Vec<_>>()) }
    });
    let addresses = found.await?;
    super::beside(AGAIN, AT_ONCE, |turn| any(&addresses, turn, segments)).await
}

/// One address after the other; each turn begins with another, so that one which never answers does not stand before the others.
async fn any(addresses: &[SocketAddr], turn: usize, segments: Segments) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for at in addresses
        .iter()
        .cycle()
        .skip(turn % addresses.len().max(1))
        .take(addresses.len())
    {
        match one(*at, segments).await {
            Ok(stream) => return Ok(stream),
            Err(why) => last = why,
        }
    }
    Err(last)
}

async fn one(at: SocketAddr, segments: Segments) -> io::Result<TcpStream> {
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Linux tells the other end in its first packet, so that both send small ones.
    let told = match segments {
        Segments::Full => true,
        Segments::Small => SockRef::from(&socket).set_tcp_mss(SMALL).is_ok(),
    };
    let stream = socket.connect(at).await?;
    if !told {
        // macOS takes it of connected sockets only, and then sends small ones itself. One that cannot be told works as before.
        SockRef::from(&stream).set_tcp_mss(SMALL).ok();
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Ends a connection, with [`io::ErrorKind::TimedOut`], on which nothing that was sent was acknowledged for so long. Only Linux can; there
/// it is the only thing that ends one whose writer waits for room.
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(unused_variables, reason = "there is no such option")
)]
pub fn give_up_after(stream: &TcpStream, silence: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(why) = SockRef::from(stream).set_tcp_user_timeout(Some(silence)) {
        tracing::debug!("no limit for what is not acknowledged: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn the_first_address_that_answers() {
        rt::block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            // Bound and not listening: it refuses.
            let closed = TcpSocket::new_v4().unwrap();
            closed.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let refuses = closed.local_addr().unwrap();
            let stream = connect(&[refuses, good][..], Segments::Small).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert!(stream.nodelay().unwrap());
            let why = connect(&[refuses][..], Segments::Full).await.unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::ConnectionRefused, "{why}");
            let why = connect(&[][..], Segments::Full).await.unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::NotFound, "{why}");
        })
        .unwrap();
    }
}
