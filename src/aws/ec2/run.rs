//! RunInstances: making one.

use super::super::call::{Ask, Call, Reply, Service, Tags, Unreadable};
use super::super::query::Form;
use super::super::xml;
use super::instances::{Instance, MetadataOptions, instance};
use super::{VERSION, tag_specification};

/// Makes one instance with one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInstances {
    /// Makes the call idempotent: the same token gives the same instance, for as long as it lives. At most 64 characters.
    pub client_token: String,
    /// `ami-..`.
    pub image_id: String,
    /// `t4g.nano`.
    pub instance_type: String,
    /// `subnet-..`.
    pub subnet_id: String,
    /// The ids of its security groups.
    pub groups: Vec<String>,
    /// Whether it gets an address in the internet, whatever the subnet's default is.
    pub public_address: bool,
    /// The instance profile's name.
    pub profile_name: String,
    /// How its metadata service answers.
    pub metadata: MetadataOptions,
    /// Its disks.
    pub devices: Vec<BlockDevice>,
    /// What it runs at its first start, in base64; at most 16 KB before that.
    pub user_data: String,
    /// The instance's tags.
    pub tags: Tags,
    /// The tags of its volumes and network interfaces.
    pub part_tags: Tags,
}

/// An EBS volume that is made with an instance and goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// `/dev/xvda`.
    pub name: String,
    /// `gp3`.
    pub volume_type: String,
    /// In GiB; `None` is as large as the image asks for.
    pub size: Option<u32>,
    /// With the account's key for EBS.
    pub encrypted: bool,
}

impl Call for RunInstances {
    type Answer = Instance;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:RunInstances";

    fn request(&self) -> Ask {
        let mut form = Form::new("RunInstances", VERSION);
        form.put("ClientToken", &self.client_token);
        form.put("ImageId", &self.image_id);
        form.put("InstanceType", &self.instance_type);
        form.put("MinCount", "1");
        form.put("MaxCount", "1");
        form.put("NetworkInterface.1.DeviceIndex", "0");
        form.put("NetworkInterface.1.SubnetId", &self.subnet_id);
        form.put("NetworkInterface.1.AssociatePublicIpAddress", self.public_address.to_string());
        form.put("NetworkInterface.1.DeleteOnTermination", "true");
        form.list("NetworkInterface.1.SecurityGroupId", &self.groups);
        form.put("IamInstanceProfile.Name", &self.profile_name);
        form.put("MetadataOptions.HttpTokens", &self.metadata.tokens);
        form.put("MetadataOptions.HttpPutResponseHopLimit", self.metadata.hop_limit.to_string());
        form.put("MetadataOptions.HttpEndpoint", &self.metadata.endpoint);
        for (index, device) in self.devices.iter().enumerate() {
            let name = format!("BlockDeviceMapping.{}", index + 1);
            form.put(&format!("{name}.DeviceName"), &device.name);
            form.put(&format!("{name}.Ebs.VolumeType"), &device.volume_type);
            form.put(&format!("{name}.Ebs.Encrypted"), device.encrypted.to_string());
            form.put(&format!("{name}.Ebs.DeleteOnTermination"), "true");
            form.put_some(&format!("{name}.Ebs.VolumeSize"), device.size.map(|size| size.to_string()));
        }
        form.put("UserData", &self.user_data);
        tag_specification(&mut form, 1, "instance", &self.tags);
        tag_specification(&mut form, 2, "volume", &self.part_tags);
        tag_specification(&mut form, 3, "network-interface", &self.part_tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Instance, Unreadable> {
        xml::read(&reply.body, |root| instance(root.need("instancesSet")?.need("item")?))
    }
}
