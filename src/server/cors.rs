//! What pages in browsers may ask of us, by the Fetch standard (section 3.3).
//!
//! A browser sends a page's requests with its `origin`, and shows the page the answer only if we name that origin, or `*`.
//! Before a request of a kind that forms cannot send (ours all are: they bear `authorization` and JSON) it asks first, with
//! `OPTIONS`: the preflight, which bears no key and must be answered without one.
//!
//! Credentials in the standard's sense are cookies and the like, which the browser adds by itself. Ours is a key that the page
//! must know, so they are never allowed: with `*` that would open us to every page there is (the seed did so).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Whose pages may ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors(Allowed);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Allowed {
    Nobody,
    Anybody,
    /// These, letter by letter.
    Listed(Vec<HeaderValue>),
}

/// What an answer says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Grant {
    /// Nothing: no page asks, or nobody's may.
    Silence,
    Anybody,
    This(HeaderValue),
    /// Not this one; another might be told otherwise, and caches must know.
    NotThis,
}

/// How long a browser may remember a preflight: the seed's ten minutes.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Every origin; and every header of an answer, which a page may read: none is a secret to whoever has the key.
const EVERY: HeaderValue = HeaderValue::from_static("*");

const VARIES: HeaderValue = HeaderValue::from_static("origin");
const PREFLIGHT_VARIES: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Longest list of headers a preflight may ask for; `*` would not do, for it leaves out `authorization`.
const ASKED_BYTES_MAX: usize = 4096;

impl Cors {
    /// Reads `CORS_ORIGINS`: `*`, or origins parted by commas; nothing, for no pages at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut listed = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "*" {
                return Ok(Self(Allowed::Anybody));
            }
            listed.push(origin(part)?);
        }
        Ok(Self(if listed.is_empty() { Allowed::Nobody } else { Allowed::Listed(listed) }))
    }

    /// What the answer to a request says. Where everybody may read it, that is said to whoever asks for what a cache may keep: it
    /// might give a page what somebody else had asked for (Fetch 3.3.5, "CORS protocol and HTTP caches").
    pub(super) fn grant(&self, method: &Method, asked: &HeaderMap) -> Grant {
        match &self.0 {
            Allowed::Nobody => Grant::Silence,
            Allowed::Anybody if asked.contains_key(ORIGIN) || [Method::GET, Method::HEAD].contains(method) => {
                Grant::Anybody
            }
            Allowed::Anybody => Grant::Silence,
            Allowed::Listed(all) => match asked.get(ORIGIN) {
                Some(origin) if all.contains(origin) => Grant::This(origin.clone()),
                Some(_) | None => Grant::NotThis,
            },
        }
    }
}

/// An origin as browsers spell it: they compare letter by letter, so what they never send would never fit.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong =
        |why: &str| Err(format!("{text:?} {why}; an origin is like https://app.example.com or http://localhost:3000"));
    if text != "null" {
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("has no scheme");
        };
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        if scheme.is_empty() || !scheme.chars().all(is_plain) || text.chars().any(|c| c.is_ascii_uppercase()) {
            return wrong("is not in small letters");
        }
        if rest.is_empty() || rest.contains(['/', '?', '#', '@', '*', ' ']) {
            return wrong("is more than a scheme, a host and a port, or has a * in it");
        }
        if (scheme == "https" && rest.ends_with(":443")) || (scheme == "http" && rest.ends_with(":80")) {
            return wrong("names the usual port, which browsers leave out");
        }
    }
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} cannot stand in a header"))
}

impl Grant {
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        let origin = match self {
            Self::Silence => return,
            Self::Anybody => Some(EVERY),
            Self::This(origin) => Some(origin),
            Self::NotThis => None,
        };
        // A preflight has said so already.
        if origin != Some(EVERY) && !headers.contains_key(VARY) {
            headers.insert(VARY, VARIES);
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EVERY);
        }
    }
}

/// Whether this is a browser that asks first.
pub(super) fn is_preflight(method: &Method, asked: &HeaderMap) -> bool {
    *method == Method::OPTIONS && asked.contains_key(ORIGIN) && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What it is told beside the grant, where the path takes these methods.
pub(super) fn preflight(grant: &Grant, methods: &str, asked: &HeaderMap, told: &mut HeaderMap) {
    told.insert(VARY, PREFLIGHT_VARIES);
    if !matches!(grant, Grant::Anybody | Grant::This(_)) {
        return;
    }
    if let Ok(methods) = HeaderValue::from_str(methods) {
        told.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| is_list(names.as_bytes())) {
        told.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    told.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // Only who was named may reach from a public page into a private network.
    if matches!(grant, Grant::This(_)) && asked.get(REQUEST_PRIVATE_NETWORK).is_some_and(|asks| asks == "true") {
        told.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
}

/// A list of names of headers, and nothing else.
fn is_list(names: &[u8]) -> bool {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    names.len() <= ASKED_BYTES_MAX && names.iter().all(|b| is_token(b) || b", ".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, expect) in [
            ("*", Ok(Allowed::Anybody)),
            ("https://a.test, *", Ok(Allowed::Anybody)),
            ("", Ok(Allowed::Nobody)),
            (" , ", Ok(Allowed::Nobody)),
            (
                " https://a.test ,http://localhost:3000,null",
                Ok(Allowed::Listed(
                    ["https://a.test", "http://localhost:3000", "null"].map(HeaderValue::from_static).to_vec(),
                )),
            ),
            (
                "chrome-extension://abcdef",
                Ok(Allowed::Listed(vec![HeaderValue::from_static("chrome-extension://abcdef")])),
            ),
            ("a.test", Err("has no scheme")),
            ("https://a.test/", Err("more than a scheme")),
            ("https://a.test/app", Err("more than a scheme")),
            ("https://*.a.test", Err("has a * in it")),
            ("https://A.test", Err("not in small letters")),
            ("https://a.test:443", Err("the usual port")),
            ("https://", Err("more than a scheme")),
        ] {
            match (Cors::parse(text), expect) {
                (Ok(Cors(found)), Ok(expect)) => assert_eq!(found, expect, "{text}"),
                (Err(why), Err(says)) => assert!(why.contains(says), "{text}: {why}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        }
    }
}
