//! IAM: roles, their policies, instance profiles, and what a caller may.

mod policies;
mod profiles;
mod roles;
mod simulate;

pub use policies::{
    AttachRolePolicy, AttachedPolicy, DeleteRolePolicy, DetachRolePolicy, GetRolePolicy, ListAttachedRolePolicies,
    ListRolePolicies, PutRolePolicy,
};
pub use profiles::{
    AddRoleToInstanceProfile, CreateInstanceProfile, DeleteInstanceProfile, GetInstanceProfile, InstanceProfile,
    RemoveRoleFromInstanceProfile, TagInstanceProfile,
};
pub use roles::{CreateRole, DeleteRole, GetRole, Role, TagRole, UpdateAssumeRolePolicy};
pub use simulate::{Decision, SimulatePrincipalPolicy, Verdict};

use super::call::{Page, Reply, Tags, Unreadable};
use super::xml::{self, Element};

const VERSION: &str = "2010-05-08";

/// The policy by which the SSM agent of an instance does its work, without the partition: `arn:<partition>:iam::aws:policy/..`.
pub const SSM_CORE: &str = "AmazonSSMManagedInstanceCore";

/// Calls whose parameters are texts, whose answer says no more than that it was done, and which act on their first parameter.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $parameter:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: String,)+
        }

        impl $crate::aws::Call for $name {
            type Answer = ();
            const SERVICE: $crate::aws::Service = $crate::aws::Service::Iam;
            const ACTION: &'static str = concat!("iam:", stringify!($name));

            fn resource(&self) -> Option<String> {
                [$(&self.$field),+].first().map(|first| (*first).clone())
            }

            fn request(&self) -> $crate::aws::Ask {
                let mut form = $crate::aws::query::Form::new(stringify!($name), super::VERSION);
                $(form.put($parameter, &self.$field);)+
                form.ask()
            }

            fn answer(reply: &$crate::aws::Reply) -> Result<(), $crate::aws::Unreadable> {
                super::done(reply)
            }
        }
    )+};
}

use plain;

/// What stands in `<{action}Result>`.
fn result<T>(reply: &Reply, action: &str, read: impl FnOnce(Element<'_, '_>) -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    xml::read(&reply.body, |root| read(root.need(&format!("{action}Result"))?))
}

/// An answer that says no more than that it was done. One that is cut is none.
fn done(reply: &Reply) -> Result<(), Unreadable> {
    xml::read(&reply.body, |_| Ok(()))
}

/// A page of `list`.
fn page<T>(
    reply: &Reply,
    action: &str,
    list: &str,
    read: impl Fn(Element<'_, '_>) -> Result<T, Unreadable>,
) -> Result<Page<T>, Unreadable> {
    result(reply, action, |result| {
        let truncated = result.parsed("IsTruncated")?.unwrap_or_default();
        Ok(Page {
            items: result
                .list(list, "member")
                .map(read)
                .collect::<Result<Vec<T>, Unreadable>>()?,
            next: if truncated { result.text("Marker") } else { None },
        })
    })
}

fn tags(element: Element<'_, '_>) -> Tags {
    let list = element.list("Tags", "member");
    list.filter_map(|tag| Some((tag.text("Key")?, tag.text("Value").unwrap_or_default())))
        .collect()
}

/// Policies stand in answers percent-encoded (RFC 3986).
fn document(element: Element<'_, '_>, name: &str) -> Result<String, Unreadable> {
    super::query::decoded(&element.need_text(name)?).ok_or_else(|| Unreadable(format!("<{name}> is not UTF-8")))
}

#[cfg(test)]
mod tests;
