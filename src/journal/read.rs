//! Reads the journal, beside whoever writes it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use crate::journal::spread::percentile;
use crate::journal::store::{BUSY, Owner, Store, StoreError, VERSION, owner};
use crate::wire::event::Usage;

/// The journal, to be read only.
pub struct Reader(Connection);

/// What the tokens of a route (`provider/model`) cost, in US dollars, where that is known.
pub type Cost = Box<dyn Fn(&str, &Usage) -> Option<f64> + Send>;

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reader").field(&self.0.path()).finish()
    }
}

/// What statistics are told by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    Model,
    Provider,
    Route,
    Key,
    Client,
    Day,
}

impl By {
    /// Every way, by its name.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("model", Self::Model),
        ("provider", Self::Provider),
        ("route", Self::Route),
        ("key", Self::Key),
        ("client", Self::Client),
        ("day", Self::Day),
    ];

    fn column(self) -> &'static str {
        match self {
            Self::Model => "m.text",
            Self::Provider => "substr(r.text, 1, max(instr(r.text, '/') - 1, 0))",
            Self::Route => "r.text",
            Self::Key => "k.text",
            Self::Client => "c.text",
            Self::Day => "date(h.hour * 3600, 'unixepoch')",
        }
    }
}

/// The sums of one model, provider, key, client or day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stat {
    /// Empty where there is none: of what was refused before a model was found, say.
    pub name: String,
    pub requests: u64,
    /// Those among them that were not answered, broke off, were left, or were never sent anywhere.
    pub failed: u64,
    pub broken: u64,
    pub left: u64,
    pub refused: u64,
    pub attempts: u64,
    /// Answers whose usage nobody told.
    pub uncounted: u64,
    /// Tokens: input (without those of caches), cache read, cache write, of that for an hour, output, reasoning.
    pub tokens: [u64; 6],
    /// US dollars, for what has a price; `None` where there are tokens, or may be, and none of them has one.
    pub cost: Option<f64>,
    /// Requests whose tokens have none, all or some of them.
    pub unpriced: u64,
    /// Microseconds within which 50, 95 and 99 of a hundred ended, to 7 %; of those that were not refused.
    pub within_us: [Option<u64>; 3],
}

/// One request, as it was kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The number of its row.
    pub row: i64,
    pub id: String,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    pub client: String,
    pub format: String,
    pub asked: String,
    pub model: String,
    pub route: String,
    pub stream: bool,
    pub status: u16,
    pub ended: String,
    pub attempts: u32,
    /// As an upstream counted them; with what caches read and wrote.
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub first_output_us: Option<u64>,
    pub total_us: u64,
    /// US dollars; `None` if nobody counted, or there is no price.
    pub cost: Option<f64>,
    pub error: String,
}

/// One value of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'v> {
    Null,
    Int(i64),
    Real(f64),
    Text(&'v str),
}

const JOINS: &str = "FROM hours h JOIN names o ON o.id = h.outcome JOIN names m ON m.id = h.model JOIN names r ON r.id = h.route \
    JOIN names k ON k.id = h.key JOIN names c ON c.id = h.client";

const TOKENS: &str = "0 < input + cache_read + cache_write + output";

const COST: &str = "cost(r.text, input, cache_read, cache_write, cache_write_1h, output)";

impl Reader {
    /// Opens a journal that is there, once it is of this version: an earlier one of ours, or the seed's, is brought up to date
    /// as the next start would do.
    pub fn open_up_to_date(path: &Path, cost: Cost) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let is_old = version < VERSION && matches!(owner(&connection)?, Owner::Seed | Owner::Us);
        drop(connection);
        if is_old {
            drop(Store::open(path)?);
        }
        Self::open(path, cost)
    }

    /// Opens a journal that is there. The view `log` has a column more, `cost`: it is reckoned with today's prices, whenever
    /// a row is looked at.
    pub fn open(path: &Path, cost: Cost) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        // VACUUM INTO would write a copy that anybody may read: it attaches the file it writes to.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match (version, owner(&connection)?) {
            (VERSION, Owner::Us) => {}
            (_, Owner::Another) => return Err(StoreError::Foreign),
            (other, Owner::Us | Owner::Seed | Owner::Nobody) => return Err(StoreError::Version(other)),
        }
        let function = move |with: &mut Context<'_>| {
            let route: Option<String> = with.get(0)?;
            let tokens = |at| with.get::<Option<i64>>(at).map(|n| n.and_then(|n| u64::try_from(n).ok()));
            let used = Usage {
                input: tokens(1)?,
                cache_read: tokens(2)?,
                cache_write: tokens(3)?,
                cache_write_1h: tokens(4)?,
                output: tokens(5)?,
                reasoning: None,
            };
            Ok(route.and_then(|route| cost(&route, &used)))
        };
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        connection.create_scalar_function(c"cost", 6, flags, function)?;
        let of = "route, input, cache_read, cache_write, cache_write_1h, output";
        connection.execute_batch(&format!("CREATE TEMP VIEW log AS SELECT *, cost({of}) AS cost FROM main.log"))?;
        Ok(Self(connection))
    }

    /// What was counted since an hour (since 1970), the most asked first; days in order.
    pub fn stats(&self, by: By, since_hour: u64) -> Result<Vec<Stat>, StoreError> {
        let column = by.column();
        let since = i64::try_from(since_hour).unwrap_or(i64::MAX);
        let mut all: BTreeMap<String, Stat> = BTreeMap::new();
        let mut sums = self.0.prepare(&format!(
            "SELECT {column}, o.text, sum(requests), sum(attempts), sum(uncounted), sum(input), sum(cache_read), sum(cache_write), \
             sum(cache_write_1h), sum(output), sum(reasoning), total({COST}), \
             sum(CASE WHEN {TOKENS} AND {COST} IS NULL THEN requests ELSE 0 END), \
             max({TOKENS} AND {COST} IS NOT NULL) {JOINS} WHERE h.hour >= ?1 GROUP BY 1, 2"
        ))?;
        let mut rows = sums.query([since])?;
        while let Some(row) = rows.next()? {
            let (name, outcome): (String, String) = (row.get(0)?, row.get(1)?);
            let number = |at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
            let stat = all.entry(name.clone()).or_insert_with(|| Stat { name, ..Stat::default() });
            let requests = number(2)?;
            stat.requests += requests;
            match outcome.as_str() {
                "failed" => stat.failed += requests,
                "broken" => stat.broken += requests,
                "client_closed" => stat.left += requests,
                "refused" => stat.refused += requests,
                // Answered: that is what the others leave of all.
                _ => {}
            }
            stat.attempts += number(3)?;
            stat.uncounted += number(4)?;
            for (at, tokens) in (5..).zip(&mut stat.tokens) {
                *tokens += number(at)?;
            }
            if row.get(13)? {
                stat.cost = Some(stat.cost.unwrap_or(0.0) + row.get::<_, f64>(11)?);
            }
            stat.unpriced += number(12)?;
        }
        for stat in all.values_mut().filter(|stat| stat.unpriced + stat.uncounted == 0) {
            // Without a token nothing is unknown.
            stat.cost.get_or_insert(0.0);
        }
        self.spreads(column, since, &mut all)?;
        let mut all: Vec<Stat> = all.into_values().collect();
        if by != By::Day {
            all.sort_by_key(|stat| std::cmp::Reverse(stat.requests));
        }
        Ok(all)
    }

    fn spreads(&self, column: &str, since: i64, all: &mut BTreeMap<String, Stat>) -> Result<(), StoreError> {
        let mut spreads = self.0.prepare(&format!(
            "SELECT {column}, s.bucket, sum(s.requests) {JOINS} JOIN spread s ON s.hours = h.id \
             WHERE h.hour >= ?1 AND o.text != 'refused' GROUP BY 1, 2 ORDER BY 1, 2"
        ))?;
        let mut of_one: BTreeMap<String, Vec<(u32, u64)>> = BTreeMap::new();
        let mut rows = spreads.query([since])?;
        while let Some(row) = rows.next()? {
            let requests = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            of_one.entry(row.get(0)?).or_default().push((row.get(1)?, requests));
        }
        for (name, spread) in of_one {
            if let Some(stat) = all.get_mut(&name) {
                stat.within_us = [50, 95, 99].map(|percent| percentile(&spread, percent));
            }
        }
        Ok(())
    }

    /// Asks whatever is asked, and gives each row until nobody takes it (`false`). What would change the file, or reach another, is
    /// refused by SQLite.
    pub fn query(
        &self,
        sql: &str,
        with: &[u64],
        each: &mut dyn FnMut(&[&str], &[Value<'_>]) -> bool,
    ) -> Result<(), StoreError> {
        let mut statement = self.0.prepare(sql)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let with = with.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX));
        let mut rows = statement.query(rusqlite::params_from_iter(with))?;
        while let Some(row) = rows.next()? {
            let value = |at| {
                Ok(match row.get_ref(at)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(n) => Value::Int(n),
                    ValueRef::Real(n) => Value::Real(n),
                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                        Value::Text(std::str::from_utf8(text).unwrap_or("(no text)"))
                    }
                })
            };
            let values = (0..names.len()).map(value).collect::<rusqlite::Result<Vec<_>>>()?;
            if !each(&names, &values) {
                break;
            }
        }
        Ok(())
    }

    /// The number of the last row; 0 if there is none.
    pub fn last(&self) -> Result<i64, StoreError> {
        Ok(self.0.query_row("SELECT coalesce(max(id), 0) FROM requests", [], |row| row.get(0))?)
    }

    /// The last requests behind a row, at most so many, in order.
    pub fn tail(&self, behind: i64, most: u32) -> Result<Vec<Kept>, StoreError> {
        let mut last = self.0.prepare_cached(
            "SELECT id, request_id, at_ms, client, format, coalesce(asked, ''), coalesce(model, ''), coalesce(route, ''), stream, status, \
             ended, attempts, \
             CASE WHEN output IS NULL THEN NULL ELSE coalesce(input, 0) + coalesce(cache_read, 0) + coalesce(cache_write, 0) END, \
             output, first_output_us, total_us, coalesce(error, ''), cost FROM log WHERE id > ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let positive = |n: i64| u64::try_from(n).unwrap_or(0);
        let kept = last.query_map(params![behind, most], |row| {
            Ok(Kept {
                row: row.get(0)?,
                id: row.get(1)?,
                at_ms: positive(row.get(2)?),
                client: row.get(3)?,
                format: row.get(4)?,
                asked: row.get(5)?,
                model: row.get(6)?,
                route: row.get(7)?,
                stream: row.get(8)?,
                status: row.get(9)?,
                ended: row.get(10)?,
                attempts: row.get(11)?,
                input: row.get::<_, Option<i64>>(12)?.map(positive),
                output: row.get::<_, Option<i64>>(13)?.map(positive),
                first_output_us: row.get::<_, Option<i64>>(14)?.map(positive),
                total_us: positive(row.get(15)?),
                error: row.get(16)?,
                cost: row.get(17)?,
            })
        })?;
        let mut kept = kept.collect::<Result<Vec<_>, _>>()?;
        kept.reverse();
        Ok(kept)
    }
}

impl StoreError {
    /// Whether it is the query's own fault and not the journal's.
    #[must_use]
    pub fn is_of_the_query(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        // What has no code never came to SQLite: no statement, or two.
        matches!(error.sqlite_error_code(), None | Some(ErrorCode::Unknown | ErrorCode::ReadOnly | ErrorCode::TooBig))
    }

    /// Whether another file was to be read or written.
    #[must_use]
    pub fn is_of_another_file(&self) -> bool {
        matches!(self, Self::Sql(error) if error.to_string().contains("too many attached databases"))
    }
}
