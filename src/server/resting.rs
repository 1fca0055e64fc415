//! What is not tried at the moment: keys, keys for one model, routes and providers, until when, and why.

use ahash::AHashSet;

use crate::route::keys::{KeyState, Why};
use crate::route::reason;
use crate::route::table::{Key, Route, Table};
use crate::route::verdict::Scope;
use crate::secret::Secret;
use crate::time::{Clock, Millis, Rfc3339};
use crate::wire::json::Writer;

/// Something that rests.
struct Resting<'t> {
    scope: Scope,
    route: &'t Route,
    /// Where the scope is a key's.
    key: Option<&'t Key>,
    /// From now, rounded up: who comes back then is not too early.
    seconds: u64,
    why: Why,
    strikes: u32,
}

/// Writes a list of what rests, each thing once, in the order of the models and their routes.
pub(super) fn write(w: &mut Writer<'_>, table: &Table, now: Millis) {
    let unix = Clock::unix_seconds();
    w.array();
    for rest in find(table, now) {
        let Resting { scope, route, key, seconds, why, strikes } = rest;
        w.object().key("scope").str(reason::scope_name(scope)).key("provider").str(&route.provider.name);
        w.key("model");
        match scope {
            Scope::Key | Scope::Provider => w.null(),
            // Behind a wildcard one of the models asked for; which one is not kept.
            Scope::KeyModel | Scope::Route => w.str(&route.model.to_string()),
        };
        let secret = key.and_then(|key| key.secret.as_ref());
        text(w.key("variable"), key.filter(|key| key.secret.is_some()).map(|key| &*key.name));
        text(w.key("fingerprint"), secret.map(Secret::fingerprint).as_deref());
        w.key("until").str(&Rfc3339(unix.saturating_add(seconds)).to_string()).key("seconds").int(seconds);
        w.key("why").str(why.as_str()).key("strikes").int(u64::from(strikes)).end_object();
    }
    w.end_array();
}

fn text(w: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) => w.str(text),
        None => w.null(),
    };
}

fn find(table: &Table, now: Millis) -> Vec<Resting<'_>> {
    let mut found = Vec::new();
    let mut seen: AHashSet<*const KeyState> = AHashSet::new();
    for route in table.models().chain(table.direct()).flat_map(|m| &m.routes) {
        let mut look = |scope: Scope, state: &KeyState, key| {
            // States are shared by all that they are the state of.
            if !state.is_ready(now) && seen.insert(std::ptr::from_ref(state)) {
                let seconds = now.until(state.ready_at()).as_millis().div_ceil(1000);
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                found.push(Resting { scope, route, key, seconds, why: state.why(now), strikes: state.strikes() });
            }
        };
        look(Scope::Provider, &route.provider.state, None);
        route.state.all().for_each(|state| look(Scope::Route, state, None));
        for slot in &route.keys {
            look(Scope::Key, &slot.on_key, Some(&*slot.key));
            slot.on_model.all().for_each(|state| look(Scope::KeyModel, state, Some(&*slot.key)));
        }
    }
    found
}
