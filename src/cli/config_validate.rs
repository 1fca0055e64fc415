//! `config validate`

use std::path::{Path, PathBuf};

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, lines, lookup, say, wants_json};
use crate::config::{Diagnostic, Root, Severity, is_same_file};
use crate::route::keys::Registry;
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    validate(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn validate(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    let mut lookup = lookup(given, &env)?;
    lookup.extra = given.rest.iter().map(PathBuf::from).collect();
    if let Some(other) = lookup.extra.iter().find(|f| !f.is_file()) {
        let what = if other.is_dir() { "is a directory: name its files, or it with --config" } else { "no such file" };
        return Err(Unready::Usage(format!("{}: {what}", other.display())));
    }
    let (found, models) = match crate::config::validate(&env, &lookup, &Registry::default()) {
        Ok(loaded) => (loaded.diagnostics, Some(loaded.table.len())),
        Err(found) => (found, None),
    };
    let asked =
        |d: &&Diagnostic| lookup.extra.is_empty() || lookup.extra.iter().any(|f| is_same_file(Path::new(&*d.file), f));
    let found: Vec<&Diagnostic> = found.iter().filter(asked).collect();
    let count = |severity: Severity| found.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    say::out(&if json { as_json(&lookup.root, (errors, warnings), models, &found) } else { lines(&found) });
    let verdict = if errors == 0 { "fine" } else { "not usable" };
    let models = models.map_or_else(String::new, |n| format!(", {}", plural(n, "model")));
    let summary =
        format!("{}: {verdict}: {}, {}{models}", lookup.root, plural(errors, "error"), plural(warnings, "warning"));
    say::err(&summary);
    Ok(if errors == 0 { Exit::Fine } else { Exit::No })
}

/// What was found, and how many models there are where they can be used.
fn as_json(root: &Root, (errors, warnings): (usize, usize), models: Option<usize>, found: &[&Diagnostic]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("configuration").str(&root.to_string()).key("usable").bool(errors == 0);
    w.key("errors").int(errors as u64).key("warnings").int(warnings as u64).key("models");
    match models {
        Some(models) => w.int(models as u64),
        None => w.null(),
    };
    w.key("findings").array();
    for Diagnostic { severity, file, pointer, message, hint } in found {
        let severity = match severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        w.object().key("file").str(file).key("pointer").str(pointer).key("severity").str(severity);
        w.key("message").str(message).key("hint");
        match hint {
            Some(hint) => w.str(hint),
            None => w.null(),
        };
        w.end_object();
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
