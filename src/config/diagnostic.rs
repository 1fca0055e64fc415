//! What is wrong with a configuration, where, and what to do about it. All of it at once.

use std::fmt;
use std::sync::Arc;

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as the user would name it.
    pub file: Arc<str>,
    /// A JSON pointer, or `line:column` where the file is no JSON; empty for the file as a whole.
    pub pointer: String,
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// How bad it is. Errors keep a configuration from being used.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Fine, but good to know.
    Note,
    /// It works, but surely not as meant.
    Warning,
    Error,
}

impl Diagnostic {
    /// What cannot be read at all.
    #[must_use]
    pub fn unreadable(what: &str, why: impl fmt::Display) -> Self {
        let (severity, file) = (Severity::Error, what.into());
        Self { severity, file, pointer: String::new(), message: why.to_string(), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

/// `file:/json/pointer: message; hint`. What is less than an error says so.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.pointer.is_empty() {
            write!(f, ":{}", self.pointer)?;
        }
        let kind = match self.severity {
            Severity::Note => "note: ",
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, ": {kind}{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) pointer: String,
}

impl Place {
    pub(crate) fn file(name: &str) -> Self {
        Self { file: name.into(), pointer: String::new() }
    }

    /// The place one step further in: a key or an index.
    pub(crate) fn at(&self, step: impl fmt::Display) -> Self {
        let step = step.to_string().replace('~', "~0").replace('/', "~1");
        Self { file: Arc::clone(&self.file), pointer: format!("{}/{step}", self.pointer) }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) found: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, place, message.into())
    }

    pub(crate) fn warn(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, place, message.into())
    }

    pub(crate) fn note(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Note, place, message.into())
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String) -> &mut Diagnostic {
        let (file, pointer) = (Arc::clone(&place.file), place.pointer.clone());
        self.found.push_mut(Diagnostic { severity, file, pointer, message, hint: None })
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// All findings, file by file; within one, in the order they were made. Each once: what is wrong with a provider is
    /// met again on every route to it.
    pub(crate) fn sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| a.file.cmp(&b.file));
        let mut each: Vec<Diagnostic> = Vec::with_capacity(self.found.len());
        for found in self.found {
            if !each.contains(&found) {
                each.push(found);
            }
        }
        each
    }
}

/// ` (did you mean "…"?)`, or nothing.
#[expect(single_use_lifetimes, reason = "an impl Trait cannot do without")]
pub(crate) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    match crate::route::near::near(word, known).first() {
        Some(near) => format!(" (did you mean {near:?}?)"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_what_and_what_to_do() {
        let mut report = Report::default();
        let place = Place::file("config/models/a.json").at("model_routings").at(0).at("a/b~c");
        report.error(&place, "is wrong").hint("write it right");
        report.warn(&Place::file("x.json"), "odd");
        report.note(&place, "by the way");
        let said: Vec<String> = report.found.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "config/models/a.json:/model_routings/0/a~1b~0c: is wrong; write it right",
                "x.json: warning: odd",
                "config/models/a.json:/model_routings/0/a~1b~0c: note: by the way",
            ]
        );
        assert!(report.has_errors(), "one of them");
    }
}
