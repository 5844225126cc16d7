//! Which key may log in as which user: by a file, whose line says whose the key is; by a command; by EC2 Instance Connect.

pub(crate) mod blocks;
pub(crate) mod command;
pub(crate) mod eic;
pub(crate) mod imds;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::bastiond::authorize::command::Runner;
use crate::bastiond::authorize::eic::{InstanceConnect, Sent};
use crate::bastiond::keys::{self, Blob};
use crate::bastiond::settings::{Access, Settings};
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

/// What may let a key in besides the file.
pub(crate) struct Sources {
    eic: Option<InstanceConnect>,
    command: Option<Runner>,
}

/// Why a key is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The file or the command says that it is the user's.
    Listed,
    /// EC2 Instance Connect says who sent it; the name may still be another's.
    Sent(Sent),
}

impl Sources {
    pub(crate) fn new(access: &Access) -> Sources {
        Sources {
            eic: access
                .eic
                .as_ref()
                .map(|eic| InstanceConnect::new(eic.imds.clone(), eic.roots.clone())),
            command: access.command.clone().map(Runner::new),
        }
    }

    /// Whether any source lets this key in as `user`; `Err` has a sentence of each that was asked, none when there is none.
    pub(crate) async fn admit(&self, user: &User, key: &Blob, clock: fn() -> u64) -> std::result::Result<Admitted, String> {
        let mut why = Vec::new();
        if let Some(command) = &self.command {
            match command.allows(user, key).await {
                Ok(()) => return Ok(Admitted::Listed),
                Err(reason) => why.push(reason),
            }
        }
        if let Some(eic) = &self.eic {
            match eic.sender(user, key, clock).await {
                Ok(sent) => return Ok(Admitted::Sent(sent)),
                Err(reason) => why.push(reason),
            }
        }
        Err(why.join("; "))
    }
}

impl Authorized {
    /// Reads the file that the settings mean, if they mean one.
    ///
    /// # Errors
    /// It was asked for by name and cannot be read.
    pub(crate) fn of(settings: &Settings) -> Result<Loaded> {
        let (tunables, access) = (&settings.tunables, &settings.access);
        let others = access.eic.is_some() || access.command.is_some();
        if others && !tunables.authorized_keys_given {
            return Ok(Loaded {
                authorized: Authorized::default(),
                warnings: Vec::new(),
            });
        }
        Authorized::load(&tunables.authorized_keys, tunables.authorized_keys_given)
    }

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

    /// Whether `key` is one of `user`'s.
    pub(crate) fn allows(&self, key: &Blob, user: &User) -> bool {
        self.users.get(key).is_some_and(|users| users.contains(user))
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
            let allowed = Blob::parse(key).is_ok_and(|blob| authorized.allows(&blob, &User::parse(user).unwrap()));
            assert_eq!(allowed, expected, "{user} {key}");
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
