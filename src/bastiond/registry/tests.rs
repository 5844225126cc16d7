//! The rules as tables, and random histories that must keep the invariants.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

mod quotas;

const NOW: u64 = 1000;

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn asked(lane: u64, host: &str) -> Asked {
    Asked {
        tag: tag("alice:api"),
        lane: LaneId(lane),
        lane_number: 0,
        only: false,
        host: host.to_owned(),
        version: "1".to_owned(),
        token: None,
        takeover: false,
        quotas: Quotas::default(),
    }
}

fn claim(registry: &mut Registry, asked: &Asked, fresh: &str, now: u64) -> Result<Grant, Denied> {
    let grant = registry.claim(asked, Token::new(fresh), now)?;
    registry.grant(&grant);
    Ok(grant)
}

/// `alice:api`, held by `desk` since 10 with the token `t1`: over lane 1, or over none.
fn held(live: bool) -> Registry {
    let mut registry = Registry::default();
    claim(&mut registry, &asked(1, "desk"), "t1", 10).unwrap();
    if !live {
        registry.lane_down(LaneId(1), 20, 80);
    }
    registry
}

#[test]
fn claims() {
    /// What a claim comes to: resumed, the token, replaced, displaced; or the holder's `since`.
    type Outcome = Result<(bool, &'static str, Option<u64>, Vec<u64>), u64>;
    let check = |case: &str, mut registry: Registry, asked: Asked, expected: Outcome| {
        let lanes_before = registry.session(&asked.tag).map(|session| session.lanes.clone());
        let found = claim(&mut registry, &asked, "t2", NOW);
        match (found, expected) {
            (Ok(grant), Ok((resumed, token, replaced, displaced))) => {
                assert_eq!(grant.resumed, resumed, "{case}");
                assert_eq!(grant.record.token.reveal(), token, "{case}");
                assert_eq!(grant.replaced, replaced.map(LaneId).into_iter().collect::<Vec<_>>(), "{case}");
                assert_eq!(
                    grant.displaced,
                    displaced.into_iter().map(LaneId).collect::<Vec<_>>(),
                    "{case}"
                );
                let session = registry.session(&asked.tag).unwrap();
                assert_eq!(session.lanes.get(&asked.lane_number), Some(&asked.lane), "{case}");
                assert_eq!(session.lease_until, None, "{case}");
                assert_eq!(session.record.created, if resumed { 10 } else { NOW }, "{case}");
            }
            (Err(Denied::Held { since, lane, .. }), Err(expected)) => {
                assert_eq!(since, expected, "{case}");
                let first = lanes_before.unwrap().values().next().copied();
                assert_eq!(lane, first, "{case}");
            }
            (found, expected) => panic!("{case}: {found:?} instead of {expected:?}"),
        }
    };
    let token = |text: &str, base: Asked| Asked {
        token: Some(text.to_owned()),
        ..base
    };
    let takeover = |base: Asked| Asked { takeover: true, ..base };
    let second_lane = |base: Asked| Asked { lane_number: 1, ..base };
    let only = |base: Asked| Asked { only: true, ..base };

    check("live, another machine", held(true), asked(2, "sofa"), Err(10));
    check("live, the same machine without token", held(true), asked(2, "desk"), Err(10));
    check("live, a wrong token", held(true), token("t0", asked(2, "sofa")), Err(10));
    check(
        "live, a token of another length",
        held(true),
        token("t", asked(2, "sofa")),
        Err(10),
    );
    check("leased, another machine", held(false), asked(2, "sofa"), Err(10));
    check(
        "leased, a wrong token from another machine",
        held(false),
        token("t0", asked(2, "sofa")),
        Err(10),
    );

    check("free", Registry::default(), asked(2, "sofa"), Ok((false, "t2", None, vec![])));
    check(
        "free, with an old token",
        Registry::default(),
        token("t0", asked(2, "sofa")),
        Ok((false, "t2", None, vec![])),
    );
    check(
        "live, the same connection again",
        held(true),
        asked(1, "desk"),
        Ok((true, "t1", None, vec![])),
    );
    check(
        "live, back with the token",
        held(true),
        token("t1", asked(2, "desk")),
        Ok((true, "t1", Some(1), vec![])),
    );
    check(
        "live, back under a new host name",
        held(true),
        token("t1", asked(2, "sofa")),
        Ok((true, "t1", Some(1), vec![])),
    );
    check(
        "live, a second lane",
        held(true),
        token("t1", second_lane(asked(2, "desk"))),
        Ok((true, "t1", None, vec![])),
    );
    check(
        "live, back with the token as another lane and no other",
        held(true),
        token("t1", only(second_lane(asked(2, "desk")))),
        Ok((true, "t1", Some(1), vec![])),
    );
    check(
        "live, the only connection, with a wrong token",
        held(true),
        token("t0", only(second_lane(asked(2, "desk")))),
        Err(10),
    );
    check(
        "live, taken over",
        held(true),
        takeover(asked(2, "sofa")),
        Ok((true, "t2", None, vec![1])),
    );
    check(
        "live, takeover by the holder",
        held(true),
        takeover(token("t1", asked(2, "desk"))),
        Ok((true, "t1", Some(1), vec![])),
    );
    check(
        "leased, back with the token",
        held(false),
        token("t1", asked(2, "sofa")),
        Ok((true, "t1", None, vec![])),
    );
    check(
        "leased, the same machine without token",
        held(false),
        asked(2, "desk"),
        Ok((true, "t2", None, vec![])),
    );
    check(
        "leased, taken over",
        held(false),
        takeover(asked(2, "sofa")),
        Ok((true, "t2", None, vec![])),
    );
}

#[test]
fn a_record_is_written_when_more_than_last_seen_changes() {
    let check = |case: &str, live: bool, asked: Asked, unchanged: bool| {
        let grant = held(live).claim(&asked, Token::new("t2"), NOW).unwrap();
        assert_eq!(grant.unchanged, unchanged, "{case}");
    };
    let back = |host: &str| Asked {
        token: Some("t1".to_owned()),
        ..asked(2, host)
    };
    check("back", false, back("desk"), true);
    check("the same connection", true, asked(1, "desk"), true);
    check("another host name", false, back("sofa"), false);
    check("a new token", false, asked(2, "desk"), false);
    check(
        "another version",
        false,
        Asked {
            version: "2".to_owned(),
            ..back("desk")
        },
        false,
    );
}

#[test]
fn limits() {
    let check = |case: &str, asked: Asked, expected: Denied| {
        assert_eq!(
            Registry::default().claim(&asked, Token::new("t"), NOW),
            Err(expected),
            "{case}"
        );
    };
    let long = "x".repeat(MAX_TEXT + 1);
    check(
        "a lane number",
        Asked {
            lane_number: MAX_LANES,
            ..asked(1, "desk")
        },
        Denied::LaneNumber(MAX_LANES),
    );
    check("a host name", asked(1, &long), Denied::TooLong("host"));
    check(
        "a version",
        Asked {
            version: long.clone(),
            ..asked(1, "desk")
        },
        Denied::TooLong("version"),
    );

    let mut registry = Registry::default();
    for number in 0..MAX_SESSIONS_PER_USER {
        let one = Asked {
            tag: tag(&format!("alice:s{number}")),
            ..asked(1, "desk")
        };
        claim(&mut registry, &one, "t", NOW).unwrap();
    }
    let more = asked(1, "desk");
    assert_eq!(
        registry.claim(&more, Token::new("t"), NOW),
        Err(Denied::TooMany(MAX_SESSIONS_PER_USER))
    );
    let smaller = Asked {
        quotas: Quotas {
            sessions: 3,
            ..Quotas::default()
        },
        ..more.clone()
    };
    assert_eq!(registry.claim(&smaller, Token::new("t"), NOW), Err(Denied::TooMany(3)));
    let of_bob = Asked {
        tag: tag("bob:api"),
        ..asked(2, "desk")
    };
    assert!(registry.claim(&of_bob, Token::new("t"), NOW).is_ok());
    registry.forget(&tag("alice:s0"));
    assert!(registry.claim(&more, Token::new("t"), NOW).is_ok());
}

#[test]
fn releases() {
    let check = |case: &str, registry: Registry, token: Option<&str>, by: Releaser, expected: Result<bool, u64>| {
        let found = registry.release(&tag("alice:api"), token, by);
        let found = found.map_err(|denied| match denied {
            Denied::NotHolder { since, .. } => since,
            other => panic!("{case}: {other:?}"),
        });
        assert_eq!(found, expected, "{case}");
    };
    let lane = |id| Releaser::Lane(LaneId(id));
    check("another connection", held(true), None, lane(2), Err(10));
    check(
        "another connection with a wrong token",
        held(true),
        Some("t0"),
        lane(2),
        Err(10),
    );
    check(
        "its own connection with a wrong token",
        held(true),
        Some("t0"),
        lane(1),
        Err(10),
    );
    check("leased, without token", held(false), None, lane(1), Err(10));
    check("nothing there", Registry::default(), Some("t1"), lane(1), Ok(false));
    check("its own connection", held(true), None, lane(1), Ok(true));
    check("another connection with the token", held(true), Some("t1"), lane(2), Ok(true));
    check("leased, with the token", held(false), Some("t1"), lane(2), Ok(true));
    check("the admin", held(true), None, Releaser::Admin, Ok(true));
}

#[test]
fn leases() {
    let mut registry = held(false);
    assert_eq!(registry.next_expiry(), Some(81));
    assert_eq!(registry.expired(80), []);
    assert_eq!(registry.expired(81), [tag("alice:api")]);
    registry.forget(&tag("alice:api"));
    assert_eq!(registry, Registry::default());

    // Only the last lane's end begins a lease.
    let mut registry = held(true);
    let second = Asked {
        lane_number: 1,
        token: Some("t1".to_owned()),
        ..asked(2, "desk")
    };
    claim(&mut registry, &second, "t2", 11).unwrap();
    assert_eq!(registry.lane_down(LaneId(1), 20, 80), [tag("alice:api")]);
    assert_eq!(registry.next_expiry(), None);
    assert_eq!(registry.lane_down(LaneId(1), 30, 90), []);
    assert_eq!(registry.lane_down(LaneId(2), 40, 100), [tag("alice:api")]);
    let session = registry.session(&tag("alice:api")).unwrap();
    assert_eq!((session.record.last_seen, session.lease_until), (40, Some(100)));
    assert!(!registry.carries(LaneId(2)));
}

#[test]
fn tokens_are_not_printed() {
    assert!(!format!("{:?}", held(true)).contains("t1"));
}

/// One step of a random history. Users are 0..2, services 0..3, connections 0..6; connection `n` is user `n % 2`'s.
#[derive(Clone, Debug)]
enum Step {
    Claim {
        connection: u64,
        service: usize,
        lane_number: u32,
        host: usize,
        /// Shows the session's own token, if there is a session.
        token: bool,
        takeover: bool,
    },
    Release {
        connection: u64,
        service: usize,
        token: bool,
    },
    AdminReleases {
        user: usize,
        service: usize,
    },
    Down(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u64, 0..3_usize, 0..3_u32, 0..3_usize, any::<bool>(), any::<bool>()).prop_map(
            |(connection, service, lane_number, host, token, takeover)| Step::Claim { connection, service, lane_number, host, token, takeover }
        ),
        2 => (0..6_u64, 0..3_usize, any::<bool>()).prop_map(|(connection, service, token)| Step::Release { connection, service, token }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(user, service)| Step::AdminReleases { user, service }),
        3 => (0..6_u64).prop_map(Step::Down),
        2 => (1..90_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

fn user(connection: u64) -> usize {
    usize::try_from(connection % 2).unwrap()
}

fn named(user: usize, service: usize) -> Tag {
    tag(&format!("{}:{}", ["alice", "bob"][user], ["api", "web", "db"][service]))
}

/// What holds after every step.
fn check_invariants(registry: &Registry, now: u64, down: &BTreeSet<LaneId>) {
    let mut per_user: HashMap<User, usize> = HashMap::new();
    for session in registry.sessions() {
        let record = &session.record;
        assert_eq!(registry.session(&record.tag), Some(session));
        *per_user.entry(record.tag.user.clone()).or_default() += 1;
        assert_eq!(
            session.lanes.is_empty(),
            session.lease_until.is_some(),
            "live or leased: {session:?}"
        );
        let distinct: BTreeSet<&LaneId> = session.lanes.values().collect();
        assert_eq!(distinct.len(), session.lanes.len(), "a connection is one lane: {session:?}");
        for (number, lane) in &session.lanes {
            assert!(*number < MAX_LANES);
            assert!(!down.contains(lane), "a lane that ended: {session:?}");
            assert_eq!(
                named(user(lane.0), 0).user,
                record.tag.user,
                "a lane of another user: {session:?}"
            );
        }
        assert!(record.created <= record.held_since && record.held_since <= record.last_seen && record.last_seen <= now);
    }
    assert_eq!(registry.per_user, per_user);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories(steps in steps()) {
        let mut registry = Registry::default();
        // What a store that commits every grant and every removal would hold.
        let mut committed: HashMap<Tag, Record> = HashMap::new();
        // Connection numbers are reused by the generator; a connection that ended comes back as a new lane.
        let mut generation = [0_u64; 6];
        let mut down = BTreeSet::new();
        let mut now = NOW;
        let mut fresh = 0;
        let lane = |generation: &[u64; 6], connection: u64| LaneId(connection + 6 * generation[usize::try_from(connection).unwrap()]);
        for step in steps {
            match step {
                Step::Claim { connection, service, lane_number, host, token, takeover } => {
                    let tag = named(user(connection), service);
                    let before = registry.session(&tag).cloned();
                    fresh += 1;
                    let asked = Asked {
                        tag: tag.clone(),
                        lane: lane(&generation, connection),
                        lane_number,
                        only: false,
                        host: ["desk", "sofa", "train"][host].to_owned(),
                        version: "1".to_owned(),
                        token: before.as_ref().filter(|_| token).map(|session| session.record.token.reveal().to_owned()),
                        takeover,
                        quotas: Quotas::default(),
                    };
                    match claim(&mut registry, &asked, &format!("token {fresh}"), now) {
                        Ok(grant) => {
                            if grant.unchanged {
                                let old = committed.get(&tag).unwrap();
                                let same = Record { last_seen: old.last_seen, ..grant.record.clone() };
                                prop_assert_eq!(old, &same, "unchanged, and yet not what is stored");
                            } else {
                                committed.insert(tag.clone(), grant.record.clone());
                            }
                            // One owner: whoever had another token has no lane of it any more.
                            let before = before.filter(|session| session.record.token != grant.record.token);
                            for lost in before.iter().flat_map(|session| session.lanes.values()).filter(|&&id| id != asked.lane) {
                                prop_assert!(grant.displaced.contains(lost));
                                prop_assert!(!registry.session(&tag).unwrap().lanes.values().any(|id| id == lost));
                            }
                            prop_assert_eq!(registry.session(&tag).unwrap().lanes.get(&lane_number), Some(&asked.lane));
                        }
                        Err(_) => {
                            prop_assert!(!takeover && !token, "only a stranger without takeover is refused");
                            prop_assert_eq!(registry.session(&tag), before.as_ref());
                        }
                    }
                }
                Step::Release { connection, service, token } => {
                    let tag = named(user(connection), service);
                    let own = registry.session(&tag).map(|session| session.record.token.reveal().to_owned());
                    let shown = own.filter(|_| token);
                    if registry.release(&tag, shown.as_deref(), Releaser::Lane(lane(&generation, connection))) == Ok(true) {
                        registry.forget(&tag);
                        committed.remove(&tag);
                        prop_assert_eq!(registry.session(&tag), None);
                    }
                }
                Step::AdminReleases { user, service } => {
                    let tag = named(user, service);
                    prop_assert!(registry.release(&tag, None, Releaser::Admin).is_ok());
                    registry.forget(&tag);
                    committed.remove(&tag);
                }
                Step::Down(connection) => {
                    let id = lane(&generation, connection);
                    registry.lane_down(id, now, now + 60);
                    down.insert(id);
                    generation[usize::try_from(connection).unwrap()] += 1;
                }
                Step::Pass(seconds) => {
                    now += seconds;
                    for tag in registry.expired(now) {
                        registry.forget(&tag);
                        committed.remove(&tag);
                    }
                    prop_assert_eq!(registry.expired(now), vec![]);
                    prop_assert!(registry.next_expiry().is_none_or(|at| at > now));
                }
            }
            check_invariants(&registry, now, &down);
        }
        // A daemon that begins anew knows the same owners, all of them leased.
        let restored = Registry::restored(committed.into_values(), now + 60);
        prop_assert_eq!(restored.len(), registry.len());
        for session in registry.sessions() {
            let after = restored.session(&session.record.tag).unwrap();
            let same = Record { last_seen: session.record.last_seen, ..after.record.clone() };
            prop_assert_eq!(&same, &session.record);
            prop_assert!(after.lanes.is_empty());
            prop_assert_eq!(after.lease_until, Some(now + 60));
        }
    }
}
