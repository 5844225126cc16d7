//! What instances are made of: images, types, volumes.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::{Filter, VERSION, filters, page, tags, texts};

/// Lists images. Without ids or owners it lists all of the world's.
#[derive(Clone, Debug, Default)]
pub struct DescribeImages {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// `self`, `amazon`, or an account.
    pub owners: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `ami-..`.
    pub id: String,
    /// `al2023-ami-2023.9..`.
    pub name: Option<String>,
    /// `arm64` or `x86_64`.
    pub architecture: String,
    /// `available`, or why not.
    pub state: String,
    /// `/dev/xvda`.
    pub root_device: Option<String>,
    /// The root volume's least size in GiB.
    pub root_size: Option<u32>,
    /// When it was made, as AWS writes it.
    pub created: Option<String>,
    /// `linux` is written as none.
    pub platform: Option<String>,
}

impl Call for DescribeImages {
    type Answer = Page<Image>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeImages";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeImages", VERSION);
        form.list("ImageId", &self.ids);
        form.list("Owner", &self.owners);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Image>, Unreadable> {
        page(reply, "imagesSet", |item| {
            let root = item.text("rootDeviceName");
            let mut devices = item.list("blockDeviceMapping", "item");
            let device = devices.find(|device| device.text("deviceName") == root);
            let size = device
                .and_then(|device| device.child("ebs"))
                .map(|ebs| ebs.parsed("volumeSize"));
            Ok(Image {
                id: item.need_text("imageId")?,
                name: item.text("name"),
                architecture: item.need_text("architecture")?,
                state: item.text("imageState").unwrap_or_default(),
                root_size: size.transpose()?.flatten(),
                root_device: root,
                created: item.text("creationDate"),
                platform: item.text("platform"),
            })
        })
    }
}

paged!(DescribeImages => Image);

/// Lists instance types.
#[derive(Clone, Debug, Default)]
pub struct DescribeInstanceTypes {
    /// These; one that the region does not have is an error.
    pub types: Vec<String>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// `t4g.nano`.
    pub name: String,
    /// `arm64`, `x86_64`.
    pub architectures: Vec<String>,
    /// `nitro` or `xen`.
    pub hypervisor: Option<String>,
    /// In MiB.
    pub memory: Option<u64>,
    /// Virtual processors.
    pub processors: Option<u32>,
}

impl Call for DescribeInstanceTypes {
    type Answer = Page<InstanceType>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeInstanceTypes";

    fn resource(&self) -> Option<String> {
        self.types.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeInstanceTypes", VERSION);
        form.list("InstanceType", &self.types);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<InstanceType>, Unreadable> {
        page(reply, "instanceTypeSet", |item| {
            let memory = item.child("memoryInfo").map(|memory| memory.parsed("sizeInMiB"));
            let processors = item.child("vCpuInfo").map(|processors| processors.parsed("defaultVCpus"));
            Ok(InstanceType {
                name: item.need_text("instanceType")?,
                architectures: item
                    .child("processorInfo")
                    .map(|processor| texts(processor, "supportedArchitectures"))
                    .unwrap_or_default(),
                hypervisor: item.text("hypervisor"),
                memory: memory.transpose()?.flatten(),
                processors: processors.transpose()?.flatten(),
            })
        })
    }
}

paged!(DescribeInstanceTypes => InstanceType);

/// Lists volumes.
#[derive(Clone, Debug, Default)]
pub struct DescribeVolumes {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// `vol-..`.
    pub id: String,
    /// `in-use`, `available`, `deleting`, ...
    pub state: String,
    /// In GiB.
    pub size: Option<u32>,
    /// `gp3`.
    pub volume_type: Option<String>,
    /// Whether it is.
    pub encrypted: bool,
    /// What it hangs on.
    pub instances: Vec<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeVolumes {
    type Answer = Page<Volume>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeVolumes";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeVolumes", VERSION);
        form.list("VolumeId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Volume>, Unreadable> {
        page(reply, "volumeSet", |item| {
            Ok(Volume {
                id: item.need_text("volumeId")?,
                state: item.text("status").unwrap_or_default(),
                size: item.parsed("size")?,
                volume_type: item.text("volumeType"),
                encrypted: item.parsed("encrypted")?.unwrap_or_default(),
                instances: item
                    .list("attachmentSet", "item")
                    .filter_map(|attachment| attachment.text("instanceId"))
                    .collect(),
                tags: tags(item),
            })
        })
    }
}

paged!(DescribeVolumes => Volume);
