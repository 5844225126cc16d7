//! Instances: what they are, and starting, stopping and ending them.

use std::time::SystemTime;

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::{self, Element};
use super::{Filter, VERSION, done, filters, tags, time};

/// Lists instances; those that ended are listed for about an hour.
#[derive(Clone, Debug, Default)]
pub struct DescribeInstances {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An instance. An ended one has lost most of what it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-0123456789abcdef0`.
    pub id: String,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Why it is in that state: `Client.UserInitiatedShutdown: ..`.
    pub state_reason: Option<String>,
    /// `ami-..`.
    pub image_id: String,
    /// `t4g.nano`.
    pub instance_type: String,
    /// `arm64` or `x86_64`.
    pub architecture: Option<String>,
    /// Since when it is started.
    pub launched: Option<SystemTime>,
    /// `eu-west-1a`.
    pub availability_zone: Option<String>,
    /// `vpc-..`.
    pub vpc_id: Option<String>,
    /// `subnet-..`.
    pub subnet_id: Option<String>,
    /// Its address in the VPC.
    pub private_address: Option<String>,
    /// Its address in the internet; a bastion has none.
    pub public_address: Option<String>,
    /// The key pair; a bastion has none.
    pub key_name: Option<String>,
    /// The instance profile's ARN.
    pub profile_arn: Option<String>,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// The ids of its network interfaces.
    pub interfaces: Vec<String>,
    /// The ids of its EBS volumes.
    pub volumes: Vec<String>,
    /// How its metadata service answers.
    pub metadata: Option<MetadataOptions>,
    /// What made it, when RunInstances was given one.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// Where in its life an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
    /// One that this version has never heard of.
    Unknown,
}

impl InstanceState {
    fn of(name: &str) -> InstanceState {
        match name {
            "pending" => InstanceState::Pending,
            "running" => InstanceState::Running,
            "shutting-down" => InstanceState::ShuttingDown,
            "terminated" => InstanceState::Terminated,
            "stopping" => InstanceState::Stopping,
            "stopped" => InstanceState::Stopped,
            _ => InstanceState::Unknown,
        }
    }

    /// As EC2 writes it.
    pub fn name(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Terminated => "terminated",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
            InstanceState::Unknown => "unknown",
        }
    }
}

/// How an instance's metadata service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataOptions {
    /// `required` (IMDSv2 only) or `optional`.
    pub tokens: String,
    /// How many hops an answer may go.
    pub hop_limit: u32,
    /// `enabled` or `disabled`.
    pub endpoint: String,
}

impl Call for DescribeInstances {
    type Answer = Page<Instance>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeInstances";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeInstances", VERSION);
        form.list("InstanceId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Instance>, Unreadable> {
        let pages = super::page(reply, "reservationSet", |reservation| {
            reservation
                .list("instancesSet", "item")
                .map(instance)
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Page {
            items: pages.items.into_iter().flatten().collect(),
            next: pages.next,
        })
    }
}

paged!(DescribeInstances => Instance);

/// `<item>` of an `instancesSet`.
pub(super) fn instance(item: Element<'_, '_>) -> Result<Instance, Unreadable> {
    let reason = item.child("stateReason").and_then(|reason| {
        let code = reason.text("code");
        reason.text("message").or(code)
    });
    let metadata = item.child("metadataOptions").map(metadata).transpose()?;
    Ok(Instance {
        id: item.need_text("instanceId")?,
        state: InstanceState::of(&item.need("instanceState")?.need_text("name")?),
        state_reason: reason.or_else(|| item.text("reason")),
        image_id: item.text("imageId").unwrap_or_default(),
        instance_type: item.text("instanceType").unwrap_or_default(),
        architecture: item.text("architecture"),
        launched: time(item, "launchTime"),
        availability_zone: item
            .child("placement")
            .and_then(|placement| placement.text("availabilityZone")),
        vpc_id: item.text("vpcId"),
        subnet_id: item.text("subnetId"),
        private_address: item.text("privateIpAddress"),
        public_address: item.text("ipAddress"),
        key_name: item.text("keyName"),
        profile_arn: item.child("iamInstanceProfile").and_then(|profile| profile.text("arn")),
        groups: item
            .list("groupSet", "item")
            .filter_map(|group| group.text("groupId"))
            .collect(),
        interfaces: item
            .list("networkInterfaceSet", "item")
            .filter_map(|interface| interface.text("networkInterfaceId"))
            .collect(),
        volumes: item
            .list("blockDeviceMapping", "item")
            .filter_map(|device| device.child("ebs")?.text("volumeId"))
            .collect(),
        metadata,
        client_token: item.text("clientToken"),
        tags: tags(item),
    })
}

fn metadata(options: Element<'_, '_>) -> Result<MetadataOptions, Unreadable> {
    Ok(MetadataOptions {
        tokens: options.text("httpTokens").unwrap_or_default(),
        hop_limit: options.parsed("httpPutResponseHopLimit")?.unwrap_or_default(),
        endpoint: options.text("httpEndpoint").unwrap_or_default(),
    })
}

macro_rules! acts_on_instances {
    ($($(#[$doc:meta])* $name:ident => $action:literal,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Which.
            pub ids: Vec<String>,
        }

        impl Call for $name {
            /// The state that each goes into.
            type Answer = Vec<(String, InstanceState)>;
            const SERVICE: Service = Service::Ec2;
            const ACTION: &'static str = concat!("ec2:", $action);

            fn resource(&self) -> Option<String> {
                Some(self.ids.join(", "))
            }

            fn request(&self) -> Ask {
                let mut form = Form::new($action, VERSION);
                form.list("InstanceId", &self.ids);
                form.ask()
            }

            fn answer(reply: &Reply) -> Result<Self::Answer, Unreadable> {
                changes(reply)
            }
        }
    )+};
}

acts_on_instances! {
    /// Ends instances; one that has ended already is fine.
    TerminateInstances => "TerminateInstances",
    /// Starts stopped instances; a running one is fine.
    StartInstances => "StartInstances",
    /// Stops running instances; a stopped one is fine.
    StopInstances => "StopInstances",
}

fn changes(reply: &Reply) -> Result<Vec<(String, InstanceState)>, Unreadable> {
    xml::read(&reply.body, |root| {
        let change = |item: Element<'_, '_>| {
            let state = InstanceState::of(&item.need("currentState")?.need_text("name")?);
            Ok((item.need_text("instanceId")?, state))
        };
        root.list("instancesSet", "item").map(change).collect()
    })
}

/// Changes how an instance's metadata service answers.
#[derive(Clone, Debug)]
pub struct ModifyInstanceMetadataOptions {
    /// Which.
    pub id: String,
    /// How it is to answer.
    pub options: MetadataOptions,
}

impl Call for ModifyInstanceMetadataOptions {
    type Answer = ();
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:ModifyInstanceMetadataOptions";

    fn resource(&self) -> Option<String> {
        Some(self.id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ModifyInstanceMetadataOptions", VERSION);
        form.put("InstanceId", &self.id);
        form.put("HttpTokens", &self.options.tokens);
        form.put("HttpPutResponseHopLimit", self.options.hop_limit.to_string());
        form.put("HttpEndpoint", &self.options.endpoint);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}

/// Asks for an instance's user data.
#[derive(Clone, Debug)]
pub struct DescribeInstanceAttribute {
    /// Which.
    pub id: String,
}

impl Call for DescribeInstanceAttribute {
    /// The user data in base64; `None` when it has none.
    type Answer = Option<String>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeInstanceAttribute";

    fn resource(&self) -> Option<String> {
        Some(self.id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeInstanceAttribute", VERSION);
        form.put("InstanceId", &self.id);
        form.put("Attribute", "userData");
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Option<String>, Unreadable> {
        xml::read(&reply.body, |root| {
            Ok(root.child("userData").and_then(|data| data.text("value")))
        })
    }
}

/// Asks for what an instance wrote to its console.
#[derive(Clone, Debug)]
pub struct GetConsoleOutput {
    /// Which.
    pub id: String,
    /// What it wrote up to now, which only Nitro instances tell, instead of what it wrote some minutes ago.
    pub latest: bool,
}

/// What an instance wrote to its console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleOutput {
    /// In base64, up to 64 KB; `None` before it wrote anything.
    pub base64: Option<String>,
    /// When it was read.
    pub at: Option<SystemTime>,
}

impl Call for GetConsoleOutput {
    type Answer = ConsoleOutput;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:GetConsoleOutput";

    fn resource(&self) -> Option<String> {
        Some(self.id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("GetConsoleOutput", VERSION);
        form.put("InstanceId", &self.id);
        if self.latest {
            form.put("Latest", "true");
        }
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<ConsoleOutput, Unreadable> {
        xml::read(&reply.body, |root| {
            Ok(ConsoleOutput {
                // EC2 breaks the lines of its base64.
                base64: root.text("output").map(|text| text.split_whitespace().collect()),
                at: time(root, "timestamp"),
            })
        })
    }
}
