//! `config list`

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, say, wants_json};
use crate::config::Loaded;
use crate::route::keys::Registry;
use crate::route::table::Model;
use crate::wire::json::JsonStr;

pub(crate) fn run(given: &Given) -> Exit {
    list(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn list(given: &Given) -> Result<Exit, Unready> {
    let show = if wants_json(given)? { json } else { table };
    let env = environment(given)?;
    let loaded = load(given, &env, &Registry::default())?;
    if loaded.table.is_empty() {
        say::err(&format!("{}: there is no model", loaded.root));
    }
    say::out(&show(&loaded));
    Ok(Exit::Fine)
}

/// The names, as the seed has it.
fn json(loaded: &Loaded) -> String {
    let quote = |name: &str| format!("\"{}\"", JsonStr::quoted(name).literal());
    let names: Vec<String> = loaded.table.models().map(|m| quote(&m.name)).collect();
    format!("[{}]", names.join(", "))
}

fn table(loaded: &Loaded) -> String {
    let mut rows = vec![["MODEL", "KEYS", "ROUTES", "ALIASES"].map(str::to_owned)];
    rows.extend(loaded.table.models().map(|m| row(m)));
    say::columns(&rows, 4)
}

fn row(model: &Model) -> [String; 4] {
    // A key serves every route of its provider, and is one key.
    let mut keys: Vec<_> = model
        .routes
        .iter()
        .flat_map(|r| &r.keys)
        .filter_map(|s| s.key.secret.as_ref())
        .map(|s| s.fingerprint())
        .collect();
    keys.sort();
    keys.dedup();
    let free = model.routes.iter().flat_map(|r| &r.keys).any(|s| s.key.secret.is_none());
    let keys = if free && keys.is_empty() { "none needed".to_owned() } else { keys.len().to_string() };
    let routes: Vec<String> = model.routes.iter().map(|r| r.label().to_string()).collect();
    [model.name.to_string(), keys, routes.join(", "), model.aliases.join(", ")]
}
