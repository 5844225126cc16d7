//! Security groups.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml;
use super::{Filter, VERSION, done, filters, page, tag_specification, tags};

/// Lists security groups.
#[derive(Clone, Debug, Default)]
pub struct DescribeSecurityGroups {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A security group; its rules are listed by [`super::DescribeSecurityGroupRules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-..`.
    pub id: String,
    /// Unique in its VPC.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `vpc-..`.
    pub vpc_id: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeSecurityGroups {
    type Answer = Page<SecurityGroup>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeSecurityGroups";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeSecurityGroups", VERSION);
        form.list("GroupId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<SecurityGroup>, Unreadable> {
        page(reply, "securityGroupInfo", |item| {
            Ok(SecurityGroup {
                id: item.need_text("groupId")?,
                name: item.text("groupName").unwrap_or_default(),
                description: item.text("groupDescription").unwrap_or_default(),
                vpc_id: item.text("vpcId"),
                tags: tags(item),
            })
        })
    }
}

paged!(DescribeSecurityGroups => SecurityGroup);

/// Makes a security group, in which AWS puts one rule: everything may go out. A second one of the same name in the VPC is
/// refused (`InvalidGroup.Duplicate`).
#[derive(Clone, Debug)]
pub struct CreateSecurityGroup {
    /// Its name, at most 255 characters.
    pub name: String,
    /// What it is for, at most 255 characters; it can never be changed.
    pub description: String,
    /// Where it is.
    pub vpc_id: String,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateSecurityGroup {
    /// Its id.
    type Answer = String;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:CreateSecurityGroup";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateSecurityGroup", VERSION);
        form.put("GroupName", &self.name);
        form.put("GroupDescription", &self.description);
        form.put("VpcId", &self.vpc_id);
        tag_specification(&mut form, 1, "security-group", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<String, Unreadable> {
        xml::read(&reply.body, |root| root.need_text("groupId"))
    }
}

/// Removes a security group. While an interface has it, or a rule of another names it, that is refused
/// (`DependencyViolation`).
#[derive(Clone, Debug)]
pub struct DeleteSecurityGroup {
    /// Which.
    pub id: String,
}

impl Call for DeleteSecurityGroup {
    type Answer = ();
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DeleteSecurityGroup";

    fn resource(&self) -> Option<String> {
        Some(self.id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DeleteSecurityGroup", VERSION);
        form.put("GroupId", &self.id);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}
