//! EC2 Instance Connect endpoints: a way into a VPC without an open port.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::{self, Element};
use super::{Filter, VERSION, filters, page, tag_specification, tags, texts};

/// Lists endpoints.
#[derive(Clone, Debug, Default)]
pub struct DescribeInstanceConnectEndpoints {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An endpoint. A VPC has room for one only, unless AWS raised the quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConnectEndpoint {
    /// `eice-..`.
    pub id: String,
    /// `create-in-progress`, `create-complete`, `create-failed`, `delete-in-progress`, `delete-complete`, `delete-failed`, ...
    pub state: String,
    /// Why it is in that state.
    pub state_message: Option<String>,
    /// `vpc-..`.
    pub vpc_id: Option<String>,
    /// `subnet-..`.
    pub subnet_id: Option<String>,
    /// Where it is called.
    pub dns_name: Option<String>,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// Whether the instance sees the caller's address instead of the endpoint's.
    pub preserves_client_address: bool,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeInstanceConnectEndpoints {
    type Answer = Page<InstanceConnectEndpoint>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeInstanceConnectEndpoints";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeInstanceConnectEndpoints", VERSION);
        form.list("InstanceConnectEndpointId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<InstanceConnectEndpoint>, Unreadable> {
        page(reply, "instanceConnectEndpointSet", endpoint)
    }
}

paged!(DescribeInstanceConnectEndpoints => InstanceConnectEndpoint);

fn endpoint(item: Element<'_, '_>) -> Result<InstanceConnectEndpoint, Unreadable> {
    Ok(InstanceConnectEndpoint {
        id: item.need_text("instanceConnectEndpointId")?,
        state: item.need_text("state")?,
        state_message: item.text("stateMessage"),
        vpc_id: item.text("vpcId"),
        subnet_id: item.text("subnetId"),
        dns_name: item.text("dnsName"),
        groups: texts(item, "securityGroupIdSet"),
        preserves_client_address: item.parsed("preserveClientIp")?.unwrap_or_default(),
        tags: tags(item),
    })
}

/// Makes an endpoint, which takes some minutes.
#[derive(Clone, Debug)]
pub struct CreateInstanceConnectEndpoint {
    /// Makes the call idempotent. At most 64 characters.
    pub client_token: String,
    /// Where.
    pub subnet_id: String,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateInstanceConnectEndpoint {
    type Answer = InstanceConnectEndpoint;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:CreateInstanceConnectEndpoint";

    fn resource(&self) -> Option<String> {
        Some(self.subnet_id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateInstanceConnectEndpoint", VERSION);
        form.put("ClientToken", &self.client_token);
        form.put("SubnetId", &self.subnet_id);
        form.list("SecurityGroupId", &self.groups);
        // So that "from the endpoint's group" is a rule that holds.
        form.put("PreserveClientIp", "false");
        tag_specification(&mut form, 1, "instance-connect-endpoint", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<InstanceConnectEndpoint, Unreadable> {
        xml::read(&reply.body, |root| endpoint(root.need("instanceConnectEndpoint")?))
    }
}

/// Removes an endpoint, which takes some minutes.
#[derive(Clone, Debug)]
pub struct DeleteInstanceConnectEndpoint {
    /// Which.
    pub id: String,
}

impl Call for DeleteInstanceConnectEndpoint {
    /// What it is until it is gone; `None` when AWS does not say.
    type Answer = Option<InstanceConnectEndpoint>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DeleteInstanceConnectEndpoint";

    fn resource(&self) -> Option<String> {
        Some(self.id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DeleteInstanceConnectEndpoint", VERSION);
        form.put("InstanceConnectEndpointId", &self.id);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Option<InstanceConnectEndpoint>, Unreadable> {
        xml::read(&reply.body, |root| {
            root.child("instanceConnectEndpoint").map(endpoint).transpose()
        })
    }
}
