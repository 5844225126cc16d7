//! What can stand between a laptop and its bastion in AWS, each in words, with what repairs it. Pure.

use crate::aws::Failure;
use crate::config::TransportKind;
use crate::error::{Error, Exit};
use crate::rt::Undialed;
use crate::tunnel::Unopened;
use crate::tunnel::ssh::fingerprint;

/// There is none.
pub(super) fn no_bastion(project: &str, region: &str) -> Error {
    let what = format!("there is no bastion for project {project:?} in {region}");
    Error::new(Exit::Unreachable, what)
        .because("no instance has its tags ephemwork:project and ephemwork:component")
        .hint("make one: ephemwork bastion init\n  or is it another project or region? See tunnel.project_name and tunnel.region")
}

/// There is one, and it does not run.
pub(super) fn not_running(id: &str, state: &str, reason: Option<&str>) -> Error {
    let error = Error::new(Exit::Unreachable, format!("the bastion {id} is {state}"));
    let error = match reason {
        Some(reason) if !reason.is_empty() => error.because(reason),
        _ => error,
    };
    error.hint(match state {
        "pending" => "it starts just now; try again in a minute",
        "stopping" | "stopped" => "start it again: ephemwork bastion init --live",
        _ => "make another: ephemwork bastion init --live",
    })
}

/// SendSSHPublicKey was not taken.
pub(super) fn not_sent(user: &str, instance: &str, failure: Failure) -> Error {
    let what = format!("EC2 Instance Connect does not take a key for user {user:?} on {instance}");
    let why = failure.to_string();
    let code = failure.code().map(str::to_owned);
    let denied = failure.is_denied();
    let refused = failure.status.is_some();
    let mut error = Error::from(failure);
    match code.as_deref() {
        _ if denied => {
            let hint = error.hint.take().unwrap_or_default();
            error.hint(format!(
                "{hint}\n  a policy with the condition ec2:osuser allows some user names only; another name: export EPHEMWORK_USER=..."
            ))
        }
        Some("AuthException") => Error::new(Exit::Credentials, what).because(why).hint(format!(
            "it needs the right to ec2-instance-connect:SendSSHPublicKey with ec2:osuser {user:?}: ephemwork bastion policy developer"
        )),
        Some("EC2InstanceNotFoundException" | "EC2InstanceStateInvalidException" | "EC2InstanceUnavailableException") => {
            let hint = "see how it is: ephemwork bastion status";
            Error::new(Exit::Unreachable, what).because(why).hint(hint)
        }
        Some("InvalidArgsException") => Error::new(Exit::Config, what)
            .because(why)
            .hint("another user name: export EPHEMWORK_USER=..."),
        Some(_) if refused && error.exit == Exit::Bug => Error::new(Exit::Unreachable, what)
            .because(why)
            .hint("try again; if it stays, see: ephemwork doctor --transport"),
        _ => error,
    }
}

/// StartSession was not answered with a session.
pub(super) fn not_started(instance: &str, document: &str, failure: Failure) -> Error {
    match failure.code() {
        Some("TargetNotConnected") => {
            let what = format!("the agent of the bastion {instance} is not connected to Systems Manager");
            Error::new(Exit::Unreachable, what).because(&failure).hint(
                "the usual causes: it started a moment ago, or hangs (out of memory, say);\n  its subnet does not reach Systems Manager: \
                 a NAT, or VPC endpoints for ssm, ssmmessages and ec2messages that let port 443 in;\n  its role lacks what the agent \
                 needs, AmazonSSMManagedInstanceCore's rights.\n  see which: ephemwork doctor",
            )
        }
        Some("InvalidDocument") => Error::new(Exit::Config, format!("there is no Session Manager document {document:?}"))
            .because(&failure)
            .hint("correct document under [tunnel] in ephemwork.toml, or leave it out"),
        _ => failure.into(),
    }
}

/// No websocket, to AWS's `host` on the way of this kind.
pub(super) fn unopened(kind: TransportKind, host: &str, proxy: Option<&str>, why: &Unopened) -> Error {
    let cannot = || Error::new(Exit::Unreachable, format!("{host} cannot be reached"));
    match why {
        Unopened::Url(why) => Error::new(Exit::Bug, "AWS named a place that cannot be called").because(why),
        Unopened::Undialed(Undialed::Host(why)) => cannot().because(why).hint(format!(
            "is this machine online? A firewall must let port 443 of {host} through; behind a proxy set HTTPS_PROXY"
        )),
        Unopened::Undialed(Undialed::Proxy(proxy, why)) => Error::new(
            Exit::Unreachable,
            format!("the proxy {proxy} lets no connection to {host} through"),
        )
        .because(why)
        .hint(format!(
            "ask who runs it to allow CONNECT {host}:443; or, if this machine gets there without it: NO_PROXY={host}"
        )),
        Unopened::Undialed(Undialed::Tls(why)) => cannot()
            .because(format!("TLS: {why}"))
            .hint("if a proxy of yours opens TLS, name its certificate: AWS_CA_BUNDLE=/path/to/bundle.pem"),
        Unopened::Refused { status, body, .. } if kind == TransportKind::Eice && proxy.is_none() => {
            let error = Error::new(Exit::Unreachable, format!("the endpoint {host} does not open a tunnel"));
            let error = error.because(format!("{status}: {body}"));
            match status {
                403 => error.hint(
                    "it needs the right to ec2-instance-connect:OpenTunnel: ephemwork bastion policy developer; this machine's clock may \
                     be wrong too",
                ),
                429 => error.hint("an endpoint has room for 20 connections; another way: transport = \"ssm\" under [tunnel]"),
                _ => error.hint("see how it is: ephemwork bastion status"),
            }
        }
        Unopened::Refused { .. } | Unopened::Upgrade(_) => {
            let by = proxy.map_or_else(
                || "something between here and there, a proxy or firewall,".to_owned(),
                |proxy| format!("the proxy {proxy}"),
            );
            Error::new(Exit::Unreachable, format!("{by} lets no websocket to {host} through"))
                .because(why)
                .hint(format!(
                    "ask who runs it to let \"Upgrade: websocket\" to {host} pass; or, if this machine gets there without it: NO_PROXY={host}"
                ))
        }
    }
}

/// The endpoint stands, and does not get through to the instance.
pub(super) fn endpoint_refused(endpoint: &str, instance: &str, why: &str) -> Error {
    let what = format!("the endpoint {endpoint} does not get through to port 22 of {instance}");
    Error::new(Exit::Unreachable, what).because(why).hint(
        "its security group must let port 22 out to the bastion's, and the bastion's must let it in: ephemwork bastion init --eice --live",
    )
}

/// The parameter with the host key is not there.
pub(super) fn no_host_key(name: &str, region: &str) -> Error {
    Error::new(Exit::Unreachable, "the bastion's host key is not known, so it cannot be told from another")
        .because(format!("there is no SSM parameter {name} in {region}"))
        .hint(
            "the bastion publishes it when it starts: ephemwork bastion upgrade\n  or name it, or trust the first that is seen: host_key \
             under [tunnel]",
        )
}

/// The parameter holds something else.
pub(super) fn bad_host_key(name: &str) -> Error {
    Error::new(
        Exit::Unreachable,
        format!("the SSM parameter {name} does not hold a host key"),
    )
    .hint("the bastion publishes it again when it starts: ephemwork bastion upgrade")
}

/// Another key than the one that is pinned.
pub(super) fn wrong_host_key(instance: &str, pinned: &str, shown: &str, from: &str) -> Error {
    let what = format!("the bastion {instance} shows another host key than the one that is pinned; nothing was said to it");
    Error::new(Exit::Unreachable, what)
        .because(format!(
            "pinned {} ({from}), shown {}",
            fingerprint(pinned),
            fingerprint(shown)
        ))
        .hint("if the bastion was made anew, its key must be pinned anew; otherwise somebody is in between")
}

/// The bastion saw the key and does not want it.
pub(super) fn key_refused(user: &str, instance: &str, why: Option<String>) -> Error {
    let what = format!("the bastion {instance} does not accept the key that EC2 Instance Connect was given for user {user:?}");
    let error = Error::new(Exit::Unreachable, what);
    let error = match why {
        Some(why) => error.because(why),
        None => error.because("it must be seen within 60 s"),
    };
    error.hint(
        "the usual causes: the instance's clock is wrong; its metadata service is off; ephemwork-bastiond runs without --authorize eic.\n  \
         its log says which: journalctl -u ephemwork-bastiond, on the instance",
    )
}

/// A user name that EC2 Instance Connect would refuse.
pub(super) fn bad_user(user: &str, why: &str) -> Error {
    Error::new(
        Exit::Config,
        format!("the user name {user:?} cannot be used with a bastion in AWS"),
    )
    .because(why)
    .hint("choose another: export EPHEMWORK_USER=alice")
}

/// Why EC2 Instance Connect takes no such `InstanceOSUser` (1 to 32 characters, `^[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?$`
/// in its API reference), for a user who has a name that is right otherwise.
pub(super) fn unfit(user: &str) -> Option<&'static str> {
    let first = user.chars().next().unwrap_or('-');
    let last = user.chars().last().unwrap_or('-');
    if user.len() > 32 {
        Some("EC2 Instance Connect takes at most 32 characters")
    } else if !(first.is_ascii_alphabetic() || first == '_') {
        Some("EC2 Instance Connect takes names that begin with a letter or '_'")
    } else if last == '.' {
        Some("EC2 Instance Connect takes no name that ends with '.'")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let check = |user: &str, fits: bool| assert_eq!(unfit(user).is_none(), fits, "{user}");
        check("", false);
        check("1alice", false);
        check(".alice", false);
        check("-alice", false);
        check("alice.", false);
        check(&"a".repeat(33), false);
        check(&"a".repeat(32), true);
        check("a", true);
        check("_", true);
        check("alice.b-c_d", true);
        check("alice-", true);
    }

    #[test]
    fn websockets() {
        let check = |kind, proxy: Option<&str>, why: Unopened, what: &str, hint: &str| {
            let error = unopened(kind, "h.example", proxy, &why);
            assert!(error.what.contains(what), "{error}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error}");
        };
        let (ssm, eice) = (TransportKind::Ssm, TransportKind::Eice);
        let refused = |status| Unopened::Refused {
            status,
            body: "no".to_owned(),
            server: None,
        };
        let host = Unopened::Undialed(Undialed::Host("refused".to_owned()));
        check(ssm, None, host, "h.example cannot be reached", "port 443");
        let tls = Unopened::Undialed(Undialed::Tls("UnknownIssuer".to_owned()));
        check(ssm, None, tls, "cannot be reached", "AWS_CA_BUNDLE");
        let proxied = Unopened::Undialed(Undialed::Proxy("http://p:1".to_owned(), "403".to_owned()));
        check(
            ssm,
            Some("http://p:1"),
            proxied,
            "the proxy http://p:1",
            "CONNECT h.example:443",
        );
        check(
            ssm,
            Some("http://p:1"),
            refused(200),
            "the proxy http://p:1 lets no websocket",
            "NO_PROXY",
        );
        check(ssm, None, refused(403), "lets no websocket", "Upgrade: websocket");
        check(eice, None, refused(403), "does not open a tunnel", "OpenTunnel");
        check(eice, None, refused(429), "does not open a tunnel", "20 connections");
        check(eice, Some("http://p:1"), refused(400), "lets no websocket", "NO_PROXY");
    }
}
