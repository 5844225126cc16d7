//! The audit's table: entries in the order of their numbers, the oldest of which go when they are too old or too many.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition};

use crate::protocol::audit::{AuditPage, Entry};

/// Number to time and [`Entry`] as JSON. Files of older daemons have no such table.
pub(super) const AUDIT: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("audit");

/// What an entry counts beside its text, in bytes: its key, its time and its place in a page.
const OVERHEAD: u64 = 32;

/// Entries that one change removes at most: more than it adds, and few enough that it is as quick as without them.
pub(super) const TRIM: usize = 16;

/// Entries of one page, about half a megabyte.
const PAGE: usize = 2000;

/// How much of the audit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Seconds.
    pub age: u64,
    pub bytes: u64,
}

/// What the table holds, known without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The highest number that was ever given.
    pub(super) last: u64,
    bytes: u64,
    /// The first entry's time.
    oldest: Option<u64>,
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Not before this second since the epoch.
    pub since: u64,
    pub user: Option<String>,
    /// Only those with a greater number.
    pub after: u64,
}

impl Totals {
    pub(super) fn of(database: &redb::Database) -> Result<Totals, redb::Error> {
        use redb::ReadableDatabase as _;
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(AUDIT) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Totals::default()),
            Err(why) => return Err(why.into()),
        };
        let mut totals = Totals::default();
        for row in table.iter()? {
            let (number, stored) = row?;
            let (time, text) = stored.value();
            totals.last = number.value();
            totals.bytes += text.len() as u64 + OVERHEAD;
            totals.oldest.get_or_insert(time);
        }
        Ok(totals)
    }

    /// Adds an entry, and gives it its number.
    pub(super) fn append(&mut self, table: &mut Table<u64, (u64, &[u8])>, entry: &mut Entry) -> Result<(), redb::StorageError> {
        self.last += 1;
        entry.number = self.last;
        // No map and no failing serializer is in it, so there is always a text.
        let text = serde_json::to_vec(entry).unwrap_or_default();
        table.insert(self.last, (entry.time, text.as_slice()))?;
        self.bytes += text.len() as u64 + OVERHEAD;
        self.oldest.get_or_insert(entry.time);
        Ok(())
    }

    /// Whether there is something to remove at `now`.
    pub(super) fn overdue(&self, keep: Keep, now: u64) -> bool {
        self.bytes > keep.bytes || self.oldest.is_some_and(|time| time.saturating_add(keep.age) < now)
    }

    /// Removes the oldest entries as long as they are too old or too many, `most` at most. The newest one always stays: its number is
    /// where the next one's begins.
    pub(super) fn trim(
        &mut self,
        table: &mut Table<u64, (u64, &[u8])>,
        keep: Keep,
        now: u64,
        most: usize,
    ) -> Result<(), redb::StorageError> {
        for _ in 0..most {
            if !self.overdue(keep, now) {
                break;
            }
            let first = table
                .first()?
                .map(|(number, stored)| (number.value(), stored.value().1.len()));
            let Some((number, length)) = first.filter(|&(number, _)| number < self.last) else {
                break;
            };
            table.remove(number)?;
            self.bytes = self.bytes.saturating_sub(length as u64 + OVERHEAD);
            self.oldest = table.first()?.map(|(_, stored)| stored.value().0);
        }
        Ok(())
    }
}

/// One page of what is asked for.
pub(super) fn page(transaction: &ReadTransaction, query: &Query) -> Result<AuditPage, redb::Error> {
    let table = match transaction.open_table(AUDIT) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(AuditPage::default()),
        Err(why) => return Err(why.into()),
    };
    let mut page = AuditPage::default();
    for row in table.range(query.after.saturating_add(1)..)? {
        let (number, stored) = row?;
        let (time, text) = stored.value();
        if time < query.since {
            continue;
        }
        let entry = match serde_json::from_slice::<Entry>(text) {
            Ok(entry) => entry,
            Err(why) => {
                tracing::warn!(number = number.value(), %why, "an entry of the audit is left out");
                continue;
            }
        };
        if query.user.as_ref().is_some_and(|user| *user != entry.user) {
            continue;
        }
        if page.entries.len() >= PAGE {
            page.next = page.entries.last().map(|entry| entry.number);
            break;
        }
        page.entries.push(entry);
    }
    Ok(page)
}
