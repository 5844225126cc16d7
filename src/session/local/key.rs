//! The laptop's own key, made without a question.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::trouble;
use crate::error::{Error, Exit, Result};
use crate::session::home::Home;
use crate::tunnel::ClientKey;

/// The laptop's own key; made when there is none.
pub(super) fn laptop_key(home: &Home) -> Result<ClientKey> {
    let path = home.key();
    loop {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let key = ClientKey::from_openssh(&text);
                return key.map_err(|why| no_key(&path, &why.why.unwrap_or(why.what)));
            }
            Err(why) if why.kind() == ErrorKind::InvalidData => return Err(no_key(&path, &why)),
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(trouble(&path, &why)),
            Err(_) => {}
        }
        let (_, private, public) = ClientKey::generate()?;
        let own = path.with_extension(format!("{}.new", std::process::id()));
        write_private(&own, &private).map_err(|why| trouble(&own, &why))?;
        // A link does not replace: of two that make a key at once the first counts for both.
        let linked = std::fs::hard_link(&own, &path);
        std::fs::remove_file(&own).ok();
        match linked {
            Ok(()) => write_private(&path.with_extension("pub"), &format!("{public}\n")).map_err(|why| trouble(&path, &why))?,
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
            Err(why) => return Err(trouble(&path, &why)),
        }
    }
}

fn no_key(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(Exit::Config, format!("{} is not a key", path.display()))
        .because(why)
        .hint(format!("a new one is made when it is gone: rm {}", path.display()))
}

/// Replaces a file as a whole; only its owner may read it.
pub(in crate::session) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)
}
