//! Settings from flags and files.

use super::*;

const WHOLE: &[&str] = &["http=127.0.0.1:0", "ssh=127.0.0.1:0", "state=/s"];

fn settings(flags: &[&str], file: &str) -> Result<Settings, Vec<String>> {
    let mut texts = Texts::default();
    for flag in flags {
        let (key, value) = flag.split_once('=').unwrap();
        let key = KEYS.into_iter().find(|&known| known == key).unwrap();
        texts.flag(key, value.split('|').map(str::to_owned), Path::new("/here"));
    }
    texts.file(file, Path::new("/etc/bastiond.toml"));
    texts.settings()
}

#[test]
fn mistakes_come_all_at_once() {
    let check = |flags: &[&str], file: &str, expected: &[&str]| {
        let found = settings(flags, file).unwrap_err();
        assert_eq!(found.len(), expected.len(), "{flags:?} {file:?}: {found:#?}");
        for (found, part) in found.iter().zip(expected) {
            assert!(found.contains(part), "{flags:?} {file:?}: {found}");
        }
    };
    let with = |more: &[&'static str]| WHOLE.iter().chain(more).copied().collect::<Vec<_>>();
    check(&[], "", &["--http is missing", "--ssh is missing", "--state is missing"]);
    check(
        &["http=7070", "ssh=unix:", "state="],
        "",
        &[
            "--state: the path is empty",
            "--http: \"7070\" is not an address",
            "--ssh: there is no path",
        ],
    );
    check(&with(&["lease=0"]), "", &["--lease: \"0\" is not a number of seconds from 1"]);
    check(&with(&["hold=-1", "drain=x"]), "", &["--hold", "--drain"]);
    check(&with(&["exit_when_idle=9999999"]), "", &["to 604800"]);
    check(
        &with(&["client_requests=-1", "trusted_hops=17"]),
        "",
        &["--client-requests: \"-1\" is not a number of requests from 0", "from 0 to 16"],
    );
    check(&with(&["metrics=0.0.0.0:9100"]), "", &["not a loopback address"]);
    check(&with(&["rekey_bytes=1000"]), "", &["from 1048576 up"]);
    check(&with(&["log_format=xml"]), "", &["--log-format: \"xml\" is not a format"]);
    check(&with(&["staging_url=http://s"]), "", &["is for local mode"]);
    check(&with(&["local=true", "staging_url=ftp://s"]), "", &["must begin with http"]);
    check(&with(&["cors_origin=app.example.com"]), "", &["not an origin"]);
    check(
        &with(&["cors_origin=https://A.example"]),
        "",
        &["a browser would send \"https://a.example\""],
    );
    check(
        WHOLE,
        "lese = 1",
        &["/etc/bastiond.toml:1:1: \"lese\" is not a setting; did you mean \"lease\"?"],
    );
    check(WHOLE, "\nlease = \"soon\"", &["/etc/bastiond.toml:2: lease: \"soon\" is not"]);
    check(WHOLE, "lease = [\"1\", \"2\"]", &["one value belongs here, not 2"]);
    check(WHOLE, "lease = 1.5", &["neither a text"]);
}

#[test]
fn the_example_is_right() {
    let example = include_str!("../../../assets/bastiond.toml");
    let plain = settings(&[], example).unwrap();
    assert_eq!(plain.state, Path::new("/var/lib/ephemwork"));
    // What is commented out is right too.
    let whole: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let whole = settings(&[], &whole).unwrap();
    assert_eq!(whole.metrics, "127.0.0.1:9464".parse().ok());
    assert_eq!(whole.tunables.lease, plain.tunables.lease, "the example shows the default");
    assert_eq!(whole.tunables.drain, plain.tunables.drain, "the example shows the default");
}

#[test]
fn a_flag_wins_and_paths_are_relative_to_where_they_are_written() {
    let flags = [
        "http=[::1]:7070",
        "ssh=unix:run/ssh.sock",
        "state=state",
        "lease=5",
        "cors_origin=http://a|https://b:8443",
    ];
    let file = "state = \"/elsewhere\"\nlease = 90\nhold = 3\nlocal = true\nauthorized_keys = \"keys\"\nlog_format = \"json\"";
    let found = settings(&flags, file).unwrap();
    assert_eq!(found.http, "[::1]:7070".parse().unwrap());
    assert_eq!(found.ssh, SshAddress::Unix("/here/run/ssh.sock".into()));
    assert_eq!(found.state, Path::new("/here/state"));
    assert_eq!(found.control_socket, Path::new("/here/state/control.sock"));
    assert_eq!(found.tunables.lease, Duration::from_secs(5));
    assert_eq!(found.tunables.hold, Duration::from_secs(3));
    assert_eq!(found.tunables.drain, Duration::from_secs(DRAIN));
    assert_eq!(found.tunables.cors_origins, ["http://a", "https://b:8443"]);
    assert_eq!(found.tunables.authorized_keys, Path::new("/etc/keys"));
    assert_eq!(found.log_format, Format::Json);
    assert!(found.local);
    let plain = settings(WHOLE, "").unwrap();
    assert_eq!(plain.tunables.authorized_keys, Path::new("/s/authorized_keys"));
    assert!(!plain.tunables.authorized_keys_given);
}

#[test]
fn quotas() {
    let with = |more: &'static str| settings(&WHOLE.iter().copied().chain([more]).collect::<Vec<_>>(), "");
    for (text, part) in [
        ("user_sessions=0", "number of sessions from 1 to 10000"),
        ("session_lanes=9", "number of connections from 1 to 8"),
        (
            "user_rate=1000",
            "neither 0 (no limit) nor a number of bytes a second from 65536 up",
        ),
        ("session_lifetime=never", "neither 0 (no limit) nor a number of seconds"),
        ("audit_days=0", "number of days from 1 to 3650"),
        ("audit_bytes=1", "number of bytes from 65536"),
    ] {
        let found = with(text).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
    assert_eq!(settings(WHOLE, "").unwrap().tunables.quotas, Quotas::default());
    let found = settings(
        WHOLE,
        "user_sessions = 3\nuser_rate = 65536\nsession_lifetime = 60\nsession_lanes = 2\naudit_days = 1",
    )
    .unwrap();
    let quotas = Quotas {
        sessions: 3,
        lanes: 2,
        rate: 65536,
        lifetime: Some(Duration::from_secs(60)),
    };
    assert_eq!((found.tunables.quotas, found.keep.age), (quotas, 86_400));
}

#[test]
fn who_may_log_in() {
    let with = |more: &[&'static str]| WHOLE.iter().chain(more).copied().collect::<Vec<_>>();
    let wrong = |more: &[&'static str], part: &str| {
        let found = settings(&with(more), "").unwrap_err();
        assert!(found.len() == 1 && found[0].contains(part), "{more:?}: {found:?}");
    };
    wrong(&["authorize=iam"], "neither keys nor eic");
    wrong(&["imds=http://127.0.0.1:1"], "--imds: it is for --authorize eic");
    wrong(&["roots=/r"], "--roots: it is for --authorize eic");
    wrong(&["admin=arn:aws:iam::*:user/a"], "--admin: it is for --authorize eic");
    wrong(&["authorize=eic", "imds=https://127.0.0.1"], "write http://");
    wrong(&["authorize=eic", "admin=Admin"], "not a pattern of ARNs");
    wrong(&["authorize=eic", "user_from_arn=arn:aws:iam::*:user/*"], "{user}");
    wrong(&["authorized_keys_command=keys %u"], "absolute path");
    assert_eq!(settings(WHOLE, "").unwrap().access, Access::default());
    let plain = settings(&with(&["authorize=eic"]), "").unwrap().access.eic.unwrap();
    assert_eq!(plain.imds.to_string(), "http://169.254.169.254");
    let file = "authorize = \"eic\"\nroots = \"roots.pem\"\nadmin = [\"arn:aws:iam::*:user/a\", \"arn:aws:iam::*:user/b\"]";
    let eic = settings(WHOLE, file).unwrap().access.eic.unwrap();
    assert_eq!(eic.roots.as_deref(), Some(Path::new("/etc/roots.pem")));
    assert_eq!(eic.admins.len(), 2);
}
