//! `config show MODEL`

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, resolve, say};
use crate::config::show;
use crate::route::keys::Registry;

pub(crate) fn run(given: &Given) -> Exit {
    show_model(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn show_model(given: &Given) -> Result<Exit, Unready> {
    let Some(name) = given.rest.first().map(|n| n.to_string_lossy()) else {
        return Err(Unready::Usage("config show needs the name of a model".to_owned()));
    };
    let env = environment(given)?;
    let loaded = load(given, &env, &Registry::default())?;
    let resolved = match resolve(&loaded.table, &name) {
        Ok(resolved) => resolved,
        Err(none) => return Ok(say::no(none)),
    };
    say::out(&show::model(&resolved, &loaded));
    Ok(Exit::Fine)
}
