//! What one session may have, and how old it may become.

use super::*;

#[test]
fn lanes_of_one_session() {
    let with = |lane: u64, number: u32, only: bool, most: usize| Asked {
        lane_number: number,
        only,
        token: Some("t1".to_owned()),
        quotas: Quotas {
            lanes: most,
            ..Quotas::default()
        },
        ..asked(lane, "desk")
    };
    let check = |case: &str, asked: Asked, expected: Result<(), Denied>| {
        let mut registry = held(true);
        claim(&mut registry, &with(2, 1, false, 8), "t2", NOW).unwrap();
        assert_eq!(registry.claim(&asked, Token::new("t2"), NOW).map(drop), expected, "{case}");
    };
    check("one more", with(3, 2, false, 3), Ok(()));
    check("one too many", with(3, 2, false, 2), Err(Denied::TooManyLanes(2)));
    check("in another's place", with(3, 1, false, 2), Ok(()));
    check("alone", with(3, 2, true, 1), Ok(()));
    check("itself again", with(2, 1, false, 1), Ok(()));
}

#[test]
fn lifetimes() {
    let registry = held(true);
    let check = |lifetime: u64, now: u64, over: bool| {
        assert_eq!(registry.outlived(lifetime, now).len(), usize::from(over), "{lifetime} {now}");
        assert_eq!(registry.next_outlived(lifetime).unwrap() <= now, over, "{lifetime} {now}");
    };
    check(100, 10, false);
    check(100, 110, false);
    check(100, 111, true);
    check(u64::MAX - 10, u64::MAX - 1, false);
    assert_eq!(Registry::default().next_outlived(5), None);
}
