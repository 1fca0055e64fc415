//! Which HTTP proxy, if any, stands between us and a provider.
//!
//! A provider's `proxy_url` is the last word. Else `https_proxy` or `http_proxy` by the scheme, then `all_proxy`, each
//! in small letters before capitals, unless `no_proxy` names the host. This machine itself is never reached by proxy.

use std::net::IpAddr;

use data_encoding::BASE64;
use http::uri::Authority;

use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::route::table::{Proxy, ProxyAuthorization};

/// The proxy for one origin. An `Err` says what is wrong with the provider's own, without showing it: it may hold a
/// password. A variable that names none is for [`check`] to tell of.
pub(crate) fn choose(own: Option<&str>, tls: bool, host: &str, port: u16, env: &Env) -> Result<Option<Proxy>, String> {
    match own.filter(|url| !url.is_empty()) {
        Some("none") => return Ok(None),
        Some(url) => return parse(url).map(Some).map_err(|e| format!("cannot be reached: its proxy_url {e}")),
        None => {}
    }
    if is_local(host) || env.first(&["no_proxy", "NO_PROXY"]).is_some_and(|list| excludes(list, host, port)) {
        return Ok(None);
    }
    let names = if tls { HTTPS } else { HTTP };
    let url = env.first(&names).or_else(|| env.first(&ANY));
    Ok(url.and_then(|url| parse(url).ok()))
}

const HTTPS: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const HTTP: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
const ANY: [&str; 2] = ["all_proxy", "ALL_PROXY"];

/// Reports variables that name no proxy we can use. To go direct instead might be just what must not happen.
pub(crate) fn check(env: &Env, report: &mut Report) {
    for name in [HTTPS, HTTP, ANY].concat() {
        if let Some(Err(why)) = env.text(name).map(parse) {
            let place = Place { pointer: name.to_owned(), ..Place::file("environment") };
            let hint = "unset it, or give providers a \"proxy_url\" of their own";
            report.error(&place, why).hint(hint);
        }
    }
}

/// Reads `[http://][user[:password]@]host[:port]`.
pub(crate) fn parse(url: &str) -> Result<Proxy, String> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) => return Err(format!("begins with {scheme}://, but only http:// proxies are known")),
        None => url,
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let authority: Authority = place.parse().map_err(|_| "names no host".to_owned())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let port = match place.rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => digits.parse().map_err(|_| "names no port".to_owned())?,
        _ => 80,
    };
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = [unescape(name), unescape(password)].join(&b':');
        ProxyAuthorization(format!("Basic {}", BASE64.encode(&plain)).into())
    });
    Ok(Proxy { host: host.to_ascii_lowercase().into(), port, authorization })
}

/// Undoes percent-encoding; what is none stays as it is.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().filter(|_| first == b'%');
        let byte = pair.and_then(|p| std::str::from_utf8(p).ok()).and_then(|p| u8::from_str_radix(p, 16).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    out
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a `NO_PROXY` list names a host: `*`, a name (its subdomains too), `.suffix`, an address, a network in CIDR
/// form; each, but the network, may end in `:port`.
fn excludes(list: &str, host: &str, port: u16) -> bool {
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some(ip), Some((network, bits))) = (address, entry.split_once('/')) {
            return in_network(ip, network, bits);
        }
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name, digits.parse::<u16>().ok()),
            _ => (entry, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_matches(['[', ']']).to_ascii_lowercase();
        let same = host == name || address.is_none() && host.strip_suffix(&name).is_some_and(|h| h.ends_with('.'));
        same && only.is_none_or(|p| p == port)
    })
}

fn in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            bits <= 32 && a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            bits <= 128 && a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides_and_no_proxy_excepts() {
        let env = Env::of([
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://tls:3128"),
            ("ALL_PROXY", "any:8080"),
            ("NO_PROXY", "direct.example, .inner.example,10.0.0.0/8,192.168.1.1:443,fd00::/8, *.star.example"),
        ]);
        for (tls, host, port, expect) in [
            (true, "a.example", 443, Some("tls:3128")),
            (false, "a.example", 80, Some("any:8080")),
            (true, "direct.example", 443, None),
            (true, "sub.direct.example", 443, None),
            (true, "notdirect.example", 443, Some("tls:3128")),
            (true, "x.inner.example", 443, None),
            (true, "x.star.example", 443, None),
            (true, "10.1.2.3", 443, None),
            (true, "11.1.2.3", 443, Some("tls:3128")),
            (true, "192.168.1.1", 443, None),
            (true, "192.168.1.1", 8443, Some("tls:3128")),
            (true, "fd12::1", 443, None),
            (true, "localhost", 443, None),
            (false, "127.0.0.1", 80, None),
            (false, "::1", 80, None),
        ] {
            let proxy = choose(None, tls, host, port, &env).unwrap();
            assert_eq!(proxy.map(|p| format!("{}:{}", p.host, p.port)).as_deref(), expect, "{host}:{port}");
        }
    }

    #[test]
    fn a_provider_has_the_last_word() {
        let env = Env::of([("https_proxy", "http://tls:3128"), ("no_proxy", "*")]);
        assert_eq!(choose(Some("none"), true, "a.example", 443, &env), Ok(None));
        let own = choose(Some("http://own"), true, "a.example", 443, &env).unwrap().unwrap();
        assert_eq!((&*own.host, own.port), ("own", 80));
    }

    #[test]
    fn a_variable_that_names_no_proxy_is_told_of() {
        let mut report = Report::default();
        check(&Env::of([("ALL_PROXY", "socks5://a:1"), ("HTTP_PROXY", "http://fine")]), &mut report);
        let said: Vec<String> = report.found.iter().map(|d| d.message.clone()).collect();
        assert_eq!(said, ["begins with socks5://, but only http:// proxies are known"]);
    }

    #[test]
    fn a_user_becomes_a_header() {
        let proxy = parse("http://us%65r:p%40ss@proxy.example:3128/").unwrap();
        assert_eq!(proxy.authorization, Some(ProxyAuthorization("Basic dXNlcjpwQHNz".into())));
        for wrong in ["socks5://a:1", "https://a", "http://", "http://a:b:c", "http://a:x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
