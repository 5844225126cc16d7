//! Target groups and what is in them.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::Element;
use super::{VERSION, done, page, result, texts};

/// Lists target groups; those with names or ARNs that are not there are an error.
#[derive(Clone, Debug, Default)]
pub struct DescribeTargetGroups {
    /// These.
    pub arns: Vec<String>,
    /// Those of these names.
    pub names: Vec<String>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    /// `arn:aws:elasticloadbalancing:..:targetgroup/name/id`.
    pub arn: String,
    /// Unique in the account's region.
    pub name: String,
    /// `HTTP`, ...
    pub protocol: Option<String>,
    /// `HTTP1`, `HTTP2`, `GRPC`.
    pub protocol_version: Option<String>,
    /// The targets' port, where a target has none of its own.
    pub port: Option<u16>,
    /// `vpc-..`.
    pub vpc_id: Option<String>,
    /// `ip`, `instance`, `lambda`, `alb`.
    pub target_type: Option<String>,
    /// How targets are asked for their health.
    pub health: HealthCheck,
    /// The load balancers that have a rule to it.
    pub load_balancer_arns: Vec<String>,
}

/// How targets are asked for their health over HTTP on the port of their traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `/ephemwork-health`.
    pub path: String,
    /// How often, in seconds.
    pub interval: u32,
    /// How long an answer may take, in seconds.
    pub timeout: u32,
    /// How many good answers make a target healthy.
    pub healthy: u32,
    /// How many bad answers make it unhealthy.
    pub unhealthy: u32,
    /// Which statuses are good: `200`.
    pub codes: String,
}

impl Call for DescribeTargetGroups {
    type Answer = Page<TargetGroup>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeTargetGroups";

    fn resource(&self) -> Option<String> {
        self.arns.first().or(self.names.first()).cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeTargetGroups", VERSION);
        form.list("TargetGroupArns.member", &self.arns);
        form.list("Names.member", &self.names);
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<TargetGroup>, Unreadable> {
        page(reply, "DescribeTargetGroups", "TargetGroups", group)
    }
}

paged!(DescribeTargetGroups => TargetGroup);

fn group(member: Element<'_, '_>) -> Result<TargetGroup, Unreadable> {
    Ok(TargetGroup {
        arn: member.need_text("TargetGroupArn")?,
        name: member.need_text("TargetGroupName")?,
        protocol: member.text("Protocol"),
        protocol_version: member.text("ProtocolVersion"),
        port: member.parsed("Port")?,
        vpc_id: member.text("VpcId"),
        target_type: member.text("TargetType"),
        health: HealthCheck {
            path: member.text("HealthCheckPath").unwrap_or_default(),
            interval: member.parsed("HealthCheckIntervalSeconds")?.unwrap_or_default(),
            timeout: member.parsed("HealthCheckTimeoutSeconds")?.unwrap_or_default(),
            healthy: member.parsed("HealthyThresholdCount")?.unwrap_or_default(),
            unhealthy: member.parsed("UnhealthyThresholdCount")?.unwrap_or_default(),
            codes: member
                .child("Matcher")
                .and_then(|matcher| matcher.text("HttpCode"))
                .unwrap_or_default(),
        },
        load_balancer_arns: texts(member, "LoadBalancerArns"),
    })
}

fn health(form: &mut Form, check: &HealthCheck) {
    form.put("HealthCheckEnabled", "true");
    form.put("HealthCheckProtocol", "HTTP");
    form.put("HealthCheckPort", "traffic-port");
    form.put("HealthCheckPath", &check.path);
    form.put("HealthCheckIntervalSeconds", check.interval.to_string());
    form.put("HealthCheckTimeoutSeconds", check.timeout.to_string());
    form.put("HealthyThresholdCount", check.healthy.to_string());
    form.put("UnhealthyThresholdCount", check.unhealthy.to_string());
    form.put("Matcher.HttpCode", &check.codes);
}

/// Makes a target group of addresses that speak HTTP/1. The same once more gives the one that is there; one of the name that
/// differs is refused (`DuplicateTargetGroupName`).
#[derive(Clone, Debug)]
pub struct CreateTargetGroup {
    /// Its name: at most 32 letters, digits and hyphens.
    pub name: String,
    /// The targets' port.
    pub port: u16,
    /// Where they are.
    pub vpc_id: String,
    /// How they are asked for their health.
    pub health: HealthCheck,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateTargetGroup {
    type Answer = TargetGroup;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:CreateTargetGroup";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateTargetGroup", VERSION);
        form.put("Name", &self.name);
        form.put("Protocol", "HTTP");
        form.put("ProtocolVersion", "HTTP1");
        form.put("TargetType", "ip");
        form.put("Port", self.port.to_string());
        form.put("VpcId", &self.vpc_id);
        health(&mut form, &self.health);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<TargetGroup, Unreadable> {
        result(reply, "CreateTargetGroup", |result| {
            group(result.need("TargetGroups")?.need("member")?)
        })
    }
}

/// Changes how targets are asked for their health.
#[derive(Clone, Debug)]
pub struct ModifyTargetGroup {
    /// Of which group.
    pub arn: String,
    /// How.
    pub health: HealthCheck,
}

impl Call for ModifyTargetGroup {
    type Answer = TargetGroup;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:ModifyTargetGroup";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ModifyTargetGroup", VERSION);
        form.put("TargetGroupArn", &self.arn);
        health(&mut form, &self.health);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<TargetGroup, Unreadable> {
        result(reply, "ModifyTargetGroup", |result| {
            group(result.need("TargetGroups")?.need("member")?)
        })
    }
}

/// Removes a target group; while a rule forwards to it that is refused (`ResourceInUse`).
#[derive(Clone, Debug)]
pub struct DeleteTargetGroup {
    /// Which.
    pub arn: String,
}

impl Call for DeleteTargetGroup {
    type Answer = ();
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DeleteTargetGroup";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DeleteTargetGroup", VERSION);
        form.put("TargetGroupArn", &self.arn);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}

/// A target: an address and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `10.0.0.1`.
    pub address: String,
    /// Its port.
    pub port: u16,
}

fn targets(action: &str, arn: &str, targets: &[Target]) -> Ask {
    let mut form = Form::new(action, VERSION);
    form.put("TargetGroupArn", arn);
    for (index, target) in targets.iter().enumerate() {
        form.put(&format!("Targets.member.{}.Id", index + 1), &target.address);
        form.put(&format!("Targets.member.{}.Port", index + 1), target.port.to_string());
    }
    form.ask()
}

macro_rules! moves_targets {
    ($($(#[$doc:meta])* $name:ident => $action:literal,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Which group.
            pub arn: String,
            /// Which targets.
            pub targets: Vec<Target>,
        }

        impl Call for $name {
            type Answer = ();
            const SERVICE: Service = Service::Elbv2;
            const ACTION: &'static str = concat!("elasticloadbalancing:", $action);

            fn resource(&self) -> Option<String> {
                Some(self.arn.clone())
            }

            fn request(&self) -> Ask {
                targets($action, &self.arn, &self.targets)
            }

            fn answer(reply: &Reply) -> Result<(), Unreadable> {
                done(reply)
            }
        }
    )+};
}

moves_targets! {
    /// Puts targets into a group; one that is there is fine. An address must be in the VPC's ranges, else an availability zone
    /// of `all` is asked for, which would then be wrong.
    RegisterTargets => "RegisterTargets",
    /// Takes targets out of a group, which drains them first.
    DeregisterTargets => "DeregisterTargets",
}

/// Asks for the health of a group's targets.
#[derive(Clone, Debug)]
pub struct DescribeTargetHealth {
    /// Of which group.
    pub arn: String,
}

/// The health of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// Which.
    pub target: Target,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`.
    pub state: String,
    /// `Target.Timeout`, ...
    pub reason: Option<String>,
    /// The reason in words.
    pub description: Option<String>,
}

impl Call for DescribeTargetHealth {
    type Answer = Vec<TargetHealth>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeTargetHealth";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeTargetHealth", VERSION);
        form.put("TargetGroupArn", &self.arn);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Vec<TargetHealth>, Unreadable> {
        result(reply, "DescribeTargetHealth", |result| {
            super::all(result, "TargetHealthDescriptions", |member| {
                let (target, health) = (member.need("Target")?, member.need("TargetHealth")?);
                Ok(TargetHealth {
                    target: Target {
                        address: target.need_text("Id")?,
                        port: target.parsed("Port")?.unwrap_or_default(),
                    },
                    state: health.need_text("State")?,
                    reason: health.text("Reason"),
                    description: health.text("Description"),
                })
            })
        })
    }
}

fn attributes(reply: &Reply, action: &str) -> Result<Tags, Unreadable> {
    result(reply, action, |result| {
        let members = result.list("Attributes", "member");
        let pairs = members.filter_map(|pair| Some((pair.text("Key")?, pair.text("Value").unwrap_or_default())));
        Ok(pairs.collect())
    })
}

/// Asks for a target group's attributes.
#[derive(Clone, Debug)]
pub struct DescribeTargetGroupAttributes {
    /// Of which group.
    pub arn: String,
}

impl Call for DescribeTargetGroupAttributes {
    /// By key: `deregistration_delay.timeout_seconds`.
    type Answer = Tags;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeTargetGroupAttributes";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeTargetGroupAttributes", VERSION);
        form.put("TargetGroupArn", &self.arn);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Tags, Unreadable> {
        attributes(reply, "DescribeTargetGroupAttributes")
    }
}

/// Changes attributes of a target group.
#[derive(Clone, Debug)]
pub struct ModifyTargetGroupAttributes {
    /// Of which group.
    pub arn: String,
    /// By key; the others stay.
    pub attributes: Tags,
}

impl Call for ModifyTargetGroupAttributes {
    /// All of them, changed.
    type Answer = Tags;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:ModifyTargetGroupAttributes";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ModifyTargetGroupAttributes", VERSION);
        form.put("TargetGroupArn", &self.arn);
        form.tags("Attributes.member", &self.attributes);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Tags, Unreadable> {
        attributes(reply, "ModifyTargetGroupAttributes")
    }
}
