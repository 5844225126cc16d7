//! What everything in the account is called, and how it is tagged. Two projects, or one project in two regions, never meet.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// The tag that names the project.
pub const PROJECT: &str = "ephemwork:project";
/// The tag that names the part; its only value is [`BASTION`].
pub const COMPONENT: &str = "ephemwork:component";
/// The value of [`COMPONENT`].
pub const BASTION: &str = "bastion";
/// The tag that names the program that made it, as many teams' inventories ask for.
pub const MANAGED_BY: &str = "ManagedBy";
/// The value of [`MANAGED_BY`].
pub const EPHEMWORK: &str = "ephemwork";
/// An instance's tag: what it was made from, as [`revision`] says it.
pub const REVISION: &str = "ephemwork:revision";
/// An instance's tag: the S3 URI of what it runs.
pub const BINARY: &str = "ephemwork:binary";
/// An instance's tag: the sha256 of what it runs.
pub const SHA256: &str = "ephemwork:sha256";

/// The longest name of an IAM role or instance profile is 64 and 128 characters ("IAM name requirements"); both have one name.
const MAX_ROLE: usize = 64;
/// The longest name of a target group (API reference of CreateTargetGroup).
const MAX_TARGET_GROUP: usize = 32;

/// The names of one project in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// As it stands in ephemwork.toml or follows from its directory.
    pub project: String,
    /// Shaped like `eu-west-1`.
    pub region: String,
    /// IAM role and instance profile; IAM knows no regions, so theirs is in the name.
    pub role: String,
    /// The inline policy of the role.
    pub policy: String,
    /// The bastion's security group, and the `Name` of the instance.
    pub bastion: String,
    /// The security group of the EC2 Instance Connect Endpoint that is made with `--eice`.
    pub endpoint: String,
    /// The target group.
    pub target_group: String,
}

impl Names {
    /// All names follow from these two.
    pub fn of(project: &str, region: &str) -> Names {
        let bastion = format!("ephemwork-{project}-bastion");
        Names {
            project: project.to_owned(),
            region: region.to_owned(),
            role: fit(&format!("{bastion}-{region}"), MAX_ROLE),
            policy: "ephemwork-bastion".to_owned(),
            endpoint: format!("{bastion}-eice"),
            target_group: fit(&bastion, MAX_TARGET_GROUP),
            bastion,
        }
    }

    /// What everything that is made is tagged with.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let tag = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        [
            (PROJECT, self.project.as_str()),
            (COMPONENT, BASTION),
            (MANAGED_BY, EPHEMWORK),
        ]
        .map(tag)
        .into()
    }

    /// Whether a thing with these tags is this project's.
    pub fn own(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(PROJECT) == Some(&self.project) && tags.get(COMPONENT).is_some_and(|component| component == BASTION)
    }

    /// Whose a thing with these tags is, when they say that it is not this project's. One without such tags may have lost them.
    pub fn foreign(&self, tags: &BTreeMap<String, String>) -> Option<String> {
        match (tags.get(PROJECT), tags.get(MANAGED_BY)) {
            (Some(project), _) if *project != self.project => Some(format!("belongs to the project {project:?}")),
            (None, Some(other)) if other != EPHEMWORK => Some(format!("is managed by {other:?}")),
            _ => None,
        }
    }

    /// Whether an SSM parameter is one that a bastion writes; others may keep theirs beside it.
    pub fn own_parameter(&self, name: &str) -> bool {
        name == self.host_key() || name.starts_with(&self.boot(""))
    }

    /// The path of all SSM parameters, without `/` at its end.
    pub fn parameters(&self) -> String {
        format!("/ephemwork/{}", self.project)
    }

    /// The parameter from which laptops learn the host key that they pin.
    pub fn host_key(&self) -> String {
        format!("{}/host-key", self.parameters())
    }

    /// The parameter in which an instance says how its boot went.
    pub fn boot(&self, instance: &str) -> String {
        format!("{}/boot/{instance}", self.parameters())
    }
}

/// A name of at most `limit` characters: one that is longer ends with eight digits of its hash instead.
fn fit(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(name));
    // Project names are ASCII.
    let kept: String = name.chars().take(limit - 9).collect();
    format!("{}-{}", kept.trim_end_matches('-'), &hash[..8])
}

/// A short name for what an instance is made of: equal contents, equal name.
pub fn revision(contents: &[&str]) -> String {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// Lower case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_their_limits() {
        let check = |project: &str, region: &str, role: &str, target_group: &str| {
            let names = Names::of(project, region);
            assert_eq!((names.role.as_str(), names.target_group.as_str()), (role, target_group));
            assert!(names.role.len() <= MAX_ROLE && names.target_group.len() <= MAX_TARGET_GROUP);
        };
        check(
            "shop",
            "eu-west-1",
            "ephemwork-shop-bastion-eu-west-1",
            "ephemwork-shop-bastion",
        );
        check(
            "a-project-of-twenty-2",
            "us-gov-west-1",
            "ephemwork-a-project-of-twenty-2-bastion-us-gov-west-1",
            "ephemwork-a-project-of-2e65d93a",
        );
        check(
            "abcdefghijklmnopqrstuvwxyz-01234",
            "ap-southeast-1",
            "ephemwork-abcdefghijklmnopqrstuvwxyz-01234-bastion-ap-s-c578703c",
            "ephemwork-abcdefghijklm-12fd1a0c",
        );
    }

    #[test]
    fn long_names_that_begin_alike_differ() {
        let one = Names::of("a-very-long-project-name-1", "eu-west-1");
        let two = Names::of("a-very-long-project-name-2", "eu-west-1");
        assert_ne!(one.target_group, two.target_group);
    }

    #[test]
    fn whose() {
        let names = Names::of("shop", "eu-west-1");
        let check = |tags: &[(&str, &str)], own: bool, foreign: Option<&str>| {
            let tags = tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            let found = (names.own(&tags), names.foreign(&tags));
            assert_eq!(found, (own, foreign.map(str::to_owned)), "{tags:?}");
        };
        check(&[], false, None);
        check(
            &[("Name", "x"), ("ManagedBy", "terraform")],
            false,
            Some("is managed by \"terraform\""),
        );
        check(
            &[(PROJECT, "shop2"), (COMPONENT, BASTION)],
            false,
            Some("belongs to the project \"shop2\""),
        );
        check(&[(MANAGED_BY, EPHEMWORK)], false, None);
        check(&[(PROJECT, "shop")], false, None);
        check(&[(PROJECT, "shop"), (COMPONENT, BASTION), (MANAGED_BY, "us")], true, None);
        assert!(names.own_parameter("/ephemwork/shop/host-key") && names.own_parameter("/ephemwork/shop/boot/i-1"));
        assert!(!names.own_parameter("/ephemwork/shop/database") && !names.own_parameter("/ephemwork/shop/host-key/x"));
    }

    #[test]
    fn revisions() {
        assert_eq!(revision(&["a", "b"]), revision(&["a", "b"]));
        assert_ne!(revision(&["a", "b"]), revision(&["ab"]));
        assert_ne!(revision(&["ab", ""]), revision(&["", "ab"]));
    }
}
