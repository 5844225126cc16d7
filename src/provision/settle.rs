//! From what is wanted to facts: asks the account for what the settings leave open, and looks at what stands there.

use std::collections::BTreeSet;

use super::binary::{self, Binary};
use super::desired::{Architecture, Eice, Facts, agreed};
use super::names::BINARY;
use super::observed::{Instance, Observed, Part};
use super::plan::Aim;
use super::read::{Look, Scope};
use super::wanted::{Candidate, Wanted, only};
use crate::aws::{Aws, Tags, ec2, elbv2, ssm, sts};
use crate::config::S3Uri;
use crate::error::{Error, Exit, Result};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: String,
    pub arn: String,
    /// What AWS's clock showed, in seconds since the epoch.
    pub date: Option<u64>,
}

/// Everything that a plan needs.
pub struct Settled {
    pub facts: Facts,
    pub observed: Observed,
    pub look: Look,
    pub caller: Caller,
    pub binary: Binary,
    /// What a reader should know beside the plan.
    pub notes: Vec<String>,
}

/// Who asks, when this is the account that is meant.
///
/// # Errors
/// It is another, or the credentials are no good.
pub async fn caller(aws: &Aws, wanted: &Wanted) -> Result<Caller> {
    let identity = aws.call(&sts::GetCallerIdentity).await?;
    wanted.guard_account(&identity.account, &identity.arn, aws.region())?;
    Ok(Caller {
        account: identity.account,
        arn: identity.arn,
        date: identity.date,
    })
}

/// Where to look for what belongs to the project.
pub fn look(aws: &Aws, wanted: &Wanted) -> Look {
    Look {
        aws: aws.clone(),
        names: wanted.names(aws.region()),
        scope: Scope {
            listener: wanted.listener.as_ref().map(ToString::to_string),
            groups: wanted.alb_group.iter().cloned().collect(),
        },
    }
}

/// Asks for everything.
///
/// # Errors
/// A guard, a call that failed, or a choice that only a person can make.
pub async fn settle(aws: &Aws, wanted: &Wanted, aim: Aim) -> Result<Settled> {
    let caller = caller(aws, wanted).await?;
    let mut look = look(aws, wanted);
    let mut observed = look.all().await?;
    let kept = kept(&observed).cloned();
    let listener = listener(wanted, &observed);
    let balancers = balancers(aws, wanted, listener.as_deref()).await?;
    let alb_group = alb_group(wanted, &look, &observed, &balancers)?;
    let subnet = subnet(aws, wanted, kept.as_ref(), &balancers).await?;
    wanted.guard_vpc(&subnet.vpc_id, &subnet.id)?;
    let uri = uri(wanted, kept.as_ref())?;
    let binary = binary::look(aws, &uri).await?;
    let types = instance_type(aws, &wanted.instance_type).await?;
    let image = image(
        aws,
        wanted,
        kept.as_ref().filter(|_| aim == Aim::Bastion),
        binary.architecture,
    )
    .await?;
    // An image that AWS has withdrawn still serves; only a new instance needs it.
    let architecture = match &image.1 {
        Some(of_image) => agreed(
            (&image.0, of_image),
            (&wanted.instance_type, &types),
            (&uri, binary.architecture),
        )?,
        None => binary.architecture,
    };
    let eice = eice(wanted, &look, &observed, &subnet.vpc_id);
    look.scope.listener.clone_from(&listener);
    let mut groups = BTreeSet::from([alb_group.clone()]);
    if let Eice::Shared(shared) = &eice {
        groups.extend(shared.iter().cloned());
    }
    if !groups.is_subset(&look.scope.groups) {
        look.scope.groups = groups;
        look.parts(&[Part::Groups], &mut observed).await?;
    }
    if observed
        .group_by_id(&alb_group)
        .is_none_or(|group| group.vpc != subnet.vpc_id)
    {
        return Err(Error::new(
            Exit::Config,
            format!("there is no security group {alb_group} in {}", subnet.vpc_id),
        )
        .hint("name the load balancer's: --alb-security-group-id ID, or bastion.alb_security_group_id in ephemwork.toml"));
    }
    let mut notes = Vec::new();
    if subnet.public_by_default {
        notes.push(format!(
            "{} gives addresses in the internet by default; the bastion gets none, so it needs a NAT or VPC endpoints there",
            subnet.id
        ));
    }
    if let Some(kept) = kept.filter(|_| aim == Aim::Bastion) {
        let newer = kept
            .tags
            .get(super::names::SHA256)
            .is_some_and(|sha256| *sha256 != binary.sha256);
        if newer {
            notes.push(format!(
                "{uri} is another binary than {} runs: ephemwork bastion upgrade",
                kept.id
            ));
        }
        if kept.instance_type != wanted.instance_type || kept.subnet != subnet.id {
            notes.push(format!(
                "{} is a {} in {}, and a {} in {} is wanted: ephemwork bastion upgrade",
                kept.id, kept.instance_type, kept.subnet, wanted.instance_type, subnet.id
            ));
        }
    }
    let partition = aws.partition();
    let facts = Facts {
        names: look.names.clone(),
        account: caller.account.clone(),
        partition: partition.name().to_owned(),
        suffix: partition.dns_suffix().to_owned(),
        vpc: subnet.vpc_id,
        subnet: subnet.id,
        alb_group,
        image: image.0,
        root_device: image.2,
        instance_type: wanted.instance_type.clone(),
        architecture,
        binary: uri,
        sha256: binary.sha256.clone(),
        listener,
        eice,
    };
    Ok(Settled {
        facts,
        observed,
        look,
        caller,
        binary,
        notes,
    })
}

/// The facts when the account cannot be read: what is not given stands in `<>`.
pub fn unread(wanted: &Wanted, region: &str) -> Facts {
    let or = |given: &Option<String>, what: &str| given.clone().unwrap_or_else(|| format!("<{what}>"));
    let uri = wanted.binary.clone().unwrap_or_else(|| S3Uri {
        bucket: "<bucket>".to_owned(),
        key: "<key of the binary>".to_owned(),
    });
    // The families of Graviton have a `g` behind their number.
    let family = wanted.instance_type.split('.').next().unwrap_or_default();
    let graviton = family.trim_start_matches(|c: char| c.is_ascii_lowercase()).contains('g');
    let architecture = if graviton { Architecture::Arm64 } else { Architecture::X86_64 };
    let partition = crate::aws::Partition::of(region);
    Facts {
        names: wanted.names(region),
        account: or(&wanted.expected_account, "account"),
        partition: partition.name().to_owned(),
        suffix: partition.dns_suffix().to_owned(),
        vpc: or(&wanted.expected_vpc, "vpc of the subnet"),
        subnet: or(&wanted.subnet_id, "subnet"),
        alb_group: or(&wanted.alb_group, "security group of the load balancer"),
        image: or(&wanted.ami_id, &format!("value of {}", architecture.image_parameter())),
        root_device: "/dev/xvda".to_owned(),
        instance_type: wanted.instance_type.clone(),
        architecture,
        sha256: format!("<sha256 of {uri}>"),
        binary: uri,
        listener: wanted.listener.as_ref().map(ToString::to_string),
        eice: if wanted.eice == Some(true) { Eice::Own } else { Eice::No },
    }
}

/// The instance that tells what was chosen before: the newest.
fn kept(observed: &Observed) -> Option<&Instance> {
    let there = observed.instances.iter().filter(|instance| instance.stays());
    there.max_by_key(|instance| (instance.launched, instance.id.clone()))
}

/// What is asked for, else the listener that has rules of ours.
fn listener(wanted: &Wanted, observed: &Observed) -> Option<String> {
    if let Some(listener) = &wanted.listener {
        return Some(listener.to_string());
    }
    let group = observed.target_group.as_ref()?;
    let own = observed.rules.iter().find(|rule| rule.forwards.contains(&group.arn))?;
    Some(own.listener.clone())
}

/// The load balancer of the listener, else every one that could be meant.
async fn balancers(aws: &Aws, wanted: &Wanted, listener: Option<&str>) -> Result<Vec<elbv2::LoadBalancer>> {
    let arn = listener.and_then(|listener| crate::config::ListenerArn::parse(listener).ok());
    let which = match arn {
        Some(arn) => elbv2::LoadBalancers::Arns(vec![arn.balancer_arn()]),
        None => elbv2::LoadBalancers::All,
    };
    let found = aws.all(&elbv2::DescribeLoadBalancers { which, next: None }).await?;
    let meant = |balancer: &elbv2::LoadBalancer| {
        let vpc = wanted.expected_vpc.as_ref();
        balancer.kind == "application" && vpc.is_none_or(|vpc| balancer.vpc_id.as_ref() == Some(vpc))
    };
    Ok(found.into_iter().filter(meant).collect())
}

fn alb_group(wanted: &Wanted, look: &Look, observed: &Observed, balancers: &[elbv2::LoadBalancer]) -> Result<String> {
    if let Some(group) = &wanted.alb_group {
        return Ok(group.clone());
    }
    let of_balancers: BTreeSet<&String> = balancers.iter().flat_map(|balancer| &balancer.groups).collect();
    // The choice that was made before, as long as it is still a load balancer's.
    let ours = observed.groups.iter().find(|group| group.name == look.names.bastion);
    let before = ours.into_iter().flat_map(|group| &group.rules).find(|rule| {
        let edge = rule.traffic.ports == (super::desired::EDGE_PORT, super::desired::EDGE_PORT);
        edge && !rule.traffic.out && of_balancers.contains(&rule.traffic.peer)
    });
    if let Some(rule) = before {
        return Ok(rule.traffic.peer.clone());
    }
    let about = |id: &String| {
        let of: Vec<&str> = balancers
            .iter()
            .filter(|balancer| balancer.groups.contains(id))
            .map(|balancer| balancer.name.as_str())
            .collect();
        format!("of the load balancer {}", of.join(", "))
    };
    let candidates: Vec<Candidate> = of_balancers.iter().map(|id| ((*id).clone(), about(id))).collect();
    only(
        "load balancer's security group",
        "--alb-security-group-id",
        "alb_security_group_id",
        &candidates,
    )
}

/// What is asked for, else where the bastion stands, else the only private subnet that the load balancer can use.
async fn subnet(aws: &Aws, wanted: &Wanted, kept: Option<&Instance>, balancers: &[elbv2::LoadBalancer]) -> Result<ec2::Subnet> {
    let chosen = wanted.subnet_id.clone().or_else(|| kept.map(|kept| kept.subnet.clone()));
    if let Some(id) = chosen {
        let call = ec2::DescribeSubnets {
            filters: vec![ec2::Filter::of("subnet-id", &id)],
            ..Default::default()
        };
        let found = aws.all(&call).await?.into_iter().next();
        return found.ok_or_else(|| {
            Error::new(Exit::Config, format!("there is no subnet {id} in {}", aws.region()))
                .hint("correct --subnet-id or bastion.subnet_id in ephemwork.toml")
        });
    }
    let vpcs: BTreeSet<String> = balancers.iter().filter_map(|balancer| balancer.vpc_id.clone()).collect();
    let vpcs = wanted.expected_vpc.clone().map_or(vpcs, |vpc| BTreeSet::from([vpc]));
    let filters = match vpcs.is_empty() {
        true => Vec::new(),
        false => vec![ec2::Filter {
            name: "vpc-id".to_owned(),
            values: vpcs.into_iter().collect(),
        }],
    };
    let all = aws
        .all(&ec2::DescribeSubnets {
            filters,
            ..Default::default()
        })
        .await?;
    let own_zones: BTreeSet<&str> = all
        .iter()
        .filter(|subnet| balancers.iter().any(|balancer| balancer.subnets.contains(&subnet.id)))
        .map(|subnet| subnet.availability_zone.as_str())
        .collect();
    // A target in a zone that the load balancer does not use gets no requests.
    let usable = |subnet: &&ec2::Subnet| own_zones.is_empty() || own_zones.contains(subnet.availability_zone.as_str());
    let usable: Vec<&ec2::Subnet> = all.iter().filter(usable).collect();
    let private: Vec<&ec2::Subnet> = usable.iter().copied().filter(|subnet| !subnet.public_by_default).collect();
    let meant = if private.is_empty() { usable } else { private };
    let about = |subnet: &&ec2::Subnet| {
        let name = subnet.tags.get("Name").map(|name| format!("{name:?} ")).unwrap_or_default();
        let cidr = subnet.cidr.clone().unwrap_or_default();
        (
            subnet.id.clone(),
            format!("{name}{cidr} in {}, {}", subnet.availability_zone, subnet.vpc_id),
        )
    };
    let candidates: Vec<Candidate> = meant.iter().map(about).collect();
    let id = only("subnet", "--subnet-id", "subnet_id", &candidates)?;
    let found = all.into_iter().find(|subnet| subnet.id == id);
    found.ok_or_else(|| Error::new(Exit::Bug, "the subnet that was found is gone"))
}

fn uri(wanted: &Wanted, kept: Option<&Instance>) -> Result<S3Uri> {
    let before = || S3Uri::parse(kept?.tags.get(BINARY)?).ok();
    wanted.binary.clone().or_else(before).ok_or_else(|| {
        Error::new(Exit::Config, "what shall the bastion run?").hint(
            "upload it with cargo xtask release --bucket BUCKET, and name it: --bastion-binary-s3-uri s3://BUCKET/KEY, or \
             bastion.bastion_binary_s3_uri in ephemwork.toml",
        )
    })
}

/// The type's processors.
async fn instance_type(aws: &Aws, name: &str) -> Result<Vec<String>> {
    let call = ec2::DescribeInstanceTypes {
        types: vec![name.to_owned()],
        next: None,
    };
    let unknown = || {
        Error::new(Exit::Config, format!("{} has no instance type {name}", aws.region()))
            .hint("correct tunnel.instance_type in ephemwork.toml; t4g.nano is the default")
    };
    match aws.all(&call).await {
        Ok(found) => found.into_iter().next().map(|found| found.architectures).ok_or_else(unknown),
        Err(failure) if failure.code() == Some("InvalidInstanceType") => Err(unknown().because(failure)),
        Err(failure) => Err(failure.into()),
    }
}

/// The image's id, its processor when it still exists, and its root device.
async fn image(
    aws: &Aws,
    wanted: &Wanted,
    kept: Option<&Instance>,
    architecture: Architecture,
) -> Result<(String, Option<String>, String)> {
    let chosen = wanted.ami_id.clone().or_else(|| kept.map(|kept| kept.image.clone()));
    let id = match chosen {
        Some(id) => id,
        None => {
            let name = architecture.image_parameter();
            let found = aws.call(&ssm::GetParameter { name: name.clone() }).await;
            found
                .map_err(|failure| match failure.is_missing() {
                    true => Error::new(Exit::Config, format!("{} has no public parameter {name}", aws.region()))
                        .hint("name an image of Amazon Linux 2023: --ami-id ID, or bastion.ami_id in ephemwork.toml"),
                    false => failure.into(),
                })?
                .value
        }
    };
    let call = ec2::DescribeImages {
        ids: vec![id.clone()],
        ..Default::default()
    };
    let found = match aws.all(&call).await {
        Ok(found) => found.into_iter().next(),
        Err(failure) if failure.is_missing() => None,
        Err(failure) => return Err(failure.into()),
    };
    match found {
        Some(found) => Ok((
            found.id,
            Some(found.architecture),
            found.root_device.unwrap_or_else(|| "/dev/xvda".to_owned()),
        )),
        None if kept.is_some_and(|kept| kept.image == id) => Ok((id, None, "/dev/xvda".to_owned())),
        None => Err(
            Error::new(Exit::Config, format!("there is no image {id} in {}", aws.region()))
                .hint("leave --ami-id and bastion.ami_id out for AWS's newest Amazon Linux 2023"),
        ),
    }
}

fn eice(wanted: &Wanted, look: &Look, observed: &Observed, vpc: &str) -> Eice {
    let own = |tags: &Tags| look.names.own(tags);
    let ours =
        observed.endpoints.iter().any(|endpoint| own(&endpoint.tags)) || observed.group(&look.names.endpoint, vpc).is_some();
    let other = observed
        .endpoints
        .iter()
        .find(|endpoint| endpoint.vpc == vpc && !own(&endpoint.tags) && !endpoint.state.starts_with("delete"));
    match (wanted.eice, ours, other) {
        (Some(false), ..) | (None, false, None) => Eice::No,
        (_, true, _) | (Some(true), false, None) => Eice::Own,
        (Some(true), false, Some(other)) => Eice::Shared(other.groups.clone()),
        // Whether somebody else's may come in is seen at the rules that are there.
        (None, false, Some(other)) => {
            let bastion = observed.group(&look.names.bastion, vpc);
            let ssh = super::desired::SSH_PORT;
            let let_in = bastion.is_some_and(|group| {
                let from = |id: &String| {
                    group
                        .rules
                        .iter()
                        .any(|rule| rule.traffic == super::observed::Traffic::from(ssh, id))
                };
                other.groups.iter().any(from)
            });
            if let_in {
                Eice::Shared(other.groups.clone())
            } else {
                Eice::No
            }
        }
    }
}
