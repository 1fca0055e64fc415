//! `db tail`: the last requests, and those that come.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::cli::db::{dollars, millis, priced, prices, reader, tell};
use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, say, wants_json};
use crate::config::Prices;
use crate::journal::{Kept, Reader, StoreError};
use crate::time::Rfc3339;
use crate::wire::json::Writer;

pub(crate) fn tail(given: &Given) -> Exit {
    tell(given, |given, path| {
        let spell = if wants_json(given)? { line_json } else { line };
        let most: u32 = given.number("lines", "a number of requests")?;
        if given.has("follow") {
            return Ok(follow(
                Followed { path, prices: prices(given)?, spell, open: None, behind: 0, is_told: false },
                most,
            )?);
        }
        // Until nobody reads on.
        let _all = reader(given, path)?.tail(0, most)?.iter().all(|one| say::bytes(spell(one).as_bytes()));
        Ok(Exit::Fine)
    })
}

/// Shows the last requests of the file, then what comes until nobody reads on.
fn follow(mut followed: Followed<'_>, most: u32) -> Result<Exit, StoreError> {
    // What is wrong with it now is the answer; what goes wrong later may pass.
    if followed.find()? && !followed.last(most)? {
        return Ok(Exit::Fine);
    }
    loop {
        match followed.look() {
            Ok(true) => {}
            // Nobody reads on: there is nothing left to follow for.
            Ok(false) => return Ok(Exit::Fine),
            Err(error) => followed.waits(&format!("{error}; waiting for what comes")),
        }
        thread::sleep(FOLLOW_PAUSE);
    }
}

/// How often it is looked for more: the journal is written ten times a second.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// A journal that is followed. Its file may not be there yet, and another may take its place.
struct Followed<'f> {
    path: &'f Path,
    prices: Arc<Prices>,
    spell: fn(&Kept) -> String,
    /// With its device and number. What is open keeps the latter: no other file gets it meanwhile.
    open: Option<(Reader, (u64, u64))>,
    /// The row that was shown last.
    behind: i64,
    /// That there is nothing to follow was said.
    is_told: bool,
}

impl Followed<'_> {
    /// Opens what lies at the path now. `false`: there is nothing yet, or it is not yet a journal.
    fn find(&mut self) -> Result<bool, StoreError> {
        let Some(file) = file_at(self.path) else { return Ok(false) };
        match priced(self.path, &self.prices) {
            // Unless another has just taken its place.
            Ok(reader) if file_at(self.path) == Some(file) => {
                (self.open, self.behind, self.is_told) = (Some((reader, file)), 0, false);
                Ok(true)
            }
            Ok(_) | Err(StoreError::Version(0)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Shows the last requests that are there. `false`: nobody reads on.
    fn last(&mut self, most: u32) -> Result<bool, StoreError> {
        let Some((reader, _)) = &self.open else { return Ok(true) };
        // Before they are read: of none at all, too, it is known which was the last.
        self.behind = reader.last()?;
        let kept = reader.tail(0, most)?;
        Ok(self.show(&kept))
    }

    /// Shows what has come. `false`: nobody reads on.
    fn look(&mut self) -> Result<bool, StoreError> {
        // Before it is read: what was written until it went is read, too.
        let is_there = self.open.as_ref().is_some_and(|(_, file)| file_at(self.path) == Some(*file));
        let come = self.come();
        if is_there || matches!(come, Ok(false)) {
            return come;
        }
        // It, or nothing, was there: of the next all is new.
        match self.find()? {
            true => self.come(),
            false => {
                self.waits("there is no journal; waiting for a request");
                Ok(true)
            }
        }
    }

    fn come(&mut self) -> Result<bool, StoreError> {
        let Some((reader, _)) = &self.open else { return Ok(true) };
        // Somebody has emptied it: rows are numbered from the beginning again.
        if reader.last()? < self.behind {
            self.behind = 0;
        }
        let kept = reader.tail(self.behind, u32::MAX)?;
        Ok(self.show(&kept))
    }

    fn show(&mut self, kept: &[Kept]) -> bool {
        kept.iter().all(|one| {
            self.behind = one.row;
            say::bytes((self.spell)(one).as_bytes())
        })
    }

    /// Says once why nothing comes.
    fn waits(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            say::err(&format!("{NAME}: {}: {why}", self.path.display()));
        }
    }
}

/// Device and number of a file.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

fn line(one: &Kept) -> String {
    let Kept { id, client, format, asked, route, status, ended, attempts, total_us, error, .. } = one;
    let at = Rfc3339(one.at_ms / 1000);
    let route = if route.is_empty() { "-" } else { route };
    let mut text =
        format!("{at} {id} {client} {format} {} → {route} {status} {}", say::plain(asked), millis(*total_us));
    if let (Some(input), Some(output)) = (one.input, one.output) {
        text.push_str(&format!(" {input}+{output} tokens"));
    }
    if let Some(cost) = one.cost {
        text.push_str(&format!(" {}", dollars(cost)));
    }
    if 1 < *attempts {
        text.push_str(&format!(" {attempts} tries"));
    }
    if ended != "complete" {
        text.push_str(&format!(" {ended}"));
    }
    if !error.is_empty() {
        text.push_str(&format!(" {error:?}"));
    }
    text
}

fn line_json(one: &Kept) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("at_ms").int(one.at_ms);
    for (name, text) in [
        ("request_id", &one.id),
        ("client", &one.client),
        ("format", &one.format),
        ("asked", &one.asked),
        ("model", &one.model),
        ("route", &one.route),
        ("ended", &one.ended),
        ("error", &one.error),
    ] {
        w.key(name).str(text);
    }
    w.key("stream").bool(one.stream).key("status").int(u64::from(one.status));
    w.key("attempts").int(u64::from(one.attempts)).key("total_us").int(one.total_us);
    for (name, number) in
        [("first_output_us", one.first_output_us), ("input_tokens", one.input), ("output_tokens", one.output)]
    {
        match number {
            Some(number) => w.key(name).int(number),
            None => w.key(name).null(),
        };
    }
    w.key("cost_usd");
    match one.cost {
        Some(cost) => w.raw(&cost.to_string()),
        None => w.null(),
    };
    w.end_object();
    String::from_utf8_lossy(&out).into_owned()
}
