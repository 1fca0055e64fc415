//! Base URL and path → where requests go.

use std::sync::Arc;

use http::uri::{Authority, PathAndQuery};

use crate::config::env::Env;
use crate::config::proxy;
use crate::route::table::{Address, Origin};
use crate::wire::Format;

/// What a format's endpoints are like unless a provider says otherwise.
#[derive(Debug)]
pub(crate) struct Habit {
    format: Format,
    /// Base URLs end in the version (`/v1`), as in the seed's files.
    pub(crate) path: &'static str,
    /// What follows that path where input tokens are counted.
    pub(crate) count_suffix: Option<&'static str>,
    pub(crate) key_header: &'static str,
    pub(crate) key_format: &'static str,
    /// Headers a request must have.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

const HABITS: [Habit; 3] = [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC];

const OPENAI_CHAT: Habit = Habit {
    format: Format::OpenaiChat,
    path: "/chat/completions",
    count_suffix: None,
    key_header: "authorization",
    key_format: "Bearer {api_key}",
    headers: &[],
};

const OPENAI_RESPONSES: Habit =
    Habit { format: Format::OpenaiResponses, path: "/responses", count_suffix: Some("/input_tokens"), ..OPENAI_CHAT };

const ANTHROPIC: Habit = Habit {
    format: Format::Anthropic,
    path: "/messages",
    count_suffix: Some("/count_tokens"),
    key_header: "x-api-key",
    key_format: "{api_key}",
    // Later versions refuse sampling parameters, which converted requests may carry (CLIENTS.md 0.1).
    headers: &[("anthropic-version", "2023-06-01")],
};

pub(crate) fn habit(format: Format) -> &'static Habit {
    HABITS.iter().find(|h| h.format == format).unwrap_or(&HABITS[0])
}

/// A text with its `${VAR}`s filled in.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Variables that are not set. In the text something harmless stands for each, so that its shape can be checked.
    pub(crate) unset: Vec<String>,
    /// What the others stand for.
    pub(crate) values: Vec<String>,
}

/// Fills in `${VAR}`. A `$` that begins no variable stands for itself.
pub(crate) fn expand(text: &str, env: &Env) -> Expanded {
    let mut out = Expanded { text: String::new(), unset: Vec::new(), values: Vec::new() };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.text.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            rest = text.get(text.len() - after.len() - 2..).unwrap_or_default();
            break;
        };
        match env.text(name) {
            Some(value) => {
                out.text.push_str(value);
                out.values.push(value.to_owned());
            }
            None => {
                out.text.push_str(if out.text.is_empty() { "http://x" } else { "x" });
                out.unset.push(name.to_owned());
            }
        }
        rest = behind;
    }
    out.text.push_str(rest);
    out
}

/// Puts a base URL and a path together. `proxy_url` is the provider's own word on proxies. Why they are none is said without
/// repeating them: what variables hold may be private.
pub(crate) fn address(base: &str, path: &str, proxy_url: Option<&str>, env: &Env) -> Result<Address, String> {
    match base.strip_prefix("builtin:") {
        Some("demo") => return Ok(Address::Builtin),
        Some(_) => return Err("names no built-in provider, of which there is only builtin:demo".to_owned()),
        None => {}
    }
    let (tls, rest) = match (strip_scheme(base, "https://"), strip_scheme(base, "http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("must begin with https:// or http://".to_owned()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, base_path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (host, port) = authority_of(authority, if tls { 443 } else { 80 })?;
    let path = join(base_path, path);
    // Braces are no part of URLs: what stands for the model is tried with a model.
    let tried = path.replace(MODEL, "m");
    if tried.contains(['{', '}', '#']) || tried.parse::<PathAndQuery>().is_err() {
        return Err(format!("does not make a path; only {MODEL} may stand in braces"));
    }
    let proxy = proxy::choose(proxy_url, tls, &host, port, env)?;
    let origin = Origin { tls, host: host.into(), port, proxy };
    let ready = if path.contains(MODEL) { None } else { path.parse().ok() };
    Ok(Address::Http { origin: Arc::new(origin), path: path.into(), ready })
}

/// Stands for the upstream model in a path.
const MODEL: &str = "{model}";

fn strip_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Host and port, without brackets and without a user: a key in a URL would end up in logs.
fn authority_of(text: &str, usual_port: u16) -> Result<(String, u16), String> {
    if text.contains('@') {
        return Err("must not hold a user or a password".to_owned());
    }
    let authority: Authority = text.parse().map_err(|_| "names no host".to_owned())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let port = match text.rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => digits.parse().map_err(|_| "names no port".to_owned())?,
        _ => usual_port,
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Exactly one `/` between the two; a query of the base stays behind the path.
fn join(base: &str, path: &str) -> String {
    let (base, query) = base.split_once('?').map_or((base, None), |(b, q)| (b, Some(q)));
    let joined = format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'));
    match query {
        Some(query) if joined.contains('?') => format!("{joined}&{query}"),
        Some(query) => format!("{joined}?{query}"),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(address: &Address) -> String {
        match address {
            Address::Builtin => "builtin".to_owned(),
            Address::Http { origin, path, .. } => {
                let scheme = if origin.tls { "https" } else { "http" };
                format!("{scheme} {} {path}", origin.authority())
            }
        }
    }

    #[test]
    fn one_slash_stands_between_base_and_path() {
        let env = Env::default();
        for (base, path, expect) in [
            ("https://a.example/v1", "/chat/completions", "https a.example /v1/chat/completions"),
            ("https://A.example/v1/", "chat/completions", "https a.example /v1/chat/completions"),
            ("http://localhost:11434/v1//", "//chat", "http localhost:11434 /v1/chat"),
            ("https://a.example", "/v2/x?a=1", "https a.example /v2/x?a=1"),
            ("https://a.example?k=2", "/x?a=1", "https a.example /x?a=1&k=2"),
            ("http://[::1]:8080", "/x", "http [::1]:8080 /x"),
            ("http://[::1]", "/x", "http [::1] /x"),
            (
                "https://a.example",
                "/openai/deployments/{model}/chat/completions?api-version=1",
                "https a.example /openai/deployments/{model}/chat/completions?api-version=1",
            ),
            ("builtin:demo", "/x", "builtin"),
        ] {
            assert_eq!(address(base, path, None, &env).map(|a| show(&a)).as_deref(), Ok(expect), "{base}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let env = Env::default();
        for (base, path) in [
            ("a.example/v1", "/x"),
            ("ftp://a.example", "/x"),
            ("https://", "/x"),
            ("https:///v1", "/x"),
            ("https://user:pass@a.example", "/x"),
            ("https://a.example:port", "/x"),
            ("https://a.example:70000", "/x"),
            ("https://a b.example", "/x"),
            ("https://a.example", "/{deployment}/x"),
            ("https://a.example", "/a b"),
            ("https://a.example#x", "/a"),
            ("builtin:other", "/x"),
        ] {
            assert!(address(base, path, None, &env).is_err(), "{base} {path}");
        }
    }

    #[test]
    fn what_variables_hold_is_not_repeated() {
        let private = "p:r/i v@a{t}e";
        for (base, path) in [
            (private, "/x"),
            ("https://p:r-i-v-a-t-e", "/x"),
            ("https://p r i v a t e", "/x"),
            ("https://a.example", private),
            ("builtin:private", "/x"),
        ] {
            let why = address(base, path, None, &Env::default()).unwrap_err();
            assert!(!["p:r", "r i", "i v", "private"].iter().any(|part| why.contains(part)), "{base} {path}: {why}");
        }
    }

    #[test]
    fn variables_are_filled_in() {
        let env = Env::of([("A", "one"), ("EMPTY", "")]);
        for (text, expect, unset) in [
            ("https://${A}-${A}.example", "https://one-one.example", &[][..]),
            ("${A}${B}${EMPTY}", "onexx", &["B", "EMPTY"]),
            ("${B}/v1", "http://x/v1", &["B"]),
            ("$A ${A", "$A ${A", &[]),
            ("no ${A} yet ${", "no one yet ${", &[]),
            ("", "", &[]),
        ] {
            let expanded = expand(text, &env);
            assert_eq!(
                (expanded.text.as_str(), expanded.unset),
                (expect, unset.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn every_format_has_its_habit() {
        for format in Format::ALL {
            assert_eq!(habit(format).format, format);
        }
    }
}
