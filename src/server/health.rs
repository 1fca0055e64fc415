//! `/health`: whether we are up, and, for those with the key, how each provider is.

use std::sync::Arc;

use crate::gateway::Gateway;
use crate::journal::{Journal, Standing};
use crate::route::table::{Address, Route, Table};
use crate::server::resting;
use crate::server::worker::Worker;
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
pub(super) fn detailed(worker: &Worker) -> Vec<u8> {
    let Gateway { table, clock, drain, capacity, .. } = &worker.gateway;
    let (table, now, standing) = (table.load(), clock.now(), worker.standing.state());
    let providers = providers(&table, now);
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    let status = match (drain.is_draining(), has_usable_key(&table, now)) {
        (true, _) => DRAINING,
        (false, true) => "healthy",
        (false, false) => "degraded",
    };
    w.object().key("status").str(status);
    w.key("timestamp").str(&Rfc3339(Clock::unix_seconds()).to_string());
    w.key("version").str(env!("CARGO_PKG_VERSION")).key("uptime_seconds").int(now.0 / 1000);
    // The journal, under the seed's name.
    w.key("components").object().key("database");
    database(&mut w, worker.journal.as_deref());
    w.key("providers").object();
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
    let (under_way, held) = capacity.taken();
    w.key("draining").bool(drain.is_draining()).key("requests_open").int(drain.open() as u64);
    w.key("requests_in_flight").int(under_way as u64).key("bytes_held").int(held as u64);
    w.key("connections").object().key("open").int(worker.crowd.open() as u64);
    w.key("most").int(worker.crowd.most() as u64).end_object();
    w.key("log").object().key("lines_waiting").int(worker.log.lines_waiting() as u64);
    w.key("lines_dropped").int(worker.log.lines_left_out()).end_object();
    resting::write(w.key("resting"), &table, now);
    w.end_object();
    out
}

/// How the journal fares. Nobody is sent away because it cannot be written.
fn database(w: &mut Writer<'_>, journal: Option<&Journal>) {
    let Some(Standing { waiting, written, dropped, failing }) = journal.map(Journal::standing) else {
        w.object().key("status").str("disabled").end_object();
        return;
    };
    w.object().key("status").str(if failing.is_some() { "unhealthy" } else { "healthy" });
    if let Some(why) = &failing {
        w.key("error").str(why);
    }
    w.key("rows_written").int(written).key("rows_waiting").int(waiting as u64);
    w.key("rows_dropped").int(dropped).end_object();
}

/// What must be so for requests to be sent here.
pub(super) fn checks(worker: &Worker) -> [(&'static str, bool); 2] {
    let Gateway { table, clock, drain, .. } = &worker.gateway;
    [("serving", !drain.is_draining()), ("a usable key", has_usable_key(&table.load(), clock.now()))]
}

/// Whether any model can be answered now by somebody. The provider that is built in counts only where there is no other:
/// it is always there, and nobody sends requests here for it.
fn has_usable_key(table: &Table, now: Millis) -> bool {
    let is_real = |route: &&Arc<Route>| matches!(route.address, Address::Http { .. });
    let mut real = table.models().flat_map(|model| &model.routes).filter(is_real).peekable();
    let is_configured =
        table.models().flat_map(|model| &model.routes).filter(is_real).any(|route| !route.keys.is_empty());
    let is_ready = |route: &Arc<Route>| {
        route.provider.state.is_ready(now) && route.keys.iter().any(|key| key.on_key.is_ready(now))
    };
    real.peek().is_none() || !is_configured && has_demo(table) || real.any(is_ready)
}

/// Nothing but the built-in provider can answer: a first look at the program.
fn has_demo(table: &Table) -> bool {
    table.models().flat_map(|model| &model.routes).any(|route| matches!(route.address, Address::Builtin))
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
