//! An AWS account on loopback, as strict and as tiresome as AWS: the gateway of tests/peers/aws in front of moto.
//!
//! Every request that reaches it is checked against AWS's published service models and its signature is computed again. A world
//! that saw a wrong one panics when it is dropped, so that no test passes on requests that AWS would refuse.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};

use super::{Process, fetch, need_module, peer, until};

/// The account's only region with anything in it, unless a test says otherwise.
pub(crate) const REGION: &str = "eu-west-1";

/// The access key that every world knows, and its secret.
pub(crate) const ACCESS_KEY: (&str, &str) = ("AKIAEPHEMWORKTEST000", "test-secret/with+signs");

/// A running gateway with an account of its own.
pub(crate) struct AwsWorld {
    at: SocketAddr,
    process: Process,
}

/// What becomes of every call from a certain one on, until [`AwsWorld::heal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// AWS answers 500 and has done nothing.
    Http500,
    /// AWS answers with the service's own words for too many requests, and has done nothing.
    Throttle,
    /// The connection is reset, and AWS has done nothing.
    CutBefore,
    /// The connection is reset, and AWS has done what was asked.
    CutAfter,
    /// The connection ends in the middle of the answer's body; AWS has done what was asked.
    CutInAnswer,
}

/// One request that came, in the gateway's journal.
#[derive(Clone, Debug)]
pub(crate) struct AwsCall {
    /// `service:Operation`, as botocore names them: `ec2:RunInstances`, `elbv2:CreateRule`.
    pub(crate) name: String,
    /// The parameters, in the shape of the service's model.
    pub(crate) params: Value,
    /// The HTTP status of a success, else AWS's error code or `cut`.
    pub(crate) outcome: String,
    /// What IAM had to allow for it, when the caller was bound.
    pub(crate) needs: Vec<Need>,
}

/// One decision of IAM.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) action: String,
    pub(crate) allowed: bool,
    /// The statements that allowed it: Sid, the pattern of the action, the pattern of the resource.
    pub(crate) by: Vec<[String; 3]>,
}

impl Fault {
    pub(crate) const ALL: [Fault; 5] = [
        Fault::Http500,
        Fault::Throttle,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::CutInAnswer,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::Http500 => "http_500",
            Fault::Throttle => "throttle",
            Fault::CutBefore => "cut_before",
            Fault::CutAfter => "cut_after",
            Fault::CutInAnswer => "cut_in_answer",
        }
    }
}

impl AwsWorld {
    /// An empty account. None without the peers: the test is skipped with one line, or fails under EPHEMWORK_REQUIRE_PEERS=1.
    #[track_caller]
    pub(crate) fn start() -> Option<AwsWorld> {
        let python = need_module("moto, flask, botocore")?;
        let mut process = Process::start("gateway", Command::new(python).arg(peer("aws/gateway.py")));
        process.wait_for("READY=");
        let port = until("the gateway's port", || {
            let out = process.out();
            let (line, _) = out.split_once("READY=")?.1.split_once('\n')?;
            Some(line.parse().unwrap())
        });
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        Some(AwsWorld { at, process })
    }

    /// [`AwsWorld::start`] with the staging environment of [`AwsWorld::staging`].
    #[track_caller]
    pub(crate) fn with_staging() -> Option<(AwsWorld, Value)> {
        let world = AwsWorld::start()?;
        let staging = world.staging(json!({}));
        Some((world, staging))
    }

    /// What AWS_ENDPOINT_URL is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The environment of a program that may call this account, and no other.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Puts everything back as after [`AwsWorld::start`], habits, journal and violations too; those there were panic.
    #[track_caller]
    pub(crate) fn reset(&self) {
        self.demand_no_violations();
        self.control("reset", json!({}));
    }

    /// Makes a team's staging environment: VPC without internet, two private subnets, load balancer with listener and rules, bucket
    /// with a binary. Gives the ids: `vpc`, `subnets`, `alb`, `alb_group`, `app_group`, `listener`, `target_group`, `rules`, `bucket`,
    /// `key`, `uri`, `sha256`, `account`, `region`. For `options` see tests/peers/aws/staging.py.
    #[track_caller]
    pub(crate) fn staging(&self, options: Value) -> Value {
        self.control("staging", options)
    }

    /// Carries out one operation behind the product's back: unchecked, without faults and habits, not in the journal.
    /// `service` and `operation` as botocore names them, blobs in base64.
    #[track_caller]
    pub(crate) fn aws(&self, service: &str, operation: &str, params: Value) -> Value {
        self.control("aws", json!({"service": service, "operation": operation, "params": params}))
    }

    /// Everything in the account (terminated instances aside) as JSON that is equal for an equal account.
    #[track_caller]
    pub(crate) fn inventory(&self) -> Value {
        self.control("inventory", json!({}))
    }

    /// All requests that came since the start or the last reset.
    #[track_caller]
    pub(crate) fn calls(&self) -> Vec<AwsCall> {
        let journal = self.control("calls", json!({}));
        let call = |entry: &Value| AwsCall {
            name: entry["call"].as_str().unwrap().to_owned(),
            params: entry["params"].clone(),
            outcome: match &entry["outcome"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
            needs: entry["needs"].as_array().into_iter().flatten().map(need).collect(),
        };
        journal.as_array().unwrap().iter().map(call).collect()
    }

    /// How many requests came since the start or the last reset.
    #[track_caller]
    pub(crate) fn count(&self) -> u64 {
        self.control("count", json!({})).as_u64().unwrap()
    }

    /// What was wrong with requests so far, a sentence each.
    #[track_caller]
    pub(crate) fn violations(&self) -> Vec<String> {
        sentences(&self.control("violations", json!({})))
    }

    /// [`AwsWorld::violations`], which are then forgotten: the test meant them.
    #[track_caller]
    pub(crate) fn forgive(&self) -> Vec<String> {
        sentences(&self.control("forgive", json!({})))
    }

    /// `after` more calls succeed, then every one is struck until [`AwsWorld::heal`].
    #[track_caller]
    pub(crate) fn fail_from(&self, after: u64, fault: Fault) {
        self.control("fail_from", json!({"after": after, "kind": fault.name()}));
    }

    /// `after` more calls succeed, then so many are struck.
    #[track_caller]
    pub(crate) fn fail_some(&self, after: u64, calls: u64, fault: Fault) {
        self.control("fail_from", json!({"after": after, "kind": fault.name(), "calls": calls}));
    }

    /// Ends faults and [`AwsWorld::refuse`].
    #[track_caller]
    pub(crate) fn heal(&self) {
        self.control("heal", json!({}));
    }

    /// Sets habits by name; the names and their meaning stand in tests/peers/aws/habits.py (`DEFAULTS`).
    #[track_caller]
    pub(crate) fn habits(&self, habits: Value) {
        self.control("habits", habits);
    }

    /// AWS at its most tiresome: everything new is invisible for two calls, IAM takes three launches, pages of two.
    #[track_caller]
    pub(crate) fn tiresome(&self) {
        self.habits(json!({
            "visibility": 2, "propagation": 3, "settling": 3, "page": 2, "agent_after": 2, "target_after": 2, "draining": 2,
            "throttle_every": 7, "throttle_length": 1,
        }));
    }

    /// Actions (`ec2:RunInstances`) that the caller may not do, in place of the former ones.
    #[track_caller]
    pub(crate) fn deny(&self, actions: &[&str]) {
        self.control("deny", json!({"actions": actions}));
    }

    /// From now on the caller may what this policy allows, and nothing else.
    #[track_caller]
    pub(crate) fn bind(&self, policy: &Value) {
        self.control("enforce", json!({"policies": [policy], "principal": {}}));
    }

    /// The caller may everything again.
    #[track_caller]
    pub(crate) fn unbind(&self) {
        self.control("enforce", json!({"policies": null}));
    }

    /// What a policy does not allow of a call, which is not carried out: `action on resource`. `principal` is who calls, in keys of
    /// conditions; `service` and `operation` as botocore names them.
    #[track_caller]
    pub(crate) fn refused_by(
        &self,
        policy: &Value,
        principal: &Value,
        (service, operation): (&str, &str),
        params: Value,
    ) -> Vec<String> {
        let asked = json!({
            "policies": [policy], "principal": principal, "service": service, "operation": operation, "params": params,
        });
        let found = self.control("may", asked);
        let pair = |pair: &Value| format!("{} on {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        found.as_array().unwrap().iter().map(pair).collect()
    }

    /// Calls of one operation (`ec2:RunInstances`) are answered with this error, so many times.
    #[track_caller]
    pub(crate) fn refuse(&self, call: &str, code: &str, message: &str, times: u64) {
        let what = json!({"call": call, "code": code, "message": message, "times": times});
        self.control("refuse", what);
    }

    /// The instance's agent is online, whatever its habits.
    #[track_caller]
    pub(crate) fn agent_online(&self, instance: &str) {
        self.agent(instance, "Online");
    }

    /// The instance's agent has this PingStatus: Online, ConnectionLost, Inactive.
    #[track_caller]
    pub(crate) fn agent(&self, instance: &str, ping: &str) {
        self.control("agent", json!({"instance": instance, "ping": ping}));
    }

    /// A target (its id, or `id:port`) has this state, with AWS's reason code if any.
    #[track_caller]
    pub(crate) fn target_health(&self, target: &str, state: &str, reason: Option<&str>) {
        self.control("target", json!({"id": target, "state": state, "reason": reason}));
    }

    /// What the instance has written to its console.
    #[track_caller]
    pub(crate) fn console(&self, instance: &str, text: &str) {
        self.control("console", json!({"instance": instance, "text": text}));
    }

    /// The StreamUrl that StartSession and ResumeSession give.
    #[track_caller]
    pub(crate) fn stream_url(&self, url: &str) {
        self.control("stream", json!({"url": url}));
    }

    /// Sessions are made, and endpoints' tunnels carried, by the double with this control door and these websockets.
    #[track_caller]
    pub(crate) fn double(&self, control: SocketAddr, secure: SocketAddr) {
        self.control(
            "double",
            json!({"url": format!("http://{control}"), "secure": secure.to_string()}),
        );
    }

    /// One more access key that AWS knows, with the session token it must come with.
    #[track_caller]
    pub(crate) fn access_key(&self, id: &str, secret: &str, token: Option<&str>) {
        self.control("key", json!({"id": id, "secret": secret, "token": token}));
    }

    /// [`AwsWorld::access_key`] of a certain caller, whose ARN SendSSHPublicKey puts into a key's block.
    #[track_caller]
    pub(crate) fn access_key_of(&self, caller: &str, id: &str, secret: &str, token: Option<&str>) {
        self.control("key", json!({"id": id, "secret": secret, "token": token, "caller": caller}));
    }

    /// Sets what the door of the instance metadata service (`--imds` is [`AwsWorld::url`]) shows: any of `instance` (null: the only
    /// one that runs), `region`, `domain`, `fault`, `signer`; see tests/peers/aws/metadata.py. Gives `roots`, the PEM text for
    /// `--roots`, and `asked`, how often each path was asked for.
    #[track_caller]
    pub(crate) fn metadata(&self, given: Value) -> Value {
        self.control("metadata", given)
    }

    /// The door shows this key of `user` for its life, as if `caller` had sent it for the instance.
    #[track_caller]
    pub(crate) fn push_key(&self, instance: &str, user: &str, key: &str, caller: &str) {
        let given = json!({"instance": instance, "user": user, "key": key, "caller": caller, "region": REGION});
        self.control("push_key", given);
    }

    /// `blocks`: what is done to the blocks of keys (tests/peers/aws/instance_connect.py, FAULTS), or null. `life`: seconds that
    /// keys sent from now on can be used.
    #[track_caller]
    pub(crate) fn forge_keys(&self, given: Value) {
        self.control("forge_keys", given);
    }

    #[track_caller]
    fn demand_no_violations(&self) {
        let found = self.violations();
        assert!(found.is_empty(), "requests that AWS would not take:\n{}", found.join("\n"));
    }

    #[track_caller]
    fn control(&self, path: &str, given: Value) -> Value {
        let body = given.to_string();
        let request = format!(
            "POST /_gateway/{path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = fetch(self.at, request);
        assert_eq!(answer.status(), 200, "{path} {given}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for AwsWorld {
    fn drop(&mut self) {
        // A test that fails already has said enough, and a second panic would hide it.
        if !std::thread::panicking() && self.process.ended().is_none() {
            self.demand_no_violations();
        }
    }
}

fn need(need: &Value) -> Need {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let by = |one: &Value| [text(&one[0]), text(&one[1]), text(&one[2])];
    Need {
        action: text(&need["action"]),
        allowed: need["decision"] == "allowed",
        by: need["by"].as_array().unwrap().iter().map(by).collect(),
    }
}

fn sentences(violations: &Value) -> Vec<String> {
    let sentence = |one: &Value| {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        format!("call {}, {}: {}", one["number"], text("call"), text("problem"))
    };
    violations.as_array().unwrap().iter().map(sentence).collect()
}
