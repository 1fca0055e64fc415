//! Every credential of a table, so that none is shown: some upstreams repeat the key they refuse, and one may repeat another's.

use std::cmp::Reverse;
use std::sync::Arc;

use memchr::memmem;

use crate::route::table::Model;
use crate::secret::Secret;

/// All keys there are, and what variables have put into headers and queries, each once. Texts are looked through only where they
/// are shown because something failed; of headers, those that come down.
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
    pub(in crate::route) fn of(models: &[Arc<Model>], direct: &[Arc<Model>]) -> Self {
        let mut all: Vec<Known> = Vec::new();
        let routes = models.iter().chain(direct).flat_map(|model| &model.routes);
        let secrets = routes.flat_map(|route| {
            let keys = route.keys.iter().filter_map(|slot| slot.key.secret.clone());
            keys.chain(route.provider.filled.iter().cloned())
        });
        for secret in secrets.filter(|secret: &Secret| BYTES_MIN <= secret.expose().len()) {
            if !all.iter().any(|known| known.secret.digest() == secret.digest()) {
                let escaped = secret.expose().contains('/').then(|| Secret::new(&secret.expose().replace('/', "\\/")));
                all.push(Known { secret, escaped });
            }
        }
        // One may be the beginning of another: what is longest is taken out first.
        all.sort_by_key(|known| Reverse(known.secret.expose().len()));
        Self(all)
    }

    /// Those of a table with one key.
    #[cfg(test)]
    pub(crate) fn of_one(key: &str) -> Self {
        Self(vec![Known { secret: Secret::new(key), escaped: None }])
    }

    /// Whether one of them stands in a header's value. Most are longer than most values.
    #[must_use]
    pub fn are_in(&self, value: &[u8]) -> bool {
        let is_in = |secret: &Secret| {
            secret.expose().len() <= value.len() && memmem::find(value, secret.expose().as_bytes()).is_some()
        };
        self.0.iter().any(|known| is_in(&known.secret) || known.escaped.as_ref().is_some_and(is_in))
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
        let mut longer = route("r", 1);
        longer.keys[0].key = key("sk-live-0123456789abcdef-and-more-of-it");
        let models = [model(vec![one, short]), model(vec![again]), model(vec![longer])];
        let secrets = Secrets::of(&models, &[]);
        for (text, expect) in [
            ("nothing to see", None),
            ("short is a word", None),
            ("no sk-live-0123456789abcdef, no sk-live-0123456789abcdef", Some("no sk-…cdef, no sk-…cdef")),
            ("sk-live-0123456789abcdef-and-more-of-it", Some("sk-…f-it")),
            ("ab/cd/ef/gh/ij/kl/mn/op and ab\\/cd\\/ef\\/gh\\/ij\\/kl\\/mn\\/op", Some("ab/…n/op and ab/…n/op")),
        ] {
            assert_eq!(secrets.hidden(text).as_deref(), expect, "{text}");
            assert_eq!(secrets.hidden_in(text.as_bytes()).as_deref(), expect.map(str::as_bytes));
        }
        assert_eq!(
            secrets.hidden_in(b"\xff sk-live-0123456789abcdef").as_deref(),
            Some("\u{fffd} sk-…cdef".as_bytes())
        );
        assert_eq!(secrets.0.len(), 3, "each once");
        for (value, is) in
            [("id sk-live-0123456789abcdef", true), ("ab\\/cd\\/ef\\/gh\\/ij\\/kl\\/mn\\/op", true), ("short", false)]
        {
            assert_eq!(secrets.are_in(value.as_bytes()), is, "{value}");
        }
    }
}
