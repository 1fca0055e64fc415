//! Rows on their way into the file: one transaction's, and what they sum up to.

use std::thread;

use ahash::AHashMap;
use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};

use crate::journal::row::{Row, Rows, Try};
use crate::journal::spread::bucket_of;
use crate::journal::store::HOUR_MS;
use crate::wire::event::Usage;

/// Rows after which others have a turn: where a worker has to share its core, requests must not wait for all that is written
/// at once. Some sixty microseconds.
const ROWS_AT_ONCE: u64 = 32;

/// Names in the file, after which no model behind a wildcard gets one of its own.
const NAMES_KEPT_MAX: i64 = 100_000;

const NO_TRY: Try<'static> =
    Try { route: "", key: "", fingerprint: None, outcome: "", status: 0, begun_us: 0, took_us: 0, error: "" };

/// Rows on their way into the file.
pub(super) struct Batch<'b> {
    transaction: &'b Transaction<'b>,
    names: &'b mut AHashMap<Box<str>, i64>,
    hours: AHashMap<Hour, Sum>,
    /// The second in which a refused request last got a row of its own.
    pub(super) sampled_s: u64,
    /// Filled again and again.
    spelled: String,
}

/// What is made ready once for all rows.
struct Inserts<'b> {
    request: Request<'b>,
    attempt: CachedStatement<'b>,
    bodies: CachedStatement<'b>,
}

/// Writes a request's row. Most of its numbers are those of the row before, and a statement keeps what it was given: only what
/// differs is given anew.
struct Request<'b> {
    insert: CachedStatement<'b>,
    numbers: [Option<i64>; 25],
    texts: [bool; 4],
}

const INSERT_REQUEST: &str = "INSERT INTO requests (at_ms, client, format, path, model, route, stream, status, ended, attempts, input, cache_read, \
             cache_write, cache_write_1h, output, reasoning, output_guess, counted, first_output_us, total_us, waited_us, limited, \
             key, begun_us, took_us, request_id, asked, dropped, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
             ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)";

impl<'b> Request<'b> {
    fn new(transaction: &'b Transaction<'_>) -> rusqlite::Result<Self> {
        // Nothing is bound to it: that is NULL.
        Ok(Self { insert: transaction.prepare_cached(INSERT_REQUEST)?, numbers: [None; 25], texts: [false; 4] })
    }

    /// Its columns in the order of the statement.
    fn insert(&mut self, numbers: [Option<i64>; 25], texts: [Option<&str>; 4]) -> rusqlite::Result<()> {
        let mut index = 0;
        for (new, bound) in numbers.into_iter().zip(&mut self.numbers) {
            index += 1;
            if new != *bound {
                self.insert.raw_bind_parameter(index, new)?;
                *bound = new;
            }
        }
        for (new, is_bound) in texts.into_iter().zip(&mut self.texts) {
            index += 1;
            if *is_bound || new.is_some() {
                self.insert.raw_bind_parameter(index, new)?;
                *is_bound = new.is_some();
            }
        }
        self.insert.raw_execute().map(drop)
    }
}

const INSERT_ATTEMPT: &str = "INSERT INTO attempt_rows (request, number, route, key, outcome, status, begun_us, took_us, error) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const INSERT_BODIES: &str =
    "INSERT INTO bodies (request, asked, asked_bytes, answered, answered_bytes) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Names of a request, by their numbers. The key is the last that was tried.
#[derive(Clone, Copy, Debug)]
struct Ids {
    client: i64,
    model: Option<i64>,
    route: Option<i64>,
    key: i64,
}

/// What is summed up together. Names are by their numbers.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Hour {
    hour: u64,
    client: i64,
    model: i64,
    route: i64,
    key: i64,
    outcome: i64,
}

#[derive(Debug, Default)]
struct Sum {
    requests: u64,
    attempts: u64,
    uncounted: u64,
    /// Input, cache read, cache write, of that for an hour, output, reasoning.
    tokens: [u64; 6],
    /// (bucket, requests), in no order.
    spread: Vec<(u32, u64)>,
}

impl<'b> Batch<'b> {
    pub(super) fn new(
        transaction: &'b Transaction<'b>,
        names: &'b mut AHashMap<Box<str>, i64>,
        sampled_s: u64,
    ) -> Self {
        Self { transaction, names, hours: AHashMap::new(), sampled_s, spelled: String::new() }
    }
}

impl Batch<'_> {
    pub(super) fn rows(&mut self, rows: &mut Rows<'_>) -> rusqlite::Result<u64> {
        let mut count = 0_u64;
        let mut inserts = Inserts {
            request: Request::new(self.transaction)?,
            attempt: self.transaction.prepare_cached(INSERT_ATTEMPT)?,
            bodies: self.transaction.prepare_cached(INSERT_BODIES)?,
        };
        while let Some((row, tries)) = Row::read(rows) {
            count += 1;
            if count.is_multiple_of(ROWS_AT_ONCE) {
                thread::yield_now();
            }
            let ids = self.ids(&row, &tries)?;
            self.sum(&row, &ids)?;
            // Whoever is not let in may come as often as it likes: all of them are counted, and one a second has a row.
            let second = row.at_ms / 1000;
            if row.is_sampled() && std::mem::replace(&mut self.sampled_s, second) == second {
                continue;
            }
            self.row((&row, &ids), &tries, &mut inserts)?;
        }
        Ok(count)
    }

    fn ids(&mut self, row: &Row<'_>, tries: &[Try<'_>]) -> rusqlite::Result<Ids> {
        Ok(Ids {
            client: self.name(row.client)?,
            model: self.name_if_any(row.model)?,
            route: self.route(row, tries)?,
            key: self.key(tries.last().unwrap_or(&NO_TRY))?,
        })
    }

    fn row(
        &mut self,
        (row, ids): (&Row<'_>, &Ids),
        tries: &[Try<'_>],
        inserts: &mut Inserts<'_>,
    ) -> rusqlite::Result<()> {
        let Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning } = row.usage;
        let known = |n: Option<u64>| n.map(signed);
        let tokens = |n: Option<u64>| n.map(|n| signed(n.min(TOKENS_MAX)));
        let text = |text| -> Option<&str> { (!str::is_empty(text)).then_some(text) };
        let is_plain =
            |one: &Try<'_>| one.outcome == "ok" && one.status == 200 && one.error.is_empty() && one.route == row.route;
        // What is to be told of a single try that went well has room in the request's own row.
        let (only, tries) = match tries {
            [only] if is_plain(only) => (Some(only), &[][..]),
            tries => (None, tries),
        };
        let numbers = [
            Some(signed(row.at_ms)),
            Some(ids.client),
            Some(self.name(row.format)?),
            self.name_if_any(row.path)?,
            ids.model,
            ids.route,
            Some(i64::from(row.stream)),
            Some(i64::from(row.status)),
            Some(self.name(row.ended)?),
            Some(i64::from(row.attempts)),
            tokens(input),
            tokens(cache_read),
            tokens(cache_write),
            tokens(cache_write_1h),
            tokens(output),
            tokens(reasoning),
            tokens(
                Some(row.output_guess).filter(|guess| 0 < *guess && (row.usage.is_empty() || row.ended != "complete")),
            ),
            tokens(row.counted),
            known(row.first_output_us),
            Some(signed(row.total_us)),
            Some(signed(row.waited_us)),
            self.name_if_any(row.limited)?,
            only.map(|_| ids.key),
            only.map(|one| signed(one.begun_us)),
            only.map(|one| signed(one.took_us)),
        ];
        let asked = text(row.asked).filter(|asked| *asked != row.model);
        inserts.request.insert(numbers, [Some(row.id), asked, text(row.dropped), text(row.error)])?;
        let request = self.transaction.last_insert_rowid();
        if let Some([asked, answered]) = row.bodies {
            let sizes = [asked, answered].map(|part| signed(part.length));
            inserts.bodies.execute(params![request, asked.text, sizes[0], answered.text, sizes[1]])?;
        }
        for (number, one) in (1_u32..).zip(tries) {
            let status = Some(one.status).filter(|status| 0 < *status);
            let (route, key, outcome) = (self.name(one.route)?, self.key(one)?, self.name(one.outcome)?);
            let times = (signed(one.begun_us), signed(one.took_us));
            inserts.attempt.execute(params![
                request,
                number,
                route,
                key,
                outcome,
                status,
                times.0,
                times.1,
                text(one.error)
            ])?;
        }
        Ok(())
    }

    /// A key is known by its variable and its fingerprint: a variable may come to hold another.
    fn key(&mut self, one: &Try<'_>) -> rusqlite::Result<i64> {
        match one.fingerprint {
            None => self.name(one.key),
            Some(fingerprint) => {
                // By hand and in one place: the standard formatting costs as much as writing the row.
                let mut spelled = std::mem::take(&mut self.spelled);
                spelled.clear();
                spelled.push_str(one.key);
                spelled.push(' ');
                let digits = (0..u32::BITS).step_by(4).rev().map(|shift| fingerprint >> shift & 0xf);
                spelled.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
                let id = self.name(&spelled);
                self.spelled = spelled;
                id
            }
        }
    }

    /// The route that answered. Behind a wildcard it has the name a client wrote: beyond so many of them it is told by its pattern.
    fn route(&mut self, row: &Row<'_>, tries: &[Try<'_>]) -> rusqlite::Result<Option<i64>> {
        let label = tries.last().map_or("", |last| last.route);
        if row.route == label || label.is_empty() || self.names.contains_key(row.route) {
            return self.name_if_any(row.route);
        }
        let last: i64 = self.transaction.query_row("SELECT coalesce(max(id), 0) FROM names", [], |row| row.get(0))?;
        self.name_if_any(if last < NAMES_KEPT_MAX { row.route } else { label })
    }

    fn name_if_any(&mut self, text: &str) -> rusqlite::Result<Option<i64>> {
        (!text.is_empty()).then(|| self.name(text)).transpose()
    }

    /// A name's number.
    fn name(&mut self, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.names.get(text) {
            return Ok(*id);
        }
        let mut find = self.transaction.prepare_cached("SELECT id FROM names WHERE text = ?1")?;
        let id = match find.query_row([text], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => self.transaction.prepare_cached("INSERT INTO names (text) VALUES (?1)")?.insert([text])?,
        };
        self.names.insert(text.into(), id);
        Ok(id)
    }

    /// Counts a request in its hour.
    fn sum(&mut self, row: &Row<'_>, ids: &Ids) -> rusqlite::Result<()> {
        let outcome = match (row.ended, row.status) {
            ("client_closed", _) => "client_closed",
            ("broken", _) => "broken",
            _ if row.is_refused() => "refused",
            (_, 400..) => "failed",
            _ => "ok",
        };
        let hour = Hour {
            hour: row.at_ms / HOUR_MS,
            client: ids.client,
            model: ids.model.map_or_else(|| self.name(""), Ok)?,
            route: ids.route.map_or_else(|| self.name(""), Ok)?,
            key: ids.key,
            outcome: self.name(outcome)?,
        };
        let Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning } = row.usage;
        let sum = self.hours.entry(hour).or_default();
        sum.requests += 1;
        sum.attempts += u64::from(row.attempts);
        sum.uncounted +=
            u64::from(row.usage.is_empty() && row.counted.is_none() && outcome != "refused" && outcome != "failed");
        let tokens = [input, cache_read, cache_write, cache_write_1h, output, reasoning];
        for (sum, tokens) in sum.tokens.iter_mut().zip(tokens) {
            *sum = sum.saturating_add(tokens.unwrap_or(0).min(TOKENS_MAX));
        }
        let bucket = bucket_of(row.total_us);
        match sum.spread.iter_mut().find(|(known, _)| *known == bucket) {
            Some((_, requests)) => *requests += 1,
            None => sum.spread.push((bucket, 1)),
        }
        Ok(())
    }

    /// Adds what was counted to what is there: another process may count into the same file.
    pub(super) fn sums(&mut self) -> rusqlite::Result<()> {
        let mut add = self.transaction.prepare_cached(
            "INSERT INTO hours (hour, client, model, route, key, outcome, requests, attempts, uncounted, input, cache_read, \
             cache_write, cache_write_1h, output, reasoning) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
             ?15) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, attempts = attempts + excluded.attempts, \
             uncounted = uncounted + excluded.uncounted, input = input + excluded.input, \
             cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write, \
             cache_write_1h = cache_write_1h + excluded.cache_write_1h, output = output + excluded.output, \
             reasoning = reasoning + excluded.reasoning RETURNING id",
        )?;
        let mut spread = self.transaction.prepare_cached(
            "INSERT INTO spread (hours, bucket, requests) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
        )?;
        for (hour, sum) in self.hours.drain() {
            let Hour { hour, client, model, route, key, outcome } = hour;
            let [input, cache_read, cache_write, cache_write_1h, output, reasoning] = sum.tokens.map(signed);
            let row = params![
                signed(hour),
                client,
                model,
                route,
                key,
                outcome,
                signed(sum.requests),
                signed(sum.attempts),
                signed(sum.uncounted),
                input,
                cache_read,
                cache_write,
                cache_write_1h,
                output,
                reasoning
            ];
            let id: i64 = add.query_row(row, |row| row.get(0))?;
            for (bucket, requests) in sum.spread {
                spread.execute(params![id, bucket, signed(requests)])?;
            }
        }
        Ok(())
    }
}

/// Most tokens of one request that are believed: beyond all windows there are, and so many of them still have a sum.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// SQLite's numbers have a sign; what is beyond them is no count of anything.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
