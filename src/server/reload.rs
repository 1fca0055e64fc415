//! The configuration, read anew while requests are served: on SIGHUP, and where it is asked for when a file changes.
//!
//! What compiles is put in force whole; what does not is told, and the last good one stays. Requests under way keep the table
//! they began with, and the states of keys are found again by their names.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

use crate::config::lookup::Root;
use crate::config::snapshot::Snapshot;
use crate::config::{Diagnostic, Loaded, Severity};
use crate::route::keys::Registry;
use crate::server::log;
use crate::time::Clock;

/// Reads everything again. `Err`: the findings of which at least one is an error.
pub type Source = Box<dyn Fn() -> Result<Loaded, Vec<Diagnostic>> + Send>;

/// What `start` says of reloading.
pub struct Reloading {
    pub source: Source,
    /// Files that are looked at besides the configuration's directory, whether they exist or not.
    pub files: Vec<PathBuf>,
    /// A change is enough; else it takes a signal.
    pub watches: bool,
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("watches", &self.watches).finish_non_exhaustive()
    }
}

/// How the configuration in force came to be: what health tells of it.
#[derive(Debug)]
pub(super) struct Standing(Mutex<State>);

#[derive(Clone, Debug)]
pub(super) struct State {
    /// Seconds since 1970.
    pub(super) loaded_at: u64,
    /// Of the last attempt, if it failed: when, and the first of what was wrong.
    pub(super) error: Option<(u64, String)>,
}

impl Standing {
    pub(super) fn now() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { loaded_at: Clock::unix_seconds(), error: None })))
    }

    pub(super) fn state(&self) -> State {
        self.0.lock().clone()
    }
}

/// Puts new configurations in force.
pub(super) struct Reloader {
    reloading: Reloading,
    table: Arc<Snapshot>,
    registry: Arc<Registry>,
    standing: Arc<Standing>,
    directory: Option<PathBuf>,
    /// How the files looked when they were read last, and at the last look.
    read: [u8; 32],
    seen: [u8; 32],
}

impl Reloader {
    pub(super) fn new(
        reloading: Reloading,
        root: &Root,
        table: Arc<Snapshot>,
        registry: Arc<Registry>,
        standing: Arc<Standing>,
    ) -> Self {
        let directory = match root {
            Root::Directory(path) => Some(path.clone()),
            Root::Packaged => None,
        };
        let mut this = Self { reloading, table, registry, standing, directory, read: [0; 32], seen: [0; 32] };
        this.read = this.look();
        this.seen = this.read;
        this
    }

    pub(super) fn watches(&self) -> bool {
        self.reloading.watches
    }

    /// Reads the files again if they have changed since, and not since the last look: what is half written is left alone.
    pub(super) fn look_again(&mut self) {
        let looks = self.look();
        let settled = looks == self.seen;
        self.seen = looks;
        if settled && looks != self.read {
            self.reload("files have changed");
        }
    }

    /// Reads everything again.
    pub(super) fn reload(&mut self, because: &str) {
        // Before they are read: what changes meanwhile is seen at the next look.
        self.read = self.look();
        self.seen = self.read;
        let before = self.table.load().hash.clone();
        match (self.reloading.source)() {
            Ok(loaded) => {
                for found in loaded.diagnostics.iter().filter(|d| d.severity == Severity::Warning) {
                    log::warn(&found.to_string());
                }
                let (models, after) = (loaded.table.len(), loaded.table.hash.clone());
                self.table.store(loaded.table);
                self.registry.prune();
                *self.standing.0.lock() = State { loaded_at: Clock::unix_seconds(), error: None };
                let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
                let what = if before == after {
                    format!("the files say the same ({})", short(&after))
                } else {
                    format!("{} is now {}", short(&before), short(&after))
                };
                log::info(&format!("reloaded, for {because}: {models} models, {what}"));
            }
            Err(found) => {
                for diagnostic in &found {
                    log::error(&diagnostic.to_string());
                }
                let first = found.iter().find(|d| d.severity == Severity::Error).or_else(|| found.first());
                let first = first.map(ToString::to_string).unwrap_or_default();
                self.standing.0.lock().error = Some((Clock::unix_seconds(), first));
                log::error("not reloaded: the last good configuration stays in force");
            }
        }
    }

    /// A digest of how the files look: names, sizes, times.
    fn look(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for path in self.directory.iter().chain(&self.reloading.files) {
            add(path, &mut context, DEPTH_MAX);
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}

/// Directories within directories that are looked into: models and providers lie in the first.
const DEPTH_MAX: u32 = 3;

fn add(path: &Path, context: &mut Context, depth: u32) {
    // Follows links: configuration that is mounted is often swapped by one.
    let Ok(about) = fs::metadata(path) else {
        return;
    };
    if about.is_dir() {
        let names = fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut names: Vec<PathBuf> = names.collect();
        names.sort();
        for name in names.iter().filter(|_| 0 < depth) {
            add(name, context, depth - 1);
        }
        return;
    }
    let text = path.to_string_lossy();
    context.update(&(text.len() as u64).to_le_bytes());
    context.update(text.as_bytes());
    for number in [about.len(), about.ino()] {
        context.update(&number.to_le_bytes());
    }
    for number in [about.mtime(), about.mtime_nsec()] {
        context.update(&number.to_le_bytes());
    }
}
