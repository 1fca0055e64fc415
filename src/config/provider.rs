//! A provider file made ready: its name, its format, its header, its keys.

use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::address::{address, expand, habit};
use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::config::keyring::{self, Header};
use crate::config::load::Sourced;
use crate::config::passage;
use crate::config::source::{ErrorAction, ErrorRule, Num, ProviderFile};
use crate::route::keys::Registry;
use crate::route::table::{self, Action, Key, Provider, RuleScope};
use crate::secret::Secret;
use crate::wire::Format;

/// A provider as routes use it.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) place: Place,
    pub(crate) file: ProviderFile,
    pub(crate) packaged: bool,
    /// The file's name without `.json`: the seed's routes name providers by it.
    pub(crate) stem: String,
    /// Spoken unless a route says otherwise.
    pub(crate) format: Format,
    /// How a key is sent; `None`: none is needed.
    pub(crate) header: Option<Header>,
    pub(crate) keys: Vec<Arc<Key>>,
    pub(crate) provider: Arc<Provider>,
}

/// What variables have put where a provider may keep credentials: into its headers, and the queries of its paths.
fn filled(file: &ProviderFile, env: &Env) -> Box<[Secret]> {
    let headers = file.authentication.as_ref().and_then(|a| a.additional_headers.as_ref());
    let headers = headers.into_iter().flatten().map(|(_, text)| text.as_str());
    let paths = file.endpoints.as_ref().into_iter();
    let paths =
        paths.flat_map(|e| [&e.chat, &e.messages, &e.completions, &e.count_tokens]).filter_map(Option::as_deref);
    let passed = file.passthrough.iter().flatten().filter_map(|passage| passage.upstream());
    let queries = paths.chain(passed).filter_map(|path| Some(path.split_once('?')?.1));
    let values = headers.chain(queries).flat_map(|text| expand(text, env).values);
    values.map(|value| Secret::new(&value)).collect()
}

impl Spec {
    /// Reads a provider, reporting what no schema can see.
    pub(crate) fn new(source: Sourced<ProviderFile>, env: &Env, registry: &Registry, report: &mut Report) -> Self {
        let Sourced { place, value: file, packaged, stem } = source;
        let name = if file.name.is_empty() { stem.as_str() } else { file.name.as_str() };
        let provider = Arc::new(Provider {
            name: name.into(),
            display_name: file.display_name.as_deref().unwrap_or(name).into(),
            state: registry.state(format!("provider {name}")),
            filled: filled(&file, env),
        });
        let format = format(&file);
        let header = header(&file, format, &place, report);
        let mut spec = Self { place, packaged, stem, format, header, keys: Vec::new(), provider, file };
        spec.check_address(env, report);
        passage::check(&spec, env, report);
        spec.keys = spec.keys_of(&spec.patterns(), &spec.place.at("api_keys"), env, report);
        spec.inert(report);
        spec.check_format(report);
        if spec.is_named_unlike_its_file() {
            let message = format!("is named {:?}, unlike its file", spec.name());
            report.warn(&spec.place.at("name"), message).hint("routes find it by either name");
        }
        spec
    }

    pub(crate) fn name(&self) -> &str {
        &self.provider.name
    }

    pub(crate) fn is_named_unlike_its_file(&self) -> bool {
        self.name() != self.stem
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.file.enabled.unwrap_or(true)
    }

    /// The variables its keys are looked for in.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let listed = self.file.api_keys.as_ref().and_then(|k| k.env_var_patterns.clone());
        let listed = listed.or_else(|| self.file.api_key_env_patterns.clone()).map(|l| l.0).unwrap_or_default();
        if !listed.is_empty() {
            return keyring::named(&listed, self.name());
        }
        let single = self.file.api_keys.as_ref().and_then(|k| k.env_var_pattern.clone());
        let mut patterns = keyring::named(&keyring::USUAL.map(str::to_owned), self.name());
        for pattern in keyring::named(single.as_slice(), self.name()) {
            if !patterns.contains(&pattern) {
                patterns.insert(0, pattern);
            }
        }
        patterns
    }

    /// The keys some variables hold; one that stands for none where the provider needs none.
    pub(crate) fn keys_of(&self, names: &[String], place: &Place, env: &Env, report: &mut Report) -> Vec<Arc<Key>> {
        let Some(header) = &self.header else {
            return vec![keyring::keyless()];
        };
        let found = keyring::find(names, header, env);
        for name in found.unfit {
            let message = format!("the value of {name} cannot be sent in a header and is left out");
            report.warn(place, message).hint("look for a line break or a letter that is not ASCII in it");
        }
        found.keys
    }

    /// The base URL its routes have unless they bring their own, and where it stands.
    pub(crate) fn base_url(&self) -> (&str, Place) {
        let support = self.file.proxy_support.as_ref().filter(|s| s.enabled.unwrap_or(false));
        if let Some(url) = support.and_then(|s| s.base_url_override.as_deref()).filter(|u| !u.is_empty()) {
            return (url, self.place.at("proxy_support").at("base_url_override"));
        }
        let url = self.file.endpoints.as_ref().map_or("", |e| e.base_url.as_str());
        (url, self.place.at("endpoints").at("base_url"))
    }

    /// Whether its own endpoint is one, even if no route leads there.
    fn check_address(&self, env: &Env, report: &mut Report) {
        let (base, place) = self.base_url();
        let (url, path) = (expand(base, env), expand(self.path(self.format), env));
        if base.is_empty() {
            return;
        }
        if let Err(why) = address(&url.text, &path.text, Some("none"), env) {
            report.error(&place, fault(base, &why));
            return;
        }
        let stated = self.file.endpoints.as_ref().and_then(|e| e.count_tokens.as_deref()).unwrap_or_default();
        if let Err(why) = address(&url.text, &expand(stated, env).text, Some("none"), env) {
            report.error(&self.place.at("endpoints").at("count_tokens"), why);
        }
    }

    /// The path of a format's endpoint.
    pub(crate) fn path(&self, format: Format) -> &str {
        let endpoints = self.file.endpoints.as_ref();
        let own = endpoints.and_then(|e| match format {
            Format::OpenaiChat => e.chat.as_deref(),
            Format::OpenaiResponses => e.responses.as_deref(),
            Format::Anthropic => e.messages.as_deref(),
        });
        let usual = endpoints.and_then(|e| e.completions.as_deref()).filter(|_| format == self.format);
        own.or(usual).filter(|p| !p.is_empty()).unwrap_or_else(|| habit(format).path)
    }

    /// The vendor's other format, if the file states a path for it.
    pub(crate) fn twin(&self, format: Format) -> Option<Format> {
        let endpoints = self.file.endpoints.as_ref()?;
        let (twin, path) = match format {
            Format::OpenaiChat => (Format::OpenaiResponses, endpoints.responses.as_deref()),
            Format::OpenaiResponses => (Format::OpenaiChat, endpoints.chat.as_deref()),
            Format::Anthropic => return None,
        };
        path.filter(|path| !path.is_empty()).map(|_| twin)
    }

    /// The path where a format's input tokens are counted: as stated, else beside that of its requests. `None`: nowhere.
    pub(crate) fn count_path(&self, format: Format) -> Option<String> {
        let suffix = habit(format).count_suffix?;
        if let Some(stated) = self.file.endpoints.as_ref().and_then(|e| e.count_tokens.as_deref()) {
            return (!stated.is_empty()).then(|| stated.to_owned());
        }
        let path = self.path(format);
        let (path, query) = path.split_at_checked(path.find('?').unwrap_or(path.len()))?;
        let path = path.trim_end_matches('/');
        // Elsewhere (a cloud's own names for things) nothing is known to stand beside it.
        path.ends_with(habit(format).path).then(|| format!("{path}{suffix}{query}"))
    }

    /// What is sent with every request of a format. The second are the variables that are missing for others.
    pub(crate) fn headers(&self, format: Format, env: &Env, report: &mut Report) -> (HeaderMap, Vec<String>) {
        let mut headers = HeaderMap::new();
        let mut missing = Vec::new();
        for (name, value) in habit(format).headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let listed = self.file.authentication.as_ref().and_then(|a| a.additional_headers.as_ref());
        for (name, text) in listed.into_iter().flatten() {
            let expanded = expand(text, env);
            if !expanded.unset.is_empty() {
                missing.extend(expanded.unset);
                continue;
            }
            match (HeaderName::from_str(name), HeaderValue::from_str(&expanded.text)) {
                (Ok(header), Ok(mut value)) => {
                    // What came from the environment may be a credential.
                    value.set_sensitive(text.contains("${"));
                    headers.insert(header, value);
                }
                _ => {
                    let place = self.place.at("authentication").at("additional_headers").at(name);
                    report.error(&place, "cannot be sent as a header");
                }
            }
        }
        (headers, missing)
    }

    /// What statuses do.
    pub(crate) fn actions(&self) -> impl Iterator<Item = (u16, Action, &ErrorAction)> {
        self.file.error_handling.iter().flatten().filter_map(|(status, rule)| {
            let action = Action::parse(&rule.action)?;
            Some((status.parse().ok()?, action, rule))
        })
    }

    /// What errors mean by status and words.
    pub(crate) fn rules(&self) -> Box<[table::ErrorRule]> {
        let rule = |rule: &ErrorRule| {
            Some(table::ErrorRule {
                status: rule.status.and_then(|n| u16::try_from(n.count()).ok()),
                body_contains: rule.body_contains.as_deref().map(Into::into),
                scope: RuleScope::parse(&rule.scope)?,
                cooldown: rule.cooldown_seconds.map(Num::seconds),
            })
        };
        self.file.error_rules.iter().flatten().filter_map(rule).collect()
    }

    /// Says what is stated of the format and cannot be meant so.
    fn check_format(&self, report: &mut Report) {
        let format = self.format;
        if let Some(api) = by_api(&self.file).filter(|api| *api != format) {
            report
                .warn(&self.place.at("api"), format!("has no effect: endpoints.compatible_format says {format}"))
                .hint(format!("take one of the two out, or write \"{api}\" there"));
        }
        let place = self.place.at("endpoints");
        let path = self.path(format);
        let path = path.split_once('?').map_or(path, |(path, _)| path).trim_end_matches('/');
        if let Some(other) =
            Format::ALL.into_iter().find(|other| *other != format && path.ends_with(habit(*other).path))
        {
            report.warn(&place, format!("requests in {format} go to {path}, where others speak {other}")).hint(
                format!("the path of {format} ends in {} as a rule; see wire_protocol and api", habit(format).path),
            );
        }
    }

    /// Says which fields do nothing, once for each.
    fn inert(&self, report: &mut Report) {
        let place = self.place.at("request_config");
        let config = self.file.request_config.clone().unwrap_or_default();
        if config.default_parameters.is_some_and(|p| !p.is_empty()) {
            report
                .note(&place.at("default_parameters"), "has no effect, as it had none in the seed")
                .hint("fields to be set where the client did not set them go into \"defaults\" beside it");
        }
        let idle = [
            ("max_retries", config.max_retries.is_some()),
            ("retry_on_status", config.retry_on_status.is_some()),
            ("required_parameters", config.required_parameters.is_some()),
        ];
        for (name, _) in idle.iter().filter(|(_, set)| *set) {
            report
                .note(&place.at(name), "has no effect, as it had none in the seed")
                .hint("a failed attempt goes on to the next key and route; \"error_handling\" says what a status does");
        }
        let limits = self.file.rate_limiting.clone().unwrap_or_default();
        let limited = limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some();
        if limited || limits.enabled.unwrap_or(false) {
            report
                .note(&self.place.at("rate_limiting"), "its limits have no effect, as they had none in the seed")
                .hint("the provider's own limits are obeyed as they come; \"cooldown_seconds\" works");
        }
        let Some(endpoints) = &self.file.endpoints else { return };
        if endpoints.completions.as_deref().is_some_and(|c| c.ends_with(NATIVE)) {
            report
                .warn(&self.place.at("endpoints").at("completions"), "leads to a native API, which is not spoken here")
                .hint("name the provider's endpoint for the OpenAI format; that of Gemini is …/v1beta/openai and /chat/completions");
            return;
        }
        if endpoints.streaming.as_deref().is_some_and(|s| endpoints.completions.as_deref() != Some(s)) {
            report
                .warn(&self.place.at("endpoints").at("streaming"), "has no effect, though it differs from completions")
                .hint("streams go to the same path as whole replies");
        }
    }
}

/// How paths of an API end that the seed spoke through a library of its own, whatever its file said.
const NATIVE: &str = ":generateContent";

/// Why a base URL is none. It is shown as the file has it, since what variables hold may be private, and without the
/// user and password that must not stand in it.
pub(crate) fn fault(base_url: &str, why: &str) -> String {
    let (scheme, rest) = base_url.split_once("//").unwrap_or(("", base_url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.split_at_checked(end).and_then(|(authority, _)| authority.rsplit_once('@')) {
        Some((_, host)) => format!("\"{scheme}//…@{host}\" {why}"),
        None => format!("{base_url:?} {why}"),
    }
}

/// The format a provider speaks. `azure`, `native` and `gemini` meant openai in the seed; `api` chooses between OpenAI's two.
fn format(file: &ProviderFile) -> Format {
    let stated = file.endpoints.as_ref().and_then(|e| e.compatible_format.as_deref()).and_then(Format::parse);
    match (stated, by_api(file)) {
        (Some(Format::OpenaiChat), Some(Format::OpenaiResponses)) => Format::OpenaiResponses,
        (Some(stated), _) => stated,
        (None, by_api) => by_api.unwrap_or(Format::OpenaiChat),
    }
}

/// The format that `api` says.
fn by_api(file: &ProviderFile) -> Option<Format> {
    match file.api.as_deref()? {
        "chat" => Some(Format::OpenaiChat),
        "responses" => Some(Format::OpenaiResponses),
        "messages" => Some(Format::Anthropic),
        _ => None,
    }
}

/// How keys are sent: as stated, else as the kind of authentication has it, else as the format's vendor has it.
fn header(file: &ProviderFile, format: Format, place: &Place, report: &mut Report) -> Option<Header> {
    let stated = file.authentication.clone().unwrap_or_default();
    let habit = habit(format);
    let usual = match stated.kind.as_deref() {
        Some("none") => return None,
        Some("bearer") => ("authorization", "Bearer {api_key}"),
        Some("x-api-key") => ("x-api-key", "{api_key}"),
        Some("api-key" | "api_key" | "azure_key") => ("api-key", "{api_key}"),
        _ => (habit.key_header, habit.key_format),
    };
    // A header that is named without a format carries the bare key, as in the seed.
    let bare = if stated.header_name.is_some() { "{api_key}" } else { usual.1 };
    let text = stated.header_format.as_deref().unwrap_or(bare).to_owned();
    let place = place.at("authentication");
    if !text.contains("{api_key}") {
        report.error(&place.at("header_format"), "does not say where the key goes").hint("write {api_key} into it");
    }
    let name = stated.header_name.as_deref().unwrap_or(usual.0);
    match HeaderName::from_str(name) {
        Ok(name) => Some(Header { name, format: text }),
        Err(_) => {
            report.error(&place.at("header_name"), format!("{name:?} is no header name"));
            None
        }
    }
}
