//! The table in force. Read without waiting, swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::route::table::Table;

/// Holds the table in force. A request keeps the one it began with.
#[derive(Debug)]
pub struct Snapshot(ArcSwap<Table>);

impl Snapshot {
    #[must_use]
    pub fn new(table: Arc<Table>) -> Self {
        Self(ArcSwap::new(table))
    }

    #[must_use]
    pub fn load(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// Puts another table in force; requests under way keep theirs.
    pub fn store(&self, table: Arc<Table>) {
        self.0.store(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_table_it_began_with() {
        let snapshot = Snapshot::new(Arc::new(Table::new(Vec::new(), "one".into())));
        let held = snapshot.load();
        snapshot.store(Arc::new(Table::new(Vec::new(), "two".into())));
        assert_eq!((held.hash.as_str(), snapshot.load().hash.as_str()), ("one", "two"));
    }
}
