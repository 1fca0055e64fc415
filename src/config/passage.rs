//! Paths that are passed through to a provider as they are: one rule for all of them.

use http::Method;

use crate::config::address::{address, expand};
use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::config::provider::Spec;
use crate::config::source::{ModelFile, Passage, RouteEntry};
use crate::route::table::Passed;
use crate::wire::Format;

/// A passage as it is stated.
struct Stated<'s> {
    path: &'s str,
    upstream: Option<&'s str>,
    methods: Vec<Method>,
}

impl Passage {
    /// The provider's own path, where it says one.
    pub(crate) fn upstream(&self) -> Option<&str> {
        match self {
            Self::Path(_) => None,
            Self::Stated { upstream, .. } => upstream.as_deref(),
        }
    }

    fn stated(&self) -> Stated<'_> {
        match self {
            Self::Path(path) => Stated { path, upstream: None, methods: vec![Method::POST] },
            Self::Stated { path, upstream, methods } => {
                let named = |names: &Vec<String>| names.iter().filter_map(|name| name.parse().ok()).collect();
                let methods = methods.as_ref().map_or_else(|| vec![Method::POST], named);
                Stated { path, upstream: upstream.as_deref(), methods }
            }
        }
    }
}

/// What is passed through to a provider at a base URL, where it speaks a format. What is wrong was said by `check`.
pub(crate) fn passed(base_url: &str, spec: &Spec, format: Format, env: &Env) -> Box<[Passed]> {
    let proxy = spec.file.proxy_url.as_deref().map(|p| expand(p, env).text);
    let one = |passage: &Passage| {
        let Stated { path, upstream, methods } = passage.stated();
        let upstream = upstream.map_or_else(|| beside(spec.path(format), path), |stated| Some(stated.to_owned()))?;
        let address = address(base_url, &expand(&upstream, env).text, proxy.as_deref(), env).ok()?;
        Some(Passed { path: path.into(), methods: methods.into(), address })
    };
    spec.file.passthrough.iter().flatten().filter_map(one).collect()
}

/// The path that stands beside that of chats: there what follows `/v1` of the client's is put. Version, deployment and query
/// are the provider's own.
fn beside(chat: &str, path: &str) -> Option<String> {
    let (chat, query) = chat.split_at_checked(chat.find('?').unwrap_or(chat.len()))?;
    let root = ENDINGS.iter().find_map(|ending| chat.trim_end_matches('/').strip_suffix(ending))?;
    let own = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    Some(format!("{root}{own}{query}"))
}

/// How the paths of chats end.
const ENDINGS: [&str; 3] = ["/chat/completions", "/messages", "/responses"];

/// Reports what no schema can see.
pub(crate) fn check(spec: &Spec, env: &Env, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    let all = spec.place.at("passthrough");
    for (index, passage) in spec.file.passthrough.iter().flatten().enumerate() {
        let place = all.at(index);
        let Stated { path, upstream, .. } = passage.stated();
        if seen.contains(&path) {
            report.error(&place, format!("{path:?} stands here twice"));
        }
        seen.push(path);
        if let Err(why) = well_formed(path) {
            report.error(&place, format!("{path:?} {why}")).hint("a path is like /v1/embeddings, or /v1/files/*");
            continue;
        }
        check_upstream(spec, (path, upstream), env, &place, report);
    }
}

fn check_upstream(spec: &Spec, (path, upstream): (&str, Option<&str>), env: &Env, place: &Place, report: &mut Report) {
    let Some(to) = upstream.map_or_else(|| beside(spec.path(spec.format), path), |stated| Some(stated.to_owned()))
    else {
        let message = format!("where {path:?} is upstream does not follow from {:?}", spec.path(spec.format));
        report.error(place, message).hint("say it with {\"path\": …, \"upstream\": …}");
        return;
    };
    if path.ends_with("/*") != to.contains('*') {
        report.error(place, "needs a * in both of its paths, or in none");
        return;
    }
    let (base, _) = spec.base_url();
    let base = expand(base, env).text;
    if let Err(why) = address(&base, &expand(&to, env).text, Some("none"), env)
        && !base.is_empty()
    {
        report.error(place, why);
    }
}

fn well_formed(path: &str) -> Result<(), &'static str> {
    let plain = path.strip_suffix("/*").unwrap_or(path);
    if !plain.starts_with('/') || plain.contains(['?', '#', '*', '{', '%', ' ']) || plain.contains("//") {
        return Err("is no path of ours");
    }
    if ALONE.contains(&path) {
        return Err("is served already, by converting or by the proxy itself");
    }
    if OURS.iter().any(|ours| {
        plain == *ours
            || plain.starts_with(&format!("{ours}/"))
            || path.ends_with("/*") && ours.starts_with(&format!("{plain}/"))
    }) {
        return Err("is served already, by converting or by the proxy itself");
    }
    Ok(())
}

/// What is served otherwise. `/v1/models` and what is below it too.
const OURS: [&str; 8] =
    ["/v1/chat/completions", "/v1/messages", "/v1/models", "/health", "/metrics", "/livez", "/readyz", "/healthz"];

/// What is served otherwise, while what else is below it is not: a provider keeps responses.
const ALONE: [&str; 2] = ["/v1/responses", "/v1/responses/input_tokens"];

/// The model that stands for all of a provider's, for requests that name none.
pub(crate) fn direct(spec: &Spec) -> Option<ModelFile> {
    if spec.file.passthrough.as_ref().is_none_or(Vec::is_empty) || !spec.is_enabled() {
        return None;
    }
    let entry = RouteEntry { provider: spec.name().to_owned(), model: "*".to_owned(), ..RouteEntry::default() };
    let logical_name = format!("{}/*", spec.name());
    Some(ModelFile { logical_name, model_routings: Some(vec![entry]), ..ModelFile::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_where_chats_go() {
        for (chat, path, expect) in [
            ("/v1/chat/completions", "/v1/embeddings", Some("/v1/embeddings")),
            ("/chat/completions", "/v1/embeddings", Some("/embeddings")),
            (
                "/openai/deployments/{model}/chat/completions?api-version=1",
                "/v1/embeddings",
                Some("/openai/deployments/{model}/embeddings?api-version=1"),
            ),
            ("/messages", "/v1/files/*", Some("/files/*")),
            ("/chat/completions", "/v2/rerank", Some("/v2/rerank")),
            ("/generate", "/v1/embeddings", None),
        ] {
            assert_eq!(beside(chat, path).as_deref(), expect, "{chat} {path}");
        }
    }

    #[test]
    fn what_is_served_otherwise_is_not_passed_through() {
        for (path, is_fine) in [
            ("/v1/embeddings", true),
            ("/v1/files/*", true),
            ("/v1/audio/transcriptions", true),
            ("v1/embeddings", false),
            ("/v1/a?b", false),
            ("/v1/*/x", false),
            ("/v1//x", false),
            ("/v1/chat/completions", false),
            ("/v1/messages/batches", false),
            ("/v1/responses/*", true),
            ("/v1/responses", false),
            ("/v1/responses/input_tokens", false),
            ("/v1/models/*", false),
            ("/v1/*", false),
            ("/*", false),
            ("/health/x", false),
        ] {
            assert_eq!(well_formed(path).is_ok(), is_fine, "{path}");
        }
    }
}
