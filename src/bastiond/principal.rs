//! Who somebody is to AWS, as one text that stays the same over their sessions; and the patterns that speak of it. Pure.
//!
//! Source of the forms: IAM User Guide, "IAM identifiers" and "GetCallerIdentity" in the STS API reference.

use std::fmt;

use crate::name::User;

/// The longest ARN that is read, in bytes (IAM's own limit for an ARN).
const MAX_ARN: usize = 2048;

/// The longest principal, in bytes: a partition, an account, and twice the 64 characters that IAM gives a name.
const MAX_PRINCIPAL: usize = 256;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 512;

/// An IAM user, a session of a role, a federated user or an account's root user: its ARN without the path, which IAM leaves out of
/// some forms of the same ARN. A session of a role is the role and the session's name; Identity Center's roles keep the suffix
/// of their name, since a role without it could be made by whoever may make roles.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Principal(Box<str>);

impl Principal {
    /// Takes an ARN as STS and EC2 Instance Connect write it.
    ///
    /// # Errors
    /// A sentence about what it is instead.
    pub(crate) fn parse(arn: &str) -> Result<Principal, String> {
        if arn.len() > MAX_ARN {
            return Err(format!("it is longer than {MAX_ARN} bytes"));
        }
        if !arn.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that no ARN has".to_owned());
        }
        let parts: Vec<&str> = arn.split(':').collect();
        let &["arn", partition, service @ ("iam" | "sts"), "", account, resource] = parts.as_slice() else {
            return Err("it is not the ARN of an IAM identity".to_owned());
        };
        let numeric = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if !numeric || !partition.starts_with("aws") {
            return Err("it is not the ARN of an IAM identity".to_owned());
        }
        let pieces: Vec<&str> = resource.split('/').collect();
        if pieces.iter().any(|piece| piece.is_empty()) {
            return Err("it has an empty name in it".to_owned());
        }
        let short = match (service, pieces.as_slice()) {
            ("iam", ["root"]) => "root".to_owned(),
            ("iam", ["user", .., name]) => format!("user/{name}"),
            ("sts", ["federated-user", name]) => format!("federated-user/{name}"),
            ("sts", ["assumed-role", middle @ .., session]) if !middle.is_empty() => {
                format!("assumed-role/{}/{session}", middle.last().copied().unwrap_or_default())
            }
            ("iam" | "sts", ["role" | "assumed-role", ..]) => {
                return Err("it names a role without its session, which does not say who it is".to_owned());
            }
            _ => return Err("it is an ARN of a kind that says nothing about a person".to_owned()),
        };
        let text = format!("arn:{partition}:{service}::{account}:{short}");
        if text.len() > MAX_PRINCIPAL {
            return Err(format!("it is longer than {MAX_PRINCIPAL} bytes without its path"));
        }
        Ok(Principal(text.into()))
    }

    /// The ARN without its path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Principals: an ARN in which `*` stands for any characters, or none, except `/` and `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<str>);

impl Pattern {
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text.contains('{') {
            return Err(format!("{text:?} has a brace in it; only * stands for something here"));
        }
        shape(text)?;
        Ok(Pattern(text.into()))
    }

    pub(crate) fn matches(&self, principal: &Principal) -> bool {
        pairs(&self.0, principal).is_some_and(|mut pairs| pairs.all(|(pattern, piece)| glob(pattern, piece)))
    }
}

/// A [`Pattern`] with `{user}` once in it, which stands for the user's name: `arn:aws:sts::*:assumed-role/*/{user}@*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserPattern(Box<str>);

const HOLE: &str = "{user}";

impl UserPattern {
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<UserPattern, String> {
        if text.matches('{').count() != 1 || text.matches(HOLE).count() != 1 {
            return Err(format!(
                "{text:?} does not say once where the name stands; write {HOLE} there, as in arn:aws:sts::*:assumed-role/*/{HOLE}@*"
            ));
        }
        shape(text)?;
        Ok(UserPattern(text.into()))
    }

    /// The one name of this principal, in lower case; a sentence when there is none, or when it could be read in two ways.
    pub(crate) fn user(&self, principal: &Principal) -> Result<User, String> {
        let none = || format!("{principal} does not fit the pattern {}", self.0);
        let mut found: Option<User> = None;
        for (pattern, piece) in pairs(&self.0, principal).ok_or_else(none)? {
            let Some((before, behind)) = pattern.split_once(HOLE) else {
                if glob(pattern, piece) {
                    continue;
                }
                return Err(none());
            };
            for user in readings(before, behind, piece) {
                match &found {
                    Some(other) if *other != user => {
                        return Err(format!(
                            "{principal} can be read in more than one way by the pattern {}",
                            self.0
                        ));
                    }
                    _ => found = Some(user),
                }
            }
        }
        found.ok_or_else(none)
    }
}

/// Every name that can stand between two patterns in a piece of a principal. Pieces are short: [`MAX_PRINCIPAL`].
fn readings(before: &str, behind: &str, piece: &str) -> Vec<User> {
    let mut users = Vec::new();
    for start in 0..piece.len() {
        for end in start + 1..=piece.len() {
            let Ok(user) = User::parse(&piece[start..end].to_ascii_lowercase()) else {
                // What is not in the alphabet is in every longer reading too.
                break;
            };
            if !users.contains(&user) && glob(before, &piece[..start]) && glob(behind, &piece[end..]) {
                users.push(user);
            }
        }
    }
    users
}

fn shape(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN || !pattern.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{pattern:?} is not up to {MAX_PATTERN} printable characters without space"
        ));
    }
    if !pattern.starts_with("arn:") || pattern.split(':').count() != 6 {
        return Err(format!(
            "{pattern:?} is not a pattern of ARNs; write arn:aws:sts::123456789012:assumed-role/Admin/*"
        ));
    }
    Ok(())
}

/// The pieces between `:` and `/` side by side, when both have as many.
fn pairs<'a>(pattern: &'a str, principal: &'a Principal) -> Option<impl Iterator<Item = (&'a str, &'a str)>> {
    let (patterns, pieces) = (pattern.split([':', '/']), principal.0.split([':', '/']));
    (patterns.clone().count() == pieces.clone().count()).then(|| patterns.zip(pieces))
}

/// `*` stands for any characters or none. Linear in the text for each `*`: only the last one is ever tried again.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            p = behind;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(arn: &str) -> Principal {
        Principal::parse(arn).unwrap_or_else(|why| panic!("{arn}: {why}"))
    }

    #[test]
    fn one_identity_has_one_form() {
        let check = |arn: &str, expected: Result<&str, &str>| match (Principal::parse(arn), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_str(), expected, "{arn}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{arn}: {why}"),
            (found, _) => panic!("{arn}: {found:?}"),
        };
        let role = "arn:aws:sts::123456789012:assumed-role";
        check("", Err("not the ARN"));
        check("alice", Err("not the ARN"));
        check("arn:aws:s3:::bucket/user/x", Err("not the ARN"));
        check("arn:aws:iam:eu-west-1:123456789012:user/x", Err("not the ARN"));
        check("arn:aws:iam::12345678901:user/x", Err("not the ARN"));
        check("arn:aws:iam::123456789012:user/x\u{1b}[2J", Err("characters"));
        check("arn:aws:iam::123456789012:user/a b", Err("characters"));
        check("arn:aws:iam::123456789012:user/", Err("empty name"));
        check("arn:aws:iam::123456789012:user//x", Err("empty name"));
        check("arn:aws:iam::123456789012:role/dev", Err("without its session"));
        check(&format!("{role}/dev"), Err("without its session"));
        check("arn:aws:iam::123456789012:group/dev", Err("of a kind"));
        check("arn:aws:iam::123456789012:assumed-role/dev/alice", Err("without its session"));
        check(&format!("{role}/{}/alice", "r".repeat(300)), Err("longer"));
        check(&format!("{role}/{}", "r/".repeat(1100)), Err("longer"));
        check(
            &format!("{role}/dev/alice@acme.com"),
            Ok(&format!("{role}/dev/alice@acme.com")),
        );
        check(&format!("{role}/team/blue/dev/alice"), Ok(&format!("{role}/dev/alice")));
        let sso = "AWSReservedSSO_Developer_0123456789abcdef";
        check(
            &format!("{role}/aws-reserved/sso.amazonaws.com/eu-west-1/{sso}/alice@acme.com"),
            Ok(&format!("{role}/{sso}/alice@acme.com")),
        );
        check(
            "arn:aws-cn:iam::123456789012:user/team/alice",
            Ok("arn:aws-cn:iam::123456789012:user/alice"),
        );
        check(
            "arn:aws:sts::123456789012:federated-user/alice",
            Ok("arn:aws:sts::123456789012:federated-user/alice"),
        );
        check("arn:aws:iam::123456789012:root", Ok("arn:aws:iam::123456789012:root"));
    }

    #[test]
    fn patterns() {
        let alice = principal("arn:aws:sts::123456789012:assumed-role/Admin/alice@acme.com");
        let check = |pattern: &str, expected: bool| {
            let pattern = Pattern::parse(pattern).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(pattern.matches(&alice), expected, "{pattern:?}");
        };
        check("arn:aws:sts::123456789012:assumed-role/Admin", false);
        check("arn:aws:sts::123456789012:assumed-role/*", false);
        check("arn:aws:sts::123456789012:*", false);
        check("arn:aws:sts::123456789012:assumed-role/admin/*", false);
        check("arn:aws:sts::123456789012:assumed-role/Admin/alice", false);
        check("arn:aws:sts::123456789012:assumed-role/Admin/*@acme.co", false);
        check("arn:aws:sts::123456789012:assumed-role/Admin/alice@acme.com", true);
        check("arn:aws:sts::123456789012:assumed-role/Admin/*", true);
        check("arn:aws:sts::123456789012:assumed-role/*/*@acme.com", true);
        check("arn:*:*:*:*:*/*/*", true);
        for wrong in [
            "",
            "*",
            "Admin/*",
            "arn:aws:sts:*",
            "arn:aws:iam::1:user/{user}",
            "arn:aws:iam::1:user/a b",
        ] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_from_arns() {
        let check = |pattern: &str, arn: &str, expected: Result<&str, &str>| {
            let pattern = UserPattern::parse(pattern).unwrap_or_else(|why| panic!("{why}"));
            match (pattern.user(&principal(arn)), expected) {
                (Ok(user), Ok(expected)) => assert_eq!(user.as_str(), expected, "{arn}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{arn}: {why}"),
                (found, _) => panic!("{arn}: {found:?}"),
            }
        };
        let role = "arn:aws:sts::123456789012:assumed-role";
        let mail = "arn:aws:sts::*:assumed-role/*/{user}@*";
        check(mail, "arn:aws:iam::123456789012:user/alice", Err("does not fit"));
        check(mail, &format!("{role}/dev/alice"), Err("does not fit"));
        check(mail, &format!("{role}/dev/@acme.com"), Err("does not fit"));
        check(mail, &format!("{role}/dev/a+b@acme.com"), Err("does not fit"));
        check(mail, &format!("{role}/dev/alice@acme.com"), Ok("alice"));
        check(mail, &format!("{role}/dev/Alice.B@acme.com"), Ok("alice.b"));
        check(mail, &format!("{role}/dev/alice@bob@acme.com"), Ok("alice"));
        check(
            "arn:aws:iam::*:user/{user}",
            "arn:aws:iam::123456789012:user/alice",
            Ok("alice"),
        );
        // Whoever chooses the session's name would choose the reading.
        check(
            "arn:aws:sts::*:assumed-role/*/*{user}",
            &format!("{role}/dev/bob"),
            Err("more than one way"),
        );
        check(
            "arn:aws:sts::*:assumed-role/*/{user}-*",
            &format!("{role}/dev/a-b-c"),
            Err("more than one way"),
        );
        for wrong in [
            "arn:aws:iam::*:user/*",
            "{user}",
            "arn:aws:iam::*:{user}/{user}",
            "arn:aws:iam::*:user/{name}",
        ] {
            assert!(UserPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn globs() {
        let check = |pattern: &str, text: &str, expected: bool| assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        check("", "a", false);
        check("a", "", false);
        check("a*b", "acbc", false);
        check("*a*b*c", "abab", false);
        check("", "", true);
        check("**", "", true);
        check("a*", "a", true);
        check("*a*b", "xaxxbxb", true);
        check(&"*a".repeat(50), &"a".repeat(200), true);
        check(&format!("{}b", "*a".repeat(50)), &"a".repeat(200), false);
    }
}
