//! One request that is over, and the bytes it waits in until it is written.
//!
//! It is spelled on its worker into one buffer that all share, and read by the writer out of it: nothing is allocated for it,
//! and nothing that one thread made is dropped by another.

use smallvec::SmallVec;

use crate::wire::event::Usage;

/// One request that is over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Row<'r> {
    pub id: &'r str,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    pub client: &'r str,
    /// The client's format.
    pub format: &'r str,
    /// The path of what is passed through; empty otherwise.
    pub path: &'r str,
    /// The model as the client named it.
    pub asked: &'r str,
    /// The logical model that was found; empty if none was.
    pub model: &'r str,
    /// `provider/model` that answered, or was tried last.
    pub route: &'r str,
    pub stream: bool,
    /// What the client was told.
    pub status: u16,
    /// `complete`, `broken`, `client_closed`, or `refused` before it was let in.
    pub ended: &'r str,
    pub attempts: u32,
    pub usage: Usage,
    /// Tokens of output, guessed by what passed.
    pub output_guess: u64,
    pub counted: Option<u64>,
    pub first_output_us: Option<u64>,
    pub total_us: u64,
    pub waited_us: u64,
    pub dropped: &'r str,
    /// The limit of ours that kept it out; empty if none did.
    pub limited: &'r str,
    /// What went wrong in the end; empty if nothing did.
    pub error: &'r str,
    /// What was asked and what was answered, if that is to be kept.
    pub bodies: Option<[Part<'r>; 2]>,
}

/// As much of a body as is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Part<'r> {
    pub text: &'r str,
    /// How many bytes it had in all.
    pub length: u64,
}

/// One try at an upstream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Try<'r> {
    pub route: &'r str,
    /// The variable the key came from.
    pub key: &'r str,
    /// The first four bytes of the key's digest; `None` where there is no key.
    pub fingerprint: Option<u32>,
    pub outcome: &'r str,
    /// The upstream's status; 0 if there was none.
    pub status: u16,
    /// Since the request came.
    pub begun_us: u64,
    pub took_us: u64,
    /// Why it failed; empty if it did not.
    pub error: &'r str,
}

/// Rows as they are spelled: their numbers, and all their texts in one. What is text stays text, and is not looked through once
/// more to see that it is.
#[derive(Debug, Default)]
pub(super) struct Spelled {
    numbers: Vec<u64>,
    texts: String,
}

impl Spelled {
    pub(super) fn len(&self) -> usize {
        self.numbers.len() * size_of::<u64>() + self.texts.len()
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { numbers: &self.numbers, texts: &self.texts }
    }

    /// Empties it, and keeps so much room.
    pub(super) fn clear(&mut self, kept_bytes: usize) {
        self.numbers.clear();
        self.numbers.shrink_to(kept_bytes / size_of::<u64>());
        self.texts.clear();
        self.texts.shrink_to(kept_bytes);
    }
}

/// Rows that are read one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'r> {
    numbers: &'r [u64],
    texts: &'r str,
}

impl<'r> Rows<'r> {
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// What was read since, when this is where it began.
    pub(super) fn until(&self, after: &Self) -> Self {
        let numbers = self.numbers.len().saturating_sub(after.numbers.len());
        let texts = self.texts.len().saturating_sub(after.texts.len());
        Self {
            numbers: self.numbers.get(..numbers).unwrap_or_default(),
            texts: self.texts.get(..texts).unwrap_or_default(),
        }
    }

    fn text(&mut self) -> Option<&'r str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.texts.split_at_checked(length)?;
        self.texts = rest;
        Some(text)
    }

    fn known(&mut self) -> Option<Option<u64>> {
        self.number().map(|n| n.checked_sub(1))
    }

    fn number(&mut self) -> Option<u64> {
        let (n, rest) = self.numbers.split_first()?;
        self.numbers = rest;
        Some(*n)
    }
}

/// The tries of one request: of most there is one.
pub(super) type Tries<'r> = SmallVec<[Try<'r>; 1]>;

/// Longest text that is kept of anything: an error's words are, a page of HTML is not.
const TEXT_MAX: usize = 1000;

impl<'r> Row<'r> {
    /// Whether it was turned away, for what it asked or how often, without any upstream being asked. That nobody could be asked,
    /// since all keys rest say, is no refusal but a failure.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.ended == "refused" || self.attempts == 0 && (400..500).contains(&self.status)
    }

    /// Whether it was kept out, by the door or by a limit: those are counted, and not all of them have a row.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.ended == "refused" || !self.limited.is_empty()
    }

    /// Spells it and its tries behind what is there.
    pub(super) fn write(&self, tries: &[Try<'_>], out: &mut Spelled) {
        let Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning } = self.usage;
        for text in [self.id, self.client, self.format, self.path, self.asked, self.model, self.route, self.ended] {
            put_text(text, out);
        }
        for text in [self.dropped, self.limited, self.error] {
            put_text(text, out);
        }
        for n in [self.at_ms, u64::from(self.stream), u64::from(self.status), u64::from(self.attempts)] {
            put(n, out);
        }
        for n in [self.output_guess, self.total_us, self.waited_us, tries.len() as u64] {
            put(n, out);
        }
        for n in [input, cache_read, cache_write, cache_write_1h, output, reasoning] {
            put_known(n, out);
        }
        put_known(self.counted, out);
        put_known(self.first_output_us, out);
        put(u64::from(self.bodies.is_some()), out);
        for Part { text, length } in self.bodies.iter().flatten() {
            put_all(text, out);
            put(*length, out);
        }
        for one in tries {
            for text in [one.route, one.key, one.outcome, one.error] {
                put_text(text, out);
            }
            put_known(one.fingerprint.map(u64::from), out);
            for n in [u64::from(one.status), one.begun_us, one.took_us] {
                put(n, out);
            }
        }
    }

    /// Takes the next one off the front. `None`: there is none.
    pub(super) fn read(from: &mut Rows<'r>) -> Option<(Self, Tries<'r>)> {
        let mut text = || from.text();
        let [id, client, format, path] = [text()?, text()?, text()?, text()?];
        let [asked, model, route, ended] = [text()?, text()?, text()?, text()?];
        let [dropped, limited, error] = [text()?, text()?, text()?];
        let mut number = || from.number();
        let [at_ms, stream, status, attempts] = [number()?, number()?, number()?, number()?];
        let [output_guess, total_us, waited_us, tries] = [number()?, number()?, number()?, number()?];
        let mut known = || from.known();
        let usage = Usage {
            input: known()?,
            cache_read: known()?,
            cache_write: known()?,
            cache_write_1h: known()?,
            output: known()?,
            reasoning: known()?,
        };
        let [counted, first_output_us] = [known()?, known()?];
        let has_bodies = from.number()?;
        let mut part = || Some(Part { text: from.text()?, length: from.number()? });
        let bodies = if has_bodies != 0 { Some([part()?, part()?]) } else { None };
        let row = Self {
            id,
            at_ms,
            client,
            format,
            path,
            asked,
            model,
            route,
            stream: stream != 0,
            status: u16::try_from(status).ok()?,
            ended,
            attempts: u32::try_from(attempts).ok()?,
            usage,
            output_guess,
            counted,
            first_output_us,
            total_us,
            waited_us,
            dropped,
            limited,
            error,
            bodies,
        };
        let tries = (0..tries).map(|_| Try::read(from)).collect::<Option<_>>()?;
        Some((row, tries))
    }
}

impl<'r> Try<'r> {
    fn read(from: &mut Rows<'r>) -> Option<Self> {
        let mut text = || from.text();
        let [route, key, outcome, error] = [text()?, text()?, text()?, text()?];
        let fingerprint = from.known()?.map(u32::try_from).transpose().ok()?;
        let status = u16::try_from(from.number()?).ok()?;
        let [begun_us, took_us] = [from.number()?, from.number()?];
        Some(Self { route, key, fingerprint, outcome, status, begun_us, took_us, error })
    }
}

fn put(n: u64, out: &mut Spelled) {
    out.numbers.push(n);
}

/// One more than it is, and 0 for what nobody said.
fn put_known(n: Option<u64>, out: &mut Spelled) {
    put(n.map_or(0, |n| n.saturating_add(1)), out);
}

fn put_text(text: &str, out: &mut Spelled) {
    let text = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default();
    put_all(text, out);
}

fn put_all(text: &str, out: &mut Spelled) {
    put(text.len() as u64, out);
    out.texts.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spelled_is_read_again() {
        let usage = Usage { input: Some(0), output: Some(u64::MAX - 1), cache_read: Some(127), ..Usage::default() };
        let row = Row {
            id: "req_1",
            at_ms: 1_795_000_000_123,
            client: "ci",
            format: "anthropic",
            path: "/v1/embeddings",
            asked: "é😀",
            model: "m",
            route: "p/m",
            stream: true,
            status: 503,
            ended: "broken",
            attempts: 2,
            usage,
            output_guess: 128,
            counted: Some(7),
            first_output_us: None,
            total_us: u64::MAX,
            waited_us: 16_384,
            dropped: "a, b",
            limited: "",
            error: "no",
            bodies: Some([Part { text: "{é}", length: 1 << 40 }, Part::default()]),
        };
        let tries = [
            Try {
                route: "p/m",
                key: "P_API_KEY",
                fingerprint: Some(0x0a1b_2c3d),
                outcome: "timeout",
                ..Try::default()
            },
            Try { route: "q/m", outcome: "ok", status: 200, begun_us: 5, took_us: 6, error: "x", ..Try::default() },
        ];
        let mut spelled = Spelled::default();
        for _ in 0..2 {
            row.write(&tries, &mut spelled);
        }
        Row::default().write(&[], &mut spelled);
        let mut from = spelled.rows();
        for _ in 0..2 {
            let before = from;
            assert_eq!(Row::read(&mut from), Some((row.clone(), Tries::from_iter(tries.clone()))));
            let mut one = before.until(&from);
            assert_eq!(
                Row::read(&mut one),
                Some((row.clone(), Tries::from_iter(tries.clone()))),
                "cut out, it is the same"
            );
            assert!(one.is_empty() && one.texts.is_empty());
        }
        assert_eq!(Row::read(&mut from), Some((Row::default(), Tries::new())));
        assert!(Row::read(&mut from).is_none() && from.is_empty());
        for cut in 0..spelled.numbers.len().max(spelled.texts.len()) {
            let numbers = spelled.numbers.get(..cut).unwrap_or(&spelled.numbers);
            let texts = spelled.texts.get(..cut).unwrap_or(&spelled.texts);
            for mut from in [Rows { numbers, ..spelled.rows() }, Rows { texts, ..spelled.rows() }] {
                while Row::read(&mut from).is_some() {}
            }
        }
    }

    #[test]
    fn long_text_is_cut_at_a_letter() {
        let long = "é".repeat(TEXT_MAX);
        let mut spelled = Spelled::default();
        Row { error: &long, ..Row::default() }.write(&[], &mut spelled);
        let (row, _) = Row::read(&mut spelled.rows()).unwrap();
        assert_eq!(row.error, "é".repeat(TEXT_MAX / 2));
    }
}
