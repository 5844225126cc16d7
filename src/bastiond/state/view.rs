//! What the control API and the metrics page show of the state.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Daemon, Table};
use crate::bastiond::lane::{Lane, LaneKind};
use crate::bastiond::metrics::{LaneSeries, MAX_LANE_SERIES};
use crate::bastiond::registry::Session;
use crate::name::User;
use crate::protocol::{self, Health, LaneView, SessionState, SessionView, Sessions};
use crate::tunnel::traffic::Rates;

impl Daemon {
    /// The sessions of one user, or of all.
    pub(crate) fn sessions(&self, of: Option<&User>) -> Sessions {
        let now = self.now();
        let table = self.table();
        let wanted = table
            .registry
            .sessions()
            .filter(|session| of.is_none_or(|user| session.record.tag.user == *user));
        let mut sessions: Vec<SessionView> = wanted.filter_map(|session| table.view(session, now)).collect();
        sessions.sort_by(|a, b| a.tag.cmp(&b.tag));
        Sessions { sessions }
    }

    /// Everyone's, of which `user` sees what is theirs, and of the others only that they are there.
    pub(crate) fn sessions_for(&self, user: &User) -> Sessions {
        let mut all = self.sessions(None);
        for session in all.sessions.iter_mut().filter(|session| session.tag.user != *user) {
            *session = SessionView {
                tag: session.tag.clone(),
                state: session.state,
                host: String::new(),
                version: String::new(),
                created: session.created,
                last_seen: session.last_seen,
                lease_until: None,
                requests: 0,
                in_flight: 0,
                last_error: None,
                lanes: Vec::new(),
            };
        }
        all
    }

    /// How the daemon is.
    pub(crate) fn health(&self) -> Health {
        let table = self.table();
        Health {
            status: if self.draining() { "draining" } else { "serving" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: protocol::VERSION,
            http: self.addresses.http.clone(),
            ssh: self.addresses.ssh.clone(),
            started: self.started,
            sessions: table.registry.len() as u64,
            connections: table.lanes.len() as u64,
        }
    }

    /// The metrics page.
    pub(crate) fn metrics_page(&self) -> String {
        let (live, leased) = {
            let table = self.table();
            let live = table.routes.values().filter(|way| !way.lanes.is_empty()).count();
            (live, table.routes.len() - live)
        };
        self.metrics.page(live, leased, &self.lane_series())
    }

    /// Each lane once, under the first of its tags: a series for each tag would count it twice in every sum.
    fn lane_series(&self) -> Vec<LaneSeries> {
        let table = self.table();
        let mut sessions: Vec<&Session> = table
            .registry
            .sessions()
            .filter(|session| !session.lanes.is_empty())
            .collect();
        sessions.sort_by(|a, b| a.record.tag.cmp(&b.record.tag));
        let mut seen = HashSet::new();
        let mut series = Vec::new();
        for session in sessions {
            for (&number, id) in &session.lanes {
                let Some(found) = table.lanes.get(id) else { continue };
                if series.len() < MAX_LANE_SERIES && found.kind == LaneKind::Laptop && seen.insert(*id) {
                    series.push(LaneSeries {
                        tag: session.record.tag.clone(),
                        view: lane(number, found),
                    });
                }
            }
        }
        series
    }
}

impl Table {
    fn view(&self, session: &Session, now: u64) -> Option<SessionView> {
        let record = &session.record;
        let way = self.routes.get(&record.tag)?;
        let live = !way.lanes.is_empty();
        Some(SessionView {
            tag: record.tag.clone(),
            state: if live { SessionState::Live } else { SessionState::Leased },
            host: record.host.clone(),
            version: record.version.clone(),
            created: record.created,
            last_seen: if live { now } else { record.last_seen },
            lease_until: session.lease_until,
            requests: way.counters.requests.load(Relaxed),
            in_flight: way.counters.in_flight.load(Relaxed),
            last_error: way.counters.last_error(),
            lanes: session
                .lanes
                .iter()
                .filter_map(|(&number, id)| Some(lane(number, self.lanes.get(id)?)))
                .collect(),
        })
    }
}

fn lane(number: u32, lane: &Arc<Lane>) -> LaneView {
    let (rates, round_trip) = match lane.traffic() {
        Some(traffic) => (traffic.rates(), traffic.round_trip()),
        None => (Rates::default(), None),
    };
    let kind = match lane.kind {
        LaneKind::Laptop => "ephemwork",
        LaneKind::OpenSsh => "openssh",
    };
    LaneView {
        id: lane.id.0,
        kind: kind.to_owned(),
        address: lane.address.clone(),
        since: lane.since,
        bytes_in: lane.bytes_in.load(Relaxed),
        bytes_out: lane.bytes_out.load(Relaxed),
        number,
        in_flight: lane.streams.load(Relaxed) as u64,
        outstanding: lane.outstanding.load(Relaxed),
        in_per_second: rates.sent,
        out_per_second: rates.received,
        round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
    }
}
