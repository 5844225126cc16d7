//! The policies of a role: those written into it, and those of AWS or the account that it points to.

use super::super::call::{Ask, Call, Page, Reply, Service, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::Element;
use super::{VERSION, document, page, plain, result};

/// Asks for a policy that is written into a role.
#[derive(Clone, Debug)]
pub struct GetRolePolicy {
    /// Whose.
    pub role: String,
    /// Which.
    pub policy: String,
}

impl Call for GetRolePolicy {
    /// The policy as JSON.
    type Answer = String;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:GetRolePolicy";

    fn resource(&self) -> Option<String> {
        Some(self.role.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("GetRolePolicy", VERSION);
        form.put("RoleName", &self.role);
        form.put("PolicyName", &self.policy);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<String, Unreadable> {
        result(reply, "GetRolePolicy", |result| document(result, "PolicyDocument"))
    }
}

/// Lists the names of the policies that are written into a role.
#[derive(Clone, Debug)]
pub struct ListRolePolicies {
    /// Whose.
    pub role: String,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

impl Call for ListRolePolicies {
    type Answer = Page<String>;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:ListRolePolicies";

    fn resource(&self) -> Option<String> {
        Some(self.role.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ListRolePolicies", VERSION);
        form.put("RoleName", &self.role);
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<String>, Unreadable> {
        page(reply, "ListRolePolicies", "PolicyNames", |member| {
            let name = Element::own_text(member);
            name.ok_or_else(|| Unreadable("a policy without a name".to_owned()))
        })
    }
}

paged!(ListRolePolicies => String);

/// Lists the policies that a role points to.
#[derive(Clone, Debug)]
pub struct ListAttachedRolePolicies {
    /// Whose.
    pub role: String,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A policy that a role points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedPolicy {
    /// `arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore`.
    pub arn: String,
    /// `AmazonSSMManagedInstanceCore`.
    pub name: String,
}

impl Call for ListAttachedRolePolicies {
    type Answer = Page<AttachedPolicy>;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:ListAttachedRolePolicies";

    fn resource(&self) -> Option<String> {
        Some(self.role.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ListAttachedRolePolicies", VERSION);
        form.put("RoleName", &self.role);
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<AttachedPolicy>, Unreadable> {
        page(reply, "ListAttachedRolePolicies", "AttachedPolicies", |member| {
            Ok(AttachedPolicy {
                arn: member.need_text("PolicyArn")?,
                name: member.text("PolicyName").unwrap_or_default(),
            })
        })
    }
}

paged!(ListAttachedRolePolicies => AttachedPolicy);

plain! {
    /// Writes a policy into a role, in place of one of the same name.
    PutRolePolicy {
        /// Whose.
        role: "RoleName",
        /// Its name, at most 128 characters.
        policy: "PolicyName",
        /// The policy as JSON; with all others of the role at most 10,240 characters without white space.
        document: "PolicyDocument",
    }

    /// Removes a policy that is written into a role.
    DeleteRolePolicy {
        /// Whose.
        role: "RoleName",
        /// Which.
        policy: "PolicyName",
    }

    /// Points a role to a policy; a second time is fine.
    AttachRolePolicy {
        /// Which role.
        role: "RoleName",
        /// The policy's ARN.
        policy_arn: "PolicyArn",
    }

    /// Ends that a role points to a policy.
    DetachRolePolicy {
        /// Which role.
        role: "RoleName",
        /// The policy's ARN.
        policy_arn: "PolicyArn",
    }
}
