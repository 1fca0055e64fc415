//! The configuration, read anew while requests are served: on SIGHUP, and where it is asked for when a file changes.
//!
//! What compiles is put in force whole; what does not is told, and the last good one stays. Requests under way keep the table
//! they began with, and the states of keys are found again by their names.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::config::bounds::Bounds;
use crate::config::clients::{Accounts, Client, Clients};
use crate::config::env::{Env, VARS};
use crate::config::snapshot::Snapshot;
use crate::config::{Diagnostic, Loaded, Lookup, Severity};
use crate::limit::Limits;
use crate::route::keys::Registry;
use crate::secret::Secret;
use crate::server::log;
use crate::time::Clock;

/// Reads everything again. `Err`: the findings of which at least one is an error.
pub type Source = Box<dyn Fn() -> Result<(Loaded, Env), Vec<Diagnostic>> + Send>;

/// What `start` says of reloading.
pub struct Reloading {
    source: Source,
    files: Watched,
    settling: Settling<Looks>,
    /// A change is enough; else it takes a signal.
    watches: bool,
}

impl Reloading {
    /// Call it before anything is read for the first time. `env_files` may come and go.
    #[must_use]
    pub fn new(source: Source, lookup: Lookup, env_files: Vec<PathBuf>, watches: bool) -> Self {
        let files = Watched { lookup, env_files };
        let settling = Settling::new(files.look());
        Self { source, files, settling, watches }
    }
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
    /// How often it was read again: well, and not.
    pub(super) reloads: (u64, u64),
    /// Of the last attempt, if it failed: when, and the first of what was wrong.
    pub(super) error: Option<(u64, String)>,
}

impl Standing {
    pub(super) fn now() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { loaded_at: Clock::unix_seconds(), reloads: (0, 0), error: None })))
    }

    pub(super) fn state(&self) -> State {
        self.0.lock().clone()
    }
}

/// Who may ask, and what they have used: the latter outlives the former.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) clients: Arc<ArcSwap<Clients>>,
    pub(super) accounts: Accounts,
    /// The client of a key that was made for this run: no file knows of it.
    made: Option<Client>,
}

impl Registered {
    pub(super) fn new(all: &[Client], made_key: Option<&Secret>) -> Self {
        let accounts = Accounts::default();
        let made = made_key.map(|key| Client::of_key(key, Limits::default()));
        let all = made.as_ref().map_or(all, std::slice::from_ref);
        let clients = Arc::new(ArcSwap::from_pointee(Clients::new(all, &accounts)));
        Self { clients, accounts, made }
    }

    /// Those that were read. Where none is left, nobody may ask: whoever takes the last key away means it.
    fn read(&self, all: &[Client]) {
        if all.is_empty() && self.made.is_none() {
            log::warn(
                "no client is left, so every request is refused; make a key with `model-proxy keys new NAME`, or set CLIENT_API_KEY",
            );
        }
        let is_made =
            |made: &Client| self.clients.load().iter().any(|known| known.fingerprints().eq(made.fingerprints()));
        if !all.is_empty() && self.made.as_ref().is_some_and(is_made) {
            log::warn("there are clients now: the key that was made for this run is no longer taken");
        }
        let all = if all.is_empty() { self.made.as_slice() } else { all };
        self.clients.store(Arc::new(Clients::new(all, &self.accounts)));
    }
}

/// Puts new configurations in force.
pub(super) struct Reloader {
    reloading: Reloading,
    table: Arc<Snapshot>,
    registry: Arc<Registry>,
    registered: Registered,
    standing: Arc<Standing>,
    /// What was read last that compiled.
    env: Env,
    /// The limits that were read last; those of the start are in force.
    bounds: Bounds,
    /// What was warned of then: it is not told again and again.
    warned: Vec<Diagnostic>,
}

impl Reloader {
    pub(super) fn new(
        reloading: Reloading,
        (loaded, env): (&Loaded, Env),
        table: Arc<Snapshot>,
        (registry, registered): (Arc<Registry>, Registered),
        standing: Arc<Standing>,
    ) -> Self {
        let bounds = loaded.bounds.clone();
        Self { reloading, table, registry, registered, standing, env, bounds, warned: warnings(loaded) }
    }

    pub(super) fn watches(&self) -> bool {
        self.reloading.watches
    }

    /// Reads the files again if they have changed since, and hold still.
    pub(super) fn look_again(&mut self) {
        let looks = self.reloading.files.look();
        if self.reloading.settling.has_settled(looks) {
            self.reload("files have changed");
        }
    }

    /// Reads everything again.
    pub(super) fn reload(&mut self, because: &str) {
        // Before they are read: what changes meanwhile is seen at the next look.
        self.reloading.settling = Settling::new(self.reloading.files.look());
        match (self.reloading.source)() {
            Ok((loaded, env)) => self.put_in_force(&loaded, env, because),
            Err(found) => {
                for diagnostic in &found {
                    log::error(&diagnostic.to_string());
                }
                let first = found.iter().find(|d| d.severity == Severity::Error).or_else(|| found.first());
                let first = first.map(ToString::to_string).unwrap_or_default();
                let mut standing = self.standing.0.lock();
                standing.reloads.1 += 1;
                standing.error = Some((Clock::unix_seconds(), first));
                drop(standing);
                log::error("not reloaded: the last good configuration stays in force");
            }
        }
        // The states of what left, and of what was never put in force.
        self.registry.prune();
    }

    fn put_in_force(&mut self, loaded: &Loaded, env: Env, because: &str) {
        let warnings = warnings(loaded);
        for found in warnings.iter().filter(|found| !self.warned.contains(found)) {
            log::warn(&found.to_string());
        }
        self.warned = warnings;
        let before = self.table.load().hash.clone();
        self.table.store(Arc::clone(&loaded.table));
        self.registered.read(&loaded.clients);
        let mut standing = self.standing.0.lock();
        let (good, failed) = standing.reloads;
        *standing = State { loaded_at: Clock::unix_seconds(), reloads: (good + 1, failed), error: None };
        drop(standing);
        let changed = self.env.changed(&env);
        let is_once = |name: &String| VARS.iter().any(|var| var.once && var.name == *name);
        for name in changed.iter().filter(|name| is_once(name)) {
            log::warn(&format!("{name} has changed: it is read at the next start only"));
        }
        if self.bounds != loaded.bounds {
            log::warn(
                "the server's own limits have changed (server.json, or a variable of one): they are read at the next start only",
            );
            self.bounds = loaded.bounds.clone();
        }
        self.env = env;
        let news = news(loaded.table.len(), (&before, &loaded.table.hash), &changed);
        log::info(&format!("reloaded, for {because}: {news}"));
    }
}

/// What is worth a line after a reload.
fn warnings(loaded: &Loaded) -> Vec<Diagnostic> {
    let found = loaded.diagnostics.iter().chain(&loaded.missing);
    found.filter(|d| d.severity == Severity::Warning).cloned().collect()
}

/// What is different now. Variables are named, and their values are not.
fn news(models: usize, (before, after): (&str, &str), variables: &[String]) -> String {
    let hash = if before == after { format!("hash {after}") } else { format!("hash {before} → {after}") };
    let what = match variables {
        [] if before == after => "nothing changed, ".to_owned(),
        [] => String::new(),
        names => format!("{} changed, ", names.join(", ")),
    };
    format!("{what}{models} models, {hash}")
}

/// The files that are read.
struct Watched {
    lookup: Lookup,
    env_files: Vec<PathBuf>,
}

/// How files look: those that are there, each with what is another with every write.
#[derive(Debug, Default, Eq, PartialEq)]
struct Looks(Vec<(PathBuf, u64, u64, (i64, i64))>);

impl Watched {
    fn look(&self) -> Looks {
        let files = self.lookup.files().into_iter().chain(self.env_files.iter().cloned());
        // Follows links: configuration that is mounted is often swapped by one. The time of the last change and not of the last
        // writing, for copying may set the latter back.
        let look = |path: PathBuf| {
            let about = fs::metadata(&path).ok()?;
            Some((path, about.ino(), about.len(), (about.ctime(), about.ctime_nsec())))
        };
        Looks(files.filter_map(look).collect())
    }
}

/// Tells when what has changed holds still: what is half written is left alone.
#[derive(Debug)]
pub(super) struct Settling<L> {
    /// As it was when it was read, and at the last look.
    read: L,
    seen: Option<L>,
}

impl<L: PartialEq> Settling<L> {
    pub(super) fn new(read: L) -> Self {
        Self { read, seen: None }
    }

    pub(super) fn has_settled(&mut self, looks: L) -> bool {
        if looks == self.read {
            self.seen = None;
            return false;
        }
        let is_still = self.seen.as_ref() == Some(&looks);
        self.seen = Some(looks);
        is_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_once_they_hold_still() {
        let mut settling = Settling::new(1);
        let mut told = Vec::new();
        for looks in [1, 2, 3, 3, 1, 1, 2, 1, 4, 4] {
            let has_settled = settling.has_settled(looks);
            if has_settled {
                settling = Settling::new(looks);
            }
            told.push(has_settled);
        }
        let read: Vec<usize> = (0..told.len()).filter(|at| told[*at]).collect();
        assert_eq!(read, [3, 5, 9], "at the second look; not what was taken back");
    }

    #[test]
    fn every_way_to_change_a_file_is_seen_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("model-proxy-watched-{}", std::process::id()));
        let at = |name: &str| dir.join(name);
        fs::create_dir_all(at("models/group/of/some")).unwrap();
        fs::write(at("models/a.json"), "{}").unwrap();
        let lookup = Lookup { root: crate::config::Root::Directory(dir.clone()), extra: Vec::new() };
        let watched = Watched { lookup, env_files: vec![at(".env")] };
        let mut before = watched.look();
        let mut check = |what: &str, is_seen: bool| {
            let after = watched.look();
            assert_eq!(after != before, is_seen, "{what}");
            before = after;
        };
        check("nothing", false);
        fs::write(at("models/.a.json.swp"), "x").unwrap();
        fs::write(at("models/notes.txt"), "x").unwrap();
        check("what is not read", false);
        fs::write(at("models/a.json"), "{ }").unwrap();
        check("another length", true);
        fs::write(at("models/group/of/some/b.json"), "{}").unwrap();
        check("a file deep down", true);
        fs::write(at("b"), "[]").unwrap();
        fs::rename(at("b"), at("models/a.json")).unwrap();
        check("another file in its place", true);
        fs::write(at(".env"), "A=1").unwrap();
        check("variables", true);
        fs::remove_file(at(".env")).unwrap();
        check("and none", true);
        fs::remove_dir_all(&dir).unwrap();
        check("a directory that is gone", true);
    }

    #[test]
    fn what_is_different_is_said_without_values() {
        let names = ["A".to_owned(), "B".to_owned()];
        for (hashes, names, text) in [
            (("x", "x"), &[][..], "nothing changed, 3 models, hash x"),
            (("x", "y"), &[], "3 models, hash x → y"),
            (("x", "x"), &names, "A, B changed, 3 models, hash x"),
        ] {
            assert_eq!(news(3, hashes, names), text);
        }
    }
}
