//! The daemon's identity: an ed25519 key in the state directory, made at the first start.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;

use crate::error::{Error, Exit, Result};
use crate::tunnel::ssh as common;

/// The daemon's identity.
pub(crate) struct HostKey(pub(super) PrivateKey);

impl HostKey {
    /// Reads `host_key` in the state directory, or makes it with mode 0600, and writes `host_key.pub` beside it.
    pub(crate) fn load_or_make(directory: &Path) -> Result<HostKey> {
        let path = directory.join("host_key");
        let failed = |why: &dyn fmt::Display| {
            Error::new(Exit::Config, format!("the host key {} cannot be used", path.display())).because(why)
        };
        let key = match fs::read_to_string(&path) {
            Ok(text) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|why| failed(&why))?;
                PrivateKey::from_openssh(&text)
                    .map_err(|why| failed(&why).hint("move it away, and a new one is made; laptops have to pin it again"))?
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let key = common::new_key("ephemwork-bastiond")?;
                let text = key.to_openssh(LineEnding::LF).map_err(|why| failed(&why))?;
                write_new(&path, text.as_bytes()).map_err(|why| failed(&why))?;
                key
            }
            Err(why) => return Err(failed(&why)),
        };
        let key = HostKey(key);
        fs::write(
            directory.join("host_key.pub"),
            format!("{} ephemwork-bastiond\n", key.public()),
        )
        .map_err(|why| failed(&why))?;
        Ok(key)
    }

    /// `ssh-ed25519 AAAA…`
    pub(crate) fn public(&self) -> String {
        common::public_line(self.0.public_key())
    }
}

/// Writes a secret so that it is there wholly or not at all, and never readable for others.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
