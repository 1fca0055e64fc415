//! Models and providers → the table.
//!
//! What is an error, and what is only worth a warning, is decided here:
//!
//! | finding | is | because |
//! |---|---|---|
//! | unknown provider | error | the route can never work, and a slip there takes the failover away unseen |
//! | provider that is not enabled | warning | it was switched off on purpose; the route is left out |
//! | fallback that is no model | warning | the seed's own example has one; the other routes still work |
//! | fallbacks in a circle | warning | each route is tried once all the same |
//! | the same name twice | error | which of them is meant cannot be known |
//! | no route at all | error | every request would fail |
//! | the same route twice | warning | the second is never tried |
//! | `*` upstream in a model without one | error | it would stand for nothing |
//! | unset `${VAR}`, no key | neither | files can be checked where no secret is; `start` tells |

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::AHashMap;

use crate::config::address::{address, expand};
use crate::config::diagnostic::{Place, Report, did_you_mean};
use crate::config::env::Env;
use crate::config::facts;
use crate::config::keyring;
use crate::config::load::Sourced;
use crate::config::passage;
use crate::config::provider::{Spec, fault};
use crate::config::source::{CapabilityFlags, ModelFile, Num, OutputGate, ProviderModel, RouteEntry};
use crate::route::keys::{ModelState, Registry};
use crate::route::table::{Address, Gate, Names, OnLossy, Passed, Pattern, Policy, Route, Terms, Timeouts};
use crate::wire::Format;

/// Providers by the names routes may use.
#[derive(Debug, Default)]
pub(crate) struct Providers {
    pub(crate) all: Vec<Spec>,
    names: AHashMap<String, usize>,
}

impl Providers {
    /// Own files come first: one that has the name of a packaged provider, or of its file, stands in for it whole.
    pub(crate) fn new(specs: Vec<Spec>, report: &mut Report) -> Self {
        let mut providers = Self::default();
        let (packaged, own): (Vec<Spec>, Vec<Spec>) = specs.into_iter().partition(|s| s.packaged);
        for spec in own {
            let name = spec.name().to_owned();
            if let Some(first) = providers.find(&name) {
                let message = format!("a provider named {name:?} is in {} already", first.place.file);
                report.error(&spec.place.at("name"), message).hint("give it another name");
                continue;
            }
            providers.names.insert(name, providers.all.len());
            providers.all.push(spec);
        }
        for (index, spec) in providers.all.iter().enumerate() {
            providers.names.entry(spec.stem.clone()).or_insert(index);
        }
        for spec in packaged {
            if !providers.names.contains_key(spec.name()) {
                providers.names.insert(spec.name().to_owned(), providers.all.len());
                providers.all.push(spec);
            }
        }
        providers
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Spec> {
        self.names.get(name).and_then(|&i| self.all.get(i))
    }

    /// The variables a route's keys are looked for in: its own, else its provider's.
    pub(crate) fn variables(&self, entry: &RouteEntry) -> Vec<String> {
        let Some(spec) = self.find(&entry.provider) else { return Vec::new() };
        // An empty list names no keys of its own, as in a provider's file.
        match entry.api_key_env.as_ref().filter(|names| !names.0.is_empty()) {
            Some(names) => keyring::named(&names.0, spec.name()),
            None => spec.patterns(),
        }
    }
}

/// A route with what makes it another route than the next.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Its number in the file.
    pub(crate) index: usize,
    pub(crate) identity: Identity,
    pub(crate) route: Arc<Route>,
}

/// Two routes with the same identity would fail for the same reason.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Identity {
    provider: Box<str>,
    model: String,
    format: Format,
    base_url: String,
    /// The variables it names for its keys.
    keys: Vec<String>,
}

/// All that compiling a route needs.
#[derive(Debug)]
pub(crate) struct Compile<'c> {
    pub(crate) env: &'c Env,
    pub(crate) registry: &'c Registry,
    pub(crate) providers: &'c Providers,
    /// How long keys rest where no file says: `KEY_COOLDOWN_SECONDS`.
    pub(crate) cooldown: Duration,
    pub(crate) report: Report,
    /// What the environment lacks.
    pub(crate) missing: Report,
    /// Routes without a key, and the variables one was looked for in.
    pub(crate) unkeyed: Vec<(Arc<Route>, Vec<String>)>,
}

/// Where a route ends, and how it is spoken to there.
struct Ending {
    format: Format,
    address: Address,
    counts: Option<Address>,
    passed: Box<[Passed]>,
    headers: http::HeaderMap,
}

/// A route and the places its facts are stated in.
#[derive(Clone, Copy, Debug)]
struct Stated<'s> {
    model: &'s ModelFile,
    entry: &'s RouteEntry,
    spec: &'s Spec,
    /// What the provider's file says of this upstream model.
    upstream: Option<&'s ProviderModel>,
}

impl<'c> Compile<'c> {
    /// The model's own routes, in order. `star` is put in the place of `*` upstream.
    pub(crate) fn ways(&mut self, model: &Sourced<ModelFile>, star: Option<&str>) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        let list = model.place.at("model_routings");
        for (index, entry) in model.value.model_routings.iter().flatten().enumerate() {
            let place = list.at(index);
            let Some((identity, route)) = self.way(model, entry, &place, star) else { continue };
            if let Some(first) = ways.iter().find(|w| w.identity == identity) {
                let message = format!("is never tried: it is the same as {}", list.at(first.index).pointer);
                self.report.warn(&place, message).hint("take it out, or name another provider, model, base_url or key");
                continue;
            }
            let route = Arc::new(route);
            if route.keys.is_empty() {
                self.unkeyed.push((Arc::clone(&route), self.providers.variables(entry)));
            }
            ways.push(Way { index, identity, route });
        }
        ways
    }

    /// The same routes for one value of the `*`. What there is to say of them was said before.
    pub(crate) fn ways_again(&mut self, model: &Sourced<ModelFile>, star: &str) -> Vec<Way> {
        let (said, missed) = (self.report.found.len(), self.missing.found.len());
        let ways = self.ways(model, Some(star));
        self.report.found.truncate(said);
        self.missing.found.truncate(missed);
        ways
    }

    fn way(
        &mut self,
        model: &Sourced<ModelFile>,
        entry: &RouteEntry,
        place: &Place,
        star: Option<&str>,
    ) -> Option<(Identity, Route)> {
        self.check_star(&model.value, entry, place);
        let spec = self.provider(entry, place)?;
        let format = entry.wire_protocol.as_deref().and_then(Format::parse).unwrap_or(spec.format);
        let model_name = upstream_model(entry, spec, star);
        let (base_url, address) = self.address(entry, spec, format, place)?;
        let counts = self.counts(&base_url, spec, format);
        let passed = passage::passed(&base_url, spec, format, self.env);
        let headers = self.headers(spec, format);
        // An empty list names no keys of its own, as in a provider's file.
        let keys = match entry.api_key_env.as_ref().filter(|names| !names.0.is_empty()) {
            Some(names) => {
                let names = keyring::named(&names.0, spec.name());
                spec.keys_of(&names, &place.at("api_key_env"), self.env, &mut self.report)
            }
            None => spec.keys.clone(),
        };
        let twin = self.twin(entry, spec, format, place);
        let upstream = spec.file.models.as_ref().and_then(|m| m.get(&entry.model).or_else(|| m.get(&model_name)));
        let stated = Stated { model: &model.value, entry, spec, upstream };
        let state = format!("route\u{0}{}\u{0}{model_name}\u{0}{format}\u{0}{base_url}", spec.name());
        let ending = Ending { format, address, counts, passed, headers };
        let route = |ending: Ending, twin| Route {
            provider: Arc::clone(&spec.provider),
            model: Pattern::new(&model_name),
            names: Names::new(spec.name(), &Pattern::new(&model_name)),
            via: model.value.logical_name.as_str().into(),
            format: ending.format,
            address: ending.address,
            counts: ending.counts,
            passed: ending.passed,
            headers: ending.headers,
            keys: keyring::slots(&keys, spec.name(), &model_name, self.registry),
            state: ModelState::new(self.registry, &state, model_name.contains('*')),
            rotation: AtomicUsize::new(0),
            answered: OnceLock::new(),
            timeouts: stated.timeouts(),
            gate: stated.gate(),
            context_tokens: stated.context_tokens(),
            policy: stated.policy(self.cooldown),
            capabilities: facts::capabilities(&stated.capabilities()),
            quirks: facts::quirks(&[spec.file.quirks.as_ref(), entry.quirks.as_ref()]),
            defaults: facts::defaults(&stated.defaults()),
            twin,
        };
        let twin = twin.map(|twin| Arc::new(route(Ending { headers: ending.headers.clone(), ..twin }, None)));
        let route = route(ending, twin);
        self.check_tools(&route, entry, place);
        let keys = entry.api_key_env.clone().unwrap_or_default().0;
        Some((Identity { provider: spec.name().into(), model: model_name, format, base_url, keys }, route))
    }

    /// A route that says its model calls tools in OpenAI's Responses only has to lead to them.
    fn check_tools(&mut self, route: &Route, entry: &RouteEntry, place: &Place) {
        let says = entry.capabilities.as_ref().and_then(|flags| flags.tools_need_responses_api) == Some(true);
        if says && route.twin.is_none() && route.format != Format::OpenaiResponses {
            let message = match route.format {
                Format::Anthropic => "has no effect: the route speaks anthropic",
                Format::OpenaiChat | Format::OpenaiResponses => {
                    "leads nowhere: the provider states no path for openai_responses, so requests with tools are refused"
                }
            };
            let place = place.at("capabilities").at("tools_need_responses_api");
            self.report.warn(&place, message).hint("state endpoints.responses in the provider's file, or take it out");
        }
    }

    /// Where the same model is asked in its vendor's other format, if the provider states a path for that, and the route names
    /// neither a format nor a place of its own.
    fn twin(&mut self, entry: &RouteEntry, spec: &Spec, format: Format, place: &Place) -> Option<Ending> {
        let is_usual = entry.wire_protocol.is_none() && entry.base_url.as_deref().is_none_or(str::is_empty);
        let format = spec.twin(format).filter(|_| is_usual)?;
        let (base_url, address) = self.address(entry, spec, format, place)?;
        let counts = self.counts(&base_url, spec, format);
        Some(Ending { format, address, counts, passed: Box::default(), headers: http::HeaderMap::new() })
    }

    /// The provider a route names, if there is one and it is enabled.
    fn provider(&mut self, entry: &RouteEntry, place: &Place) -> Option<&'c Spec> {
        let place = place.at("provider");
        // An empty name stands where the schema found a fault already.
        if entry.provider.is_empty() {
            return None;
        }
        let Some(spec) = self.providers.find(&entry.provider) else {
            let near = did_you_mean(&entry.provider, self.providers.all.iter().map(Spec::name));
            let message = format!("no provider {:?}{near}", entry.provider);
            self.report.error(&place, message).hint("name one of config/providers, or add a file for it there");
            return None;
        };
        if !spec.is_enabled() {
            let message = format!("the provider {:?} is not enabled: this route is left out", entry.provider);
            self.report.warn(&place, message).hint(format!("set \"enabled\" to true in {}", spec.place.file));
            return None;
        }
        Some(spec)
    }

    fn check_star(&mut self, model: &ModelFile, entry: &RouteEntry, place: &Place) {
        if entry.model.contains('*') && !names_of(model).all(|n| n.contains('*')) {
            self.report
                .error(&place.at("model"), format!("the * in {:?} stands for nothing", entry.model))
                .hint("only a model whose logical_name and aliases all hold a * can pass on what it stands for");
        }
    }

    /// Where a route's requests go. `None`: nowhere, and that has been said.
    fn address(&mut self, entry: &RouteEntry, spec: &Spec, format: Format, place: &Place) -> Option<(String, Address)> {
        let own = entry.base_url.as_deref().filter(|u| !u.is_empty());
        let (base, place) = own.map_or_else(|| spec.base_url(), |own| (own, place.at("base_url")));
        if base.is_empty() {
            return None;
        }
        let url = expand(base, self.env);
        let path = expand(spec.path(format), self.env);
        let proxy = spec.file.proxy_url.as_deref().map(|p| expand(p, self.env));
        let mut unset = url.unset;
        unset.extend(path.unset);
        unset.extend(proxy.iter().flat_map(|p| p.unset.iter().cloned()));
        match address(&url.text, &path.text, proxy.as_ref().map(|p| p.text.as_str()), self.env) {
            Err(why) => {
                self.report.error(&place, fault(base, &why));
                None
            }
            Ok(_) if !unset.is_empty() => {
                if !spec.packaged {
                    let message = format!("{} not set: routes there are left out", is_or_are(&unset));
                    self.missing.note(&place, message);
                }
                None
            }
            Ok(address) => Some((url.text, address)),
        }
    }

    /// Where the tokens of a route's requests are counted. What is wrong with the path the provider's check has said.
    fn counts(&self, base_url: &str, spec: &Spec, format: Format) -> Option<Address> {
        let path = expand(&spec.count_path(format)?, self.env);
        let proxy = spec.file.proxy_url.as_deref().map(|p| expand(p, self.env));
        let address = address(base_url, &path.text, proxy.as_ref().map(|p| p.text.as_str()), self.env);
        address.ok().filter(|_| path.unset.is_empty())
    }

    fn headers(&mut self, spec: &Spec, format: Format) -> http::HeaderMap {
        let (headers, unset) = spec.headers(format, self.env, &mut self.report);
        if !unset.is_empty() && !spec.packaged {
            let place = spec.place.at("authentication").at("additional_headers");
            self.missing.note(&place, format!("{} not set: what needs it is not sent", is_or_are(&unset)));
        }
        headers
    }
}

impl Stated<'_> {
    /// Route before model before provider, and one minute where none says.
    fn timeouts(&self) -> Timeouts {
        let config = self.spec.file.request_config.as_ref();
        let wait = [self.entry.timeout_seconds, self.model.timeout_seconds, config.and_then(|c| c.timeout_seconds)];
        let wait = wait.into_iter().flatten().next().map_or(WAIT, Num::seconds);
        let total = [
            self.entry.total_timeout_seconds,
            self.model.total_timeout_seconds,
            config.and_then(|c| c.total_timeout_seconds),
        ];
        let total = total.into_iter().flatten().next().map_or_else(|| TOTAL.max(wait), Num::seconds);
        Timeouts { connect: wait.min(CONNECT), first_byte: wait.min(total), idle: wait, total }
    }

    /// What failures do and how long they cool (SEED.md 2.3). Zero or less turns resting off.
    fn policy(&self, usual: Duration) -> Policy {
        let provider = self.spec.file.rate_limiting.as_ref().and_then(|r| r.cooldown_seconds);
        let model = [
            self.entry.cooldown_seconds,
            self.upstream.and_then(|m| m.cooldown_seconds),
            self.model.default_cooldown_seconds,
            provider,
        ];
        let actions = self.spec.actions();
        Policy {
            actions: actions.map(|(s, action, rule)| (s, action, rule.cooldown_seconds.map(Num::seconds))).collect(),
            rules: self.spec.rules(),
            model_cooldown: model.into_iter().flatten().next().map_or(usual, Num::seconds),
            key_cooldown: provider.map_or(usual, Num::seconds),
        }
    }

    /// Route before model, field by field.
    fn gate(&self) -> Gate {
        let stated = [self.entry.output_gate, self.model.output_gate];
        let first = |field: fn(&OutputGate) -> Option<Num>| stated.iter().flatten().find_map(field);
        let usual = Gate::within(self.timeouts().first_byte);
        Gate {
            events: first(|g| g.max_events).map_or(usual.events, |n| u32::try_from(n.count()).unwrap_or(u32::MAX)),
            bytes: first(|g| g.max_bytes)
                .map_or(usual.bytes, |n| usize::try_from(n.count()).unwrap_or(usize::MAX).min(GATE_BYTES_MAX)),
            time: first(|g| g.timeout_seconds).map_or(usual.time, Num::seconds),
        }
    }

    fn context_tokens(&self) -> Option<u64> {
        let stated =
            [self.entry.context_tokens, self.upstream.and_then(|m| m.context_tokens), self.model.context_tokens];
        stated.into_iter().flatten().next().map(Num::count)
    }

    fn capabilities(&self) -> [Option<&CapabilityFlags>; 3] {
        let upstream = self.upstream.and_then(|m| m.capabilities.as_ref());
        [upstream, self.model.capabilities.as_ref(), self.entry.capabilities.as_ref()]
    }

    #[expect(clippy::disallowed_types, reason = "defaults hold any JSON")]
    fn defaults(&self) -> [Option<&serde_json::Map<String, serde_json::Value>>; 3] {
        let provider = self.spec.file.request_config.as_ref().and_then(|c| c.defaults.as_ref());
        [provider, self.model.defaults.as_ref(), self.entry.defaults.as_ref()]
    }
}

/// First byte and idle, where no file says.
const WAIT: Duration = Duration::from_secs(60);
/// TCP, proxy and TLS: an upstream that needs longer than the official SDKs wait is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// What a stream may hold back at most, whatever a file says: it is memory of ours, for each stream.
const GATE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A whole reply, where no file says: what the official SDKs wait.
const TOTAL: Duration = Duration::from_secs(600);

/// What a model's requests may cost.
pub(crate) fn terms(model: &ModelFile) -> Terms {
    let usual = Terms::default();
    let span = |n: Num, unit: f64| Some(Num(n.0 * unit).seconds()).filter(|span| !span.is_zero());
    Terms {
        attempts_max: model.max_attempts.map_or(usual.attempts_max, |n| u32::try_from(n.count()).unwrap_or(u32::MAX)),
        deadline: model.deadline_seconds.map_or(usual.deadline, Num::seconds),
        keep_alive: model.keep_alive_seconds.map_or(usual.keep_alive, |n| span(n, 1.0)),
        early_commit: model.early_commit_ms.map_or(usual.early_commit, |n| span(n, 0.001)),
    }
}

/// A model's names: the logical one and the aliases.
pub(crate) fn names_of(model: &ModelFile) -> impl Iterator<Item = &str> {
    std::iter::once(model.logical_name.as_str()).chain(model.aliases.iter().flatten().map(String::as_str))
}

pub(crate) fn on_lossy(model: &ModelFile) -> OnLossy {
    // What is none of the three has been reported as an error.
    model.on_lossy.as_deref().and_then(OnLossy::parse).unwrap_or_default()
}

/// The name sent upstream: the route's, with the star filled in, as the provider's mapping has it.
fn upstream_model(entry: &RouteEntry, spec: &Spec, star: Option<&str>) -> String {
    let name = match star {
        Some(star) => Pattern::new(&entry.model).fill(star),
        None => entry.model.clone(),
    };
    let mapped = spec.file.model_mapping.as_ref().and_then(|m| m.get(&name));
    mapped.cloned().unwrap_or(name)
}

fn is_or_are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}
