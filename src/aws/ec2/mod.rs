//! EC2: instances and what surrounds them. One file a kind of thing; here what they share.

mod endpoints;
mod groups;
mod images;
mod instances;
mod network;
mod profiles;
mod rules;
mod run;

pub use endpoints::{
    CreateInstanceConnectEndpoint, DeleteInstanceConnectEndpoint, DescribeInstanceConnectEndpoints, InstanceConnectEndpoint,
};
pub use groups::{CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups, SecurityGroup};
pub use images::{DescribeImages, DescribeInstanceTypes, DescribeVolumes, Image, InstanceType, Volume};
pub use instances::{
    ConsoleOutput, DescribeInstanceAttribute, DescribeInstances, GetConsoleOutput, Instance, InstanceState, MetadataOptions,
    ModifyInstanceMetadataOptions, StartInstances, StopInstances, TerminateInstances,
};
pub use network::{CreateTags, DescribeNetworkInterfaces, DescribeSubnets, DescribeVpcs, NetworkInterface, Subnet, Vpc};
pub use profiles::{AssociateIamInstanceProfile, DescribeIamInstanceProfileAssociations, IamInstanceProfileAssociation};
pub use rules::{
    AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupIngress, DescribeSecurityGroupRules, Direction, Permission,
    RevokeSecurityGroupEgress, RevokeSecurityGroupIngress, SecurityGroupRule,
};
pub use run::{BlockDevice, RunInstances};

use std::time::SystemTime;

use super::call::{Page, Reply, Tags, Unreadable};
use super::query::Form;
use super::xml::{self, Element};

const VERSION: &str = "2016-11-15";

/// Narrows a list: any of the values. Names as EC2 writes them: `tag:ephemwork:project`, `vpc-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What is looked at.
    pub name: String,
    /// What it may be; `*` and `?` stand for other characters.
    pub values: Vec<String>,
}

impl Filter {
    /// By one value.
    pub fn of(name: impl Into<String>, value: impl Into<String>) -> Filter {
        Filter {
            name: name.into(),
            values: vec![value.into()],
        }
    }

    /// By a tag's value.
    pub fn tag(key: &str, value: impl Into<String>) -> Filter {
        Filter::of(format!("tag:{key}"), value)
    }
}

fn filters(form: &mut Form, filters: &[Filter]) {
    for (index, filter) in filters.iter().enumerate() {
        let name = format!("Filter.{}", index + 1);
        form.put(&format!("{name}.Name"), &filter.name);
        form.list(&format!("{name}.Value"), &filter.values);
    }
}

/// `TagSpecification.1`: the tags that a new thing has from its first moment.
fn tag_specification(form: &mut Form, index: usize, resource_type: &str, tags: &Tags) {
    if tags.is_empty() {
        return;
    }
    form.put(&format!("TagSpecification.{index}.ResourceType"), resource_type);
    form.tags(&format!("TagSpecification.{index}.Tag"), tags);
}

/// A page: `set` names the list, `read` reads an item.
fn page<T>(reply: &Reply, set: &str, read: impl Fn(Element<'_, '_>) -> Result<T, Unreadable>) -> Result<Page<T>, Unreadable> {
    xml::read(&reply.body, |root| {
        let items = root.list(set, "item").map(read).collect::<Result<Vec<T>, Unreadable>>()?;
        Ok(Page {
            items,
            next: root.text("nextToken"),
        })
    })
}

/// An answer that says no more than that it was done.
fn done(reply: &Reply) -> Result<(), Unreadable> {
    xml::read(&reply.body, |root| match root.text("return").as_deref() {
        Some("false") => Err(Unreadable("EC2 says that it did not do it, and not why".to_owned())),
        _ => Ok(()),
    })
}

fn tags(element: Element<'_, '_>) -> Tags {
    let set = element.list("tagSet", "item");
    set.filter_map(|tag| Some((tag.text("key")?, tag.text("value").unwrap_or_default())))
        .collect()
}

/// `2026-11-22T05:00:00.000Z`.
fn time(element: Element<'_, '_>, name: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(&element.text(name)?).ok()
}

/// The texts of a list's items.
fn texts(element: Element<'_, '_>, set: &str) -> Vec<String> {
    element.list(set, "item").filter_map(Element::own_text).collect()
}

#[cfg(test)]
mod tests;
