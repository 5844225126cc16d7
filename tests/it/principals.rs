//! Whose a user name is: the first caller's of AWS, until an admin frees it.

use serde_json::json;

use crate::support::cloud::{claim, session};
use crate::support::{Cloud, Remote, Service, get, library, until};

#[test]
fn a_name_is_the_first_callers_until_it_is_freed() {
    let Some(mut cloud) = Cloud::start(&["--lease", "600"]) else {
        return;
    };
    let service = Service::saying("carol's");
    cloud.push("carol", "carol", &session("carol"));
    let mut carol = cloud.bastion.laptop("carol", &[("api", service.port)]);

    // Mallory has every right to send a key for that name, and none to the name.
    cloud.push("mallory", "carol", &session("mallory"));
    let error = cloud.claim("carol", "mallory").unwrap_err();
    assert_eq!(error.what, format!("the user name carol belongs to {}", session("carol")));
    assert!(
        error
            .why
            .clone()
            .unwrap()
            .contains(&format!("you are {}", session("mallory"))),
        "{error}"
    );
    assert!(
        error.hint.clone().unwrap().contains("ephemwork bastion users release carol"),
        "{error}"
    );
    nothing_but_the_reason(&cloud);
    let said = cloud.refused("carol", "mallory");
    assert!(said.contains("remote port forwarding failed"), "{said}");
    assert_eq!(get(cloud.bastion.http, "carol:api", "/").text(), "carol's");
    assert_eq!(
        cloud.bastion.session("carol:api").unwrap()["lanes"].as_array().unwrap().len(),
        1
    );

    // Another session name of the same role is somebody else, the same one over another path is not.
    cloud.push(
        "carol2",
        "carol",
        "arn:aws:sts::123456789012:assumed-role/team/blue/developer/carol",
    );
    let error = cloud.claim("carol", "carol2").unwrap_err();
    assert!(
        error.what.contains("carol:api is held by"),
        "not refused as a stranger, but as a second laptop: {error}"
    );

    // It outlives the daemon.
    carol.kill();
    cloud.bastion.process.signal(rustix::process::Signal::TERM);
    cloud.bastion.process.wait();
    cloud.bastion.restart();
    let error = cloud.claim("carol", "mallory").unwrap_err();
    assert!(error.what.contains("belongs to"), "{error}");

    // Freed, with everything that was under it.
    let finished = cloud.cli(&["release", "carol"]);
    assert_eq!(
        (finished.code(), finished.out.as_str()),
        (0, "carol is free\n"),
        "{finished:?}"
    );
    assert!(cloud.bastion.session("carol:api").is_none());
    assert_eq!(cloud.claim("carol", "mallory").unwrap(), "carol:api");
    let error = cloud.claim("carol", "carol").unwrap_err();
    assert!(error.what.contains(&format!("belongs to {}", session("mallory"))), "{error}");
    let finished = cloud.cli(&["release", "nobody"]);
    assert_eq!((finished.code(), finished.out.as_str()), (0, "nobody belongs to nobody\n"));
    assert_eq!(cloud.cli(&["release", "No Name"]).code(), 2);
}

/// A stranger's connection: logged in, and every call has the same answer.
#[track_caller]
fn nothing_but_the_reason(cloud: &Cloud) {
    library::run(async {
        let (link, _requests) = cloud.connect("carol", "mallory").await.unwrap();
        let refused = |error: ephemwork::error::Error| assert!(error.what.contains("belongs to"), "{error}");
        refused(link.sessions(false).await.unwrap_err());
        refused(link.sessions(true).await.unwrap_err());
        refused(link.users().await.unwrap_err());
        refused(link.claim(&claim()).await.unwrap_err());
        let release = ephemwork::protocol::Release {
            service: "api".to_owned(),
            token: None,
        };
        refused(link.release(&release).await.unwrap_err());
        link.close().await;
    });
}

#[test]
fn the_old_owners_connection_ends_with_the_name() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    let service = Service::saying("carol's");
    cloud.push("carol", "carol", &session("carol"));
    let mut carol = cloud.bastion.laptop("carol", &[("api", service.port)]);
    assert_eq!(get(cloud.bastion.http, "carol:api", "/").status(), 200);
    assert_eq!(cloud.cli(&["release"]).code(), 2);
    assert_eq!(cloud.cli(&["give", "carol"]).code(), 2);
    let finished = cloud.cli(&["release", "carol", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&finished.out).unwrap();
    assert_eq!(said, json!({"version": 1, "user": "carol", "released": true}));
    assert_eq!(get(cloud.bastion.http, "carol:api", "/").status(), 404);
    assert!(!carol.wait().success());
    assert_eq!(cloud.users(), json!([]));
}

#[test]
fn names_of_listed_keys_are_no_callers() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    // alice's key is in the bastion's file; nobody who only may call AWS gets her name.
    cloud.push("mallory", "alice", &session("alice"));
    let error = cloud.claim("alice", "mallory").unwrap_err();
    assert_eq!(error.what, "the user name alice belongs to a key of the bastion's own");
    assert_eq!(cloud.claim("alice", "alice").unwrap(), "alice:api");
    assert_eq!(cloud.users()[0]["user"], "alice");
    assert!(cloud.users()[0].get("principal").is_none());
}

#[test]
fn one_caller_has_a_few_names_at_most() {
    const MOST: usize = 16;
    let Some(cloud) = Cloud::start(&[]) else { return };
    for number in 0..=MOST {
        let name = format!("n{number}");
        cloud.push("carol", &name, &session("carol"));
        let claimed = cloud.claim(&name, "carol");
        match number {
            MOST => assert!(claimed.unwrap_err().what.contains("16 user names are taken already")),
            _ => assert_eq!(claimed.unwrap(), format!("{name}:api")),
        }
    }
}

#[test]
fn a_pattern_gives_each_caller_one_name() {
    let pattern = "arn:aws:sts::*:assumed-role/*/{user}@acme.com";
    let Some(cloud) = Cloud::start(&["--user-from-arn", pattern]) else {
        return;
    };
    let admin = "arn:aws:sts::123456789012:assumed-role/admin/Carol@acme.com";
    cloud.push("carol", "carol", &session("carol@acme.com"));
    assert_eq!(cloud.claim("carol", "carol").unwrap(), "carol:api");
    // The same person by another role.
    cloud.push("carol2", "carol", admin);
    until("the first session's connection to end", || {
        cloud.bastion.session("carol:api")?["lanes"]
            .as_array()?
            .is_empty()
            .then_some(())
    });
    assert_eq!(cloud.claim("carol", "carol2").unwrap(), "carol:api");
    cloud.push("carol", "dave", &session("carol@acme.com"));
    let error = cloud.claim("dave", "carol").unwrap_err();
    assert_eq!(error.what, "the user name dave is not yours");
    assert!(error.why.clone().unwrap().contains("the name carol"), "{error}");
    cloud.push("eve", "eve", &session("eve@evil.com"));
    let error = cloud.claim("eve", "eve").unwrap_err();
    assert!(
        error.what.contains("has no user name for") && error.why.clone().unwrap().contains("does not fit"),
        "{error}"
    );
}

#[test]
fn admins_are_known_by_their_arn() {
    let Some(cloud) = Cloud::start(&["--admin", "arn:aws:sts::123456789012:assumed-role/Admin/*"]) else {
        return;
    };
    let boss = "arn:aws:sts::123456789012:assumed-role/Admin/boss";
    cloud.push("boss", "boss", boss);
    cloud.push("carol", "carol", &session("carol"));
    library::run(async {
        let release = |name: &str| ephemwork::protocol::ReleaseUser { user: name.to_owned() };
        let (carol, _requests) = cloud.connect("carol", "carol").await.unwrap();
        let (alice, _alices) = cloud.connect("alice", "alice").await.unwrap();
        carol.claim(&claim()).await.unwrap();
        let error = carol.users().await.unwrap_err();
        assert!(error.what.contains("for the bastion's admin"), "{error}");
        assert!(error.why.clone().unwrap().contains(&session("carol")), "{error}");
        carol.release_user(&release("boss")).await.unwrap_err();
        alice.users().await.unwrap_err();
        let (link, _bosses) = cloud.connect("boss", "boss").await.unwrap();
        let users = link.users().await.unwrap().users;
        let carols = users.iter().find(|user| user.user == "carol").unwrap();
        assert_eq!(
            (carols.principal.as_deref(), carols.sessions),
            (Some(session("carol").as_str()), 1)
        );
        assert!(link.release_user(&release("carol")).await.unwrap().released);
        assert!(!link.release_user(&release("carol")).await.unwrap().released);
        let ended = carol.closed().await;
        assert!(ended.contains("freed the user name carol"), "{ended}");
    });
}

#[test]
fn an_admin_lists_and_frees_names_from_a_laptop() {
    let pattern = "arn:aws:sts::123456789012:assumed-role/Admin/*";
    let Some(mut remote) = Remote::with(&["paced=false"], &["--admin", pattern]) else {
        return;
    };
    let service = Service::saying("carol's");
    let carol = remote.workshop("carol", "", &[("api", service.port)]);
    let mut up = remote.up(&carol, &["api"]);
    let refused = remote.run(&carol, &["bastion", "users"]);
    assert_eq!(refused.code(), 3, "{refused:?}");
    for part in [
        "this call is for the bastion's admin",
        "no pattern of its admins fits",
        "--admin",
    ] {
        assert!(refused.err.contains(part), "{part:?} is missing in {refused:?}");
    }

    let boss = "arn:aws:sts::123456789012:assumed-role/Admin/boss";
    remote.world.access_key_of(boss, "AKIABOSS", "the boss's", None);
    remote.environment = vec![
        ("AWS_ACCESS_KEY_ID", "AKIABOSS".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "the boss's".to_owned()),
    ];
    let workshop = remote.workshop("boss", "", &[("api", 9)]);
    let listed = remote.run(&workshop, &["bastion", "users", "--json"]);
    assert_eq!(listed.code(), 0, "{listed:?}");
    let object: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let users = object["users"].as_array().unwrap();
    let of = |name: &str| {
        users
            .iter()
            .find(|user| user["user"] == name)
            .unwrap_or_else(|| panic!("{object:#}"))
    };
    assert_eq!(
        (&of("boss")["principal"], &of("carol")["sessions"]),
        (&json!(boss), &json!(1))
    );
    let table = remote.run(&workshop, &["bastion", "users"]);
    assert!(table.out.starts_with("NAME") && table.out.contains(boss), "{table:?}");
    let nobody = remote.run(&workshop, &["bastion", "users", "release", "nobody"]);
    assert_eq!(
        (nobody.code(), nobody.out.as_str()),
        (0, "nobody belongs to nobody\n"),
        "{nobody:?}"
    );
    let freed = remote.run(&workshop, &["bastion", "users", "release", "carol"]);
    assert_eq!((freed.code(), freed.out.as_str()), (0, "carol is free\n"), "{freed:?}");
    up.wait_for("freed the user name carol");
    // Each call had a session of its own, and only the `up` has one still.
    up.signal(rustix::process::Signal::INT);
    up.wait();
    assert_eq!(remote.ssm.open_sessions().len(), 0);
}

#[test]
fn what_a_laptop_says_of_itself_cannot_draw_on_a_terminal() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    cloud.push("carol", "carol", &session("carol"));
    let mut asked = claim();
    asked.host = "\u{1b}]0;x\u{7}lap\u{202e}top\n".to_owned();
    asked.version = "1".repeat(1000);
    let sessions = library::run(async {
        let (link, _requests) = cloud.connect("carol", "carol").await.unwrap();
        link.claim(&asked).await.unwrap();
        let sessions = link.sessions(false).await.unwrap();
        link.close().await;
        sessions
    });
    let session = &sessions.sessions[0];
    assert_eq!((session.host.as_str(), session.version.len()), ("]0;xlaptop", 255));
}
