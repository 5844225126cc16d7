//! Whose a request is, and how much one client may have of the edge. Pure: no clock, no socket, no lock.
//!
//! A client is an address. Who is new to a tag pays for it, whether somebody has claimed it or not, and gets it back for one that
//! somebody has: so who tries out names is slowed down, and a colleague behind the same address goes on with the tags in use.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName};

/// What each proxy appends the address to that it was called from. (AWS: "HTTP headers and Application Load Balancers".)
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// New tags that one client may ask for at once, and the time in which it gets another one. A person with a page for each service
/// of a team meets some dozens; who guesses at names gets 86,400 a day.
const NEW_TAGS: u32 = 60;
const NEW_TAG_EVERY: Duration = Duration::from_secs(1);

/// Tags that are remembered of one client, those that somebody has and those that nobody has. An office behind one address uses
/// some dozens; a page that polls for a laptop which has gone polls for few.
const LIVE_TAGS: usize = 64;
const DEAD_TAGS: usize = 8;

/// Clients that are known at once, each some hundred bytes. Further ones share a single place, so that who has many addresses
/// (a /48 of IPv6 is 65,536 clients) costs no memory.
const MAX_CLIENTS: usize = 16_384;

/// How often it is looked which clients can be forgotten, when there are [`MAX_CLIENTS`].
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// An address; of IPv6 the first 64 bits, since one machine has all the others (RFC 4291, section 2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(IpAddr);

/// A number that stands for a tag.
pub(crate) type Mark = u64;

/// What is counted while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Request,
}

/// Where something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// `None`: with all clients that have no place of their own.
    client: Option<Client>,
    kind: Kind,
}

/// Whether a client may ask for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is remembered to have asked before.
    Known,
    /// It paid; tell [`Clients::exists`] when somebody has the tag.
    New,
    /// It has asked for too many; the next one after this time.
    Wait(Duration),
}

/// See the module.
pub(crate) struct Clients {
    /// Connections, and requests, that one client may have at once.
    most: usize,
    known: HashMap<Client, Known>,
    /// All who have no place of their own.
    others: Known,
    swept: Option<Instant>,
}

#[derive(Default)]
struct Known {
    connections: usize,
    requests: usize,
    /// When all that it paid has come back.
    paid: Option<Instant>,
    /// The newest last.
    live: Vec<Mark>,
    dead: Vec<Mark>,
}

impl Client {
    /// Who connected.
    pub(crate) fn of(peer: IpAddr) -> Client {
        match peer.to_canonical() {
            IpAddr::V4(address) => Client(address.into()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Client(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }

    /// Whose request came through so many proxies that are trusted: the address that the first of them was called from. Where that
    /// is not said in a way that can be read it is the peer.
    pub(crate) fn behind(headers: &HeaderMap, peer: IpAddr, proxies: usize) -> Client {
        let said = headers.get_all(FORWARDED_FOR);
        let mut addresses = Vec::new();
        if proxies > 0 {
            let values = said.iter().filter_map(|value| value.to_str().ok());
            addresses.extend(values.flat_map(|value| value.split(',')));
        }
        // Fewer addresses than proxies: it came to one of the later ones first.
        let at = addresses.len().saturating_sub(proxies);
        let address = addresses.get(at).and_then(|text| address(text.trim()));
        Client::of(address.unwrap_or(peer))
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bare().map(IpAddr::V6))
}

impl Clients {
    /// `most` connections, and as many requests, of one client at once.
    pub(crate) fn new(most: usize) -> Clients {
        Clients {
            most,
            known: HashMap::new(),
            others: Known::default(),
            swept: None,
        }
    }

    /// Counts a connection or a request; `None` when the client has as many as it may have.
    pub(crate) fn enter(&mut self, client: Client, kind: Kind, now: Instant) -> Option<Seat> {
        let most = self.most;
        let (known, own) = self.place(client, now);
        let count = known.count(kind);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat {
            client: own.then_some(client),
            kind,
        })
    }

    /// It is over.
    pub(crate) fn leave(&mut self, seat: Seat, now: Instant) {
        let Some(client) = seat.client else {
            let count = self.others.count(seat.kind);
            *count = count.saturating_sub(1);
            return;
        };
        if let Entry::Occupied(mut entry) = self.known.entry(client) {
            let count = entry.get_mut().count(seat.kind);
            *count = count.saturating_sub(1);
            if entry.get().is_nobody(now) && entry.get().live.is_empty() {
                entry.remove();
            }
        }
    }

    /// A client asks for a tag; the answer is the same whether somebody has it or not.
    pub(crate) fn asks(&mut self, client: Client, tag: Mark, now: Instant) -> Asked {
        let (known, _) = self.place(client, now);
        for (tags, most) in [(&mut known.live, LIVE_TAGS), (&mut known.dead, DEAD_TAGS)] {
            if tags.contains(&tag) {
                remember(tags, tag, most);
                return Asked::Known;
            }
        }
        let paid = known.paid.filter(|&paid| paid > now).unwrap_or(now);
        let room = NEW_TAG_EVERY * (NEW_TAGS - 1);
        let debt = paid.saturating_duration_since(now);
        if debt > room {
            return Asked::Wait(debt - room);
        }
        known.paid = Some(paid + NEW_TAG_EVERY);
        remember(&mut known.dead, tag, DEAD_TAGS);
        Asked::New
    }

    /// Somebody has a tag that a client asked for: it costs nothing.
    pub(crate) fn exists(&mut self, client: Client, tag: Mark, now: Instant) {
        let (known, _) = self.place(client, now);
        if let Some(at) = known.dead.iter().position(|&dead| dead == tag) {
            known.dead.remove(at);
            known.paid = known.paid.and_then(|paid| paid.checked_sub(NEW_TAG_EVERY));
        }
        remember(&mut known.live, tag, LIVE_TAGS);
    }

    /// Where a client is counted, and whether it is a place of its own.
    fn place(&mut self, client: Client, now: Instant) -> (&mut Known, bool) {
        if self.known.len() >= MAX_CLIENTS && !self.known.contains_key(&client) {
            if self
                .swept
                .is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY)
            {
                self.swept = Some(now);
                self.known.retain(|_, known| !known.is_nobody(now));
            }
            if self.known.len() >= MAX_CLIENTS {
                return (&mut self.others, false);
            }
        }
        (self.known.entry(client).or_default(), true)
    }
}

impl Known {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Connection => &mut self.connections,
            Kind::Request => &mut self.requests,
        }
    }

    /// Has nothing, and owes nothing.
    fn is_nobody(&self, now: Instant) -> bool {
        self.connections == 0 && self.requests == 0 && self.paid.is_none_or(|paid| paid <= now)
    }
}

/// Makes `tag` the newest, and forgets the oldest when there are too many.
fn remember(tags: &mut Vec<Mark>, tag: Mark, most: usize) {
    if tags.last() == Some(&tag) {
        return;
    }
    tags.retain(|&known| known != tag);
    if tags.len() >= most {
        tags.remove(0);
    }
    tags.push(tag);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Client {
        Client::of(IpAddr::V4(number.into()))
    }

    #[test]
    fn whose_a_request_is() {
        let check = |said: &[&'static str], proxies: usize, expected: &str| {
            let mut headers = HeaderMap::new();
            for &value in said {
                headers.append(FORWARDED_FOR, http::HeaderValue::from_static(value));
            }
            let found = Client::behind(&headers, "10.0.0.7".parse().unwrap(), proxies);
            assert_eq!(found.to_string(), expected, "{said:?} behind {proxies}");
        };
        check(&[], 0, "10.0.0.7");
        check(&[], 1, "10.0.0.7");
        check(&["203.0.113.9"], 0, "10.0.0.7");
        check(&["203.0.113.9"], 1, "203.0.113.9");
        // What stands before is the client's own word.
        check(&["1.1.1.1, 203.0.113.9"], 1, "203.0.113.9");
        check(&["1.1.1.1", "2.2.2.2,203.0.113.9"], 1, "203.0.113.9");
        check(&["1.1.1.1, 203.0.113.9"], 2, "1.1.1.1");
        check(&["203.0.113.9"], 3, "203.0.113.9");
        // With the client's port (routing.http.xff_client_port.enabled).
        check(&["203.0.113.9:4711"], 1, "203.0.113.9");
        check(&["[2001:db8:1:2:3::4]:4711"], 1, "2001:db8:1:2::/64");
        check(&["[2001:db8:1:2:3::4]"], 1, "2001:db8:1:2::/64");
        check(&["2001:db8:1:2:3::4"], 1, "2001:db8:1:2::/64");
        check(&["::ffff:203.0.113.9"], 1, "203.0.113.9");
        for odd in ["", "unknown", "1.2.3", "203.0.113.9, ", "203.0.113.9:x", "[::1", "999.1.1.1"] {
            check(&[odd], 1, "10.0.0.7");
        }
    }

    #[test]
    fn so_many_at_once() {
        let (mut clients, now) = (Clients::new(2), Instant::now());
        let first = clients.enter(client(1), Kind::Request, now).unwrap();
        clients.enter(client(1), Kind::Request, now).unwrap();
        assert_eq!(clients.enter(client(1), Kind::Request, now), None);
        // Each kind and each client for itself.
        clients.enter(client(1), Kind::Connection, now).unwrap();
        let other = clients.enter(client(2), Kind::Request, now).unwrap();
        clients.leave(first, now);
        clients.enter(client(1), Kind::Request, now).unwrap();
        clients.leave(other, now);
        assert_eq!(clients.known.len(), 1, "who has nothing is not remembered");
    }

    #[test]
    fn new_tags_are_paid_for_and_those_that_exist_are_not() {
        let (mut clients, now) = (Clients::new(9), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for tag in 0..u64::from(NEW_TAGS) {
            assert_eq!(clients.asks(client(1), tag, now), Asked::New, "{tag}");
        }
        assert_eq!(clients.asks(client(1), 1000, now), Asked::Wait(NEW_TAG_EVERY));
        // Whoever polls for the same again, and every other client, goes on.
        assert_eq!(clients.asks(client(1), u64::from(NEW_TAGS) - 1, now), Asked::Known);
        assert_eq!(clients.asks(client(2), 1000, now), Asked::New);
        assert_eq!(clients.asks(client(1), 1000, at(1)), Asked::New);
        assert_eq!(clients.asks(client(1), 1001, at(1)), Asked::Wait(NEW_TAG_EVERY));
        // A tag that somebody has costs nothing, and is remembered when the others are exhausted.
        for tag in 2000..2050 {
            assert_eq!(clients.asks(client(3), tag, now), Asked::New);
            clients.exists(client(3), tag, now);
        }
        for tag in 0..u64::from(NEW_TAGS) {
            assert_eq!(clients.asks(client(3), tag, now), Asked::New, "{tag}");
        }
        assert_eq!(clients.asks(client(3), 3000, now), Asked::Wait(NEW_TAG_EVERY));
        assert_eq!(clients.asks(client(3), 2000, now), Asked::Known);
    }

    #[test]
    fn a_flood_of_addresses_costs_no_memory() {
        let (mut clients, now) = (Clients::new(2), Instant::now());
        for number in 0..MAX_CLIENTS as u32 + 10 {
            clients.asks(client(number), 1, now);
        }
        assert_eq!(clients.known.len(), MAX_CLIENTS);
        // Those without a place share one, and what is counted there is taken off there.
        let seats: Vec<_> = (0..3)
            .map(|number| clients.enter(client(u32::MAX - number), Kind::Request, now))
            .collect();
        assert!(seats[0].is_some() && seats[1].is_some() && seats[2].is_none(), "{seats:?}");
        clients.leave(seats[0].unwrap(), now);
        assert!(clients.enter(client(u32::MAX), Kind::Request, now).is_some());
        // A minute later they owe nothing any more.
        let later = now + Duration::from_secs(60);
        assert!(clients.enter(client(u32::MAX), Kind::Request, later).is_some());
        assert!(clients.known.len() < 10, "{}", clients.known.len());
    }
}
