//! The journal's file: opened, brought up to date, written to and shortened.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ahash::AHashMap;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::journal::batch::{Batch, signed};
use crate::journal::row::Rows;

/// What this build writes. Files of earlier versions are brought up to date; those of later ones are left alone.
pub const VERSION: i64 = 4;

/// What makes of each version the next.
const STEPS: [&str; 4] =
    [include_str!("schema.sql"), include_str!("schema_2.sql"), NOTHING_NEW, include_str!("schema_4.sql")];

/// Of a version that differs in its view only.
const NOTHING_NEW: &str = "";

/// The seed's columns, of what is kept. Made anew with every version.
const VIEW: &str = "
CREATE VIEW request_logs AS
SELECT r.id, r.request_id, strftime('%Y-%m-%d %H:%M:%S', r.at_ms / 1000, 'unixepoch') AS timestamp,
    coalesce(p.text, CASE f.text WHEN 'anthropic' THEN '/v1/messages'
        WHEN 'openai_responses' THEN '/v1/responses' ELSE '/v1/chat/completions' END) AS endpoint,
    'POST' AS method, NULL AS client_api_key_hash, coalesce(r.asked, m.text, '') AS requested_model,
    coalesce(substr(t.text, 1, instr(t.text, '/') - 1), '') AS resolved_provider,
    coalesce(substr(t.text, instr(t.text, '/') + 1), '') AS resolved_model,
    '{}' AS parameters,
    CASE WHEN json_valid(b.asked) THEN coalesce(json_extract(b.asked, '$.messages'), json_extract(b.asked, '$.input'), '[]') ELSE '[]' END AS messages,
    nullif(r.status, 0) AS response_status, r.total_us / 1000 AS response_time_ms,
    b.answered AS response_content,
    CASE WHEN r.output IS NULL THEN NULL ELSE json_object(
        'prompt_tokens', coalesce(r.input, 0) + coalesce(r.cache_read, 0) + coalesce(r.cache_write, 0),
        'completion_tokens', r.output,
        'total_tokens', coalesce(r.input, 0) + coalesce(r.cache_read, 0) + coalesce(r.cache_write, 0) + r.output) END
        AS response_usage,
    coalesce((SELECT k.text FROM names k WHERE k.id = r.key), (SELECT k.text FROM attempt_rows a JOIN names k ON k.id = a.key
        WHERE a.request = r.id ORDER BY a.number DESC LIMIT 1)) AS provider_api_key_used,
    max(r.attempts - 1, 0) AS provider_retries, r.stream AS is_streaming, r.error AS error_message,
    (SELECT o.text FROM attempt_rows a JOIN names o ON o.id = a.outcome WHERE a.request = r.id AND o.text != 'ok'
        ORDER BY a.number DESC LIMIT 1) AS error_type
FROM requests r JOIN names f ON f.id = r.format LEFT JOIN names p ON p.id = r.path LEFT JOIN names m ON m.id = r.model
    LEFT JOIN names t ON t.id = r.route LEFT JOIN bodies b ON b.request = r.id";

/// What the seed wrote into the same file is kept, under another name, and read beside ours.
const SEED_TABLE: &str = "seed_request_logs";

/// How long somebody else's lock is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// Rows that are removed in one transaction: some milliseconds.
const PRUNE_ROWS: u64 = 2000;

/// Pages that are given back at once, and that may be free for what comes next: two megabytes.
const PRUNE_PAGES: i64 = 512;

/// Names that are known by heart; beyond that they are looked up anew.
const NAMES_MAX: usize = 4096;

/// How long rows are kept, and how large the file may grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keep {
    pub age: Duration,
    pub bytes: u64,
}

/// The open file.
pub struct Store {
    connection: Connection,
    names: AHashMap<Box<str>, i64>,
    /// The second in which a refused request last got a row of its own.
    sampled_s: u64,
    /// Device and number of the file.
    file: Option<(u64, u64)>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.connection.path()).finish_non_exhaustive()
    }
}

/// Why the journal cannot be written.
#[derive(Debug)]
pub enum StoreError {
    Folder(PathBuf, io::Error),
    /// The file is no journal, or is no longer one.
    Corrupt(rusqlite::Error),
    /// A later version of this program made it.
    Newer(i64),
    /// It is of no version that can be read.
    Version(i64),
    /// Another program's file.
    Foreign,
    Sql(rusqlite::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Corrupt(error) => write!(f, "the file is damaged: {error}"),
            Self::Newer(version) => {
                write!(f, "a newer model-proxy has written it (version {version}, and this one knows {VERSION})")
            }
            Self::Version(0) => f.write_str("is no journal of model-proxy, or nothing has been written to it yet"),
            Self::Version(version) => write!(f, "is of version {version}, and this model-proxy reads {VERSION}"),
            Self::Foreign => f.write_str("is a database of another program, which is left alone"),
            Self::Sql(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            _ => Self::Sql(error),
        }
    }
}

impl StoreError {
    /// Whether the same rows can be written later: it is the file's or the disk's trouble, not theirs.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Folder(..) | Self::Corrupt(_) | Self::Newer(_) | Self::Version(_) | Self::Foreign => true,
            Self::Sql(error) => !matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
            ),
        }
    }
}

impl Store {
    /// Opens the file, and makes it and its folder if they are not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| StoreError::Folder(folder.to_owned(), e))?;
        }
        // Who asks for what is nobody else's business. What SQLite puts beside the file is as the file is.
        if let Ok(made) = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            drop(made);
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        if owner(&connection)? == Owner::Another {
            return Err(StoreError::Foreign);
        }
        // Before the first table, or it does nothing: so that room can be given back bit by bit.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Sound after a crash of the process; a power cut may take the last moments (sqlite.org/pragma.html#pragma_synchronous).
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        bring_up_to_date(&mut connection)?;
        Ok(Self { connection, names: AHashMap::new(), sampled_s: 0, file: file_at(path) })
    }

    /// Whether the file at a path is still the one that is open.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.file.is_some() && self.file == file_at(path)
    }

    /// Writes rows as they were spelled, all of them or none. Gives how many requests were in them.
    pub(super) fn write(&mut self, mut rows: Rows<'_>) -> Result<u64, StoreError> {
        let Self { connection, names, sampled_s, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known_before = names.len();
        let mut batch = Batch::new(&transaction, names, *sampled_s);
        let written = batch.rows(&mut rows).and_then(|count| batch.sums().map(|()| count));
        let sampled = batch.sampled_s;
        match written.and_then(|count| transaction.commit().map(|()| count)) {
            Ok(count) => {
                *sampled_s = sampled;
                if NAMES_MAX < names.len() {
                    names.clear();
                }
                Ok(count)
            }
            Err(error) => {
                // Those of this batch are gone with it.
                if names.len() != known_before {
                    names.clear();
                }
                Err(error.into())
            }
        }
    }

    /// Removes some of what is too old or too much. Gives whether there may be more.
    pub fn prune(&mut self, keep: Keep, now_ms: u64) -> Result<bool, StoreError> {
        let age_ms = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = now_ms.saturating_sub(age_ms);
        let too_much = keep.bytes < self.bytes()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // The seed's are older than all of ours.
        let mut removed = prune_seed(&transaction, oldest_ms, too_much)?;
        let which = params![signed(oldest_ms), signed(PRUNE_ROWS), too_much && removed == 0];
        // The first rows ended first. Those that are to be removed are looked for among so many, and no further.
        let chosen = "SELECT id FROM (SELECT id, at_ms FROM requests ORDER BY id LIMIT ?2) WHERE ?3 OR at_ms < ?1";
        transaction.execute(&format!("DELETE FROM attempt_rows WHERE request IN ({chosen})"), which)?;
        transaction.execute(&format!("DELETE FROM bodies WHERE request IN ({chosen})"), which)?;
        removed += transaction.execute(&format!("DELETE FROM requests WHERE id IN ({chosen})"), which)?;
        let hour = signed(oldest_ms / HOUR_MS);
        transaction.execute("DELETE FROM spread WHERE hours IN (SELECT id FROM hours WHERE hour < ?1)", [hour])?;
        removed += transaction.execute("DELETE FROM hours WHERE hour < ?1", [hour])?;
        transaction.commit()?;
        Ok(self.give_back()? || 0 < removed)
    }

    /// Gives the disk some of the room that is free in the file. Whether there is more to give: a file that another program made
    /// may not be able to, and its free room is filled again instead.
    fn give_back(&self) -> rusqlite::Result<bool> {
        let free = self.number("freelist_count")?;
        if free <= PRUNE_PAGES {
            return Ok(false);
        }
        // Each step gives back one page, so all of them have to be taken.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({PRUNE_PAGES})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        let left = self.number("freelist_count")?;
        Ok(PRUNE_PAGES < left && left < free)
    }

    fn number(&self, pragma: &str) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, pragma, |row| row.get(0))
    }

    /// Lets the file grow no further, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) {
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], set).unwrap();
    }

    /// Removes all that was kept, the seed's too. Gives how many requests that were.
    pub fn clear(&mut self) -> Result<usize, StoreError> {
        let transaction = self.connection.transaction()?;
        let mut removed = transaction.execute("DELETE FROM requests", [])?;
        transaction
            .execute_batch("DELETE FROM attempt_rows; DELETE FROM bodies; DELETE FROM hours; DELETE FROM spread")?;
        if has_table(&transaction, SEED_TABLE)? {
            removed += transaction.execute(&format!("DELETE FROM {SEED_TABLE}"), [])?;
        }
        transaction.commit()?;
        // Names stay: whoever writes knows some of them by heart.
        self.connection.execute_batch("VACUUM")?;
        Ok(removed)
    }

    /// How large the file is, without what is free in it.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let pages = self.number("page_count")? - self.number("freelist_count")?;
        Ok(u64::try_from(pages * self.number("page_size")?).unwrap_or(0))
    }
}

/// As much of the write-ahead log as is kept after it was written back.
const WAL_BYTES_KEPT: i64 = 4 * 1024 * 1024;

pub(super) const HOUR_MS: u64 = 3_600_000;

fn file_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Moves a damaged file out of the way, with all that belongs to it. Gives where it lies now.
pub(super) fn set_aside(path: &Path, unix_seconds: u64) -> io::Result<PathBuf> {
    let aside = with_suffix(path, &format!(".damaged-{unix_seconds}"));
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes some of the seed's rows. Gives how many.
fn prune_seed(transaction: &Transaction<'_>, oldest_ms: u64, too_much: bool) -> rusqlite::Result<usize> {
    if !has_table(transaction, SEED_TABLE)? {
        return Ok(0);
    }
    let chosen = format!(
        "SELECT id FROM (SELECT id, timestamp FROM {SEED_TABLE} ORDER BY id LIMIT ?2) \
         WHERE ?3 OR timestamp < datetime(?1 / 1000, 'unixepoch')"
    );
    let which = params![signed(oldest_ms), signed(PRUNE_ROWS), too_much];
    transaction.execute(&format!("DELETE FROM {SEED_TABLE} WHERE id IN ({chosen})"), which)
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    /// Nothing is in it.
    Nobody,
    /// The Python program this one grew from: its rows are kept, and ours put beside them.
    Seed,
    /// A version of ours.
    Us,
    Another,
}

/// By what is in it: a number alone might be anybody's.
pub(super) fn owner(connection: &Connection) -> rusqlite::Result<Owner> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?;
    // attempts is a table, and a view since version 4.
    let known = "SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'view') AND name IN (?1, ?2, ?3, ?4, ?5)";
    let ours: i64 = connection.query_row(known, TABLES, |row| row.get(0))?;
    Ok(match (version, ours) {
        (0, 0) if tables == 0 => Owner::Nobody,
        (0, 0) if has_table(connection, "request_logs")? => Owner::Seed,
        (1.., _) if usize::try_from(ours) == Ok(TABLES.len()) => Owner::Us,
        _ => Owner::Another,
    })
}

/// Those of every version.
const TABLES: [&str; 5] = ["names", "requests", "attempts", "hours", "spread"];

fn bring_up_to_date(connection: &mut Connection) -> Result<(), StoreError> {
    // Whoever comes second finds it done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let steps = usize::try_from(version).ok().and_then(|version| STEPS.get(version..));
    let Some(steps) = steps.filter(|_| version < VERSION) else {
        return Err(StoreError::Newer(version));
    };
    if has_table(&transaction, "request_logs")? {
        transaction.execute_batch(&format!("ALTER TABLE request_logs RENAME TO {SEED_TABLE}"))?;
    }
    transaction.execute_batch("DROP VIEW IF EXISTS request_logs")?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(VIEW)?;
    if has_table(&transaction, SEED_TABLE)? {
        let columns = "id, request_id, timestamp, endpoint, method, client_api_key_hash, requested_model, resolved_provider, \
            resolved_model, parameters, messages, response_status, response_time_ms, response_content, response_usage, \
            provider_api_key_used, provider_retries, is_streaming, error_message, error_type";
        let both = format!("{VIEW} UNION ALL SELECT {columns} FROM {SEED_TABLE}");
        transaction.execute_batch(&format!("DROP VIEW request_logs; {both}"))?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let wanted = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(connection.query_row(wanted, [name], |_| Ok(())).optional()?.is_some())
}
