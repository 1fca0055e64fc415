//! What clients have spent of their days and months, kept over a restart where any of them has such a budget: one that a
//! restart gives back is none.
//!
//! As with who rests (`persist.rs`): a small file, written whole and put in place by a rename, at most once a second and only
//! when something changed. It holds names of clients and numbers. After a crash a second's worth may be missing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::config::clients::{Accounts, Clients};
use crate::limit::Spent;
use crate::server::log;

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
    path: PathBuf,
    clients: Arc<ArcSwap<Clients>>,
    written: Kept,
    has_failed: bool,
}

impl Budgets {
    /// Takes over what was spent when the file was written. What is no such file is told and begun anew.
    pub(super) fn restore(path: PathBuf, clients: Arc<ArcSwap<Clients>>, accounts: &Accounts) -> Self {
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error),
        };
        let kept = kept.unwrap_or_else(|error| {
            log::warn(&format!("{}: {error}; what clients have spent is not known", path.display()));
            Kept::default()
        });
        for (name, One { day, month }) in &kept {
            accounts.of(&name.as_str().into()).restore(Spent { day: *day, month: *month });
        }
        Self { path, clients, written: kept, has_failed: false }
    }

    /// Whether any client has such a budget.
    pub(super) fn has_any(&self) -> bool {
        self.clients.load().iter().any(|client| client.has_budget())
    }

    /// Writes what was spent, if that has changed.
    pub(super) fn keep(&mut self) {
        let clients = self.clients.load();
        let limited = clients.iter().filter(|client| client.has_budget());
        let mut kept = self.written.clone();
        kept.extend(limited.map(|client| {
            let Spent { day, month } = client.account.spent();
            (client.name.to_string(), One { day, month })
        }));
        if kept == self.written {
            return;
        }
        match self.write(&kept) {
            Ok(()) => {
                self.has_failed = false;
                self.written = kept;
            }
            // Tried again at the next look, and said once.
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                log::warn(&format!("{}: {error}; what clients have spent is not kept", self.path.display()));
            }
            Err(_) => {}
        }
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("tmp");
        fs::write(&beside, serde_json::to_vec(kept)?)?;
        fs::rename(&beside, &self.path)
    }
}
