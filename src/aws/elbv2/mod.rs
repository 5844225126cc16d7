//! Elastic Load Balancing v2: load balancers, listeners, rules, target groups.

mod balancers;
mod rules;
mod targets;

pub use balancers::{
    AddTags, DescribeListeners, DescribeLoadBalancers, DescribeTags, Listener, LoadBalancer, LoadBalancers, Tagged,
};
pub use rules::{Action, Condition, CreateRule, DeleteRule, DescribeRules, ModifyRule, Rule, SetRulePriorities};
pub use targets::{
    CreateTargetGroup, DeleteTargetGroup, DeregisterTargets, DescribeTargetGroupAttributes, DescribeTargetGroups,
    DescribeTargetHealth, HealthCheck, ModifyTargetGroup, ModifyTargetGroupAttributes, RegisterTargets, Target, TargetGroup,
    TargetHealth,
};

use super::call::{Page, Reply, Tags, Unreadable};
use super::xml::{self, Element};

const VERSION: &str = "2015-12-01";

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
        Ok(Page {
            items: all(result, list, read)?,
            next: result.text("NextMarker"),
        })
    })
}

fn all<T>(
    element: Element<'_, '_>,
    list: &str,
    read: impl Fn(Element<'_, '_>) -> Result<T, Unreadable>,
) -> Result<Vec<T>, Unreadable> {
    element.list(list, "member").map(read).collect()
}

/// The texts of a list's members.
fn texts(element: Element<'_, '_>, list: &str) -> Vec<String> {
    element.list(list, "member").filter_map(Element::own_text).collect()
}

fn tags(element: Element<'_, '_>) -> Tags {
    let list = element.list("Tags", "member");
    list.filter_map(|tag| Some((tag.text("Key")?, tag.text("Value").unwrap_or_default())))
        .collect()
}

#[cfg(test)]
mod tests;
