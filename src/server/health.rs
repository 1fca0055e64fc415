//! `/health`: whether we are up, and, for those with the key, how each provider is.

use crate::gateway::Drain;
use crate::route::table::Table;
use crate::server::reload::State;
use crate::server::resting;
use crate::time::{Clock, Millis, Rfc3339};
use crate::wire::json::Writer;

/// The seed's body of `/health`.
pub(super) fn basic(is_draining: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("status").str(if is_draining { DRAINING } else { "healthy" });
    w.key("timestamp").str(&Rfc3339(Clock::unix_seconds()).to_string()).end_object();
    out
}

/// The seed's body of `/health/detailed`, told truly: a provider that no model uses is not listed, one without a key is
/// "unconfigured" rather than a failure of the whole, and one whose keys all rest says so. `resting` is ours: what is not
/// tried at the moment, until when, and why.
pub(super) fn detailed(table: &Table, now: Millis, standing: &State, drain: &Drain) -> Vec<u8> {
    let providers = providers(table, now);
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    let serving = providers.iter().any(|p| 0 < p.available) || providers.is_empty();
    let status = match (drain.is_draining(), serving) {
        (true, _) => DRAINING,
        (false, true) => "healthy",
        (false, false) => "degraded",
    };
    w.object().key("status").str(status);
    w.key("timestamp").str(&Rfc3339(Clock::unix_seconds()).to_string());
    w.key("uptime_seconds").int(now.0 / 1000);
    w.key("components").object().key("providers").object();
    for provider in &providers {
        w.key(&provider.name).object().key("status").str(provider.status());
        w.key("keys_available").int(provider.available).key("keys_total").int(provider.total).end_object();
    }
    w.end_object().key("model_config").object().key("status").str("healthy");
    w.key("models_count").int(table.len() as u64).key("hash").str(&table.hash);
    w.key("loaded_at").str(&Rfc3339(standing.loaded_at).to_string());
    if let Some((at, first)) = &standing.error {
        w.key("last_reload_error").object().key("at").str(&Rfc3339(*at).to_string());
        w.key("error").str(first).end_object();
    }
    w.end_object().end_object();
    w.key("requests_open").int(drain.open() as u64);
    resting::write(w.key("resting"), table, now);
    w.end_object();
    out
}

/// What is said once the end has begun, with a 503.
const DRAINING: &str = "draining";

struct Provider {
    name: String,
    total: u64,
    available: u64,
}

impl Provider {
    fn status(&self) -> &'static str {
        match (self.total, self.available) {
            (0, _) => "unconfigured",
            (_, 0) => "resting",
            _ => "healthy",
        }
    }
}

/// Each provider in use, with how many of its keys can be used now on at least one route.
fn providers(table: &Table, now: Millis) -> Vec<Provider> {
    let mut found: Vec<Provider> = Vec::new();
    for route in table.models().flat_map(|m| &m.routes) {
        let name = &*route.provider.name;
        let total = route.keys.len() as u64;
        let resting = !route.provider.state.is_ready(now);
        let ready = route.keys.iter().filter(|k| !resting && k.on_key.is_ready(now)).count() as u64;
        match found.iter_mut().find(|p| p.name == name) {
            Some(provider) => {
                provider.total = provider.total.max(total);
                provider.available = provider.available.max(ready);
            }
            None => found.push(Provider { name: name.to_owned(), total, available: ready }),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}
