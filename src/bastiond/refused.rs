//! An answer that is not a success, with its HTTP status.

use std::fmt::Display;

use crate::protocol::{self, Holder, Refusal};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub status: u16,
    pub refusal: Refusal,
}

impl Refused {
    /// A refusal of which only the sentence is known so far.
    pub(crate) fn new(status: u16, what: impl Into<String>) -> Refused {
        let refusal = Refusal {
            what: what.into(),
            why: None,
            hint: None,
            holder: None,
        };
        Refused { status, refusal }
    }

    /// Adds the cause.
    pub(crate) fn because(mut self, why: impl Display) -> Refused {
        self.refusal.why = Some(why.to_string());
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Refused {
        self.refusal.hint = Some(hint.into());
        self
    }

    /// All of it as one sentence, for where there is no place for more.
    pub(crate) fn sentence(&self) -> String {
        let more = [&self.refusal.why, &self.refusal.hint];
        let more = more.into_iter().flatten().map(|part| format!("; {part}"));
        std::iter::once(self.refusal.what.clone()).chain(more).collect()
    }

    /// Adds who holds the tag.
    pub(crate) fn holder(mut self, host: String, since: u64, address: Option<String>) -> Refused {
        self.refusal.holder = Some(Holder { host, address, since });
        self
    }

    /// The laptop speaks a version of the protocol that this bastion does not. Laptops add the command, see `tunnel::skew`.
    pub(crate) fn protocol(theirs: u32) -> Refused {
        let own = protocol::VERSION;
        let hint = if theirs > own {
            "bring the bastion to the laptop's version"
        } else {
            "bring the laptop to the bastion's version"
        };
        Refused::new(400, format!("this bastion speaks protocol {own}, the laptop speaks {theirs}")).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laptops read these sentences, see `tunnel::skew`.
    #[test]
    fn versions() {
        let own = protocol::VERSION;
        let check = |theirs: u32, hint: &str| {
            let refused = Refused::protocol(theirs);
            assert_eq!(refused.status, 400);
            let what = format!("this bastion speaks protocol {own}, the laptop speaks {theirs}");
            assert_eq!(refused.refusal.what, what);
            assert_eq!(refused.refusal.hint.as_deref(), Some(hint));
        };
        check(own + 1, "bring the bastion to the laptop's version");
        check(own - 1, "bring the laptop to the bastion's version");
    }
}
