//! `config show MODEL`

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, say};
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
    let Some(resolved) = loaded.table.resolve(&name).or_else(|| by_own_name(&loaded.table, &name)) else {
        let near = loaded.table.near(&name);
        let hint = near.first().map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
        return Ok(say::no(format_args!("no model {name:?}{hint}; see config list")));
    };
    say::out(&show::model(&resolved, &loaded));
    Ok(Exit::Fine)
}

/// A wildcard model by its name as it stands, `*` and all.
fn by_own_name(table: &crate::route::table::Table, name: &str) -> Option<crate::route::table::Resolved> {
    let model = table.models().find(|m| *m.name == *name)?;
    Some(crate::route::table::Resolved { model: std::sync::Arc::clone(model), star: Some("*".into()) })
}
