//! How `ephemwork::aws` finds its credentials and its way, and what it says and does when AWS or the way there fails.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Instant,
};

use ephemwork::aws::{Aws, Failure, Place, ec2, iam, s3, sts};
use ephemwork::error::{Error, Exit};
use serde_json::json;

use crate::support::aws::{ACCESS_KEY, AwsWorld, Fault, REGION};
use crate::support::library::{host, run};
use crate::support::{Process, need_module, peer, until};

pub(crate) type Environment = Vec<(&'static str, String)>;

/// A machine on which nobody has ever signed in to AWS: HOME is empty, and there is no instance's metadata.
fn nowhere(home: &Path) -> Environment {
    vec![
        ("HOME", home.display().to_string()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// [`nowhere`] with a configuration file.
pub(crate) fn configured(home: &Path, config: &str) -> Environment {
    std::fs::create_dir_all(home.join(".aws/sso/cache")).unwrap();
    std::fs::write(home.join(".aws/config"), config).unwrap();
    nowhere(home)
}

pub(crate) fn named(profile: &str) -> Place {
    let profile = Some(profile.to_owned());
    Place { profile, region: None }
}

/// Signs in and asks who that is.
pub(crate) fn who(environment: &Environment, place: &Place) -> Result<sts::Identity, Error> {
    let host = host(environment);
    run(async {
        let aws = Aws::open(&host, place).await?;
        aws.call(&sts::GetCallerIdentity).await.map_err(Error::from)
    })
}

#[track_caller]
fn refused(environment: &Environment, exit: Exit, what: &str, hint: &str) {
    let error = who(environment, &Place::default()).unwrap_err();
    assert_eq!((error.exit, error.what.as_str()), (exit, what), "{error}");
    assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error}");
}

#[test]
fn who_never_signed_in_is_told_how() {
    let home = tempfile::tempdir().unwrap();
    let mut environment = nowhere(home.path());
    refused(&environment, Exit::Config, "no AWS region is set", "aws configure set region");
    environment.push(("AWS_REGION", REGION.to_owned()));
    refused(
        &environment,
        Exit::Credentials,
        "no AWS credentials are found",
        "aws configure sso",
    );
    environment.push(("AWS_CA_BUNDLE", "absent.pem".to_owned()));
    refused(
        &environment,
        Exit::Config,
        "AWS_CA_BUNDLE names /absent.pem, which cannot be read",
        "PEM",
    );
    environment.pop();
    environment.push(("HTTPS_PROXY", "socks5://proxy:1".to_owned()));
    refused(
        &environment,
        Exit::Config,
        "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used",
        "3128",
    );
}

#[test]
fn an_sso_session_that_is_over_names_its_command() {
    let home = tempfile::tempdir().unwrap();
    let config = "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\nregion = eu-west-1\n\
                  [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n";
    let mut environment = configured(home.path(), config);
    environment.push(("AWS_PROFILE", "work".to_owned()));
    let hint = "aws sso login --profile work";
    refused(
        &environment,
        Exit::Credentials,
        "there is no SSO session for AWS profile work",
        hint,
    );
    // The file's name is the SHA-1 of the session's name, as every tool of AWS has it.
    let cached = json!({
        "startUrl": "https://corp.awsapps.com/start", "region": "eu-west-1", "accessToken": "gone",
        "expiresAt": "2020-01-01T00:00:00Z",
    });
    let file = home.path().join(".aws/sso/cache").join(format!("{}.json", sha1_of("corp")));
    std::fs::write(file, cached.to_string()).unwrap();
    refused(
        &environment,
        Exit::Credentials,
        "the SSO session of AWS profile work has expired",
        hint,
    );
    // The command line counts more than the environment.
    let place = Place {
        profile: Some("other".to_owned()),
        region: Some(REGION.to_owned()),
    };
    let error = who(&environment, &place).unwrap_err();
    assert_eq!(error.exit, Exit::Credentials, "{error}");
    assert!(error.to_string().contains("other"), "{error}");
}

fn sha1_of(text: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("printf %s '{text}' | sha1sum")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn profiles_give_keys_processes_regions_and_endpoints() {
    let Some(world) = AwsWorld::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let url = world.url();
    let process = home.path().join("process");
    let said = json!({"Version": 1, "AccessKeyId": ACCESS_KEY.0, "SecretAccessKey": ACCESS_KEY.1});
    std::fs::write(&process, said.to_string()).unwrap();
    let config = format!(
        "[profile static]\naws_access_key_id = {}\naws_secret_access_key = {}\nregion = {REGION}\nservices = here\n\
         [profile process]\ncredential_process = cat {}\nregion = {REGION}\nendpoint_url = {url}\n\
         [profile broken]\ncredential_process = false\nregion = {REGION}\n\
         [services here]\nsts =\n  endpoint_url = {url}\n",
        ACCESS_KEY.0,
        ACCESS_KEY.1,
        process.display(),
    );
    let environment = configured(home.path(), &config);
    for profile in ["static", "process"] {
        let identity = who(&environment, &named(profile)).unwrap();
        assert_eq!(identity.account, "123456789012", "{profile}");
    }
    let error = who(&environment, &named("broken")).unwrap_err();
    assert_eq!(
        (error.exit, error.what.as_str()),
        (Exit::Credentials, "AWS profile broken gives no credentials"),
        "{error}"
    );

    // A variable counts more than the profile, and the service's own more than the general one.
    let mut elsewhere = environment.clone();
    elsewhere.push(("AWS_ENDPOINT_URL_STS", url.clone()));
    elsewhere.push(("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned()));
    elsewhere.push(("AWS_MAX_ATTEMPTS", "1".to_owned()));
    assert!(who(&elsewhere, &named("static")).is_ok());
    let host = host(&elsewhere);
    let error = run(async {
        let aws = Aws::open(&host, &named("static")).await.unwrap();
        aws.call(&iam::GetRole { name: "r".to_owned() }).await.unwrap_err()
    });
    let error = Error::from(error);
    assert_eq!(
        (error.exit, error.what.as_str()),
        (Exit::Unreachable, "http://127.0.0.1:1 cannot be reached"),
        "{error}"
    );
}

/// Keys of production in the environment, and `--profile staging` on the command line.
#[test]
fn a_profile_that_is_named_counts_more_than_keys_in_the_environment() {
    let Some(world) = AwsWorld::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "[profile staging]\naws_access_key_id = {}\naws_secret_access_key = {}\nregion = {REGION}\n\
         [profile empty]\nregion = {REGION}\n",
        ACCESS_KEY.0, ACCESS_KEY.1,
    );
    let mut environment = configured(home.path(), &config);
    environment.extend([("AWS_ENDPOINT_URL", world.url()), ("AWS_REGION", REGION.to_owned())]);
    let arn = "arn:aws:iam::123456789012:user/production";
    world.access_key_of(arn, "AKIAPRODUCTION000000", "secret", None);
    environment.push(("AWS_ACCESS_KEY_ID", "AKIAPRODUCTION000000".to_owned()));
    environment.push(("AWS_SECRET_ACCESS_KEY", "secret".to_owned()));
    assert_eq!(who(&environment, &Place::default()).unwrap().arn, arn);
    assert_ne!(who(&environment, &named("staging")).unwrap().arn, arn);
    for profile in ["empty", "stagign"] {
        let error = who(&environment, &named(profile)).unwrap_err();
        let what = format!("no AWS credentials are found for profile {profile}");
        assert_eq!((error.exit, error.what), (Exit::Credentials, what));
    }
}

#[test]
fn containers_give_credentials() {
    let Some(world) = AwsWorld::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let head: Vec<String> = lines
            .by_ref()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        let body = json!({
            "AccessKeyId": ACCESS_KEY.0, "SecretAccessKey": ACCESS_KEY.1, "Token": "session-token", "Expiration": "2099-01-01T00:00:00Z",
        })
        .to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
        head.join("\n")
    });
    world.access_key(ACCESS_KEY.0, ACCESS_KEY.1, Some("session-token"));
    let home = tempfile::tempdir().unwrap();
    let mut environment = nowhere(home.path());
    environment.extend([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{at}/keys")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me-in".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", world.url()),
    ]);
    assert_eq!(who(&environment, &Place::default()).unwrap().account, "123456789012");
    let asked = server.join().unwrap();
    assert!(
        asked.starts_with("GET /keys ") && asked.to_lowercase().contains("authorization: let-me-in"),
        "{asked}"
    );
}

/// Opens a world and runs a story in it.
#[track_caller]
fn within(story: impl AsyncFnOnce(&AwsWorld, Aws)) {
    let Some(world) = AwsWorld::start() else { return };
    let host = host(&world.environment());
    run(async {
        let aws = Aws::open(&host, &Place::default()).await.unwrap();
        story(&world, aws).await;
    });
}

const VPCS: ec2::DescribeVpcs = ec2::DescribeVpcs {
    ids: Vec::new(),
    filters: Vec::new(),
    next: None,
};

#[test]
fn what_passes_is_tried_again() {
    within(async |world, aws| {
        let all = aws.all(&VPCS).await.unwrap();
        for fault in Fault::ALL {
            let before = world.count();
            world.fail_some(0, 2, fault);
            let found = aws.all(&VPCS).await.unwrap_or_else(|why| panic!("{fault:?}: {why}"));
            assert_eq!((found, world.count() - before), (all.clone(), 3), "{fault:?}");
        }
    });
}

#[test]
fn what_lasts_is_told() {
    let Some(world) = AwsWorld::start() else { return };
    let mut environment = world.environment();
    environment.push(("AWS_MAX_ATTEMPTS", "2".to_owned()));
    let host = host(&environment);
    run(async {
        let aws = Aws::open(&host, &Place::default()).await.unwrap();
        for fault in Fault::ALL {
            world.fail_from(0, fault);
            let before = world.count();
            let failure = aws.call(&VPCS).await.unwrap_err();
            world.heal();
            assert_eq!(world.count() - before, 2, "{fault:?}: {failure}");
            assert_eq!(failure.is_throttled(), fault == Fault::Throttle, "{failure}");
            assert_eq!(failure.is_uncertain(), fault != Fault::Throttle, "{failure}");
            let error = Error::from(failure);
            assert!(
                error.exit == Exit::Unreachable || error.exit == Exit::Bug,
                "{fault:?}: {error}"
            );
            assert!(
                error.to_string().contains("ec2:DescribeVpcs") || error.what.contains(&world.url()),
                "{error}"
            );
        }
    });
}

#[test]
fn a_right_that_is_missing_is_named() {
    within(async |world, aws| {
        world.deny(&["ec2:DescribeVpcs", "iam:GetRole"]);
        let failure = aws.call(&VPCS).await.unwrap_err();
        assert!(failure.is_denied(), "{failure}");
        let error = Error::from(failure);
        assert_eq!(error.exit, Exit::Credentials);
        assert!(error.what.contains("no right to ec2:DescribeVpcs"), "{error}");
        assert!(error.hint.unwrap().contains(r#""Action": "ec2:DescribeVpcs""#));
        let failure = aws.call(&iam::GetRole { name: "r".to_owned() }).await.unwrap_err();
        assert!(Error::from(failure).what.contains("no right to iam:GetRole"));
        assert_eq!(world.count(), 2, "what is denied is not tried again");
    });
}

#[test]
fn keys_that_aws_does_not_know() {
    let Some(world) = AwsWorld::start() else { return };
    let mut environment = world.environment();
    environment[2].1 = "wrong".to_owned();
    let error = who(&environment, &Place::default()).unwrap_err();
    assert_eq!(error.exit, Exit::Credentials);
    let what = "AWS does not accept the credentials of profile default in eu-west-1";
    assert_eq!(error.what, what, "{error}");
    world.forgive();
}

#[test]
fn a_clock_that_is_wrong_is_corrected() {
    within(async |world, aws| {
        for ahead in [3600, -3600] {
            world.habits(json!({"clock_ahead": ahead}));
            let before = world.count();
            aws.call(&VPCS).await.unwrap_or_else(|why| panic!("{ahead}: {why}"));
            assert_eq!(world.count() - before, 2);
            aws.call(&VPCS).await.unwrap();
            assert_eq!(world.count() - before, 3, "what was learned is kept");
        }
    });
}

#[test]
fn a_bucket_that_is_elsewhere() {
    let Some((world, staging)) = AwsWorld::with_staging() else {
        return;
    };
    let mut environment = world.environment();
    environment[3].1 = "us-east-1".to_owned();
    let host = host(&environment);
    let head = s3::HeadObject {
        location: s3::Location::parse(staging["uri"].as_str().unwrap()).unwrap(),
    };
    run(async {
        let aws = Aws::open(&host, &Place::default()).await.unwrap();
        let failure: Failure = aws.call(&head).await.unwrap_err();
        assert!(failure.is_elsewhere(), "{failure}");
        let region = failure.bucket_region.clone().unwrap();
        assert!(Error::from(failure).hint.unwrap().contains(REGION));
        assert_eq!(aws.in_region(&region).call(&head).await.unwrap().size, Some(8));
    });
}

#[test]
fn an_authority_of_ones_own() {
    let Some(world) = AwsWorld::start() else { return };
    let Some(python) = need_module("cryptography") else { return };
    let home = tempfile::tempdir().unwrap();
    let authority = home.path().join("authority.pem");
    let mut command = Command::new(python);
    command
        .arg(peer("tls_front.py"))
        .arg(world.url().rsplit(':').next().unwrap())
        .arg(&authority);
    let mut front = Process::start("tls front", &mut command);
    front.wait_for("READY=");
    let port = until("the front's port", || {
        Some(front.out().split_once("READY=")?.1.split_once('\n')?.0.to_owned())
    });
    let mut environment = world.environment();
    environment[0].1 = format!("https://localhost:{port}");
    environment.push(("AWS_MAX_ATTEMPTS", "1".to_owned()));
    let error = who(&environment, &Place::default()).unwrap_err();
    assert_eq!(error.exit, Exit::Unreachable, "{error}");
    assert!(error.hint.unwrap().contains("AWS_CA_BUNDLE"));
    environment.push(("AWS_CA_BUNDLE", authority.display().to_string()));
    let identity = who(&environment, &Place::default()).unwrap();
    assert_eq!(identity.account, "123456789012");
    std::fs::write(&authority, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let error = who(&environment, &Place::default()).unwrap_err();
    assert_eq!(error.exit, Exit::Config, "{error}");
}

#[test]
fn proxies_and_what_they_do_not_serve() {
    let Some(world) = AwsWorld::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (heard, to): (_, SocketAddr) = (seen.clone(), world.url()["http://".len()..].parse().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            heard.lock().unwrap().push(line.trim().to_owned());
            let mut server = TcpStream::connect(to).unwrap();
            // A proxy is told the whole URL, the server its path only.
            let line = line.replace(&format!("http://{to}"), "");
            server.write_all(line.as_bytes()).unwrap();
            let mut answers = server.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut answers, &mut client));
            std::thread::spawn(move || std::io::copy(&mut reader, &mut server));
        }
    });
    let mut environment = world.environment();
    environment.push(("http_proxy", proxy.to_string()));
    who(&environment, &Place::default()).unwrap();
    let through = seen.lock().unwrap().clone();
    assert_eq!(through, [format!("POST {}/ HTTP/1.1", world.url())]);
    environment.push(("NO_PROXY", "example.com, 127.0.0.0/8".to_owned()));
    assert!(who(&environment, &Place::default()).is_ok());
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// What a proxy is asked for, which connects to nothing.
#[test]
fn fips_and_dual_stack_endpoints_are_called_when_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let (heard, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = stream.unwrap();
            let mut line = String::new();
            BufReader::new(client.try_clone().unwrap()).read_line(&mut line).unwrap();
            client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok();
            heard.send(line.trim().to_owned()).ok();
        }
    });
    let home = tempfile::tempdir().unwrap();
    let config = "[default]\nregion = eu-west-1\naws_access_key_id = a\naws_secret_access_key = b\n\
                  [profile six]\nregion = eu-west-1\nuse_dualstack_endpoint = true\naws_access_key_id = a\naws_secret_access_key = b\n";
    for (name, value, host) in [
        ("AWS_USE_FIPS_ENDPOINT", "false", "sts.eu-west-1.amazonaws.com"),
        ("AWS_USE_FIPS_ENDPOINT", "true", "sts-fips.eu-west-1.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true", "sts.eu-west-1.api.aws"),
        ("AWS_PROFILE", "six", "sts.eu-west-1.api.aws"),
    ] {
        let mut environment = configured(home.path(), config);
        environment.push(("HTTPS_PROXY", format!("http://{proxy}")));
        environment.push(("AWS_MAX_ATTEMPTS", "1".to_owned()));
        environment.push((name, value.to_owned()));
        let error = who(&environment, &Place::default()).unwrap_err();
        assert_eq!(
            asked.recv().unwrap(),
            format!("CONNECT {host}:443 HTTP/1.1"),
            "{name}={value}: {error:?}"
        );
        assert!(error.what.contains(host), "{error:?}");
    }
    let mut environment = configured(home.path(), config);
    environment.push(("AWS_USE_FIPS_ENDPOINT", "true".to_owned()));
    environment.push(("AWS_REGION", "cn-north-1".to_owned()));
    refused(
        &environment,
        Exit::Config,
        "there are no FIPS endpoints in cn-north-1",
        "AWS_USE_FIPS_ENDPOINT=false",
    );
}

#[test]
fn opening_waits_for_nobody() {
    let Some(world) = AwsWorld::start() else { return };
    let host = host(&world.environment());
    let start = Instant::now();
    run(async {
        assert!(Aws::open(&host, &Place::default()).await.is_ok());
    });
    assert_eq!(world.count(), 0, "signing in with keys asks nobody");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
