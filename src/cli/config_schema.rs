//! `config schema`: what the files are checked against.

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, say};
use crate::config::schema::ALL;
use crate::route::near::near;

pub(crate) fn run(given: &Given) -> Exit {
    let wanted = given.rest.first().map(|kind| kind.to_string_lossy().into_owned()).unwrap_or_default();
    let known = ALL.map(|(kind, _)| kind);
    match ALL.iter().find(|(kind, _)| *kind == wanted) {
        Some((_, text)) => say::out(text),
        None => {
            let near = near(&wanted, known.iter().copied());
            let hint = near.first().map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
            let said = if wanted.is_empty() { "nothing".to_owned() } else { format!("{wanted:?}") };
            let message = format!("config schema takes {}, not {said}{hint}", known.join(", "));
            return Unready::Usage(message).tell(Exit::Wrong);
        }
    }
    Exit::Fine
}
