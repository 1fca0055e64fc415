//! The journal: one row for every request that was let in, in SQLite, and one for each of its tries, unless the only one simply
//! went well: of that the request's own row tells.
//!
//! ```text
//!  a request ends ─▶ Journal::log: spelled into one buffer, within bounds ─▶ (thread) one transaction each tenth of a second
//!                       └▶ no room: counted, and the request goes on            └▶ it fails: kept and tried again, each second
//! ```
//!
//! `row.rs` is what waits, `writer.rs` the thread, `batch.rs` what it writes at once, `store.rs` the file, `read.rs` what is asked of it;
//! `schema.sql` says what is in it. No prompt and no answer is kept unless that is asked for (`MODEL_PROXY_LOG_BODIES`), and no key but the
//! name of its variable and its fingerprint.

mod batch;
mod read;
mod row;
mod spread;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use read::{By, Cost, Kept, Reader, Stat, Value};
pub use row::{Part, Row, Try};
pub use spread::{middle_of, percentile};
pub use store::{Keep, Store, StoreError, VERSION};
pub use writer::{FILE, Journal, Say, Standing, path_of_url};
