//! `--authorize eic`: keys that EC2 Instance Connect vouches for, and every reason for which one is refused.

use std::future::{Future as _, poll_fn};
use std::process::Command;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::aws::{AwsWorld, REGION};
use crate::support::cloud::{INSTANCE, session};
use crate::support::{Cloud, Process, Service, get, need_module, until};

#[test]
fn a_sent_key_lets_its_user_in_and_nobody_else() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    let service = Service::saying("carol's");
    cloud.push("carol", "carol", &session("carol@acme.com"));
    let _ssh = cloud.bastion.laptop("carol", &[("api", service.port)]);
    assert_eq!(get(cloud.bastion.http, "carol:api", "/").text(), "carol's");
    let users = cloud.users();
    assert_eq!(users[0]["user"], "carol");
    assert_eq!(users[0]["principal"], session("carol@acme.com"));
    assert_eq!((&users[0]["connections"], &users[0]["sessions"]), (&json!(1), &json!(1)));

    // The same key under another name, another key under the same name, a name that AWS has no keys for.
    let denied = |user: &str, key: &str| {
        let said = cloud.refused(user, key);
        assert!(said.contains("Permission denied (publickey)"), "{said}");
        // What a stock client can be told, it is told before.
        assert!(said.contains("60 s after EC2 Instance Connect's SendSSHPublicKey"), "{said}");
    };
    denied("dave", "carol");
    denied("carol", "mallory");
    denied("..", "carol");
    denied("0carol", "carol");
    // Keys of the file go on beside.
    let bobs = Service::saying("bob's");
    let _bob = cloud.bastion.laptop("bob", &[("api", bobs.port)]);
    assert_eq!(get(cloud.bastion.http, "bob:api", "/").text(), "bob's");
}

#[test]
fn a_laptop_logs_in_with_what_send_ssh_public_key_sent() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    // A real call of the account's API, for a real instance of it, with a role session's access key.
    let staging = cloud.world.staging(json!({}));
    let image = cloud.world.aws("ec2", "DescribeImages", json!({"Owners": ["amazon"]}))["Images"][0]["ImageId"].clone();
    let made = cloud.world.aws(
        "ec2",
        "RunInstances",
        json!({"ImageId": image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "SubnetId": staging["subnets"][0]}),
    );
    let instance = made["Instances"][0]["InstanceId"].as_str().unwrap();
    cloud.world.metadata(json!({"instance": instance}));
    cloud.world.access_key_of(&session("erin"), "AKIAERIN", "secret", None);
    let given = json!({"InstanceId": instance, "InstanceOSUser": "erin", "SSHPublicKey": cloud.key("erin")});
    until("the instance to run", || send(&cloud.world, &given).then_some(()));
    assert_eq!(cloud.claim("erin", "erin").unwrap(), "erin:api");
    assert_eq!(cloud.users()[0]["principal"], session("erin"));
}

/// SendSSHPublicKey by boto3; whether AWS took it.
fn send(world: &AwsWorld, given: &serde_json::Value) -> bool {
    let python = need_module("boto3").unwrap();
    let script = format!(
        "import boto3, json, sys\nboto3.client('ec2-instance-connect', endpoint_url=sys.argv[1], region_name='{REGION}', \
         aws_access_key_id='AKIAERIN', aws_secret_access_key='secret').send_ssh_public_key(**json.loads(sys.argv[2]))"
    );
    let mut command = Command::new(python);
    command.args(["-c", &script, &world.url(), &given.to_string()]);
    Process::run("boto3", &mut command).status.success()
}

#[test]
fn every_reason_against_a_key_is_said_to_laptop_and_log() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    let (instance, other) = (json!({"instance": INSTANCE}), json!({"instance": "i-00000000000000000"}));
    let plain = json!({"fault": null, "signer": null, "domain": "amazonaws.com", "region": REGION});
    let check = |metadata: serde_json::Value, blocks: Option<&str>, part: &str| {
        cloud.world.metadata(metadata.clone());
        cloud.world.forge_keys(json!({"blocks": blocks, "life": 60}));
        let began = Instant::now();
        let error = cloud.claim("carol", "carol").expect_err(part);
        assert!(began.elapsed() < Duration::from_secs(15), "{part}: {:?}", began.elapsed());
        let why = error.why.clone().unwrap_or_default();
        assert!(why.contains(part), "{metadata} {blocks:?}: {error}");
        assert!(
            error.what.contains("does not accept this laptop's key for user \"carol\""),
            "{error}"
        );
        until("the log to say so", || {
            cloud.bastion.process.err().contains(part).then_some(())
        });
        cloud.world.metadata(plain.clone());
        cloud.world.metadata(instance.clone());
    };
    check(
        instance.clone(),
        None,
        "not among the active keys of carol: it is valid for 60 s after SendSSHPublicKey",
    );
    cloud.push("carol", "carol", &session("carol"));
    check(other, None, "not among the active keys of carol");
    check(
        json!({}),
        Some("instance"),
        "was sent for the instance i-0123456789abcdef9, this is i-0123456789abcdef0",
    );
    check(json!({}), Some("expired"), "60 s are over");
    check(json!({}), Some("bad_signature"), "not signed by EC2 Instance Connect");
    check(json!({}), Some("caller"), "not signed by EC2 Instance Connect");
    check(json!({}), Some("salt"), "not signed by EC2 Instance Connect");
    check(json!({}), Some("no_caller"), "does not say who sent it");
    // What cannot be read in one way is not read at all.
    check(json!({}), Some("unsigned"), "not among the active keys");
    check(json!({}), Some("two_callers"), "not among the active keys");
    check(
        json!({"signer": "name"}),
        None,
        "not of managed-ssh-signer.eu-west-1.amazonaws.com",
    );
    check(
        json!({"domain": "evil.example"}),
        None,
        "not of managed-ssh-signer.eu-west-1.evil.example",
    );
    check(json!({"signer": "root"}), None, "its chain does not verify");
    check(json!({"signer": "expired"}), None, "its chain does not verify");
    check(json!({"signer": "garbage"}), None, "there is no certificate in it");
    check(json!({"signer": "absent"}), None, "has no managed-ssh-keys/signer-cert");
    check(
        json!({"fault": "off"}),
        None,
        "gives no token: it answers 403; is it turned off",
    );
    check(json!({"fault": "tokenless"}), None, "gives no token");
    check(json!({"fault": 500}), None, "answers 500");
    check(json!({"fault": "large"}), None, "longer than");
    check(json!({"fault": "slow"}), None, "did not answer within 5 s");
    // And nothing was kept of all that.
    cloud.world.forge_keys(json!({"blocks": null, "life": 60}));
    assert_eq!(cloud.claim("carol", "carol").unwrap(), "carol:api");
    // The caller must be somebody.
    cloud.push("dave", "dave", "arn:aws:iam::123456789012:role/developer");
    let error = cloud.claim("dave", "dave").unwrap_err();
    assert!(
        error.why.clone().unwrap().contains("names a role without its session"),
        "{error}"
    );
}

#[test]
fn an_absent_metadata_service_is_named() {
    let closed = crate::support::lasting_address();
    let bastion = crate::support::Bastion::with(&["--authorize", "eic", "--imds", &format!("http://{closed}")]);
    crate::support::make_key(&bastion.path("carol"), "carol");
    let finished = Process::run("ssh", &mut bastion.ssh("carol", "carol", &["-N"]));
    assert!(finished.err.contains("Permission denied"), "{finished:?}");
    let part = format!("the instance metadata service at http://{closed} gives no token");
    until("the log to name it", || bastion.process.err().contains(&part).then_some(()));
}

#[test]
fn a_key_that_is_over_does_not_let_in_again() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    cloud.world.forge_keys(json!({"blocks": null, "life": 3}));
    cloud.push("carol", "carol", &session("carol"));
    assert_eq!(cloud.claim("carol", "carol").unwrap(), "carol:api");
    until("the key's time to be over", || cloud.claim("carol", "carol").err());
}

#[test]
fn many_at_once_are_served_in_turn() {
    const LAPTOPS: usize = 40;
    let Some(cloud) = Cloud::start(&[]) else { return };
    cloud.push("carol", "carol", &session("carol"));
    crate::support::library::run(async {
        let all = (0..LAPTOPS).map(|_| cloud.connect("carol", "carol"));
        let mut connecting: Vec<_> = all.map(Box::pin).collect();
        let mut links = Vec::new();
        poll_fn(|cx| {
            connecting.retain_mut(|one| match one.as_mut().poll(cx) {
                Poll::Ready(link) => {
                    links.push(link.unwrap_or_else(|why| panic!("{why}")));
                    false
                }
                Poll::Pending => true,
            });
            if connecting.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        assert_eq!(links.len(), LAPTOPS);
    });
    // Offer and proof of a key ask once.
    let asked = cloud.world.metadata(json!({}))["asked"].clone();
    let times = asked["/latest/meta-data/managed-ssh-keys/active-keys/carol/"]
        .as_u64()
        .unwrap();
    assert_eq!(times, LAPTOPS as u64, "{asked}");
}

/// AWS's own rules about IMDSv2 are the double's; that the daemon keeps to them shows in that nothing else was asked for.
#[test]
fn a_lookup_asks_for_a_token_first_and_for_nothing_that_it_does_not_need() {
    let Some(cloud) = Cloud::start(&[]) else { return };
    cloud.push("carol", "carol", &session("carol"));
    cloud.claim("carol", "carol").unwrap();
    let asked = cloud.world.metadata(json!({}))["asked"].clone();
    let mut paths: Vec<&String> = asked.as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/latest/api/token",
            "/latest/meta-data/instance-id",
            "/latest/meta-data/managed-ssh-keys/active-keys/carol/",
            "/latest/meta-data/managed-ssh-keys/signer-cert",
            "/latest/meta-data/placement/region",
            "/latest/meta-data/services/domain",
        ]
    );
}
