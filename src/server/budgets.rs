//! What clients have spent of their days and months, kept over a restart where any of them has such a budget: one that a
//! restart gives back is none.
//!
//! The file (`kept.rs`) is written at most once a second. It holds names of clients and numbers. After a crash a second's worth
//! may be missing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::config::clients::{Accounts, Clients};
use crate::limit::Spent;
use crate::server::kept::KeptFile;

/// The file as it is written, by the clients' names.
type Kept = BTreeMap<String, One>;

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct One {
    /// Days since 1970, and the tokens of that day.
    day: (u64, u64),
    /// Months since January 1970, and the tokens of that month.
    month: (u64, u64),
}

/// Keeps what was spent in a file.
pub(super) struct Budgets {
    file: KeptFile<Kept>,
    clients: Arc<ArcSwap<Clients>>,
}

impl Budgets {
    /// Takes over what was spent when the file was written.
    pub(super) fn restore(path: PathBuf, clients: Arc<ArcSwap<Clients>>, accounts: &Accounts) -> Self {
        let file = KeptFile::<Kept>::read(path, "what clients have spent");
        for (name, One { day, month }) in file.written() {
            accounts.of(&name.as_str().into()).restore(Spent { day: *day, month: *month });
        }
        Self { file, clients }
    }

    /// Whether any client has such a budget.
    pub(super) fn has_any(&self) -> bool {
        self.clients.load().iter().any(|client| client.has_budget())
    }

    /// Writes what was spent, if that has changed.
    pub(super) fn keep(&mut self) {
        let clients = self.clients.load();
        let limited = clients.iter().filter(|client| client.has_budget());
        let mut kept = self.file.written().clone();
        kept.extend(limited.map(|client| {
            let Spent { day, month } = client.account.spent();
            (client.name.to_string(), One { day, month })
        }));
        if kept != *self.file.written() {
            self.file.write(kept);
        }
    }
}
