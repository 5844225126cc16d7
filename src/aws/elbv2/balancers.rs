//! Load balancers and their listeners, which are somebody else's; and tags.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::{VERSION, done, page, result, tags, texts};

/// Lists load balancers.
#[derive(Clone, Debug, Default)]
pub struct DescribeLoadBalancers {
    /// Which.
    pub which: LoadBalancers,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// Which load balancers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancers {
    #[default]
    All,
    /// By ARN, at most 20; one that is not there is an error.
    Arns(Vec<String>),
    /// By name, at most 20; one that is not there is an error.
    Names(Vec<String>),
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// `arn:aws:elasticloadbalancing:..:loadbalancer/app/name/id`.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub dns_name: Option<String>,
    /// `internet-facing` or `internal`.
    pub scheme: Option<String>,
    /// `application`, `network` or `gateway`.
    pub kind: String,
    /// `vpc-..`.
    pub vpc_id: Option<String>,
    /// `active`, `provisioning`, `active_impaired`, `failed`.
    pub state: Option<String>,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// The ids of its subnets, one an availability zone.
    pub subnets: Vec<String>,
}

impl Call for DescribeLoadBalancers {
    type Answer = Page<LoadBalancer>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeLoadBalancers";

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeLoadBalancers", VERSION);
        match &self.which {
            LoadBalancers::All => {}
            LoadBalancers::Arns(arns) => form.list("LoadBalancerArns.member", arns),
            LoadBalancers::Names(names) => form.list("Names.member", names),
        }
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<LoadBalancer>, Unreadable> {
        page(reply, "DescribeLoadBalancers", "LoadBalancers", |member| {
            Ok(LoadBalancer {
                arn: member.need_text("LoadBalancerArn")?,
                name: member.need_text("LoadBalancerName")?,
                dns_name: member.text("DNSName"),
                scheme: member.text("Scheme"),
                kind: member.text("Type").unwrap_or_default(),
                vpc_id: member.text("VpcId"),
                state: member.child("State").and_then(|state| state.text("Code")),
                groups: texts(member, "SecurityGroups"),
                subnets: member
                    .list("AvailabilityZones", "member")
                    .filter_map(|zone| zone.text("SubnetId"))
                    .collect(),
            })
        })
    }
}

paged!(DescribeLoadBalancers => LoadBalancer);

/// Lists listeners: those of a load balancer, or those with these ARNs (one that is not there is an error).
#[derive(Clone, Debug, Default)]
pub struct DescribeListeners {
    /// Of this load balancer.
    pub load_balancer_arn: Option<String>,
    /// These.
    pub arns: Vec<String>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `arn:aws:elasticloadbalancing:..:listener/app/name/id/id`.
    pub arn: String,
    /// Whose it is.
    pub load_balancer_arn: String,
    /// Its port.
    pub port: Option<u16>,
    /// `HTTP`, `HTTPS`, ...
    pub protocol: Option<String>,
}

impl Call for DescribeListeners {
    type Answer = Page<Listener>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeListeners";

    fn resource(&self) -> Option<String> {
        self.arns.first().cloned().or_else(|| self.load_balancer_arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeListeners", VERSION);
        form.put_some("LoadBalancerArn", self.load_balancer_arn.as_ref());
        form.list("ListenerArns.member", &self.arns);
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Listener>, Unreadable> {
        page(reply, "DescribeListeners", "Listeners", |member| {
            Ok(Listener {
                arn: member.need_text("ListenerArn")?,
                load_balancer_arn: member.need_text("LoadBalancerArn")?,
                port: member.parsed("Port")?,
                protocol: member.text("Protocol"),
            })
        })
    }
}

paged!(DescribeListeners => Listener);

/// Asks for the tags of load balancers, listeners, rules and target groups.
#[derive(Clone, Debug)]
pub struct DescribeTags {
    /// Of these, at most 20; one that is not there is an error.
    pub arns: Vec<String>,
}

/// The tags of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// What has them.
    pub arn: String,
    /// The tags.
    pub tags: Tags,
}

impl Call for DescribeTags {
    type Answer = Vec<Tagged>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeTags";

    fn resource(&self) -> Option<String> {
        self.arns.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeTags", VERSION);
        form.list("ResourceArns.member", &self.arns);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Vec<Tagged>, Unreadable> {
        result(reply, "DescribeTags", |result| {
            super::all(result, "TagDescriptions", |member| {
                Ok(Tagged {
                    arn: member.need_text("ResourceArn")?,
                    tags: tags(member),
                })
            })
        })
    }
}

/// Adds tags, or changes their values.
#[derive(Clone, Debug)]
pub struct AddTags {
    /// On these, at most 20.
    pub arns: Vec<String>,
    /// Which.
    pub tags: Tags,
}

impl Call for AddTags {
    type Answer = ();
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:AddTags";

    fn resource(&self) -> Option<String> {
        self.arns.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("AddTags", VERSION);
        form.list("ResourceArns.member", &self.arns);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}
