//! The compiled configuration: models, their routes in the order they are tried, and the keys of each.
//!
//! A `Table` that exists is valid: names resolve, fallbacks are flattened and acyclic, addresses and headers are
//! ready to send. It is immutable and swapped whole; only the rotation counters and the key states it points to
//! change, and the states are shared with the table before and after it.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use smallvec::SmallVec;

use crate::route::keys::{KeyState, ModelState};
use crate::route::plan::ATTEMPTS_MAX;
use crate::route::secrets::Secrets;
use crate::secret::Secret;
use crate::wire::Format;
use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::json::JsonStr;

/// Everything a request is routed by.
#[derive(Debug, Default)]
pub struct Table {
    /// In the order of their names.
    models: Box<[Arc<Model>]>,
    /// Logical names and aliases.
    names: AHashMap<Box<str>, usize>,
    /// Names with a `*`, the most particular first.
    wildcards: Box<[(Pattern, usize)]>,
    /// For requests that name no model: one for each provider that passes paths through, with a route to it.
    direct: Box<[Arc<Model>]>,
    /// Every key in it, for who must not show one.
    pub secrets: Arc<Secrets>,
    /// Hexadecimal digest of what it was compiled from.
    pub hash: String,
}

/// A logical model: what clients ask for.
#[derive(Debug)]
pub struct Model {
    pub name: Box<str>,
    pub aliases: Box<[Box<str>]>,
    /// For people, in lists.
    pub display_name: Option<Box<str>>,
    /// Its own routes in order, then those of its fallbacks, each once.
    pub routes: Box<[Arc<Route>]>,
    pub on_lossy: OnLossy,
    /// Put the logical name into replies that pass through untouched.
    pub rewrite_model: bool,
    pub terms: Terms,
}

/// What a model's requests may cost, and how their clients are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Attempts at one request, over all keys and routes.
    pub attempts_max: u32,
    /// After it nothing more is tried.
    pub deadline: Duration,
    /// Silence after which a client that streams is sent a sign of life. `None`: never.
    pub keep_alive: Option<Duration>,
    /// When a client that streams is answered though no upstream has begun to. `None`: not before one has.
    pub early_commit: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            attempts_max: ATTEMPTS_MAX,
            // Longer than the ten minutes SDKs wait by default helps nobody.
            deadline: Duration::from_secs(600),
            // Shorter than any load balancer's or watchdog's patience that is known (PEERS P13).
            keep_alive: Some(Duration::from_secs(15)),
            early_commit: None,
        }
    }
}

/// How much of a stream is held back until its first output, which is the moment from which nothing else is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gate {
    /// Events without output: honest streams send a few, pings and starts.
    pub events: u32,
    pub bytes: usize,
    /// From the head of the answer to its first output.
    pub time: Duration,
}

impl Gate {
    /// What is held where no file says (PEERS P5).
    #[must_use]
    pub fn within(time: Duration) -> Self {
        Self { events: 64, bytes: 256 * 1024, time }
    }
}

impl Model {
    /// Who answers for it in lists: the provider of its first route.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.routes.first().map_or("unknown", |r| &r.provider.name)
    }
}

/// What to do when a conversion cannot carry something a client set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnLossy {
    /// Name it in a header.
    #[default]
    Report,
    /// Answer 400.
    Reject,
    Silent,
}

impl OnLossy {
    pub const ALL: [(&'static str, Self); 3] =
        [("report", Self::Report), ("reject", Self::Reject), ("silent", Self::Silent)];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, choice)| *choice)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, choice)| *choice == self).map_or("", |(name, _)| name)
    }
}

/// One way to serve a model.
#[derive(Debug)]
pub struct Route {
    pub provider: Arc<Provider>,
    /// The model's name upstream; `*` stands for what a wildcard matched.
    pub model: Pattern,
    pub names: Names,
    /// The logical model whose route this is: another one's where it came by fallback.
    pub via: Box<str>,
    /// The format spoken upstream.
    pub format: Format,
    pub address: Address,
    /// Where input tokens are counted; nowhere if its format has no such thing, or the provider does not.
    pub counts: Option<Address>,
    /// What is passed through to it as it is.
    pub passed: Box<[Passed]>,
    /// Sent with every request: the provider's additional headers.
    pub headers: HeaderMap,
    pub keys: Box<[Slot]>,
    /// Resting whatever the key: this upstream model at this address.
    pub state: ModelState,
    /// Where the next request starts in `keys`.
    pub rotation: AtomicUsize,
    /// What every answer of this route carries to the client: as `Slot::sent`.
    pub answered: OnceLock<HeaderMap>,
    pub timeouts: Timeouts,
    pub gate: Gate,
    /// Tokens it is declared to take in.
    pub context_tokens: Option<u64>,
    pub policy: Policy,
    pub capabilities: Capabilities,
    pub quirks: Quirks,
    /// Fields set where the client did not: (key, value as JSON).
    pub defaults: Box<[(Box<str>, Box<str>)]>,
    /// The same model at the same provider, in its vendor's other format, where it has an endpoint for that.
    pub twin: Option<Arc<Self>>,
}

impl Route {
    /// Where a client's path is passed through to, and what its `*` stands for.
    #[must_use]
    pub fn passes<'p>(&self, path: &'p str) -> Option<(&Passed, &'p str)> {
        self.passed.iter().find_map(|passed| Some((passed, passed.fits(path)?)))
    }

    /// The twin, if a request of this format is better sent there: it is its own format; or, by `needs`, the model takes such
    /// requests nowhere else.
    pub fn twin_for(&self, format: Format, needs: impl FnOnce() -> bool) -> Option<&Arc<Self>> {
        let twin = self.twin.as_ref()?;
        let is_better = format == twin.format || self.capabilities.tools_need_responses_api && needs();
        is_better.then_some(twin)
    }

    /// `provider/model`, for logs and headers.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.names.label
    }

    /// Where this request's turn in the round-robin begins.
    pub fn rotate(&self) -> usize {
        match self.keys.len() {
            0 | 1 => 0,
            n => self.rotation.fetch_add(1, Ordering::Relaxed) % n,
        }
    }
}

/// A route's names, spelled once for all its requests.
#[derive(Clone, Debug)]
pub struct Names {
    label: Arc<str>,
    /// The upstream model as a JSON string; nothing behind a wildcard.
    pub literal: Option<Bytes>,
    /// `provider/model` as a header value where it can be one; nothing behind a wildcard.
    pub header: Option<HeaderValue>,
}

impl Names {
    #[must_use]
    pub fn new(provider: &str, model: &Pattern) -> Self {
        let fixed = model.fixed();
        Self {
            label: format!("{provider}/{model}").into(),
            literal: fixed.map(|name| Bytes::from(format!("\"{}\"", JsonStr::quote(name).literal()))),
            header: fixed.and_then(|name| HeaderValue::from_str(&format!("{provider}/{name}")).ok()),
        }
    }
}

/// A path of clients that is passed through to a provider as it is.
#[derive(Clone, Debug)]
pub struct Passed {
    /// As clients ask for it; what ends in `/*` stands for all below it.
    pub path: Box<str>,
    pub methods: Box<[Method]>,
    /// Where it goes. `{model}` and `*` in its path stand for the upstream model and for what the client's `*` did.
    pub address: Address,
}

impl Passed {
    /// What the `*` stands for; nothing, where there is none. `None`: the path is another.
    #[must_use]
    pub fn fits<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.strip_suffix("/*") {
            None => (*self.path == *path).then_some(""),
            Some(before) => path.strip_prefix(before)?.strip_prefix('/').filter(|rest| is_below(rest)),
        }
    }
}

/// Whether what stands for a `*` stays below it, however it is spelled.
fn is_below(rest: &str) -> bool {
    let lower = rest.to_ascii_lowercase();
    let is_odd = |segment: &str| segment.is_empty() || matches!(segment, "." | "..");
    !rest.split('/').any(is_odd) && !["%2f", "%2e", "%5c", "\\"].iter().any(|odd| lower.contains(odd))
}

#[derive(Debug)]
pub struct Provider {
    pub name: Box<str>,
    pub display_name: Box<str>,
    /// Resting as a whole.
    pub state: Arc<KeyState>,
    /// What variables have put into its headers and queries: credentials, maybe.
    pub filled: Box<[Secret]>,
}

/// One key of a route: the credential and the three scopes in which it may rest.
#[derive(Clone, Debug)]
pub struct Slot {
    pub key: Arc<Key>,
    /// The key for every model of the provider.
    pub on_key: Arc<KeyState>,
    /// The key for this upstream model only.
    pub on_model: ModelState,
    /// What every request with this key carries: put together by whoever sends the first, copied by all others.
    pub sent: OnceLock<HeaderMap>,
}

/// A credential, ready to send.
#[derive(Debug)]
pub struct Key {
    /// The environment variable it came from; empty where the provider needs none.
    pub name: Box<str>,
    pub secret: Option<Secret>,
    /// Marked sensitive.
    pub header: Option<(HeaderName, HeaderValue)>,
}

/// Where a route's requests go.
#[derive(Clone, Debug)]
pub enum Address {
    /// In-process: the demo provider.
    Builtin,
    Http {
        origin: Arc<Origin>,
        /// Path and query, where `{model}` stands for the upstream's model name.
        path: Box<str>,
        /// The same, where it holds no `{model}`: ready to send.
        ready: Option<PathAndQuery>,
    },
}

/// One place connections are made to. Connections are shared by all routes with an equal origin.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: Box<str>,
    pub port: u16,
    /// Goes through this HTTP proxy by CONNECT (or, without TLS, by absolute form).
    pub proxy: Option<Proxy>,
}

impl Origin {
    /// `host` or `host:port`, as the Host header wants it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// The full address of a path here. `None` if together they are no URI.
    #[must_use]
    pub fn uri(&self, path: &str) -> Option<Uri> {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority()).parse().ok()
    }
}

/// An HTTP proxy between us and an origin.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Proxy {
    pub host: Box<str>,
    pub port: u16,
    /// `Basic …`, from the user and password of its URL. Compared and hashed, so kept plain; never shown.
    pub authorization: Option<ProxyAuthorization>,
}

/// The value of `Proxy-Authorization`.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct ProxyAuthorization(pub Box<str>);

impl fmt::Debug for ProxyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyAuthorization(…)")
    }
}

/// How long each part of an attempt may take (LIMITS R5). `total` bounds whole replies only: a stream that makes
/// progress is never cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP, proxy and TLS together.
    pub connect: Duration,
    /// From the request sent to the first byte of the reply (of a stream: of its first event).
    pub first_byte: Duration,
    /// Between two reads of a reply.
    pub idle: Duration,
    pub total: Duration,
}

/// What failures do on one route, where it differs from the default of `judge`.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The seed's `error_handling`: by upstream status.
    pub actions: SmallVec<[(u16, Action, Option<Duration>); 2]>,
    /// By status and words; the first that fits comes before all else.
    pub rules: Box<[ErrorRule]>,
    /// How long a key rests for this model. Zero: not at all.
    pub model_cooldown: Duration,
    /// How long a key rests for all models, and a provider as a whole. Zero: not at all.
    pub key_cooldown: Duration,
}

/// One of a provider's `error_rules`: what a certain error of it means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorRule {
    /// `None`: any status from 400 on, and errors under a good one.
    pub status: Option<u16>,
    /// Words the error's body must hold, in any case.
    pub body_contains: Option<Box<str>>,
    pub scope: RuleScope,
    /// `None`: as long as is usual for the scope.
    pub cooldown: Option<Duration>,
}

/// Whose trouble an error is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleScope {
    Request,
    Key,
    KeyModel,
    Route,
    Provider,
}

impl RuleScope {
    pub const ALL: [(&'static str, Self); 5] = [
        ("request", Self::Request),
        ("key", Self::Key),
        ("key_model", Self::KeyModel),
        ("route", Self::Route),
        ("provider", Self::Provider),
    ];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, scope)| *scope)
    }
}

impl Policy {
    /// Which rule an error fits, if any.
    #[must_use]
    pub fn rule(&self, status: u16, body: &[u8]) -> Option<usize> {
        let holds = |words: &str| {
            let words = words.as_bytes();
            body.windows(words.len().max(1)).any(|part| part.eq_ignore_ascii_case(words))
        };
        self.rules
            .iter()
            .position(|rule| rule.status.is_none_or(|s| s == status) && rule.body_contains.as_deref().is_none_or(holds))
    }

    /// Whether tool calls without a result may be given one.
    #[must_use]
    pub fn mends_tool_calls(&self) -> bool {
        self.actions.iter().any(|(_, action, _)| *action == Action::AutoFixToolResponses)
    }
}

/// The seed's names for what an upstream status does (SEED.md 3.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    ModelKeyFailure,
    GlobalKeyFailure,
    ProviderCooldown,
    FallbackNoCooldown,
    AutoFixToolResponses,
}

impl Action {
    pub const ALL: [(&'static str, Self); 5] = [
        ("model_key_failure", Self::ModelKeyFailure),
        ("global_key_failure", Self::GlobalKeyFailure),
        ("provider_cooldown", Self::ProviderCooldown),
        ("fallback_no_cooldown", Self::FallbackNoCooldown),
        ("auto_fix_tool_responses", Self::AutoFixToolResponses),
    ];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }
}

/// A name that may hold one `*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    before: Box<str>,
    /// What follows the `*`; `None` where there is none.
    after: Option<Box<str>>,
}

impl Pattern {
    /// Reads a name; every `*` after the first is meant literally.
    #[must_use]
    pub fn new(name: &str) -> Self {
        match name.split_once('*') {
            Some((before, after)) => Self { before: before.into(), after: Some(after.into()) },
            None => Self { before: name.into(), after: None },
        }
    }

    /// The name, if it holds no `*`.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        self.after.is_none().then_some(&*self.before)
    }

    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.after.is_some()
    }

    /// What the `*` stands for in `name`; nothing unless the whole name fits. A `*` is never empty.
    #[must_use]
    pub fn matches<'n>(&self, name: &'n str) -> Option<&'n str> {
        let after = self.after.as_deref()?;
        let star = name.strip_prefix(&*self.before)?.strip_suffix(after)?;
        (!star.is_empty()).then_some(star)
    }

    /// How much it says before its `*`, then behind it: of several that fit a name, the one that says most is meant.
    #[must_use]
    pub fn particular(&self) -> (usize, usize) {
        (self.before.len(), self.after.as_ref().map_or(0, |after| after.len()))
    }

    /// The name with `star` in the place of its `*`.
    #[must_use]
    pub fn fill(&self, star: &str) -> String {
        match &self.after {
            Some(after) => format!("{}{star}{after}", self.before),
            None => self.before.to_string(),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fill("*"))
    }
}

/// A model found for a name, and what its wildcard stood for.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub model: Arc<Model>,
    pub star: Option<Box<str>>,
    /// Every key of the table it was found in.
    pub secrets: Arc<Secrets>,
}

impl Resolved {
    /// The upstream's name of the model on one of its routes.
    #[must_use]
    pub fn upstream_model<'r>(&self, route: &'r Route) -> Cow<'r, str> {
        match route.model.fixed() {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(route.model.fill(self.star.as_deref().unwrap_or_default())),
        }
    }
}

impl Table {
    /// Takes models whose names and aliases are known to be distinct.
    #[must_use]
    pub fn new(mut models: Vec<Arc<Model>>, hash: String) -> Self {
        models.sort_by(|a, b| a.name.cmp(&b.name));
        let mut names = AHashMap::new();
        let mut wildcards = Vec::new();
        for (index, model) in models.iter().enumerate() {
            for name in std::iter::once(&model.name).chain(&model.aliases) {
                let pattern = Pattern::new(name);
                if pattern.is_wildcard() {
                    wildcards.push((pattern, index));
                } else {
                    names.insert(name.clone(), index);
                }
            }
        }
        wildcards.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.particular()));
        let secrets = Arc::new(Secrets::of(&models, &[]));
        Self { models: models.into(), names, wildcards: wildcards.into(), direct: Box::default(), secrets, hash }
    }

    /// Adds what requests take that name no model.
    #[must_use]
    pub fn with_direct(self, direct: Vec<Arc<Model>>) -> Self {
        let secrets = Arc::new(Secrets::of(&self.models, &direct));
        Self { direct: direct.into(), secrets, ..self }
    }

    /// Providers that pass a path through, by a model each that stands for all of theirs.
    pub fn passing<'t>(&'t self, path: &'t str) -> impl Iterator<Item = &'t Arc<Model>> {
        self.direct.iter().filter(move |model| model.routes.iter().any(|route| route.passes(path).is_some()))
    }

    /// All of these.
    pub fn direct(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.direct.iter()
    }

    /// Finds the model for a name: the name itself, an alias, or the wildcard with the longest beginning, then end.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Resolved> {
        if let Some(model) = self.names.get(name).and_then(|&i| self.models.get(i)) {
            return Some(Resolved { model: Arc::clone(model), star: None, secrets: Arc::clone(&self.secrets) });
        }
        self.wildcards.iter().find_map(|(pattern, index)| {
            let star = pattern.matches(name)?;
            let model = self.models.get(*index)?;
            Some(Resolved { model: Arc::clone(model), star: Some(star.into()), secrets: Arc::clone(&self.secrets) })
        })
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Up to three names like this one, the likest first.
    #[must_use]
    pub fn near(&self, name: &str) -> Vec<&str> {
        let known = self.models.iter().flat_map(|m| std::iter::once(&*m.name).chain(m.aliases.iter().map(|a| &**a)));
        crate::route::near::near(name, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, aliases: &[&str]) -> Arc<Model> {
        Arc::new(Model {
            name: name.into(),
            aliases: aliases.iter().map(|&a| a.into()).collect(),
            display_name: None,
            routes: Box::new([]),
            on_lossy: OnLossy::Report,
            rewrite_model: false,
            terms: Terms::default(),
        })
    }

    #[test]
    fn resolves_names_before_aliases_before_wildcards() {
        let table = Table::new(
            vec![
                model("openai/*", &[]),
                model("openai/*-mini", &[]),
                model("openai/o*", &[]),
                model("gpt", &["fast"]),
                model("openai/one", &[]),
            ],
            String::new(),
        );
        for (name, expect) in [
            ("gpt", Some(("gpt", None))),
            ("fast", Some(("gpt", None))),
            ("openai/one", Some(("openai/one", None))),
            ("openai/old", Some(("openai/o*", Some("ld")))),
            ("openai/gpt", Some(("openai/*", Some("gpt")))),
            ("openai/gpt-mini", Some(("openai/*-mini", Some("gpt")))),
            ("openai/", None),
            ("other", None),
        ] {
            let found = table.resolve(name);
            let got = found.as_ref().map(|r| (&*r.model.name, r.star.as_deref()));
            assert_eq!(got, expect, "{name}");
        }
        assert_eq!(table.near("gtp"), ["gpt"]);
    }

    #[test]
    fn an_origin_is_written_as_hosts_want_it() {
        let origin = |tls, host: &str, port| Origin { tls, host: host.into(), port, proxy: None };
        for (origin, authority) in [
            (origin(true, "a.example", 443), "a.example"),
            (origin(false, "a.example", 443), "a.example:443"),
            (origin(false, "::1", 80), "[::1]"),
            (origin(true, "::1", 8443), "[::1]:8443"),
        ] {
            assert_eq!(origin.authority(), authority);
            assert!(origin.uri("/v1/x?y=1").is_some_and(|u| u.path() == "/v1/x"), "{authority}");
        }
    }
}
