//! Instance profiles: how a role comes to an instance.

use super::super::call::{Ask, Call, Reply, Service, Tags, Unreadable};
use super::super::query::Form;
use super::super::xml::Element;
use super::{VERSION, done, plain, result, tags};

/// Asks for an instance profile.
#[derive(Clone, Debug)]
pub struct GetInstanceProfile {
    /// Which.
    pub name: String,
}

/// An instance profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProfile {
    /// Its name.
    pub name: String,
    /// `arn:aws:iam::123456789012:instance-profile/..`.
    pub arn: String,
    /// The names of the roles in it: one or none.
    pub roles: Vec<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for GetInstanceProfile {
    type Answer = InstanceProfile;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:GetInstanceProfile";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("GetInstanceProfile", VERSION);
        form.put("InstanceProfileName", &self.name);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<InstanceProfile, Unreadable> {
        result(reply, "GetInstanceProfile", |result| profile(result.need("InstanceProfile")?))
    }
}

fn profile(element: Element<'_, '_>) -> Result<InstanceProfile, Unreadable> {
    Ok(InstanceProfile {
        name: element.need_text("InstanceProfileName")?,
        arn: element.need_text("Arn")?,
        roles: element
            .list("Roles", "member")
            .filter_map(|role| role.text("RoleName"))
            .collect(),
        tags: tags(element),
    })
}

/// Makes an instance profile without a role. A second one of the name is refused (`EntityAlreadyExists`). EC2 sees it some
/// seconds later.
#[derive(Clone, Debug)]
pub struct CreateInstanceProfile {
    /// Its name, at most 128 characters.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateInstanceProfile {
    type Answer = InstanceProfile;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:CreateInstanceProfile";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateInstanceProfile", VERSION);
        form.put("InstanceProfileName", &self.name);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<InstanceProfile, Unreadable> {
        result(reply, "CreateInstanceProfile", |result| {
            profile(result.need("InstanceProfile")?)
        })
    }
}

plain! {
    /// Removes an instance profile without a role (else `DeleteConflict`). One that an instance has is removed all the same.
    DeleteInstanceProfile {
        /// Which.
        name: "InstanceProfileName",
    }

    /// Puts a role into an instance profile that has none (else `LimitExceeded`).
    AddRoleToInstanceProfile {
        /// Which profile.
        profile: "InstanceProfileName",
        /// Which role.
        role: "RoleName",
    }

    /// Takes a role out of an instance profile.
    RemoveRoleFromInstanceProfile {
        /// Which profile.
        profile: "InstanceProfileName",
        /// Which role.
        role: "RoleName",
    }
}

/// Adds tags to an instance profile, or changes their values.
#[derive(Clone, Debug)]
pub struct TagInstanceProfile {
    /// Which.
    pub name: String,
    /// The tags.
    pub tags: Tags,
}

impl Call for TagInstanceProfile {
    type Answer = ();
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:TagInstanceProfile";

    fn resource(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("TagInstanceProfile", VERSION);
        form.put("InstanceProfileName", &self.name);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}
