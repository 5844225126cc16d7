//! Which instance is the bastion, and which host key is its own: questions to AWS.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::trouble;
use crate::aws::ec2::{self, Filter, InstanceState};
use crate::aws::{Aws, ssm};
use crate::config;
use crate::error::{Error, Exit, Result};
use crate::provision::names::{BASTION, COMPONENT, Names, PROJECT};

/// How long a new instance takes until it serves, as a rule. A younger one is asked last: during an upgrade the old one still serves.
const YOUNG: Duration = Duration::from_secs(120);

/// An instance that may be the bastion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) address: Option<String>,
    pub(crate) vpc: Option<String>,
    pub(crate) subnet: Option<String>,
}

/// The running instances of the project, the likeliest first; there is at least one.
///
/// # Errors
/// There is none, or none runs, or AWS does not tell.
pub(super) async fn bastions(aws: &Aws, names: &Names, now: SystemTime) -> Result<Vec<Target>> {
    let call = ec2::DescribeInstances {
        filters: vec![Filter::tag(PROJECT, &names.project), Filter::tag(COMPONENT, BASTION)],
        ..ec2::DescribeInstances::default()
    };
    likeliest(aws.all(&call).await?, names, now)
}

fn likeliest(mut all: Vec<ec2::Instance>, names: &Names, now: SystemTime) -> Result<Vec<Target>> {
    let young = |instance: &ec2::Instance| {
        let age = instance.launched.and_then(|launched| now.duration_since(launched).ok());
        age.is_none_or(|age| age < YOUNG)
    };
    all.sort_by_key(|instance| (young(instance), std::cmp::Reverse(instance.launched), instance.id.clone()));
    let running = all.iter().filter(|instance| instance.state == InstanceState::Running);
    let found: Vec<Target> = running
        .map(|instance| Target {
            id: instance.id.clone(),
            address: instance.private_address.clone(),
            vpc: instance.vpc_id.clone(),
            subnet: instance.subnet_id.clone(),
        })
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    // What was terminated is listed for an hour, and tells more than nothing.
    let rank = |instance: &ec2::Instance| match instance.state {
        InstanceState::Pending => 0,
        InstanceState::Stopping | InstanceState::Stopped => 1,
        _ => 2,
    };
    all.sort_by_key(|instance| (rank(instance), std::cmp::Reverse(instance.launched)));
    Err(match all.first() {
        Some(instance) => trouble::not_running(&instance.id, instance.state.name(), instance.state_reason.as_deref()),
        None => trouble::no_bastion(&names.project, &names.region),
    })
}

/// The host key that the bastion published.
///
/// # Errors
/// There is none, or it is no key.
pub(super) async fn published(aws: &Aws, names: &Names) -> Result<String> {
    let name = names.host_key();
    let found = match aws.call(&ssm::GetParameter { name: name.clone() }).await {
        Ok(found) => found,
        Err(failure) if failure.is_missing() => return Err(trouble::no_host_key(&name, &names.region)),
        Err(failure) => return Err(failure.into()),
    };
    config::host_key(&found.value).ok_or_else(|| trouble::bad_host_key(&name))
}

/// The endpoint through which an instance is reached: the one in its subnet, else any in its VPC.
///
/// # Errors
/// There is none that is ready.
pub(super) async fn endpoint(aws: &Aws, target: &Target) -> Result<(String, String)> {
    let mut filters = vec![Filter {
        name: "state".to_owned(),
        values: ["create-complete", "update-in-progress", "update-failed", "update-complete"]
            .map(str::to_owned)
            .to_vec(),
    }];
    if let Some(vpc) = &target.vpc {
        filters.push(Filter {
            name: "vpc-id".to_owned(),
            values: vec![vpc.clone()],
        });
    }
    let call = ec2::DescribeInstanceConnectEndpoints {
        filters,
        ..ec2::DescribeInstanceConnectEndpoints::default()
    };
    let all = aws.all(&call).await?;
    let near = all
        .iter()
        .find(|endpoint| endpoint.subnet_id == target.subnet && endpoint.dns_name.is_some());
    let found = near.or_else(|| all.iter().find(|endpoint| endpoint.dns_name.is_some()));
    match found.and_then(|endpoint| Some((endpoint.id.clone(), endpoint.dns_name.clone()?))) {
        Some(found) => Ok(found),
        None => Err(Error::new(
            Exit::Unreachable,
            "there is no EC2 Instance Connect Endpoint in the bastion's VPC",
        )
        .because(target.vpc.as_deref().unwrap_or("its VPC is not known"))
        .hint("make one: ephemwork bastion init --eice --live")),
    }
}

/// Where the key of a project's bastion is kept that was accepted because it was the first.
pub(super) fn accepted(root: &Path, names: &Names) -> PathBuf {
    root.join("host-keys").join(format!("{}_{}", names.project, names.region))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::{Call, Reply};

    #[test]
    fn the_likeliest_first() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let instance = |id: &str, state: InstanceState, age: u64| {
            let item = format!(
                "<item><instanceId>{id}</instanceId><instanceState><name>{}</name></instanceState></item>",
                state.name()
            );
            let body = format!("<a><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet></a>");
            let reply = Reply {
                status: 200,
                headers: http::HeaderMap::new(),
                body: body.into(),
            };
            let mut instance = ec2::DescribeInstances::answer(&reply).unwrap().items.remove(0);
            instance.launched = Some(now - Duration::from_secs(age));
            instance
        };
        let names = Names::of("shop", "eu-west-1");
        let check = |all: Vec<ec2::Instance>, expected: Result<&[&str], &str>| match (likeliest(all, &names, now), expected) {
            (Ok(found), Ok(expected)) => {
                let ids: Vec<&str> = found.iter().map(|target| target.id.as_str()).collect();
                assert_eq!(ids, expected);
            }
            (Err(error), Err(part)) => assert!(error.what.contains(part), "{error}"),
            (found, _) => panic!("{found:?}"),
        };
        use InstanceState::{Pending, Running, Stopped, Terminated};
        check(vec![], Err("there is no bastion for project \"shop\" in eu-west-1"));
        check(vec![instance("a", Stopped, 9)], Err("the bastion a is stopped"));
        check(
            vec![instance("a", Terminated, 9), instance("b", Pending, 1)],
            Err("the bastion b is pending"),
        );
        check(vec![instance("a", Terminated, 9)], Err("the bastion a is terminated"));
        check(vec![instance("a", Stopped, 9), instance("b", Running, 999)], Ok(&["b"]));
        // An upgrade: the old one serves until the new one is no longer young.
        check(
            vec![instance("new", Running, 30), instance("old", Running, 9999)],
            Ok(&["old", "new"]),
        );
        check(
            vec![instance("old", Running, 9999), instance("new", Running, 300)],
            Ok(&["new", "old"]),
        );
    }
}
