//! How people log in, and what that makes of them.

use std::path::PathBuf;

use super::Texts;
use crate::bastiond::authorize::command::KeysCommand;
use crate::bastiond::authorize::imds::{self, Imds};
use crate::bastiond::principal::{Pattern, UserPattern};

/// Fixed while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// `--authorize eic`.
    pub eic: Option<Eic>,
    /// A program that prints keys.
    pub command: Option<KeysCommand>,
}

/// Keys that EC2 Instance Connect vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eic {
    pub imds: Imds,
    /// A PEM file; without one the system's roots count.
    pub roots: Option<PathBuf>,
    /// Callers who may list and release names.
    pub admins: Vec<Pattern>,
    /// Where an ARN has the one name that its caller may use; without it a name is the first caller's.
    pub user: Option<UserPattern>,
}

impl Texts {
    pub(super) fn access(&mut self) -> Access {
        let eic = self.one("authorize", |text, _| match text {
            "keys" => Ok(false),
            "eic" => Ok(true),
            _ => Err(format!("{text:?} is neither keys nor eic")),
        });
        let eic = eic.unwrap_or(false);
        if !eic {
            for key in ["imds", "roots", "admin", "user_from_arn"] {
                if let Some(given) = self.given.get(key) {
                    let mistake = format!("{}: it is for --authorize eic; give that too, or leave it out", given.place);
                    self.mistakes.push(mistake);
                }
            }
        }
        let imds = self.one("imds", |text, _| Imds::parse(text));
        let roots = self.path("roots");
        let admins = self.all("admin", |text, _| Pattern::parse(text));
        let user = self.one("user_from_arn", |text, _| UserPattern::parse(text));
        let command = self.one("authorized_keys_command", |text, _| KeysCommand::parse(text));
        let default = Imds::parse(imds::ENDPOINT).ok();
        Access {
            eic: imds.or(default).filter(|_| eic).map(|imds| Eic {
                imds,
                roots,
                admins,
                user,
            }),
            command,
        }
    }
}
