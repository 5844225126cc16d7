//! The rules of security groups, each with an id and tags of its own.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::{self, Element};
use super::{Filter, VERSION, done, filters, page, tag_specification, tags};

/// Which way a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Lists rules; by the filter `group-id` those of a group.
#[derive(Clone, Debug, Default)]
pub struct DescribeSecurityGroupRules {
    /// These; an id that is not there is an error.
    pub ids: Vec<String>,
    /// Those that fit all of these.
    pub filters: Vec<Filter>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A rule. Exactly one of the four peers is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// `sgr-..`.
    pub id: String,
    /// Whose rule it is.
    pub group_id: String,
    /// Which way it is for.
    pub direction: Direction,
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for everything.
    pub protocol: String,
    /// The first port; `None` or -1 for all.
    pub from_port: Option<i32>,
    /// The last port.
    pub to_port: Option<i32>,
    /// The group on the other side.
    pub peer_group: Option<String>,
    /// The IPv4 range on the other side.
    pub cidr_v4: Option<String>,
    /// The IPv6 range on the other side.
    pub cidr_v6: Option<String>,
    /// The prefix list on the other side.
    pub prefix_list: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Call for DescribeSecurityGroupRules {
    type Answer = Page<SecurityGroupRule>;
    const SERVICE: Service = Service::Ec2;
    const ACTION: &'static str = "ec2:DescribeSecurityGroupRules";

    fn resource(&self) -> Option<String> {
        self.ids.first().cloned()
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeSecurityGroupRules", VERSION);
        form.list("SecurityGroupRuleId", &self.ids);
        filters(&mut form, &self.filters);
        form.put_some("NextToken", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<SecurityGroupRule>, Unreadable> {
        page(reply, "securityGroupRuleSet", rule)
    }
}

paged!(DescribeSecurityGroupRules => SecurityGroupRule);

fn rule(item: Element<'_, '_>) -> Result<SecurityGroupRule, Unreadable> {
    Ok(SecurityGroupRule {
        id: item.need_text("securityGroupRuleId")?,
        group_id: item.need_text("groupId")?,
        direction: if item.parsed("isEgress")?.unwrap_or_default() {
            Direction::Egress
        } else {
            Direction::Ingress
        },
        protocol: item.text("ipProtocol").unwrap_or_default(),
        from_port: item.parsed("fromPort")?,
        to_port: item.parsed("toPort")?,
        peer_group: item.child("referencedGroupInfo").and_then(|group| group.text("groupId")),
        cidr_v4: item.text("cidrIpv4"),
        cidr_v6: item.text("cidrIpv6"),
        prefix_list: item.text("prefixListId"),
        description: item.text("description"),
        tags: tags(item),
    })
}

/// One TCP port, open to or from one group or IPv4 range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The port.
    pub port: u16,
    /// The group on the other side.
    pub peer_group: Option<String>,
    /// The IPv4 range on the other side.
    pub cidr_v4: Option<String>,
    /// What it is for, at most 255 characters.
    pub description: String,
}

/// The same rule a second time is refused (`InvalidPermission.Duplicate`), whatever its description.
fn authorize(action: &str, group_id: &str, permission: &Permission, rule_tags: &Tags) -> Ask {
    let mut form = Form::new(action, VERSION);
    form.put("GroupId", group_id);
    form.put("IpPermissions.1.IpProtocol", "tcp");
    form.put("IpPermissions.1.FromPort", permission.port.to_string());
    form.put("IpPermissions.1.ToPort", permission.port.to_string());
    if let Some(group) = &permission.peer_group {
        form.put("IpPermissions.1.Groups.1.GroupId", group);
        form.put("IpPermissions.1.Groups.1.Description", &permission.description);
    }
    if let Some(range) = &permission.cidr_v4 {
        form.put("IpPermissions.1.IpRanges.1.CidrIp", range);
        form.put("IpPermissions.1.IpRanges.1.Description", &permission.description);
    }
    tag_specification(&mut form, 1, "security-group-rule", rule_tags);
    form.ask()
}

macro_rules! authorizes {
    ($($(#[$doc:meta])* $name:ident => $action:literal,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Whose rule it becomes.
            pub group_id: String,
            /// What is allowed.
            pub permission: Permission,
            /// The rule's tags.
            pub tags: Tags,
        }

        impl Call for $name {
            /// The ids of the new rules.
            type Answer = Vec<String>;
            const SERVICE: Service = Service::Ec2;
            const ACTION: &'static str = concat!("ec2:", $action);

            fn resource(&self) -> Option<String> {
                Some(self.group_id.clone())
            }

            fn request(&self) -> Ask {
                authorize($action, &self.group_id, &self.permission, &self.tags)
            }

            fn answer(reply: &Reply) -> Result<Vec<String>, Unreadable> {
                xml::read(&reply.body, |root| {
                    let rules = root.list("securityGroupRuleSet", "item");
                    Ok(rules.filter_map(|rule| rule.text("securityGroupRuleId")).collect())
                })
            }
        }
    )+};
}

authorizes! {
    /// Lets something in.
    AuthorizeSecurityGroupIngress => "AuthorizeSecurityGroupIngress",
    /// Lets something out.
    AuthorizeSecurityGroupEgress => "AuthorizeSecurityGroupEgress",
}

macro_rules! revokes {
    ($($(#[$doc:meta])* $name:ident => $action:literal,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Whose rules they are.
            pub group_id: String,
            /// Which.
            pub rule_ids: Vec<String>,
        }

        impl Call for $name {
            type Answer = ();
            const SERVICE: Service = Service::Ec2;
            const ACTION: &'static str = concat!("ec2:", $action);

            fn resource(&self) -> Option<String> {
                Some(self.group_id.clone())
            }

            fn request(&self) -> Ask {
                let mut form = Form::new($action, VERSION);
                form.put("GroupId", &self.group_id);
                form.list("SecurityGroupRuleId", &self.rule_ids);
                form.ask()
            }

            fn answer(reply: &Reply) -> Result<(), Unreadable> {
                done(reply)
            }
        }
    )+};
}

revokes! {
    /// Removes rules for what comes in.
    RevokeSecurityGroupIngress => "RevokeSecurityGroupIngress",
    /// Removes rules for what goes out.
    RevokeSecurityGroupEgress => "RevokeSecurityGroupEgress",
}
