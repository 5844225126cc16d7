//! What is not done, and what is said of it: guards, choices that only a person can make, missing rights, boots that fail.

use serde_json::{Value, json};

use crate::support::engineer::difference;
use crate::support::{Engineer, Process};

/// Runs it; nothing may be written, and it must end so.
#[track_caller]
fn refused(engineer: &Engineer, arguments: &[&str], code: i32, parts: &[&str]) {
    let before = engineer.exact();
    let finished = engineer.bastion(arguments);
    assert_eq!(finished.code(), code, "{arguments:?}\n{}\n{}", finished.out, finished.err);
    for part in parts {
        assert!(finished.err.contains(part), "{part:?} is not in\n{}", finished.err);
    }
    assert_eq!(difference(&before, &engineer.exact()), [""; 0]);
}

#[test]
fn guards_hold_before_any_write() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.write("expected_account_id = \"210987654321\"");
    let account = ["this is account 123456789012, and bastion.expected_account_id is 210987654321; nothing was changed"];
    refused(&engineer, &["init", "--live", "--yes"], 6, &account);
    refused(&engineer, &["upgrade", "--live", "--yes"], 6, &account);
    refused(&engineer, &["destroy", "--live", "--yes"], 6, &account);
    engineer.file(&format!(
        "[tunnel]\ntype = \"ec2\"\nexpected_vpc_id = \"vpc-01234567\"\n[bastion]\nsubnet_id = \"{}\"\nalb_security_group_id = \"{}\"\n\
         bastion_binary_s3_uri = \"{}\"",
        engineer.subnet(),
        engineer.id("alb_group"),
        engineer.id("uri")
    ));
    let vpc = format!("is in {}, and tunnel.expected_vpc_id is vpc-01234567", engineer.id("vpc"));
    refused(&engineer, &["init", "--live", "--yes"], 6, &[&vpc]);
    // All that is of elsewhere is said at once, and with no call at all where none is needed.
    let listener = |partition: &str, region: &str, account: &str| {
        format!("arn:{partition}:elasticloadbalancing:{region}:{account}:listener/app/staging/0123456789abcdef/0123456789abcdef")
    };
    let before = engineer.world.count();
    for (arn, part) in [
        (
            listener("aws", "us-east-1", "123456789012"),
            "the listener is in us-east-1, and this is eu-west-1; nothing was changed",
        ),
        (
            listener("aws-cn", "eu-west-1", "123456789012"),
            "is of the partition aws-cn, and eu-west-1 is in aws; nothing was changed",
        ),
        (
            listener("aws", "cn-north-1", "123456789012"),
            "2 settings are of another place; nothing was changed",
        ),
    ] {
        let arguments = ["init", "--live", "--yes", "--listener-arn", &arn];
        refused(&engineer, &arguments, 6, &[part]);
        let command = &mut engineer.without_credentials(&["bastion", "init", "--listener-arn", &arn, "--region", "eu-west-1"]);
        let finished = Process::run("bastion", command);
        assert!(finished.code() == 6 && finished.err.contains(part), "{finished:?}");
    }
    assert_eq!(engineer.world.count(), before, "nothing was even asked");
    let arn = listener("aws", "eu-west-1", "210987654321");
    let told = ["the listener is of account 210987654321, and this is account 123456789012; nothing was changed"];
    refused(&engineer, &["init", "--live", "--yes", "--listener-arn", &arn], 6, &told);
    // Nobody is there to be asked.
    engineer.write("");
    refused(&engineer, &["init", "--live"], 2, &["--live --yes"]);
}

#[test]
fn what_may_be_two_things_is_listed() {
    let Some(engineer) = Engineer::start() else { return };
    let uri = format!("[bastion]\nbastion_binary_s3_uri = \"{}\"", engineer.id("uri"));
    engineer.file(&uri);
    let other = engineer.staging["subnets"][1].as_str().unwrap();
    let parts = ["which subnet? There are 2", engineer.subnet(), other, "--subnet-id"];
    refused(&engineer, &["init"], 3, &parts);
    // One subnet and one load balancer are found by themselves.
    let told = engineer.works(&["init", "--subnet-id", other]);
    assert!(
        told.contains(&format!("{other}, no public address")) && told.contains(engineer.id("alb_group")),
        "{told}"
    );
    engineer.file("");
    refused(
        &engineer,
        &["init", "--subnet-id", other],
        3,
        &["what shall the bastion run?", "cargo xtask release"],
    );
    engineer.file("[bastion]\nbastion_binary_s3_uri = \"s3://shop-releases/nothing\"");
    refused(
        &engineer,
        &["init", "--subnet-id", other],
        3,
        &["there is no object s3://shop-releases/nothing"],
    );
}

#[test]
fn processors_that_do_not_agree() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.upload("for another", "x86_64");
    refused(
        &engineer,
        &["init", "--live", "--yes"],
        3,
        &["are for different processors", "t4g.nano for arm64"],
    );
    // An object put there by hand says it itself.
    let elf = [b"\x7fELF\x02\x01".as_slice(), &[0; 12], &[0x3e, 0], &[0; 44]].concat();
    let params =
        json!({ "Bucket": engineer.id("bucket"), "Key": engineer.id("key"), "Body": ephemwork::aws::base64::encode(&elf) });
    engineer.world.aws("s3", "PutObject", params);
    refused(&engineer, &["init"], 3, &["ephemwork-arm64 for x86_64"]);
    let params = json!({ "Bucket": engineer.id("bucket"), "Key": engineer.id("key"), "Body": "aGVsbG8=" });
    engineer.world.aws("s3", "PutObject", params);
    refused(&engineer, &["init"], 3, &["is no program for Linux"]);
}

#[test]
fn a_missing_right_is_named() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.world.deny(&["elasticloadbalancing:DescribeRules"]);
    refused(&engineer, &["init"], 4, &["elasticloadbalancing:DescribeRules"]);
    engineer.world.deny(&["ec2:RunInstances"]);
    let finished = engineer.bastion(&["init", "--live", "--yes"]);
    assert_eq!(finished.code(), 4, "{finished:?}");
    assert!(finished.err.contains("ec2:RunInstances"), "{}", finished.err);
    engineer.world.deny(&[]);
    engineer.works(&["init", "--live", "--yes"]);
}

#[test]
fn without_credentials_there_is_still_a_plan() {
    let Some(engineer) = Engineer::start() else { return };
    for region in [None, Some("eu-west-1")] {
        let mut command = engineer.without_credentials(&["bastion", "init"]);
        if let Some(region) = region {
            command.env("AWS_REGION", region);
        }
        let finished = Process::run("bastion", &mut command);
        assert_eq!(finished.code(), 0, "{finished:?}");
        for part in [
            "policy documents and user data: --verbose",
            "outbound     everything",
            "no account was read",
            "create the IAM role ephemwork-shop-bastion-",
            "cost a month",
            "ec2:RunInstances",
        ] {
            assert!(finished.out.contains(part), "{part:?} is not in\n{}", finished.out);
        }
    }
    // Nor do those who only want to read need a region first.
    for print in [["policy", "admin"], ["policy", "developer"], ["snippet", "terraform"]] {
        let finished = Process::run("bastion", &mut engineer.without_credentials(&["bastion", print[0], print[1]]));
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert!(
            finished.out.contains('<') && finished.err.contains("for you to fill in"),
            "{finished:?}"
        );
    }
    let finished = Process::run("bastion", &mut engineer.without_credentials(&["bastion", "status"]));
    assert!(
        finished.code() == 3 && finished.err.contains("tunnel.region in ephemwork.toml"),
        "{finished:?}"
    );
    let finished = Process::run(
        "bastion",
        engineer
            .without_credentials(&["bastion", "init", "--live", "--yes"])
            .env("AWS_REGION", "eu-west-1"),
    );
    assert_eq!(finished.code(), 4, "{finished:?}");
    assert_eq!(engineer.world.count(), 0);
}

#[test]
fn a_boot_that_fails_says_why() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.world.habits(json!({ "boot": "failed" }));
    let finished = engineer.bastion(&["init", "--live", "--yes"]);
    assert_eq!(finished.code(), 5, "{finished:?}");
    assert!(
        finished.err.contains("its boot failed: fetch the binary: 403"),
        "{}",
        finished.err
    );
    let told = engineer.works(&["status"]);
    assert!(told.contains("its boot failed: fetch the binary: 403"), "{told}");
    engineer.world.habits(json!({ "boot": "ready" }));
    let told = engineer.works(&["init", "--live", "--yes"]);
    assert!(told.contains("its boot failed"), "{told}");
    assert_eq!(engineer.instances().len(), 1);
    assert!(engineer.works(&["init"]).contains("nothing to do"));
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_one_serving() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    let whole = engineer.account();
    let old = engineer.instances()[0]["InstanceId"].clone();
    engineer.upload("broken", "arm64");
    engineer.world.habits(json!({ "boot": "failed" }));
    let finished = engineer.bastion(&["upgrade", "--live", "--yes"]);
    assert_eq!(finished.code(), 5, "{finished:?}");
    assert!(finished.err.contains("the old instance serves as before"), "{}", finished.err);
    let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
    let serving: Vec<&Value> = status["instances"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["target"] == "healthy")
        .collect();
    assert_eq!((serving.len(), &serving[0]["id"]), (1, &old), "{status}");
    // What the failed one left is gone after the next init, and nothing else has changed.
    engineer.upload("a binary", "arm64");
    engineer.works(&["init", "--live", "--yes"]);
    engineer.works(&["status"]);
    assert_eq!(difference(&whole, &engineer.account()), [""; 0]);
}

/// An upgrade that cannot end the old instance has nothing to go back to: the load balancer knows only the new one.
#[test]
fn an_upgrade_that_fails_late_leaves_the_new_one_serving() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.works(&["init", "--live", "--yes"]);
    engineer.upload("another", "arm64");
    engineer
        .world
        .refuse("ec2:TerminateInstances", "RequestLimitExceeded", "Request limit exceeded.", 1);
    let finished = engineer.bastion(&["upgrade", "--live", "--yes"]);
    assert_eq!(finished.code(), 5, "{finished:?}");
    assert!(finished.err.contains("the new instance has taken over"), "{}", finished.err);
    let status: Value = serde_json::from_str(&engineer.works(&["status", "--json"])).unwrap();
    let instances = status["instances"].as_array().unwrap();
    let healthy: Vec<&Value> = instances.iter().filter(|one| one["target"] == "healthy").collect();
    assert_eq!((instances.len(), healthy.len()), (2, 1), "{status}");
    engineer.works(&["upgrade", "--live", "--yes"]);
    assert_eq!(engineer.instances().len(), 1);
    assert!(engineer.works(&["upgrade"]).contains("nothing to do"));
}

/// Something in the way answers, and never ends its answer.
#[test]
fn an_answer_without_end_is_given_up() {
    use std::io::{Read as _, Write as _};
    let Some(engineer) = Engineer::start() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = stream.read(&mut [0; 4096]).unwrap();
        assert!(asked > 0, "nothing was asked");
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'a'; 0x10000], b"\r\n"].concat();
        let (mut chunks, enough) = (0, 16 * 1024);
        while chunks < enough && stream.write_all(&chunk).is_ok() {
            chunks += 1;
        }
        assert!(chunks < enough, "a GiB was taken");
    };
    let server = std::thread::spawn(serve);
    let mut command = engineer.command(&["bastion", "status"]);
    command.env("AWS_ENDPOINT_URL", format!("http://{address}"));
    let finished = Process::run("bastion", &mut command);
    assert!(finished.err.contains("sts:GetCallerIdentity"), "{finished:?}");
    assert_ne!(finished.code(), 0);
    server.join().unwrap();
}

#[test]
fn an_outage_of_aws_is_not_called_a_mistake_of_this_program() {
    let Some(engineer) = Engineer::start() else { return };
    engineer.world.fail_from(3, crate::support::aws::Fault::Http500);
    let finished = engineer.bastion(&["init"]);
    assert_eq!(finished.code(), 5, "{finished:?}");
    assert!(finished.err.contains("AWS itself failed at "), "{}", finished.err);
    engineer.world.heal();
}

/// Something on the way answers in AWS's place: a login page, a proxy, a broken one.
#[test]
fn an_answer_that_is_none_of_awss_is_told_with_where_and_what_to_do() {
    use std::io::{Read as _, Write as _};
    let Some(engineer) = Engineer::start() else { return };
    let page = "<html><body>Please log in</body></html>";
    let answer = |status: &str, kind: &str, body: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nx-amzn-RequestId: r-77\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let cut = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws";
    for (status, body, length) in [
        ("200 OK", page, page.len()),
        ("200 OK", "", 0),
        ("200 OK", cut, cut.len()),
        ("200 OK", cut, cut.len() + 100),
        ("200 OK", "\u{0}\u{1}{\"a\": 1", 10),
        ("302 Found", page, page.len()),
        // A right is missing, or a thing, only when AWS itself says so.
        ("403 Forbidden", page, page.len()),
        ("404 Not Found", page, page.len()),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text = answer(status, "text/html", body, length);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = stream.read(&mut [0; 8192]).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            asked
        });
        let mut command = engineer.command(&["bastion", "init"]);
        command.env("AWS_ENDPOINT_URL", format!("http://{address}"));
        let finished = Process::run("bastion", &mut command);
        assert!(server.join().unwrap() > 0);
        assert_eq!(finished.code(), 5, "{status} {body}: {finished:?}");
        let parts = ["sts:GetCallerIdentity", "ry again"];
        let where_ = [
            format!("http://{address}"),
            "cannot be read".to_owned(),
            "request r-77".to_owned(),
        ];
        // Of one that breaks off in its body only the way there is known to be bad.
        let whole = where_.iter().filter(|_| length == body.len()).map(String::as_str);
        for part in parts.into_iter().chain(whole) {
            assert!(
                finished.err.contains(part),
                "{status} {body}: {part:?} is not in\n{}",
                finished.err
            );
        }
    }
}
