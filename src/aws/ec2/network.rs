//! Where instances are: VPCs, subnets, network interfaces. And tags, which anything can have.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::{Filter, VERSION, done, filters, page, tags};

/// Lists VPCs.
#[derive(Clone, Debug, Default)]
pub struct DescribeVpcs {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// `vpc-..`.
    pub id: String,
    /// Its first IPv4 range.
    pub cidr: Option<String>,
    /// All of its IPv4 ranges.
    pub cidrs: Vec<String>,
    /// Whether it came with the account.
    pub default: bool,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeVpcs {
    type Answer = Page<Vpc>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeVpcs";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeVpcs", VERSION);
        form.list("VpcId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Vpc>, Unreadable> {
        page(reply, "vpcSet", |item| {
            Ok(Vpc {
                id: item.need_text("vpcId")?,
                cidr: item.text("cidrBlock"),
                cidrs: item
                    .list("cidrBlockAssociationSet", "item")
                    .filter_map(|association| association.text("cidrBlock"))
                    .collect(),
                default: item.parsed("isDefault")?.unwrap_or_default(),
                tags: tags(item),
            })
        })
    }
}

paged!(DescribeVpcs => Vpc);

/// Lists subnets.
#[derive(Clone, Debug, Default)]
pub struct DescribeSubnets {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-..`.
    pub id: String,
    /// `vpc-..`.
    pub vpc_id: String,
    /// `eu-west-1a`.
    pub availability_zone: String,
    /// Its IPv4 range.
    pub cidr: Option<String>,
    /// Whether its instances get an address in the internet when nothing else is said.
    pub public_by_default: bool,
    /// How many addresses are free.
    pub free_addresses: Option<u32>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeSubnets {
    type Answer = Page<Subnet>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeSubnets";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeSubnets", VERSION);
        form.list("SubnetId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Subnet>, Unreadable> {
        page(reply, "subnetSet", |item| {
            Ok(Subnet {
                id: item.need_text("subnetId")?,
                vpc_id: item.need_text("vpcId")?,
                availability_zone: item.text("availabilityZone").unwrap_or_default(),
                cidr: item.text("cidrBlock"),
                public_by_default: item.parsed("mapPublicIpOnLaunch")?.unwrap_or_default(),
                free_addresses: item.parsed("availableIpAddressCount")?,
                tags: tags(item),
            })
        })
    }
}

paged!(DescribeSubnets => Subnet);

/// Lists network interfaces; by the filter `group-id` those that have a security group.
#[derive(Clone, Debug, Default)]
pub struct DescribeNetworkInterfaces {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-..`.
    pub id: String,
    /// `in-use`, `available`, ...
    pub status: String,
    /// Who it is for, as AWS's services write it: `ELB app/..`.
    pub description: Option<String>,
    /// Its address in the VPC.
    pub private_address: Option<String>,
    /// Its address in the internet.
    pub public_address: Option<String>,
    /// `subnet-..`.
    pub subnet_id: Option<String>,
    /// The instance that it hangs on.
    pub instance_id: Option<String>,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeNetworkInterfaces {
    type Answer = Page<NetworkInterface>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeNetworkInterfaces";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeNetworkInterfaces", VERSION);
        form.list("NetworkInterfaceId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<NetworkInterface>, Unreadable> {
        page(reply, "networkInterfaceSet", |item| {
            Ok(NetworkInterface {
                id: item.need_text("networkInterfaceId")?,
                status: item.text("status").unwrap_or_default(),
                description: item.text("description"),
                private_address: item.text("privateIpAddress"),
                public_address: item.child("association").and_then(|association| association.text("publicIp")),
                subnet_id: item.text("subnetId"),
                instance_id: item.child("attachment").and_then(|attachment| attachment.text("instanceId")),
                groups: item
                    .list("groupSet", "item")
                    .filter_map(|group| group.text("groupId"))
                    .collect(),
                tags: tags(item),
            })
        })
    }
}

paged!(DescribeNetworkInterfaces => NetworkInterface);

/// Adds tags, or changes their values.
#[derive(Clone, Debug)]
pub struct CreateTags {
    /// On these: ids of anything in EC2, at most 1000.
    pub ids: Vec<String>,
    /// Which.
    pub tags: Tags,
}

impl Call for CreateTags {
    type Answer = ();
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:CreateTags";

    fn resource(&self) -> Option<String> {
        Some(self.ids.join(", "))
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateTags", VERSION);
        form.list("ResourceId", &self.ids);
        form.tags("Tag", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}
