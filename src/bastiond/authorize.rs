//! Which key may log in as which user. A user may claim only their own name, and the key's line says whose it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::bastiond::keys::{self, Blob};
use crate::error::{Error, Exit, Result};
use crate::name::User;

/// The longest authorized_keys file, in bytes: some ten thousand keys.
const MAX_BYTES: u64 = 1 << 20;

/// The keys that may log in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorized {
    users: HashMap<Blob, Vec<User>>,
}

/// What [`Authorized::load`] found.
pub(crate) struct Loaded {
    pub authorized: Authorized,
    /// A sentence for each line that was left out.
    pub warnings: Vec<String>,
}

impl Authorized {
    /// Reads a file's text; the warnings are sentences that begin with the line's number.
    pub(crate) fn parse(text: &str) -> (Authorized, Vec<String>) {
        let (found, warnings) = keys::parse(text);
        let mut users: HashMap<Blob, Vec<User>> = HashMap::new();
        for key in found {
            let users = users.entry(key.blob).or_default();
            if !users.contains(&key.user) {
                users.push(key.user);
            }
        }
        (Authorized { users }, warnings)
    }

    /// Reads a file. Without one nobody may log in, which is an error only when the file was asked for (`given`).
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn load(file: &Path, given: bool) -> Result<Loaded> {
        let text = match read(file) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound && !given => {
                let warning = format!(
                    "there is no {}, so nobody can log in; make it and send SIGHUP",
                    file.display()
                );
                return Ok(Loaded {
                    authorized: Authorized::default(),
                    warnings: vec![warning],
                });
            }
            Err(why) => {
                return Err(Error::new(Exit::Config, format!("{} cannot be read", file.display()))
                    .because(why)
                    .hint("give --authorized-keys a file in the format of OpenSSH's authorized_keys"));
            }
        };
        let (authorized, warnings) = Authorized::parse(&text);
        let mut warnings: Vec<String> = warnings
            .iter()
            .map(|warning| format!("{}: {warning}", file.display()))
            .collect();
        if authorized.users.is_empty() {
            warnings.push(format!("{} has no usable key, so nobody can log in", file.display()));
        }
        Ok(Loaded { authorized, warnings })
    }

    /// Whether `key` (`ssh-ed25519 AAAA…`) is one of `user`'s.
    pub(crate) fn allows(&self, key: &str, user: &User) -> bool {
        let Ok(blob) = Blob::parse(key) else { return false };
        self.users.get(&blob).is_some_and(|users| users.contains(user))
    }

    /// Whether any key is `user`'s.
    pub(crate) fn knows(&self, user: &User) -> bool {
        self.users.values().any(|users| users.contains(user))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    // A comment in another encoding must not lock everybody out.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_is_its_users_only() {
        let text = format!("{ONE} alice@a\n{TWO} bob@b\nenvironment=\"EPHEMWORK_USER=ci\" {TWO} robot\n");
        let (authorized, warnings) = Authorized::parse(&text);
        assert_eq!(warnings, Vec::<String>::new());
        let check = |key: &str, user: &str, expected: bool| {
            assert_eq!(authorized.allows(key, &User::parse(user).unwrap()), expected, "{user} {key}");
        };
        check(ONE, "bob", false);
        check(ONE, "ci", false);
        check(TWO, "alice", false);
        check(TWO, "robot", false);
        check("", "alice", false);
        check("ssh-ed25519", "alice", false);
        check(&ONE.replace("ssh-ed25519", "ssh-rsa"), "alice", false);
        check(ONE, "alice", true);
        check(&format!("{ONE} any comment"), "alice", true);
        check(TWO, "bob", true);
        check(TWO, "ci", true);
    }

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        assert_eq!(
            Authorized::load(&file, true).err().map(|error| error.exit),
            Some(Exit::Config)
        );
        let absent = Authorized::load(&file, false).unwrap();
        assert!(absent.warnings[0].contains("nobody can log in"));
        std::fs::write(&file, format!("{ONE} alice\nbad\n")).unwrap();
        let found = Authorized::load(&file, true).unwrap();
        assert_eq!(found.authorized.len(), 1);
        assert!(found.warnings[0].contains("keys: line 2: "), "{:?}", found.warnings);
        std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        assert!(Authorized::load(&file, true).is_err());
    }
}
