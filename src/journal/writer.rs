//! The journal's thread: takes what waits and writes it, and whatever happens to the file is nobody else's trouble.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use crate::journal::row::{Row, Rows, Spelled, Try};
use crate::journal::store::{Keep, Store, StoreError, set_aside};
use crate::time::Clock;

/// Rows that wait to be written, at most, and their bytes; beyond that they are counted instead (LIMITS section 3).
const ROWS_MAX: usize = 10_000;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long rows are gathered before they are written together: a transaction costs as much as many rows, and a tenth of a
/// second is what a crash may take.
const GATHER: Duration = Duration::from_millis(100);

/// How long it is waited before what has failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked for what is too old, where nothing is written.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);

/// How long the end waits for the last rows.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Room that is kept for rows between two writings: what a burst has needed beyond it is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What says what happens to the journal, on its thread: (it is bad news, the words).
pub type Say = Box<dyn Fn(bool, &str) + Send>;

/// Where rows are given, and asked how it goes.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Thread,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    written: AtomicU64,
    dropped: AtomicU64,
    /// Those the writer has in its hands.
    held: AtomicUsize,
    failing: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Waiting {
    spelled: Spelled,
    rows: usize,
    is_over: bool,
}

/// How it goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Rows that wait.
    pub waiting: usize,
    /// Rows that were written since the start, and such as found no room.
    pub written: u64,
    pub dropped: u64,
    /// Why nothing is written now.
    pub failing: Option<String>,
}

impl Journal {
    /// Starts the writer. The file is not touched before there is something to write.
    pub fn start(path: PathBuf, keep: Keep, say: Say) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut writer =
            Writer { path, keep, say, shared: Arc::clone(&shared), store: None, dropped_told: 0, pruned_ms: 0 };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: thread.thread().clone(), thread: Mutex::new(Some(thread)) })
    }

    /// Takes a request that is over. Never waits for the file.
    pub fn log(&self, row: &Row<'_>, tries: &[Try<'_>]) {
        let mut waiting = self.shared.waiting.lock();
        if ROWS_MAX <= waiting.rows || BYTES_MAX <= waiting.spelled.len() {
            drop(waiting);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        row.write(tries, &mut waiting.spelled);
        waiting.rows += 1;
        let is_first = waiting.rows == 1;
        drop(waiting);
        if is_first {
            self.writer.unpark();
        }
    }

    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            waiting: self.shared.waiting.lock().rows + self.shared.held.load(Ordering::Relaxed),
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            failing: self.shared.failing.lock().clone(),
        }
    }

    /// Has written what waits, if that can be done in time.
    pub fn end(&self) {
        self.shared.waiting.lock().is_over = true;
        self.writer.unpark();
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        for _ in 0..LAST_LOOKS {
            if thread.is_finished() {
                return;
            }
            thread::sleep(LAST_MAX / LAST_LOOKS);
        }
    }
}

const LAST_LOOKS: u32 = 400;

struct Writer {
    path: PathBuf,
    keep: Keep,
    say: Say,
    shared: Arc<Shared>,
    /// Open as long as all goes well.
    store: Option<Store>,
    dropped_told: u64,
    /// When it was last looked for what is too old.
    pruned_ms: u64,
}

impl Writer {
    fn run(&mut self) {
        let mut spelled = Spelled::default();
        let mut prunes = false;
        loop {
            let is_over = self.next(prunes);
            let rows = self.take(&mut spelled);
            if 0 < rows {
                self.shared.held.store(rows, Ordering::Relaxed);
                self.put(spelled.rows(), rows);
                self.shared.held.store(0, Ordering::Relaxed);
                spelled.clear(KEPT_BYTES_MAX);
            }
            prunes = self.prune(prunes);
            if is_over {
                return;
            }
        }
    }

    /// Waits until there is something to do. Gives whether it is the last.
    fn next(&self, prunes: bool) -> bool {
        let state = || {
            let waiting = self.shared.waiting.lock();
            (waiting.rows, waiting.is_over)
        };
        if let (0, false) = state() {
            // What is left to be removed is, in small steps, between those who come.
            thread::park_timeout(if prunes { GATHER } else { PRUNE_PAUSE });
        }
        let (rows, is_over) = state();
        if 0 < rows && !is_over {
            thread::sleep(GATHER);
        }
        is_over
    }

    fn take(&self, spelled: &mut Spelled) -> usize {
        let mut waiting = self.shared.waiting.lock();
        std::mem::swap(&mut waiting.spelled, spelled);
        std::mem::take(&mut waiting.rows)
    }

    /// Writes rows, however often that must be tried. Meanwhile others wait, as many as there is room for.
    fn put(&mut self, spelled: Rows<'_>, rows: usize) {
        let mut is_new = false;
        loop {
            match self.try_put(spelled) {
                Ok(count) => {
                    self.shared.written.fetch_add(count, Ordering::Relaxed);
                    self.recovered();
                    return;
                }
                Err(error) if !error.may_pass() => {
                    self.put_each(spelled);
                    self.recovered();
                    return;
                }
                // There is a new file to be written to. If that is damaged too, it is the disk's doing, and there is no hurry.
                Err(error) if self.failed(&error) && !is_new => {
                    is_new = true;
                    continue;
                }
                Err(_) => {}
            }
            if self.shared.waiting.lock().is_over {
                self.shared.dropped.fetch_add(rows as u64, Ordering::Relaxed);
                (self.say)(true, &format!("journal {}: {rows} rows are lost with the end", self.path.display()));
                return;
            }
            thread::park_timeout(RETRY_PAUSE);
        }
    }

    /// Writes rows of which one cannot be written, ever, one by one: it is that one which is lost.
    fn put_each(&mut self, mut rows: Rows<'_>) {
        while !rows.is_empty() {
            let all = rows;
            if Row::read(&mut rows).is_none() {
                return;
            }
            let one = all.until(&rows);
            match self.try_put(one) {
                Ok(count) => {
                    self.shared.written.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) if error.may_pass() => self.put(one, 1),
                Err(error) => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    (self.say)(true, &format!("journal {}: a row cannot be written: {error}", self.path.display()));
                }
            }
        }
    }

    fn try_put(&mut self, rows: Rows<'_>) -> Result<u64, StoreError> {
        // Somebody may have taken the file away, or put another in its place.
        self.store.take_if(|store| !store.is_at(&self.path));
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.path)?),
        };
        store.write(rows)
    }

    /// Tells of a failure, once. A damaged file is moved out of the way: whether that was done.
    fn failed(&mut self, error: &StoreError) -> bool {
        // Opened anew each time: what was wrong with the folder or the disk may be mended meanwhile.
        self.store = None;
        let shown = self.path.display();
        if let StoreError::Corrupt(_) = error {
            match set_aside(&self.path, Clock::unix_seconds()) {
                Ok(aside) => {
                    (self.say)(true, &format!("journal {shown}: {error}; it was set aside as {}", aside.display()));
                    return true;
                }
                Err(why) => (self.say)(true, &format!("journal {shown}: {error}, and cannot be set aside: {why}")),
            }
        }
        let why = error.to_string();
        let before = self.shared.failing.lock().replace(why.clone());
        if before.as_deref() != Some(&*why) {
            (self.say)(
                true,
                &format!("journal {shown}: {why}; requests go on, and rows wait as long as there is room"),
            );
        }
        false
    }

    fn recovered(&mut self) {
        let was_failing = self.shared.failing.lock().take().is_some();
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let lost = dropped - std::mem::replace(&mut self.dropped_told, dropped);
        if was_failing || 0 < lost {
            (self.say)(
                0 < lost,
                &format!("journal {}: it is written again; {lost} rows were lost", self.path.display()),
            );
        }
    }

    /// Removes what is too old or too much. Gives whether there may be more.
    fn prune(&mut self, is_begun: bool) -> bool {
        let now_ms = Clock::unix_millis();
        if !is_begun && u128::from(now_ms.abs_diff(self.pruned_ms)) < PRUNE_PAUSE.as_millis() {
            return false;
        }
        self.pruned_ms = now_ms;
        let pruned = self.store.as_mut().map_or(Ok(false), |store| store.prune(self.keep, now_ms));
        pruned.unwrap_or_else(|error| {
            let _aside = self.failed(&error);
            false
        })
    }
}

/// The usual name of the file, in the state directory.
pub const FILE: &str = "journal.db";

/// The file that a `DATABASE_URL` names, as SQLAlchemy spells it: three slashes and a path.
///
/// # Errors
/// In words, where it is no SQLite file.
pub fn path_of_url(url: &str) -> Result<PathBuf, String> {
    let rest = url.strip_prefix("sqlite").filter(|rest| rest.starts_with(':') || rest.starts_with('+'));
    let path = rest.and_then(|rest| rest.split_once("://")).map(|(_, rest)| rest);
    match path.map(|path| path.strip_prefix('/').unwrap_or_default()) {
        Some("" | ":memory:") => Err("names no file; write sqlite:///journal.db".to_owned()),
        Some(path) => Ok(Path::new(path.split('?').next().unwrap_or(path)).to_owned()),
        None => {
            Err("is no SQLite database, and the journal is kept in no other; write sqlite:///journal.db".to_owned())
        }
    }
}
