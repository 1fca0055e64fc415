//! The keys of a provider: which variables hold them, and how they are sent.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use ahash::AHashSet;
use http::{HeaderName, HeaderValue};

use crate::config::env::Env;
use crate::route::keys::{ModelState, Registry};
use crate::route::table::{Key, Slot};
use crate::secret::Secret;

/// The patterns of a provider that names none.
pub(crate) const USUAL: [&str; 2] = ["{PROVIDER}_API_KEY", "{PROVIDER}_API_KEY_{INDEX}"];

/// How a key is sent.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) name: HeaderName,
    /// `{api_key}` stands for the key.
    pub(crate) format: String,
}

/// The keys that patterns find.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) keys: Vec<Arc<Key>>,
    /// Variables whose value no header can carry.
    pub(crate) unfit: Vec<String>,
}

/// The patterns with the provider's name in them.
pub(crate) fn named(patterns: &[String], provider: &str) -> Vec<String> {
    let name = provider.to_uppercase().replace('-', "_");
    patterns.iter().map(|p| p.replace("{PROVIDER}", &name)).collect()
}

/// All keys in the order of the patterns, and under `{INDEX}` in the order of the numbers. Of two variables with the
/// same key the first counts; an empty one is none.
pub(crate) fn find(patterns: &[String], header: &Header, env: &Env) -> Found {
    let mut found = Found::default();
    let mut values = AHashSet::new();
    for name in patterns.iter().flat_map(|p| variables(p, env)) {
        let Some(value) = env.text(&name) else { continue };
        if !values.insert(value) {
            continue;
        }
        match HeaderValue::from_str(&header.format.replace("{api_key}", value)) {
            Ok(mut line) => {
                line.set_sensitive(true);
                let secret = Some(Secret::new(value));
                found.keys.push(Arc::new(Key { name: name.into(), secret, header: Some((header.name.clone(), line)) }));
            }
            Err(_) => found.unfit.push(name),
        }
    }
    found
}

/// What stands for a key where none is needed.
pub(crate) fn keyless() -> Arc<Key> {
    Arc::new(Key { name: "".into(), secret: None, header: None })
}

/// The keys with the three scopes they may rest in, by names that outlive a reload.
pub(crate) fn slots(keys: &[Arc<Key>], provider: &str, model: &str, registry: &Registry) -> Box<[Slot]> {
    let slot = |key: &Arc<Key>| {
        let print = key.secret.as_ref().map_or_else(|| "none".to_owned(), Secret::fingerprint);
        Slot {
            key: Arc::clone(key),
            on_key: registry.state(format!("key {provider} {print}")),
            on_model: ModelState::new(registry, &format!("model {provider} {model} {print}"), model.contains('*')),
            sent: OnceLock::new(),
        }
    };
    keys.iter().map(slot).collect()
}

/// The variables a pattern stands for.
fn variables(pattern: &str, env: &Env) -> Vec<String> {
    let Some((before, after)) = pattern.split_once("{INDEX}") else {
        return vec![pattern.to_owned()];
    };
    let index = |name: &str| -> Option<String> {
        let digits = name.strip_prefix(before)?.strip_suffix(after)?;
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        number.then(|| digits.trim_start_matches('0').to_owned())
    };
    let mut names: Vec<(String, &str)> = env.names().filter_map(|n| Some((index(n)?, n))).collect();
    names.sort_by(|(a, _), (b, _)| by_value(a, b));
    names.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Compares decimal numbers of any length that begin with no zero.
fn by_value(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { name: HeaderName::from_static("authorization"), format: "Bearer {api_key}".to_owned() }
    }

    #[track_caller]
    fn check(patterns: &[&str], provider: &str, vars: &[(&str, &str)], expect: &[&str]) {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let env = Env::of(vars.iter().copied());
        let found = find(&named(&patterns, provider), &header(), &env);
        let names: Vec<&str> = found.keys.iter().map(|k| &*k.name).collect();
        assert_eq!(names, expect);
    }

    #[test]
    fn finds_keys_as_the_seed_does() {
        let vars = [("A_API_KEY", "k"), ("A_API_KEY_10", "k10"), ("A_API_KEY_2", "k2"), ("A_API_KEY_0", "k0")];
        check(&USUAL, "a", &vars, &["A_API_KEY", "A_API_KEY_0", "A_API_KEY_2", "A_API_KEY_10"]);
        check(
            &["{PROVIDER}_API_KEY_{INDEX}", "{PROVIDER}_API_KEY"],
            "a",
            &vars,
            &["A_API_KEY_0", "A_API_KEY_2", "A_API_KEY_10", "A_API_KEY"],
        );
        check(&USUAL, "my-own", &[("MY_OWN_API_KEY", "x"), ("MY-OWN_API_KEY", "y")], &["MY_OWN_API_KEY"]);
        check(&USUAL, "a", &[("A_API_KEY", ""), ("A_API_KEY_1", "  "), ("A_API_KEY_2", "k")], &["A_API_KEY_2"]);
        check(
            &USUAL,
            "a",
            &[("A_API_KEY", "same"), ("A_API_KEY_1", "same"), ("A_API_KEY_3", "other")],
            &["A_API_KEY", "A_API_KEY_3"],
        );
        check(
            &USUAL,
            "a",
            &[("A_API_KEY_X", "1"), ("A_API_KEY_1_B", "2"), ("XA_API_KEY", "3"), ("A_API_KEY_", "4")],
            &[],
        );
        check(
            &["K{INDEX}_Z"],
            "a",
            &[("K7_Z", "a"), ("K007_Z", "b"), ("K99999999999999999999999_Z", "c")],
            &["K007_Z", "K7_Z", "K99999999999999999999999_Z"],
        );
        check(&["ONE", "TWO"], "a", &[("TWO", "2"), ("ONE", "1")], &["ONE", "TWO"]);
    }

    #[test]
    fn a_key_no_header_can_carry_is_left_out() {
        let env = Env::of([("A_API_KEY", "line\nbreak"), ("A_API_KEY_1", " padded ")]);
        let found = find(&named(&USUAL.map(str::to_owned), "a"), &header(), &env);
        assert_eq!(found.unfit, ["A_API_KEY"]);
        let (_, line) = found.keys.first().and_then(|k| k.header.as_ref()).unwrap();
        assert_eq!(line, "Bearer padded");
        assert!(line.is_sensitive(), "never in logs");
    }

    #[test]
    fn states_are_shared_by_what_shares_a_limit() {
        let registry = Registry::default();
        let env = Env::of([("A_API_KEY", "k")]);
        let keys = find(&["A_API_KEY".to_owned()], &header(), &env).keys;
        let (one, two) = (slots(&keys, "a", "m1", &registry), slots(&keys, "a", "m2", &registry));
        let again = slots(&keys, "a", "m1", &registry);
        let (Some(one), Some(two), Some(again)) = (one.first(), two.first(), again.first()) else { panic!("one each") };
        assert!(Arc::ptr_eq(&one.on_key, &two.on_key), "the key is one");
        assert!(!one.on_model.is_same(&two.on_model), "the models are two");
        assert!(one.on_model.is_same(&again.on_model), "and stay the same");
    }
}
