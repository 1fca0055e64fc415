//! `config explain`: what a model's requests meet, route by route. Everything is asked of the code that does it.

mod conversion;
mod failures;
mod show;

use std::sync::Arc;
use std::time::Duration;

use crate::cli::config_explain::conversion::Conversion;
use crate::cli::config_explain::failures::Rule;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, format, load, remedy, resolve, say, wants_json};
use crate::config::{Loaded, show::url};
use crate::route::keys::Registry;
use crate::route::table::{Address, Resolved, Route, Timeouts};
use crate::wire::caps::Capabilities;
use crate::wire::{Format, Target};

pub(crate) fn run(given: &Given) -> Exit {
    explain(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn explain(given: &Given) -> Result<Exit, Unready> {
    let Some(name) = given.rest.first().map(|n| n.to_string_lossy()) else {
        return Err(Unready::Usage("config explain needs the name of a model".to_owned()));
    };
    let json = wants_json(given)?;
    let from = given.text("from")?.map(|name| format(name, "from")).transpose()?;
    let from = from.map_or_else(|| Format::ALL.to_vec(), |one| vec![one]);
    let loaded = load(given, &environment(given)?, &Registry::default())?;
    let resolved = match resolve(&loaded.table, &name) {
        Ok(resolved) => resolved,
        Err(none) => return Ok(say::no(none)),
    };
    let explained = Explained::new(&name, &resolved, &loaded, &from);
    say::out(&if json {
        show::json(&explained, given.has("fields"))
    } else {
        show::table(&explained, given.has("fields"))
    });
    Ok(Exit::Fine)
}

/// A model as its requests find it.
#[derive(Debug)]
struct Explained<'e> {
    /// The name that was asked for.
    name: &'e str,
    model: &'e str,
    aliases: Vec<&'e str>,
    on_lossy: &'static str,
    attempts_max: u32,
    deadline: Duration,
    ways: Vec<Way<'e>>,
}

/// One route of it.
#[derive(Debug)]
struct Way<'e> {
    provider: &'e str,
    /// The model's name upstream.
    model: String,
    /// The model whose route it is, where that is a fallback.
    fallback: Option<&'e str>,
    format: Format,
    address: String,
    /// The vendor's other format, where it is spoken, and whether the model needs it for tools while it thinks.
    twin: Option<(Format, String, bool)>,
    proxy: Option<String>,
    keys: Keys,
    timeouts: Timeouts,
    /// Tokens it is declared to take in.
    context_tokens: Option<u64>,
    rules: Vec<Rule>,
    /// Fields set where the client does not.
    sets: Vec<&'e str>,
    conversions: Vec<Conversion>,
    /// What becomes of requests that have to go to the vendor's other format: those with tools, while the model thinks.
    with_tools: Vec<Conversion>,
}

#[derive(Debug)]
enum Keys {
    /// (variable, fingerprint), in the order of their turns.
    Found(Vec<(String, String)>),
    NoneNeeded,
    /// What to do.
    Missing(String),
}

impl<'e> Explained<'e> {
    fn new(name: &'e str, resolved: &'e Resolved, loaded: &Loaded, from: &[Format]) -> Self {
        let model = &*resolved.model;
        Self {
            name,
            model: &model.name,
            aliases: model.aliases.iter().map(|alias| &**alias).collect(),
            on_lossy: model.on_lossy.as_str(),
            attempts_max: model.terms.attempts_max,
            deadline: model.terms.deadline,
            ways: model.routes.iter().map(|route| way(route, resolved, loaded, from)).collect(),
        }
    }
}

fn way<'e>(route: &'e Arc<Route>, resolved: &'e Resolved, loaded: &Loaded, from: &[Format]) -> Way<'e> {
    let model = resolved.upstream_model(route).into_owned();
    // What a model takes in its vendor's other format only is sent there.
    let able = Capabilities {
        tools_need_responses_api: route.capabilities.tools_need_responses_api && route.twin.is_none(),
        ..route.capabilities.clone()
    };
    let target = Target { model: &model, capabilities: &able, quirks: &route.quirks };
    let spoken = |from: Format| route.twin_for(from, || false).map_or(route.format, |twin| twin.format);
    let twin = route.twin.as_ref().map(|twin| {
        (twin.format, masked(&url(&twin.address, &model), route), route.capabilities.tools_need_responses_api)
    });
    let with_tools = match route.twin.as_deref().filter(|_| route.capabilities.tools_need_responses_api) {
        None => Vec::new(),
        Some(twin) => {
            let able = Capabilities { tools_need_responses_api: false, ..twin.capabilities.clone() };
            let target = Target { model: &model, capabilities: &able, quirks: &twin.quirks };
            let others = from.iter().filter(|from| **from != twin.format);
            others.map(|from| Conversion::new((*from, twin.format), &target)).collect()
        }
    };
    let proxy = match &route.address {
        Address::Builtin => None,
        Address::Http { origin, .. } => origin.proxy.as_ref().map(|p| format!("http://{}:{}", p.host, p.port)),
    };
    Way {
        provider: &route.provider.name,
        fallback: (*route.via != *resolved.model.name).then_some(&*route.via),
        format: route.format,
        address: masked(&url(&route.address, &model), route),
        twin,
        proxy,
        keys: keys(route, remedy(loaded, route)),
        timeouts: route.timeouts,
        context_tokens: route.context_tokens,
        rules: failures::rules(route),
        sets: route.defaults.iter().map(|(field, _)| &**field).collect(),
        with_tools,
        conversions: from.iter().map(|from| Conversion::new((*from, spoken(*from)), &target)).collect(),
        model,
    }
}

fn keys(route: &Route, remedy: String) -> Keys {
    let found =
        |slot: &crate::route::table::Slot| Some((slot.key.name.to_string(), slot.key.secret.as_ref()?.fingerprint()));
    let found: Vec<_> = route.keys.iter().filter_map(found).collect();
    match (found.is_empty(), route.keys.is_empty()) {
        (false, _) => Keys::Found(found),
        (true, false) => Keys::NoneNeeded,
        (true, true) => Keys::Missing(remedy),
    }
}

/// An address without what may be a secret in it: values of a query, and the route's own keys.
fn masked(address: &str, route: &Route) -> String {
    let mut shown = match address.split_once('?') {
        None => address.to_owned(),
        Some((before, query)) => {
            let mask = |pair: &str| match pair.split_once('=') {
                Some((name, _)) if !OPEN.contains(&name) => format!("{name}=…"),
                Some(_) | None => pair.to_owned(),
            };
            format!("{before}?{}", query.split('&').map(mask).collect::<Vec<_>>().join("&"))
        }
    };
    for secret in route.keys.iter().filter_map(|slot| slot.key.secret.as_ref()) {
        shown = shown.replace(secret.expose(), "…");
    }
    shown
}

/// Parts of a query that are no secret and tell something.
const OPEN: [&str; 2] = ["api-version", "beta"];
