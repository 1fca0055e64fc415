//! Every credential of a table, so that none is shown: some upstreams repeat the key they refuse, and one may repeat another's.

use std::sync::Arc;

use memchr::memmem;

use crate::route::table::Model;
use crate::secret::Secret;

/// All keys there are, and headers that are kept secret, each once. Looked for only in what is shown because something failed.
#[derive(Debug, Default)]
pub struct Secrets(Vec<Known>);

#[derive(Debug)]
struct Known {
    secret: Secret,
    /// As JSON may spell it, where that is another spelling.
    escaped: Option<Secret>,
}

/// Shorter keys are no secrets, and may be words that stand in any sentence.
const BYTES_MIN: usize = 8;

impl Secrets {
    pub(in crate::route) fn of(models: &[Arc<Model>]) -> Self {
        let mut all: Vec<Known> = Vec::new();
        let routes = || models.iter().flat_map(|model| &model.routes);
        let keys = routes().flat_map(|route| &route.keys).filter_map(|slot| slot.key.secret.clone());
        // Headers that the configuration fills in from the environment.
        let values = routes().flat_map(|route| route.headers.values()).filter(|value| value.is_sensitive());
        let secrets = keys.chain(values.filter_map(|value| Some(Secret::new(value.to_str().ok()?))));
        for secret in secrets.filter(|secret: &Secret| BYTES_MIN <= secret.expose().len()) {
            if !all.iter().any(|known| known.secret.digest() == secret.digest()) {
                let escaped = secret.expose().contains('/').then(|| Secret::new(&secret.expose().replace('/', "\\/")));
                all.push(Known { secret, escaped });
            }
        }
        Self(all)
    }

    /// The text without them; `None`, as a rule, if there is none in it.
    #[must_use]
    pub fn hidden(&self, text: &str) -> Option<String> {
        let mut clean: Option<String> = None;
        for Known { secret, escaped } in &self.0 {
            for spelled in [Some(secret), escaped.as_ref()].into_iter().flatten() {
                let shown = clean.as_deref().unwrap_or(text);
                if memmem::find(shown.as_bytes(), spelled.expose().as_bytes()).is_some() {
                    clean = Some(shown.replace(spelled.expose(), &secret.redacted()));
                }
            }
        }
        clean
    }

    /// The same of bytes that are text as a rule.
    #[must_use]
    pub fn hidden_in(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.hidden(text).map(String::into_bytes),
            Err(_) => self.hidden(&String::from_utf8_lossy(bytes)).map(String::into_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::laws::route;

    #[test]
    fn no_key_of_the_table_is_left_in_a_text() {
        let mut one = route("p", 2);
        let key = |text: &str| {
            Arc::new(crate::route::table::Key { name: "K".into(), secret: Some(Secret::new(text)), header: None })
        };
        for (slot, text) in one.keys.iter_mut().zip(["sk-live-0123456789abcdef", "ab/cd/ef/gh/ij/kl/mn/op"]) {
            slot.key = key(text);
        }
        let mut short = route("q", 1);
        short.keys[0].key = key("short");
        let model = |routes: Vec<crate::route::table::Route>| {
            Arc::new(Model {
                name: "m".into(),
                aliases: Box::default(),
                display_name: None,
                routes: routes.into_iter().map(Arc::new).collect(),
                on_lossy: crate::route::table::OnLossy::default(),
                rewrite_model: false,
                terms: crate::route::table::Terms::default(),
            })
        };
        let mut again = route("p", 1);
        again.keys[0].key = Arc::clone(&one.keys[0].key);
        let secrets = Secrets::of(&[model(vec![one, short]), model(vec![again])]);
        for (text, expect) in [
            ("nothing to see", None),
            ("short is a word", None),
            ("no sk-live-0123456789abcdef, no sk-live-0123456789abcdef", Some("no sk-…cdef, no sk-…cdef")),
            ("ab/cd/ef/gh/ij/kl/mn/op and ab\\/cd\\/ef\\/gh\\/ij\\/kl\\/mn\\/op", Some("ab/…n/op and ab/…n/op")),
        ] {
            assert_eq!(secrets.hidden(text).as_deref(), expect, "{text}");
            assert_eq!(secrets.hidden_in(text.as_bytes()).as_deref(), expect.map(str::as_bytes));
        }
        assert_eq!(
            secrets.hidden_in(b"\xff sk-live-0123456789abcdef").as_deref(),
            Some("\u{fffd} sk-…cdef".as_bytes())
        );
        assert_eq!(secrets.0.len(), 2, "each once");
    }
}
