//! Who and what a request is for: [`User`], [`Service`] and the [`Tag`] made of both.
//!
//! Every name is parsed here once, at the door; inside the program a `User`, a `Service` or a `Tag` is right.
//! Nothing in this module reads a file, the environment or a clock.

use std::fmt;

/// The request header that carries a [`Tag`], in the lower case in which HTTP/2 writes it.
pub const HEADER: &str = "x-ephemwork";

/// The same header as people write it.
pub const HEADER_DISPLAY: &str = "X-Ephemwork";

/// The longest user or service name, in bytes. It is the longest label of a host name (63) plus one, so that
/// a name can never fill the bounded request head, and fits the column of every table that prints it.
pub const MAX_LEN: usize = 64;

/// Who a tunnel belongs to, and the SSH user name: `[a-z0-9._-]`, 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(Box<str>);

/// A `[service.NAME]` of ephemwork.toml: `[A-Za-z0-9._-]`, 1 to 64 bytes; case is kept and matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service(Box<str>);

/// `user:service`, the value of [`HEADER`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Whose laptop.
    pub user: User,
    /// Which service on it.
    pub service: Service,
}

/// Why a text is not a name or a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadName {
    /// There is no character at all.
    Empty,
    /// More than [`MAX_LEN`] bytes; the number is how many there were.
    TooLong(usize),
    /// A character outside the alphabet, and where it stands (counted in characters from 1).
    Character(char, usize),
    /// An upper-case letter in a user name, and where it stands (counted in characters from 1).
    UpperCase(char, usize),
}

/// Why a text is not a [`Tag`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTag {
    /// There is no `:` between user and service.
    NoColon,
    /// The part before the colon.
    User(BadName),
    /// The part after the colon.
    Service(BadName),
}

impl User {
    /// Takes a user name exactly as it is; nothing is trimmed or lower-cased.
    pub fn parse(text: &str) -> Result<User, BadName> {
        check(text, |c| c.is_ascii_lowercase())?;
        Ok(User(text.into()))
    }

    /// The name as it is written in tags and SSH.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Service {
    /// Takes a service name exactly as it is.
    pub fn parse(text: &str) -> Result<Service, BadName> {
        check(text, |c| c.is_ascii_alphabetic())?;
        Ok(Service(text.into()))
    }

    /// The name as it is written in tags and in ephemwork.toml.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// Takes the value of [`HEADER`]: `user:service`, with the white space around it that HTTP allows
    /// (RFC 9110, section 5.5) already taken off.
    pub fn parse(text: &str) -> Result<Tag, BadTag> {
        let (user, service) = text.split_once(':').ok_or(BadTag::NoColon)?;
        Ok(Tag {
            user: User::parse(user).map_err(BadTag::User)?,
            service: Service::parse(service).map_err(BadTag::Service)?,
        })
    }

    /// The tag of one user's service.
    pub fn new(user: User, service: Service) -> Tag {
        Tag { user, service }
    }
}

/// `letter` is the rule in which users and services differ; digits and `._-` are common to both.
fn check(text: &str, letter: fn(char) -> bool) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > MAX_LEN {
        return Err(BadName::TooLong(text.len()));
    }
    for (index, c) in text.chars().enumerate() {
        if letter(c) || c.is_ascii_digit() || matches!(c, '.' | '_' | '-') {
            continue;
        }
        return Err(if c.is_ascii_uppercase() {
            BadName::UpperCase(c, index + 1)
        } else {
            BadName::Character(c, index + 1)
        });
    }
    Ok(())
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.service)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => write!(f, "it is empty; use letters, digits, '.', '_' or '-'"),
            BadName::TooLong(len) => write!(f, "it is {len} bytes long; at most {MAX_LEN} are allowed"),
            BadName::Character(c, at) => {
                write!(
                    f,
                    "{c:?} at position {at} is not allowed; use letters, digits, '.', '_' or '-'"
                )
            }
            BadName::UpperCase(c, at) => {
                write!(f, "{c:?} at position {at} is upper case; a user name is lower case")
            }
        }
    }
}

impl fmt::Display for BadTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadTag::NoColon => write!(f, "there is no ':' in it; write user:service"),
            BadTag::User(why) => write!(f, "the user before ':' is wrong: {why}"),
            BadTag::Service(why) => write!(f, "the service after ':' is wrong: {why}"),
        }
    }
}

impl std::error::Error for BadName {}
impl std::error::Error for BadTag {}

impl serde::Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Tag::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        use BadName::*;
        let check = |text: &str, expected: Result<&str, BadTag>| {
            let found = Tag::parse(text).map(|tag| tag.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        };
        check("api", Err(BadTag::NoColon));
        check("", Err(BadTag::NoColon));
        check(":", Err(BadTag::User(Empty)));
        check("alice:", Err(BadTag::Service(Empty)));
        check("Alice:api", Err(BadTag::User(UpperCase('A', 1))));
        check("alice:a:b", Err(BadTag::Service(Character(':', 2))));
        check("alice: api", Err(BadTag::Service(Character(' ', 1))));
        check("alicé:api", Err(BadTag::User(Character('é', 5))));
        check("alice:api\u{0}", Err(BadTag::Service(Character('\u{0}', 4))));
        check(&format!("{}:api", "a".repeat(65)), Err(BadTag::User(TooLong(65))));
        check("alice:api", Ok("alice:api"));
        check("a.b_c-9:Front-End.2", Ok("a.b_c-9:Front-End.2"));
        check(&format!("{}:x", "a".repeat(64)), Ok(&format!("{}:x", "a".repeat(64))));
    }
}
