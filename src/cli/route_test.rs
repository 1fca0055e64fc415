//! `route test`: the plan of a model's requests, driven with outcomes that are made up.

mod scene;
mod show;

use std::sync::{Arc, OnceLock};

use crate::cli::outcome;
use crate::cli::parse::Given;
use crate::cli::route_test::scene::{Scene, Typed};
use crate::cli::{Exit, Unready, environment, format, load, remedy, resolve, say, wants_json};
use crate::config::Loaded;
use crate::route::keys::{ModelState, Registry};
use crate::route::table::{Key, Resolved, Route, Slot};

pub(crate) fn run(given: &Given) -> Exit {
    test(given).unwrap_or_else(|unready| unready.tell(Exit::Wrong))
}

fn test(given: &Given) -> Result<Exit, Unready> {
    let Some(name) = given.rest.first().map(|n| n.to_string_lossy()) else {
        return Err(Unready::Usage("route test needs the name of a model".to_owned()));
    };
    let json = wants_json(given)?;
    let from = format(given.text_or_default("from")?, "from")?;
    let keys = pretended(given)?;
    let parts = parts(&given.texts("outcome")?)?;
    let registry = Registry::default();
    let loaded = load(given, &environment(given)?, &registry)?;
    let resolved = match resolve(&loaded.table, &name) {
        Ok(resolved) => resolved,
        Err(none) => return Ok(say::no(none)),
    };
    let remedies = resolved.model.routes.iter().map(|route| remedy(&loaded, route)).collect();
    let resolved = match keys {
        Some(n) => pretend(loaded, resolved, n, &registry),
        None => resolved,
    };
    let mut scene = Scene::new(&resolved, &name, remedies);
    let requests: Vec<scene::Request> = parts.into_iter().map(|part| scene.request(part)).collect();
    say::out(&if json { show::json(&name, &requests, from) } else { show::table(&requests, from) });
    Ok(if requests.iter().any(scene::Request::is_delivered) { Exit::Fine } else { Exit::No })
}

fn pretended(given: &Given) -> Result<Option<usize>, Unready> {
    let Some(text) = given.text("keys")? else { return Ok(None) };
    let number = text.parse().ok().filter(|n| (1..=KEYS_MAX).contains(n));
    let number =
        number.ok_or_else(|| Unready::Usage(format!("--keys takes a number from 1 to {KEYS_MAX}, not {text:?}")));
    number.map(Some)
}

/// More keys than a request may have attempts tell nothing more.
const KEYS_MAX: usize = 99;

/// The outcomes of each request.
fn parts(texts: &[&str]) -> Result<Vec<Vec<Typed>>, Unready> {
    let mut parts = vec![Vec::new()];
    for text in texts {
        let said = outcome::parse(text).map_err(|unclear| Unready::Usage(unclear.to_string()))?;
        match (said, parts.last_mut()) {
            (outcome::Said::Request, _) | (_, None) => parts.push(Vec::new()),
            (said, Some(part)) => part.push(Typed { text: (*text).to_owned(), said }),
        }
    }
    Ok(parts)
}

/// The model as if each of its routes that needs a key had so many. The configuration is given up for it: only a table
/// that nobody else reads may be changed.
fn pretend(loaded: Loaded, mut resolved: Resolved, n: usize, registry: &Registry) -> Resolved {
    drop(loaded);
    for route in Arc::get_mut(&mut resolved.model).into_iter().flat_map(|model| &mut model.routes) {
        let Some(route) = Arc::get_mut(route) else { continue };
        let needs_none = route.keys.iter().any(|slot| slot.key.secret.is_none());
        if !needs_none {
            route.keys = (1..=n).map(|number| slot(route, number, registry)).collect();
        }
    }
    resolved
}

fn slot(route: &Route, number: usize, registry: &Registry) -> Slot {
    let (provider, model) = (&route.provider.name, &route.model);
    Slot {
        key: Arc::new(Key { name: format!("key {number}").into(), secret: None, header: None }),
        on_key: registry.state(format!("pretended {provider} {number}")),
        on_model: ModelState::new(registry, &format!("pretended {provider} {model} {number}"), model.is_wildcard()),
        sent: OnceLock::new(),
    }
}
