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
use crate::time::{Clock, month_of};

/// The file as it is written, by the clients' names.
type Kept = BTreeMap<String, One>;

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct One {
    #[serde(flatten)]
    own: Sums,
    /// What was spent at models that have limits of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, Sums>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Sums {
    /// Days since 1970, and the tokens of that day.
    day: (u64, u64),
    /// Months since January 1970, and the tokens of that month.
    month: (u64, u64),
}

impl Sums {
    fn of(spent: Spent) -> Self {
        Self { day: spent.day, month: spent.month }
    }

    fn spent(self) -> Spent {
        Spent { day: self.day, month: self.month }
    }
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
        for (name, One { own, models }) in file.written() {
            let account = accounts.of(&name.as_str().into());
            account.restore(None, own.spent());
            for (model, sums) in models {
                account.restore(Some(model), sums.spent());
            }
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
            let models = client.account.spent_by_model();
            let models = models.into_iter().map(|(name, spent)| (name.into(), Sums::of(spent))).collect();
            (client.name.to_string(), One { own: Sums::of(client.account.spent()), models })
        }));
        // What was spent in months that are over limits nobody any more, and names of clients are not kept for ever.
        let (month, _) = month_of(Clock::unix_seconds());
        let is_over = |sums: &Sums| sums.month.0 < month;
        for one in kept.values_mut() {
            one.models.retain(|_, sums| !is_over(sums));
        }
        kept.retain(|_, one| !is_over(&one.own) || !one.models.is_empty());
        if kept != *self.file.written() {
            self.file.write(kept);
        }
    }
}
