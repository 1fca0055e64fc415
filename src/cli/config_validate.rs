//! `config validate`

use std::path::{Path, PathBuf};

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, lines, lookup, say};
use crate::config::{Diagnostic, Severity, is_same_file};
use crate::route::keys::Registry;

pub(crate) fn run(given: &Given) -> Exit {
    validate(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn validate(given: &Given) -> Result<Exit, Unready> {
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
    if !found.is_empty() {
        say::out(&lines(&found));
    }
    let count = |severity: Severity| found.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let verdict = if errors == 0 { "fine" } else { "not usable" };
    let models = models.map_or_else(String::new, |n| format!(", {}", plural(n, "model")));
    let summary =
        format!("{}: {verdict}: {}, {}{models}", lookup.root, plural(errors, "error"), plural(warnings, "warning"));
    say::err(&summary);
    Ok(if errors == 0 { Exit::Fine } else { Exit::No })
}

pub(super) fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
