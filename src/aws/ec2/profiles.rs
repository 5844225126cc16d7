//! Which instance profile an instance has.

use super::super::call::{Ask, Call, Page, Reply, Service, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::{self, Element};
use super::{Filter, VERSION, filters, page};

/// Lists associations; by the filter `instance-id` those of an instance.
#[derive(Clone, Debug, Default)]
pub struct DescribeIamInstanceProfileAssociations {
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An instance profile on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IamInstanceProfileAssociation {
    /// `iip-assoc-..`.
    pub id: String,
    /// `i-..`.
    pub instance_id: String,
    /// The profile's ARN.
    pub profile_arn: Option<String>,
    /// `associating`, `associated`, `disassociating`, `disassociated`.
    pub state: String,
}

impl Call for DescribeIamInstanceProfileAssociations {
    type Answer = Page<IamInstanceProfileAssociation>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeIamInstanceProfileAssociations";

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeIamInstanceProfileAssociations", VERSION);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<IamInstanceProfileAssociation>, Unreadable> {
        page(reply, "iamInstanceProfileAssociationSet", association)
    }
}

paged!(DescribeIamInstanceProfileAssociations => IamInstanceProfileAssociation);

fn association(item: Element<'_, '_>) -> Result<IamInstanceProfileAssociation, Unreadable> {
    Ok(IamInstanceProfileAssociation {
        id: item.need_text("associationId")?,
        instance_id: item.need_text("instanceId")?,
        profile_arn: item.child("iamInstanceProfile").and_then(|profile| profile.text("arn")),
        state: item.text("state").unwrap_or_default(),
    })
}

/// Gives an instance that has none an instance profile.
#[derive(Clone, Debug)]
pub struct AssociateIamInstanceProfile {
    /// To whom.
    pub instance_id: String,
    /// The profile's name.
    pub profile_name: String,
}

impl Call for AssociateIamInstanceProfile {
    type Answer = IamInstanceProfileAssociation;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:AssociateIamInstanceProfile";

    fn resource(&self) -> Option<String> {
        Some(self.instance_id.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("AssociateIamInstanceProfile", VERSION);
        form.put("InstanceId", &self.instance_id);
        form.put("IamInstanceProfile.Name", &self.profile_name);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<IamInstanceProfileAssociation, Unreadable> {
        xml::read(&reply.body, |root| association(root.need("iamInstanceProfileAssociation")?))
    }
}
