//! Reads OpenSSH's authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). Pure.
//!
//! A line's user is its `environment="EPHEMWORK_USER=alice"`, else its comment up to the first `@` in lower case. A line
//! with a restriction that this daemon does not enforce is left out: taken, it would open more than its author meant.

use crate::name::User;

/// The variable of the `environment` option that names a line's user.
const VARIABLE: &str = "EPHEMWORK_USER";

/// The longest line, in bytes; OpenSSH's own limit is 8 KiB, and certificates are not taken here.
const MAX_LINE: usize = 8 * 1024;

/// The types of keys whose signatures the SSH server checks. RSA is absent on purpose: see "Security" in the README.
const TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Options that allow nothing and forbid nothing of what this daemon does (it has no shell, no agent, no X11).
const WITHOUT_EFFECT: [&str; 12] = [
    "agent-forwarding",
    "command",
    "environment",
    "no-agent-forwarding",
    "no-pty",
    "no-user-rc",
    "no-x11-forwarding",
    "permitopen",
    "port-forwarding",
    "pty",
    "user-rc",
    "x11-forwarding",
];

/// One line that may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub blob: Blob,
    pub user: User,
}

/// A public key as it goes over the wire (RFC 4253, section 6.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Blob(Vec<u8>);

impl Blob {
    /// Takes `ssh-ed25519 AAAA…`, with or without a comment behind it.
    pub(crate) fn parse(text: &str) -> Result<Blob, String> {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err("there is no key in it".to_owned());
        };
        if !TYPES.contains(&kind) {
            return Err(format!(
                "{kind:?} is not a type of key that is accepted; make one with ssh-keygen -t ed25519"
            ));
        }
        let blob = base64(encoded).ok_or("the key's base64 is damaged")?;
        // The blob begins with its own type, and an ed25519 key is that and 32 bytes; anything else is a cut or mixed up line.
        let name = blob.get(4..4 + kind.len());
        let whole = name == Some(kind.as_bytes()) && (kind != "ssh-ed25519" || blob.len() == 4 + kind.len() + 4 + 32);
        if whole {
            Ok(Blob(blob))
        } else {
            Err(format!("what stands behind {kind} is not such a key"))
        }
    }

    /// The bytes of the wire.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its type, with which its bytes begin: `ssh-ed25519`.
    pub(crate) fn kind(&self) -> &'static str {
        let fits = |kind: &&str| self.0.get(4..4 + kind.len()) == Some(kind.as_bytes());
        // None of them begins with another, and parsing took no other.
        TYPES.into_iter().find(fits).unwrap_or_default()
    }
}

/// Reads a file. The second part has one sentence for each line that was left out.
pub(crate) fn parse(text: &str) -> (Vec<Key>, Vec<String>) {
    lines(text, key)
}

/// Reads what a command printed that was asked for one user's keys: each line is that user's, unless its options name another.
pub(crate) fn printed(text: &str) -> (Vec<(Blob, Option<User>)>, Vec<String>) {
    lines(text, |line| {
        let (blob, named, _) = split(line)?;
        let named = named.map(|name| User::parse(&name));
        let named = named
            .transpose()
            .map_err(|why| format!("{VARIABLE} is not a user name: {why}"))?;
        Ok((blob, named))
    })
}

fn lines<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> (Vec<T>, Vec<String>) {
    let (mut keys, mut warnings) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r', '\u{feff}']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read(line) {
            Ok(key) => keys.push(key),
            Err(why) => warnings.push(format!("line {}: {why}", index + 1)),
        }
    }
    (keys, warnings)
}

/// A line's key, the user that its options name, and what stands behind the options.
fn split(line: &str) -> Result<(Blob, Option<String>, &str), String> {
    if line.len() > MAX_LINE {
        return Err(format!("it is longer than {MAX_LINE} bytes"));
    }
    let first = line.split_ascii_whitespace().next().unwrap_or_default();
    let begins_with_key = TYPES.contains(&first) || first == "ssh-rsa" || first == "ssh-dss";
    let (options, rest) = if begins_with_key { (Vec::new(), line) } else { options(line)? };
    let blob = Blob::parse(rest)?;
    let named = allowed(&options)?.map(str::to_owned);
    Ok((blob, named, rest))
}

fn key(line: &str) -> Result<Key, String> {
    let (blob, named, rest) = split(line)?;
    let user = match named {
        Some(name) => User::parse(&name).map_err(|why| format!("{VARIABLE}={name:?} is not a user name: {why}"))?,
        None => {
            let comment = rest.split_ascii_whitespace().nth(2).unwrap_or_default();
            let name = comment.split('@').next().unwrap_or_default().to_lowercase();
            User::parse(&name).map_err(|why| {
                format!("its comment {comment:?} names no user ({why}); write environment=\"{VARIABLE}=alice\" before the key")
            })?
        }
    };
    Ok(Key { blob, user })
}

/// Whether the options leave what this daemon does, and the user that they name.
fn allowed(options: &[(String, Option<String>)]) -> Result<Option<&str>, String> {
    let has = |name: &str| options.iter().any(|(option, _)| option == name);
    let mut user = None;
    for (name, value) in options {
        match name.as_str() {
            "environment" => {
                let value = value.as_deref().unwrap_or_default();
                // The first of several counts, as in sshd.
                user = user.or(value.strip_prefix(VARIABLE).and_then(|rest| rest.strip_prefix('=')));
            }
            "restrict" | "no-port-forwarding" if !has("port-forwarding") => {
                return Err(format!(
                    "{name} forbids forwarding, which is all that this key would be for; add port-forwarding"
                ));
            }
            "restrict" | "no-port-forwarding" => {}
            name if WITHOUT_EFFECT.contains(&name) => {}
            name => return Err(format!("the option {name} is not enforced here, so the line is left out")),
        }
    }
    Ok(user)
}

type Options = Vec<(String, Option<String>)>;

/// Splits `a,b="c,\"d\"" rest` into its options, names in lower case, and the rest.
fn options(line: &str) -> Result<(Options, &str), String> {
    let mut options = Vec::new();
    let mut rest = line;
    loop {
        let end = rest.find(['=', ',', ' ', '\t']).unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let mut value = None;
        if let Some(quoted) = rest.strip_prefix('=') {
            let inside = quoted
                .strip_prefix('"')
                .ok_or_else(|| format!("the value of the option {name} is not in quotes"))?;
            let (text, behind) = unquoted(inside).ok_or_else(|| format!("the quote of the option {name} never ends"))?;
            value = Some(text);
            rest = behind;
        }
        options.push((name, value));
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.starts_with([' ', '\t']) => return Ok((options, rest.trim_start())),
            None if rest.is_empty() => return Err("there is no key in it".to_owned()),
            None => return Err("there is something between an option's quote and the next comma or space".to_owned()),
        }
    }
}

/// The text up to the closing quote with `\"` resolved, and what stands behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if text[at + 1..].starts_with('"') => {
                characters.next();
                value.push('"');
            }
            c => value.push(c),
        }
    }
    None
}

/// RFC 4648, section 4, with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const EC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKIyVm6NDYxsqfOHPzFIxm5YlYYFoMjnOxuWf6NeJmVdQMhA8nRLWBRHAdjtHq3SPZx6TvDNOkTdvQ3RzYMDnbk=";

    #[test]
    fn lines() {
        let check = |line: &str, expected: Result<&str, &str>| {
            let (keys, warnings) = parse(line);
            match expected {
                Ok(user) => {
                    assert_eq!(warnings, Vec::<String>::new(), "{line:?}");
                    assert_eq!(keys.len(), 1, "{line:?}");
                    assert_eq!(keys[0].user.as_str(), user, "{line:?}");
                }
                Err(part) => {
                    assert_eq!(keys, [], "{line:?}");
                    assert!(
                        warnings.len() == 1 && warnings[0].starts_with("line 1: "),
                        "{line:?}: {warnings:?}"
                    );
                    assert!(warnings[0].contains(part), "{line:?}: {warnings:?}");
                }
            }
        };
        let cut = &ED[..ED.len() - 4];
        check("ssh-ed25519", Err("no key in it"));
        check("hello world again", Err("\"world\" is not a type"));
        check(
            "ssh-rsa AAAAB3NzaC1yc2E= alice@host",
            Err("\"ssh-rsa\" is not a type of key that is accepted"),
        );
        check("ssh-ed25519-cert-v01@openssh.com AAAA alice", Err("is not a type"));
        check(&format!("{cut} alice"), Err("is not such a key"));
        check("ssh-ed25519 AAAA* alice", Err("base64 is damaged"));
        check(
            &format!("{} alice", EC.replace("nistp256 ", "nistp384 ")),
            Err("is not such a key"),
        );
        check(ED, Err("names no user"));
        check(&format!("{ED} Ünï@host"), Err("names no user"));
        check(&format!("environment=\"EPHEMWORK_USER=Alice\" {ED} bob"), Err("upper case"));
        check(&format!("environment=\"EPHEMWORK_USER=alice {ED}"), Err("never ends"));
        check(&format!("environment=EPHEMWORK_USER=alice {ED}"), Err("not in quotes"));
        check(&format!("from=\"10.0.0.0/8\" {ED} alice"), Err("from is not enforced"));
        check(&format!("cert-authority {ED} alice"), Err("cert-authority is not enforced"));
        check(
            &format!("expiry-time=\"20300101\" {ED} alice"),
            Err("expiry-time is not enforced"),
        );
        check(&format!("restrict {ED} alice"), Err("add port-forwarding"));
        check(&format!("no-port-forwarding {ED} alice"), Err("add port-forwarding"));
        check(&format!("command=\"a\"x {ED} alice"), Err("something between"));
        check(&format!("{ED} {}", "a".repeat(9000)), Err("longer than 8192 bytes"));
        check(&format!("{ED} alice"), Ok("alice"));
        check(&format!("{ED} Alice@laptop made in 2026"), Ok("alice"));
        check(&format!("\u{feff}  {ED}\talice@a@b \r"), Ok("alice"));
        check(&format!("{EC} bob.c@x"), Ok("bob.c"));
        check(&format!("environment=\"EPHEMWORK_USER=alice\" {ED}"), Ok("alice"));
        check(
            &format!("Environment=\"A=b\",environment=\"EPHEMWORK_USER=alice\" {ED} bob@host"),
            Ok("alice"),
        );
        check(
            &format!("restrict,port-forwarding,command=\"echo \\\"a, b\\\"\" {ED} alice"),
            Ok("alice"),
        );
        check(&format!("no-pty,no-X11-forwarding {ED} alice"), Ok("alice"));
    }

    #[test]
    fn a_file_keeps_its_good_lines() {
        let text = format!("# team\n\n{ED} alice@a\nnonsense\n   # more\n{EC} bob\r\n");
        let (keys, warnings) = parse(&text);
        let users: Vec<&str> = keys.iter().map(|key| key.user.as_str()).collect();
        assert_eq!(users, ["alice", "bob"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("line 4: "), "{warnings:?}");
    }

    #[test]
    fn base64_of_rfc_4648() {
        let check = |text: &str, expected: Option<&[u8]>| assert_eq!(base64(text).as_deref(), expected, "{text:?}");
        check("Zg", None);
        check("Zg=", None);
        check("Z===", None);
        check("Zm9v\n", None);
        check("", Some(b""));
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9vYmFy", Some(b"foobar"));
        check("+/+/", Some(&[0xfb, 0xff, 0xbf]));
    }
}
