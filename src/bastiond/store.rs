//! Sessions on disk.

use crate::bastiond::registry::Record;
use crate::name::Tag;

/// One step of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Record),
    Forget(Tag),
}

pub(crate) struct Store;

impl Store {
    pub(crate) async fn commit(&self, _changes: Vec<Change>) -> Result<(), String> {
        Ok(())
    }
}
