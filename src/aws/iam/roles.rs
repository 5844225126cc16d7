//! Roles.

use super::super::call::{Ask, Call, Reply, Service, Tags, Unreadable};
use super::super::query::Form;
use super::super::xml::Element;
use super::{VERSION, document, done, plain, result, tags};

/// Asks for a role.
#[derive(Clone, Debug)]
pub struct GetRole {
    /// Which.
    pub name: String,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `arn:aws:iam::123456789012:role/..`.
    pub arn: String,
    /// Its id, which no other role ever has: `AROA..`.
    pub id: String,
    /// Who may take it, as JSON.
    pub trust: String,
    /// Its tags.
    pub tags: Tags,
}

impl Call for GetRole {
    type Answer = Role;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:GetRole";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("GetRole", VERSION);
        form.put("RoleName", &self.name);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Role, Unreadable> {
        result(reply, "GetRole", |result| role(result.need("Role")?))
    }
}

pub(super) fn role(element: Element<'_, '_>) -> Result<Role, Unreadable> {
    Ok(Role {
        name: element.need_text("RoleName")?,
        arn: element.need_text("Arn")?,
        id: element.need_text("RoleId")?,
        trust: document(element, "AssumeRolePolicyDocument")?,
        tags: tags(element),
    })
}

/// Makes a role. A second one of the name is refused (`EntityAlreadyExists`). Others see it some seconds later.
#[derive(Clone, Debug)]
pub struct CreateRole {
    /// Its name, at most 64 characters.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Who may take it, as JSON.
    pub trust: String,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateRole {
    type Answer = Role;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:CreateRole";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateRole", VERSION);
        form.put("RoleName", &self.name);
        form.put("Description", &self.description);
        form.put("AssumeRolePolicyDocument", &self.trust);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Role, Unreadable> {
        result(reply, "CreateRole", |result| role(result.need("Role")?))
    }
}

plain! {
    /// Removes a role, from which everything has been detached (else `DeleteConflict`).
    DeleteRole {
        /// Which.
        name: "RoleName",
    }

    /// Changes who may take a role.
    UpdateAssumeRolePolicy {
        /// Which role.
        name: "RoleName",
        /// Who may take it, as JSON.
        trust: "PolicyDocument",
    }
}

/// Adds tags to a role, or changes their values.
#[derive(Clone, Debug)]
pub struct TagRole {
    /// Which.
    pub name: String,
    /// The tags.
    pub tags: Tags,
}

impl Call for TagRole {
    type Answer = ();
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:TagRole";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("TagRole", VERSION);
        form.put("RoleName", &self.name);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}
