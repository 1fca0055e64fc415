//! What a conversion could not carry, and the fate each field of a format has.

use std::fmt;

use smallvec::SmallVec;

use crate::wire::{Format, json};

/// What happens to a field when it crosses into the other formats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Its meaning arrives; it may be under another name.
    Carry,
    /// It has no counterpart and the answer is none the worse: dropped, and, in a request, reported when it was set.
    Drop(&'static str),
    /// It has no counterpart and no effect on the answer: nobody is told.
    Ignore(&'static str),
    /// It has no counterpart and an answer without it would be wrong: 400.
    Refuse(&'static str),
    /// It arrives in the other format of the same vendor; elsewhere it has no counterpart, and is reported.
    Twin(&'static str),
    /// The same, where it has no effect on the answer, so that nobody is told elsewhere.
    QuietTwin(&'static str),
}

/// The fate of everything a format has: `docs/FIELDS.md` shows it, and `tests/fields.rs` holds it to the official types
/// and to what the code does with each field.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The top level of a request. Decoders go by it.
    pub request: &'static [Field],
    /// What stands inside those.
    pub inside: &'static [Field],
    pub reply: &'static [Field],
    pub stream: &'static [Field],
    /// What is another fate on the way to one format: those rows stand before the others.
    pub towards: &'static [Towards],
}

/// Rows for the way to one format.
#[derive(Clone, Copy, Debug)]
pub struct Towards {
    pub to: Format,
    pub request: &'static [Field],
    pub reply: &'static [Field],
    pub stream: &'static [Field],
}

impl Fields {
    /// The rows that are for the way to one format only.
    pub fn towards(&self, to: Format) -> impl Iterator<Item = &'static Towards> {
        self.towards.iter().filter(move |towards| towards.to == to)
    }
}

/// One row of a format's tables.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// A path, written as in `tests/sdk/fields.py`; `*` is any name, `**` any way there, `a|b` either member, `x="v"` one
    /// value of `x`. A fate that is not `Carry` goes for all that is inside. The first row that fits counts.
    pub name: &'static str,
    pub fate: Fate,
}

impl Field {
    #[must_use]
    pub const fn carry(name: &'static str) -> Self {
        Self { name, fate: Fate::Carry }
    }

    #[must_use]
    pub const fn drop(name: &'static str, why: &'static str) -> Self {
        Self { name, fate: Fate::Drop(why) }
    }

    #[must_use]
    pub const fn ignore(name: &'static str, why: &'static str) -> Self {
        Self { name, fate: Fate::Ignore(why) }
    }

    /// What happens to it on the way from its format to another.
    #[must_use]
    pub fn fate_towards(&self, from: Format, to: Format) -> Fate {
        match self.fate {
            Fate::Twin(_) | Fate::QuietTwin(_) if from.is_twin(to) => Fate::Carry,
            Fate::Twin(why) => Fate::Drop(why),
            Fate::QuietTwin(why) => Fate::Ignore(why),
            Fate::Carry | Fate::Drop(_) | Fate::Ignore(_) | Fate::Refuse(_) => self.fate,
        }
    }

    #[must_use]
    pub const fn twin(name: &'static str, why: &'static str) -> Self {
        Self { name, fate: Fate::Twin(why) }
    }

    #[must_use]
    pub const fn quiet_twin(name: &'static str, why: &'static str) -> Self {
        Self { name, fate: Fate::QuietTwin(why) }
    }

    #[must_use]
    pub const fn refuse(name: &'static str, why: &'static str) -> Self {
        Self { name, fate: Fate::Refuse(why) }
    }
}

/// Where in the client's request something stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A path that is known: `temperature`.
    Path(&'static str),
    /// A byte of the request; its path is worked out only when somebody wants to read it.
    Byte(usize),
}

impl Place {
    /// The path as people write it.
    #[must_use]
    pub fn path(&self, request: &str) -> String {
        match self {
            Self::Path(path) => (*path).to_owned(),
            Self::Byte(at) => json::path_at(request, *at),
        }
    }
}

/// Something a client set that did not arrive as it was set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loss {
    pub place: Place,
    /// Why, for people: lower case, no full stop.
    pub why: &'static str,
}

/// All that one request lost. Most lose nothing, which costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Losses(SmallVec<[Loss; 2]>);

impl Losses {
    /// Records that the field at a known path was dropped or changed.
    pub fn field(&mut self, path: &'static str, why: &'static str) {
        self.push(Loss { place: Place::Path(path), why });
    }

    /// Records that what stands at a byte of the request was dropped or changed.
    pub fn at(&mut self, byte: usize, why: &'static str) {
        self.push(Loss { place: Place::Byte(byte), why });
    }

    fn push(&mut self, loss: Loss) {
        // A request with ten thousand lost names is told of a bounded number of them.
        if self.0.len() < LOSSES_MAX && !self.0.contains(&loss) {
            self.0.push(loss);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter()
    }

    /// Each loss as `path: why`, for people.
    #[must_use]
    pub fn lines(&self, request: &str) -> Vec<String> {
        self.0.iter().map(|loss| line(&loss.place.path(request), loss.why)).collect()
    }

    /// The value of `x-model-proxy-dropped`: paths, joined by commas, each once, at most `HEADER_BYTES_MAX`.
    #[must_use]
    pub fn header(&self, request: &str) -> String {
        let mut header = String::new();
        let mut seen: Vec<String> = Vec::new();
        for loss in &self.0 {
            let path: String = loss.place.path(request).chars().filter(char::is_ascii_graphic).collect();
            if path.is_empty() || seen.contains(&path) {
                continue;
            }
            if HEADER_BYTES_MAX < header.len() + path.len() + 5 {
                header.push_str(", …");
                break;
            }
            if !header.is_empty() {
                header.push_str(", ");
            }
            header.push_str(&path);
            seen.push(path);
        }
        header.replace('…', "...")
    }
}

/// Losses kept of one request: more would only repeat themselves.
const LOSSES_MAX: usize = 64;

/// Longest header value written: well inside what every client and proxy reads (8 KiB heads are common).
const HEADER_BYTES_MAX: usize = 1024;

/// A request that cannot be converted without lying. It becomes a 400 in the client's format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub place: Place,
    /// What is wrong and what to do, for the client.
    pub message: String,
}

impl Refusal {
    pub fn at(byte: usize, message: impl Into<String>) -> Self {
        Self { place: Place::Byte(byte), message: message.into() }
    }

    pub fn field(path: &'static str, message: impl Into<String>) -> Self {
        Self { place: Place::Path(path), message: message.into() }
    }
}

impl Refusal {
    /// What is refused and why, as `path: message`, for people.
    #[must_use]
    pub fn line(&self, request: &str) -> String {
        line(&self.place.path(request), &self.message)
    }
}

fn line(path: &str, why: &str) -> String {
    if path.is_empty() { why.to_owned() } else { format!("{path}: {why}") }
}

impl From<json::JsonError> for Refusal {
    fn from(error: json::JsonError) -> Self {
        let at = error.at;
        Self::at(at, error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_path_once() {
        let request = r#"{"seed":1,"messages":[{"name":"x"}]}"#;
        let mut losses = Losses::default();
        losses.field("seed", "no counterpart");
        losses.field("seed", "really none");
        losses.at(request.find("\"x\"").unwrap(), "no counterpart");
        assert_eq!(losses.header(request), "seed, messages[0].name");
    }

    #[test]
    fn stays_short_whatever_was_lost() {
        let items = vec!["{\"name\":1}"; 5000].join(",");
        let request = format!("{{\"messages\":[{items}]}}");
        let mut losses = Losses::default();
        for (at, _) in request.match_indices('1') {
            losses.at(at, "no counterpart");
        }
        let header = losses.header(&request);
        assert!(header.len() <= HEADER_BYTES_MAX && header.contains("messages[0].name"), "{header}");
    }
}
