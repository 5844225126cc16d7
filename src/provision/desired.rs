//! What a bastion is: everything that belongs to one, from facts that are known.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::documents::{self, Policy, Values};
use super::names::{self, Names};
use super::observed::Condition;
use crate::config::S3Uri;
use crate::error::{Error, Exit};
use crate::name::HEADER_DISPLAY;

/// The port of the edge on the instance, and of the target group.
pub const EDGE_PORT: i64 = 80;
/// The port of bastiond's SSH on the instance; AWS-StartSSHSession's own default.
pub const SSH_PORT: i64 = 22;
/// Where the load balancer asks whether the edge serves.
pub const HEALTH_PATH: &str = "/ephemwork-health";
/// Between two of its questions, in seconds; two good answers make a target healthy.
pub const HEALTH_INTERVAL: i64 = 10;
/// How long the load balancer lets requests of a removed target finish, in seconds; the daemon's drain is 20.
pub const DEREGISTRATION_DELAY: i64 = 30;
/// The size of the instance's disk in GiB: Amazon Linux's image has 8.
pub const VOLUME_GIB: i64 = 8;
/// What the instance is when nobody says otherwise: the smallest there is, and enough for hundreds of tunnels.
pub const INSTANCE_TYPE: &str = "t4g.nano";
/// The managed policy that the agent of Systems Manager needs.
pub const MANAGED_POLICY: &str = "AmazonSSMManagedInstanceCore";

/// A processor, as EC2 calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    Arm64,
    X86_64,
}

impl Architecture {
    /// `arm64` or `x86_64`; Rust's `aarch64` counts too.
    pub fn parse(text: &str) -> Option<Architecture> {
        match text {
            "arm64" | "aarch64" => Some(Architecture::Arm64),
            "x86_64" => Some(Architecture::X86_64),
            _ => None,
        }
    }

    /// EC2's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Arm64 => "arm64",
            Architecture::X86_64 => "x86_64",
        }
    }

    /// AWS's public parameter of the newest Amazon Linux 2023 ("Reference the latest AMIs using Systems Manager public parameters").
    pub fn image_parameter(self) -> String {
        format!(
            "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}",
            self.as_str()
        )
    }
}

/// What must be known before a bastion can be described. Where the account was not read, a text in `<>` says what would stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub names: Names,
    pub account: String,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// `amazonaws.com`, `amazonaws.com.cn`.
    pub suffix: String,
    pub vpc: String,
    pub subnet: String,
    pub alb_group: String,
    pub image: String,
    /// `/dev/xvda`
    pub root_device: String,
    pub instance_type: String,
    pub architecture: Architecture,
    /// What the instance runs, and its sha256 in hexadecimal.
    pub binary: S3Uri,
    pub sha256: String,
    /// The listener's ARN.
    pub listener: Option<String>,
    pub eice: Eice,
}

/// Whether an EC2 Instance Connect Endpoint may reach the bastion's SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eice {
    No,
    /// One of ours.
    Own,
    /// The VPC has one already, and more than one is rarely allowed: its groups.
    Shared(Vec<String>),
}

/// A bastion.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub facts: Facts,
    pub tags: BTreeMap<String, String>,
    pub trust: Value,
    /// The role's inline policy.
    pub policy: Value,
    pub managed_policy: String,
    pub user_data: String,
    /// What tells an instance of these contents from one of others.
    pub revision: String,
    /// The rules of the listener, in the order in which they must stand.
    pub rules: Vec<DesiredRule>,
}

/// A rule of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredRule {
    pub purpose: &'static str,
    pub conditions: BTreeSet<Condition>,
}

/// Describes a bastion.
pub fn desired(facts: Facts) -> Desired {
    let values = values(&facts);
    let user_data = documents::user_data(&values);
    let revision = names::revision(&[&user_data, &facts.image, &facts.instance_type, &facts.subnet]);
    Desired {
        tags: facts.names.tags(),
        trust: documents::policy(Policy::Trust, &values),
        policy: documents::policy(Policy::Instance, &values),
        managed_policy: format!("arn:{}:iam::aws:policy/{MANAGED_POLICY}", facts.partition),
        rules: if facts.listener.is_some() { rules() } else { Vec::new() },
        user_data,
        revision,
        facts,
    }
}

impl Desired {
    /// The tags of the instance.
    pub fn instance_tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        tags.insert("Name".to_owned(), self.facts.names.bastion.clone());
        tags.insert(names::REVISION.to_owned(), self.revision.clone());
        tags.insert(names::BINARY.to_owned(), self.facts.binary.to_string());
        tags.insert(names::SHA256.to_owned(), self.facts.sha256.clone());
        tags
    }
}

/// What fills the documents.
pub fn values(facts: &Facts) -> Values {
    let names = &facts.names;
    // In a policy what is not known yet may be any.
    let or_any = |text: &str| {
        if text.starts_with('<') {
            "*".to_owned()
        } else {
            text.to_owned()
        }
    };
    let listeners = format!(
        "arn:{}:elasticloadbalancing:{}:*:listener/app/*",
        facts.partition, names.region
    );
    Values::from([
        ("PROJECT", names.project.clone()),
        ("REGION", names.region.clone()),
        ("ROLE", names.role.clone()),
        ("NAME", names.bastion.clone()),
        ("PARAMETERS", names.parameters()),
        ("ACCOUNT", facts.account.clone()),
        ("PARTITION", facts.partition.clone()),
        ("SUFFIX", facts.suffix.clone()),
        ("BUCKET", facts.binary.bucket.clone()),
        ("KEY", facts.binary.key.clone()),
        ("BINARY", facts.binary.to_string()),
        ("SHA256", facts.sha256.clone()),
        ("VPC", facts.vpc.clone()),
        ("SUBNET", facts.subnet.clone()),
        ("ALB_GROUP", facts.alb_group.clone()),
        (
            "LISTENER",
            facts.listener.clone().unwrap_or_else(|| "<listener-arn>".to_owned()),
        ),
        ("SUBNETS", or_any(&facts.subnet)),
        ("VPCS", or_any(&facts.vpc)),
        ("IMAGES", or_any(&facts.image)),
        ("ALB_GROUPS", or_any(&facts.alb_group)),
        ("LISTENERS", facts.listener.clone().unwrap_or(listeners)),
        ("TARGET_GROUP", names.target_group.clone()),
        ("HEADER", HEADER_DISPLAY.to_owned()),
        ("HEALTH_PATH", HEALTH_PATH.to_owned()),
    ])
}

/// The two rules: requests that carry the header, and the preflights that announce it.
pub(super) fn rules() -> Vec<DesiredRule> {
    let header = |name: &str, values: &[&str]| Condition {
        field: "http-header".to_owned(),
        header: Some(name.to_owned()),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    let method = Condition {
        field: "http-request-method".to_owned(),
        header: None,
        values: BTreeSet::from(["OPTIONS".to_owned()]),
    };
    // Chrome sends the name in lower case, other clients as their programs write it.
    let announced = header("Access-Control-Request-Headers", &["*x-ephemwork*", "*X-Ephemwork*"]);
    vec![
        DesiredRule {
            purpose: "requests with the header",
            conditions: BTreeSet::from([header(HEADER_DISPLAY, &["*"])]),
        },
        DesiredRule {
            purpose: "CORS preflights that announce the header",
            conditions: BTreeSet::from([method, announced]),
        },
    ]
}

/// The one processor that image, instance type and binary have in common.
///
/// # Errors
/// They have none; says what each is.
pub fn agreed(
    image: (&str, &str),
    instance_type: (&str, &[String]),
    binary: (&S3Uri, Architecture),
) -> Result<Architecture, Error> {
    let architecture = binary.1;
    let of_type = instance_type
        .1
        .iter()
        .any(|one| Architecture::parse(one) == Some(architecture));
    if of_type && Architecture::parse(image.1) == Some(architecture) {
        return Ok(architecture);
    }
    Err(Error::new(
        Exit::Config,
        "the image, the instance type and the binary are for different processors",
    )
    .because(format_args!(
        "the image {} is for {}, {} for {}, and {} for {}",
        image.0,
        image.1,
        instance_type.0,
        instance_type.1.join(" or "),
        binary.0,
        architecture.as_str()
    ))
    .hint("choose an instance type, an image and a binary that agree; t4g types are arm64, t3 types x86_64"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Facts for tests.
    pub(crate) fn facts() -> Facts {
        Facts {
            names: Names::of("shop", "eu-west-1"),
            account: "123456789012".to_owned(),
            partition: "aws".to_owned(),
            suffix: "amazonaws.com".to_owned(),
            vpc: "vpc-1".to_owned(),
            subnet: "subnet-1".to_owned(),
            alb_group: "sg-alb".to_owned(),
            image: "ami-1".to_owned(),
            root_device: "/dev/xvda".to_owned(),
            instance_type: INSTANCE_TYPE.to_owned(),
            architecture: Architecture::Arm64,
            binary: S3Uri::parse("s3://tools/ephemwork/0.1.0/ephemwork-aarch64").unwrap(),
            sha256: "ab".repeat(32),
            listener: Some("arn:listener".to_owned()),
            eice: Eice::No,
        }
    }

    #[test]
    fn documents_are_whole() {
        let desired = desired(facts());
        assert!(!desired.user_data.contains('@') || !desired.user_data.contains("@PROJECT@"));
        for name in values(&desired.facts).keys() {
            let mark = format!("@{name}@");
            assert!(!desired.user_data.contains(&mark), "{mark} in the user data");
        }
        assert!(
            desired.user_data.len() < documents::MAX_USER_DATA / 4 * 3,
            "{}",
            desired.user_data.len()
        );
        let mut values = values(&desired.facts);
        values.insert("DOCUMENT", "arn:document".to_owned());
        for which in [Policy::Trust, Policy::Instance, Policy::Admin, Policy::Developer] {
            let text = documents::policy_text(which, &values);
            assert!(!text.contains('@'), "{text}");
            assert_eq!(documents::policy(which, &values)["Version"], "2012-10-17");
        }
    }

    #[test]
    fn the_instance_may_do_nothing_broad() {
        let text = desired(facts()).policy.to_string();
        for broad in ["\"*\"", "s3:*", "ssm:*", "Delete", "List"] {
            assert!(!text.contains(broad), "{broad} in {text}");
        }
        assert!(
            text.contains("arn:aws:s3:::tools/ephemwork/0.1.0/ephemwork-aarch64\""),
            "{text}"
        );
    }

    #[test]
    fn processors_agree_or_the_plan_refuses() {
        let check = |image: &str, types: &[&str], binary: Architecture, expected: Option<Architecture>| {
            let types: Vec<String> = types.iter().map(|&one| one.to_owned()).collect();
            let uri = S3Uri::parse("s3://tools/x").unwrap();
            let found = agreed(("ami-1", image), ("t4g.nano", &types), (&uri, binary));
            assert_eq!(found.ok(), expected, "{image} {types:?} {binary:?}");
        };
        check("x86_64", &["arm64"], Architecture::Arm64, None);
        check("arm64", &["x86_64", "i386"], Architecture::Arm64, None);
        check("arm64", &["arm64"], Architecture::X86_64, None);
        check("arm64", &[], Architecture::Arm64, None);
        check("arm64", &["arm64"], Architecture::Arm64, Some(Architecture::Arm64));
        check(
            "x86_64",
            &["i386", "x86_64"],
            Architecture::X86_64,
            Some(Architecture::X86_64),
        );
    }

    #[test]
    fn what_changes_an_instance_changes_its_revision() {
        let of = |change: fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            desired(facts).revision
        };
        let plain = of(|_| ());
        assert_eq!(plain, of(|facts| facts.alb_group = "sg-2".to_owned()));
        assert_ne!(plain, of(|facts| facts.sha256 = "cd".repeat(32)));
        assert_ne!(plain, of(|facts| facts.image = "ami-2".to_owned()));
        assert_ne!(plain, of(|facts| facts.instance_type = "t4g.micro".to_owned()));
        assert_ne!(plain, of(|facts| facts.subnet = "subnet-2".to_owned()));
    }
}
