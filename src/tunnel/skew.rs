//! A laptop and a bastion of different versions, in words with the command that helps. Pure.

use crate::error::{Error, Exit};
use crate::protocol::Speaks;

/// What brings the bastion to this laptop's version.
const UPGRADE_BASTION: &str = "ephemwork bastion upgrade --live";

/// What brings this laptop to a version.
fn upgrade_laptop(version: &str) -> String {
    format!("in a checkout of ephemwork {version}: cargo install --path . --locked")
}

/// A refusal of the bastion because of the version, with the command; any other as it is. `theirs` is what the bastion says it speaks.
pub(super) fn hinted(error: Error, theirs: Option<&Speaks>) -> Error {
    if !error.what.starts_with("this bastion speaks protocol") {
        return error;
    }
    match error.hint.as_deref() {
        Some(hint) if hint.starts_with("bring the bastion") => {
            let hint = format!("{hint}: {UPGRADE_BASTION}");
            error.hint(hint)
        }
        Some(hint) if hint.starts_with("bring the laptop") => {
            let version = theirs.map_or("of the bastion's version", |theirs| theirs.program.as_str());
            let hint = format!("{hint}, {}", upgrade_laptop(version));
            error.hint(hint)
        }
        _ => error,
    }
}

/// An answer that is not what this version expects.
pub(super) fn not_understood(path: &str, why: &serde_json::Error, theirs: Option<&Speaks>) -> Error {
    match theirs {
        Some(theirs) if theirs.protocol != Speaks::own().protocol => differs(theirs),
        _ => Error::new(Exit::Unreachable, format!("the bastion's answer to {path} is not understood"))
            .because(why)
            .hint(format!("bring laptop and bastion to the same version: {UPGRADE_BASTION}")),
    }
}

/// A call that the bastion does not have.
pub(super) fn unknown_call(path: &str, theirs: Option<&Speaks>) -> Error {
    let who = theirs.map_or(String::new(), |theirs| format!(" (ephemwork {})", theirs.program));
    let path = path.split('?').next().unwrap_or(path);
    Error::new(Exit::Config, format!("the bastion{who} does not know {path}"))
        .because(format!("this laptop has ephemwork {}", Speaks::own().program))
        .hint(format!("bring the bastion to the laptop's version: {UPGRADE_BASTION}"))
}

fn differs(theirs: &Speaks) -> Error {
    let own = Speaks::own();
    let error = Error::new(
        Exit::Config,
        format!(
            "the bastion is ephemwork {} and speaks protocol {}, this laptop's {} speaks {}",
            theirs.program, theirs.protocol, own.program, own.protocol
        ),
    );
    error.hint(if theirs.protocol > own.protocol {
        format!(
            "bring the laptop to the bastion's version, {}",
            upgrade_laptop(&theirs.program)
        )
    } else {
        format!("bring the bastion to the laptop's version: {UPGRADE_BASTION}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaks(protocol: u32, program: &str) -> Speaks {
        Speaks {
            protocol,
            program: program.to_owned(),
        }
    }

    /// The sentences are those of `bastiond::refused`, where a test holds them to this.
    #[test]
    fn refusals() {
        let check = |what: &str, hint: &str, theirs: Option<Speaks>, repaired: &str| {
            let error = hinted(Error::new(Exit::Config, what).hint(hint), theirs.as_ref());
            assert_eq!((error.what.as_str(), error.hint.as_deref()), (what, Some(repaired)));
        };
        let newer = "this bastion speaks protocol 1, the laptop speaks 2";
        let bastion = "bring the bastion to the laptop's version";
        check(newer, bastion, None, &format!("{bastion}: ephemwork bastion upgrade --live"));
        let older = "this bastion speaks protocol 2, the laptop speaks 1";
        let laptop = "bring the laptop to the bastion's version";
        let install = "cargo install --path . --locked";
        let theirs = Some(speaks(2, "0.4.0"));
        check(
            older,
            laptop,
            theirs,
            &format!("{laptop}, in a checkout of ephemwork 0.4.0: {install}"),
        );
        let unsaid = format!("{laptop}, in a checkout of ephemwork of the bastion's version: {install}");
        check(older, laptop, None, &unsaid);
        check("carol:api is held by another machine", "take it", None, "take it");
    }

    #[test]
    fn answers() {
        let why = serde_json::from_str::<u32>("{}").unwrap_err();
        let own = Speaks::own().protocol;
        let check = |theirs: Option<Speaks>, exit: Exit, decoded: bool, command: &str| {
            let error = not_understood("/v1/claim", &why, theirs.as_ref());
            assert_eq!((error.exit, error.why.is_some()), (exit, decoded), "{error}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(command), "{error}");
        };
        check(
            Some(speaks(own + 1, "0.4.0")),
            Exit::Config,
            false,
            "ephemwork 0.4.0: cargo install",
        );
        check(Some(speaks(own - 1, "0.0.9")), Exit::Config, false, "bastion upgrade --live");
        check(Some(speaks(own, "0.1.0")), Exit::Unreachable, true, "bastion upgrade --live");
        check(None, Exit::Unreachable, true, "bastion upgrade --live");
        let unknown = unknown_call("/v1/audit?since=1", Some(&speaks(own, "0.0.9")));
        assert_eq!(unknown.what, "the bastion (ephemwork 0.0.9) does not know /v1/audit");
    }
}
