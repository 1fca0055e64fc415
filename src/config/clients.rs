//! Who may ask: the clients of `config/clients/*.json`, and the one whose key is `CLIENT_API_KEY`.
//!
//! Only digests of keys are known here. Clients are swapped whole like the table, but apart from it: a client names models
//! by their names, so neither needs the other to be of the same reading.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::config::load::Sourced;
use crate::config::source::{ClientFile, LimitsEntry};
use crate::limit::{Account, Limits, Terms};
use crate::route::table::{Model, Pattern, Table};
use crate::secret::{Secret, sha256};

/// The client whose key is `CLIENT_API_KEY`, or was made for this run.
pub const DEFAULT: &str = "default";

/// One client, as it was read.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub name: Arc<str>,
    /// The SHA-256 of each of its keys.
    digests: Vec<[u8; 32]>,
    /// What it may ask for; `None`: everything.
    models: Option<Vec<Allowed>>,
    pub limits: Limits,
    /// By the logical model's name, or by one that a wildcard stands for.
    pub per_model: Vec<(Box<str>, Limits)>,
    pub account: Arc<Account>,
    /// Nothing of it is limited: nothing need be counted.
    pub is_free: bool,
}

/// A name, or one with a `*`.
#[derive(Clone, Debug)]
struct Allowed {
    text: Box<str>,
    pattern: Pattern,
}

impl Allowed {
    fn fits(&self, name: &str) -> bool {
        *self.text == *name || self.pattern.matches(name).is_some()
    }
}

impl Client {
    /// The client of a key that stands in no file.
    #[must_use]
    pub fn of_key(key: &Secret, limits: Limits) -> Self {
        let is_free = limits.is_none();
        Self { name: DEFAULT.into(), digests: vec![key.digest()], limits, is_free, ..Self::default() }
    }

    /// Whether it may ask for a model, under the name it asks by.
    #[must_use]
    pub fn may_use(&self, model: &str, asked: &str) -> bool {
        let fits = |allowed: &Allowed| allowed.fits(model) || allowed.fits(asked);
        self.models.as_ref().is_none_or(|models| models.iter().any(fits))
    }

    /// Whether it may ask for some models only, or for none.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.models.is_some()
    }

    /// Whether it matters which model it asks for.
    #[must_use]
    pub fn is_by_model(&self) -> bool {
        self.is_restricted() || !self.per_model.is_empty()
    }

    /// What it may ask for, as its file says it; empty where that is everything.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().flatten().map(|allowed| &*allowed.text)
    }

    /// Which of its limits by model hold for a model that is asked for by some name: those of that very name, where it is one
    /// of a wildcard's, else the model's.
    #[must_use]
    pub fn place(&self, model: &str, asked: &str) -> Option<usize> {
        let of = |name: &str| self.per_model.iter().position(|(known, _)| **known == *name);
        of(asked).or_else(|| of(model))
    }

    /// The limits a request has to pass, and those by model of a [place](Self::place).
    #[must_use]
    pub fn terms(&self, place: Option<usize>) -> Terms<'_> {
        let own = place.and_then(|place| self.per_model.get(place));
        Terms { limits: &self.limits, model: own.map(|(name, limits)| (&**name, limits)) }
    }

    /// Whether it has a day or a month to spend, in all or of one model.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.limits.has_budget() || self.per_model.iter().any(|(_, limits)| limits.has_budget())
    }

    /// Eight hexadecimal digits of each of its keys' digests.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.digests.iter().map(|digest| data_encoding::HEXLOWER.encode(digest.get(..4).unwrap_or_default()))
    }
}

/// All clients in force.
#[derive(Debug)]
pub struct Clients {
    all: Vec<Arc<Client>>,
    /// Another for every reading: whoever was let in by an earlier one is looked at again.
    pub reading: u64,
}

impl Clients {
    /// Puts clients in force. Each finds what it used before, by its name.
    #[must_use]
    pub fn new(all: &[Client], accounts: &Accounts) -> Self {
        static READINGS: AtomicU64 = AtomicU64::new(1);
        let with_account = |client: &Client| Arc::new(Client { account: accounts.of(&client.name), ..client.clone() });
        Self { all: all.iter().map(with_account).collect(), reading: READINGS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whose key this is. All digests are compared, each in constant time, whichever fits.
    #[must_use]
    pub fn find(&self, offered: &[u8]) -> Option<&Arc<Client>> {
        let digest = sha256(offered);
        let mut found = u32::MAX;
        for (client, at) in self.all.iter().zip(0_u32..) {
            let is = client.digests.iter().fold(Choice::from(0), |is, known| is | known.ct_eq(&digest));
            found.conditional_assign(&at, is);
        }
        self.all.get(usize::try_from(found).ok()?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.all.iter()
    }
}

/// What each client uses, by its name: it outlives what a file says.
#[derive(Default)]
pub struct Accounts(Mutex<BTreeMap<Arc<str>, Arc<Account>>>);

impl Accounts {
    pub fn of(&self, name: &Arc<str>) -> Arc<Account> {
        Arc::clone(self.0.lock().entry(Arc::clone(name)).or_default())
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.lock().keys()).finish()
    }
}

/// Reads all clients, reporting what no schema can see.
pub(crate) fn compile(files: Vec<Sourced<ClientFile>>, table: &Table, env: &Env, report: &mut Report) -> Vec<Client> {
    let usual = usual(env, report);
    let mut all: Vec<(Client, Place)> = Vec::new();
    if let Some(key) = env.text("CLIENT_API_KEY") {
        let place = Place { pointer: "CLIENT_API_KEY".to_owned(), ..Place::file("environment") };
        all.push((Client::of_key(&Secret::new(key), usual), place));
    }
    for file in files {
        let place = file.place.clone();
        let client = client(file, usual, table, report);
        for (other, where_else) in &all {
            if other.name == client.name {
                report.error(&place.at("name"), format!("{:?} is the name of another client", client.name));
                report.error(where_else, format!("has the name {:?} of another client", client.name));
            }
            if other.digests.iter().any(|digest| client.digests.contains(digest)) {
                let message = format!("is the key of the client {:?} too", other.name);
                report.error(&place.at("key_sha256"), message).hint("make each its own with `model-proxy keys new`");
            }
        }
        all.push((client, place));
    }
    // One that is switched off is checked like the others, and then as if it were not there.
    all.into_iter().map(|(client, _)| client).filter(|client| !client.digests.is_empty()).collect()
}

fn client(file: Sourced<ClientFile>, usual: Limits, table: &Table, report: &mut Report) -> Client {
    let Sourced { place, value, stem, .. } = file;
    let name = value.name.as_deref().unwrap_or(&stem);
    if name != stem {
        report.warn(&place.at("name"), format!("is named {name:?}, unlike its file"));
    }
    let keys = value.key_sha256.map(|keys| keys.0).unwrap_or_default();
    let several = 1 < keys.len();
    let digests = keys.iter().enumerate().filter_map(|(at, key)| {
        let place = place.at("key_sha256");
        let place = if several { place.at(at.to_string()) } else { place };
        digest(key, &place, report)
    });
    let digests: Vec<[u8; 32]> = digests.collect();
    for (at, asked) in value.models.iter().flatten().enumerate() {
        check_model(asked, table, &place.at("models").at(at.to_string()), report);
    }
    let limits = limits(&value.limits, usual);
    let mut per_model: Vec<(Box<str>, Limits)> = Vec::new();
    for (name, entry) in value.per_model.iter().flatten() {
        let place = place.at("per_model").at(name);
        let model = limited_as(name, table).unwrap_or_else(|| {
            unknown(name, table, &place, report);
            name.as_str().into()
        });
        if per_model.iter().any(|(other, _)| *other == model) {
            report.error(&place, format!("is the model {model:?}, whose limits stand here under another name too"));
        }
        per_model.push((model, self::limits(entry, Limits::default())));
    }
    let allowed = |text: &String| Allowed { text: text.as_str().into(), pattern: Pattern::new(text) };
    let is_enabled = value.enabled.unwrap_or(true);
    Client {
        name: name.into(),
        digests: if is_enabled { digests } else { Vec::new() },
        models: value.models.map(|models| models.iter().map(allowed).collect()),
        is_free: limits.is_none() && per_model.is_empty(),
        limits,
        per_model,
        account: Arc::default(),
    }
}

/// What holds for a client where its file says nothing.
fn usual(env: &Env, report: &mut Report) -> Limits {
    let mut number = |name: &str| {
        let text = env.text(name)?;
        let number = text.parse::<u64>().ok().filter(|n| 0 < *n);
        if number.is_none() {
            let place = Place { pointer: name.to_owned(), ..Place::file("environment") };
            let message = format!("must be a whole number of 1 or more, not {text:?}");
            report.error(&place, message).hint("unset it for no limit");
        }
        number
    };
    Limits {
        requests_per_minute: number("RATE_LIMIT_REQUESTS_PER_MINUTE"),
        tokens_per_minute: number("RATE_LIMIT_TOKENS_PER_MINUTE"),
        ..Limits::default()
    }
}

fn limits(entry: &LimitsEntry, usual: Limits) -> Limits {
    Limits {
        requests_per_minute: entry.requests_per_minute.or(usual.requests_per_minute),
        tokens_per_minute: entry.tokens_per_minute.or(usual.tokens_per_minute),
        requests_at_once: entry.requests_at_once,
        tokens_per_day: entry.tokens_per_day,
        tokens_per_month: entry.tokens_per_month,
    }
}

/// Sixty-four hexadecimal digits. Anything else may be a key itself, so it is not shown.
fn digest(text: &str, place: &Place, report: &mut Report) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    let digest = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if digest.is_none() {
        let message = "is not the SHA-256 of a key, which has 64 hexadecimal digits";
        report
            .error(place, message)
            .hint("no key belongs here: `model-proxy keys new NAME` makes one and writes its digest");
    }
    digest
}

/// A name that fits no model is surely misspelt.
fn check_model(asked: &str, table: &Table, place: &Place, report: &mut Report) {
    let allowed = Allowed { text: asked.into(), pattern: Pattern::new(asked) };
    let is_known = table.resolve(asked).is_some()
        || table
            .models()
            .any(|model| allowed.fits(&model.name) || model.aliases.iter().any(|alias| allowed.fits(alias)));
    if !is_known {
        unknown(asked, table, place, report);
    }
}

/// The name by which a model's limits are found: the model's own for an alias, as it stands where a wildcard takes it in.
fn limited_as(name: &str, table: &Table) -> Option<Box<str>> {
    let is_named = |model: &&Arc<Model>| *model.name == *name || model.aliases.iter().any(|alias| **alias == *name);
    let named = table.models().find(is_named).map(|model| model.name.clone());
    named.or_else(|| table.resolve(name).map(|_| name.into()))
}

fn unknown(name: &str, table: &Table, place: &Place, report: &mut Report) {
    let near = table.near(name);
    let found = report.warn(place, format!("there is no model {name:?}"));
    if let [first, ..] = near.as_slice() {
        found.hint(format!("did you mean {first:?}?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Dir;
    use crate::config::{Lookup, Root, load};
    use crate::route::keys::Registry;

    const MODEL: &str =
        r#"{"logical_name":"fast","aliases":["quick"],"model_routings":[{"provider":"demo","model":"demo"}]}"#;

    fn read(files: &[(&str, &str)], vars: &[(&str, &str)]) -> Result<(Vec<Client>, Vec<String>), Vec<String>> {
        let files: Vec<(&str, &str)> = [("models/fast.json", MODEL)].iter().chain(files).copied().collect();
        let dir = Dir::new(&files);
        let lookup = Lookup { root: Root::Directory(dir.path("")), extra: Vec::new() };
        let told = |found: &[crate::config::Diagnostic]| {
            let prefix = format!("{}/", dir.path("").display().to_string().trim_end_matches('/'));
            found.iter().map(|d| d.to_string().replace(&prefix, "")).collect::<Vec<_>>()
        };
        match load(&Env::of(vars.iter().copied()), &lookup, &Registry::default()) {
            Ok(loaded) => Ok((loaded.clients, told(&loaded.diagnostics))),
            Err(found) => Err(told(&found)),
        }
    }

    fn hash(key: &str) -> String {
        data_encoding::HEXLOWER.encode(&sha256(key.as_bytes()))
    }

    #[test]
    fn clients_are_what_their_files_say() {
        let file = format!(
            r#"{{"key_sha256":["{}","{}"],"models":["quick","de*o"],"requests_per_minute":5,"per_model":{{"fast":{{"requests_at_once":1}}}}}}"#,
            hash("one"),
            hash("two").to_uppercase()
        );
        let by_name = format!(
            r#"{{"key_sha256":"{}","per_model":{{"quick":{{}},"any/one":{{}},"some/*":{{"tokens_per_day":9}}}}}}"#,
            hash("four")
        );
        let wild =
            r#"{"logical_name":"any/*","aliases":["some/*"],"model_routings":[{"provider":"demo","model":"demo"}]}"#;
        let off = format!(r#"{{"key_sha256":"{}","enabled":false}}"#, hash("three"));
        let vars = [
            ("CLIENT_API_KEY", "main"),
            ("RATE_LIMIT_REQUESTS_PER_MINUTE", "9"),
            ("RATE_LIMIT_TOKENS_PER_MINUTE", "100"),
        ];
        let files = [
            ("clients/ci.json", file.as_str()),
            ("clients/off.json", &off),
            ("clients/wild.json", &by_name),
            ("models/any.json", wild),
        ];
        let (all, told) = read(&files, &vars).unwrap();
        assert_eq!(told, [""; 0]);
        let clients = Clients::new(&all, &Accounts::default());
        let name = |key: &str| clients.find(key.as_bytes()).map(|client| client.name.to_string());
        assert_eq!(
            ["main", "one", "two", "three", "x", ""].map(name),
            [Some("default"), Some("ci"), Some("ci"), None, None, None].map(|n| n.map(str::to_owned))
        );
        let ci = clients.find(b"two").unwrap();
        assert_eq!(
            (ci.limits.requests_per_minute, ci.limits.tokens_per_minute),
            (Some(5), Some(100)),
            "its own, else the usual"
        );
        assert_eq!(clients.find(b"main").unwrap().limits.requests_per_minute, Some(9));
        for (model, asked, may) in
            [("fast", "quick", true), ("fast", "fast", false), ("demo", "demo", true), ("demo-2", "x", false)]
        {
            assert_eq!(ci.may_use(model, asked), may, "{model} as {asked}");
        }
        assert!(!ci.is_free);
        let limits = |key: &str, model: &str, asked: &str| {
            let client = clients.find(key.as_bytes()).unwrap();
            client.terms(client.place(model, asked)).model.map(|(name, _)| name.to_owned())
        };
        for (key, model, asked, expect) in [
            ("two", "fast", "fast", Some("fast")),
            ("two", "fast", "quick", Some("fast")),
            ("two", "demo", "demo", None),
            ("four", "fast", "fast", Some("fast")),
            ("four", "any/*", "any/one", Some("any/one")),
            ("four", "any/*", "any/two", Some("any/*")),
            ("four", "any/*", "some/two", Some("any/*")),
        ] {
            assert_eq!(limits(key, model, asked).as_deref(), expect, "{key} asks for {asked}");
        }
        assert!(!format!("{all:?}").contains("main"), "no key is shown");
    }

    #[test]
    fn what_was_used_outlives_a_reading() {
        let accounts = Accounts::default();
        let (all, _) = read(&[], &[("CLIENT_API_KEY", "k")]).unwrap();
        let (before, after) = (Clients::new(&all, &accounts), Clients::new(&all, &accounts));
        assert!(
            Arc::ptr_eq(&before.all[0].account, &after.all[0].account) && before.reading != after.reading,
            "by its name"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_no_key_is_shown() {
        let (one, two) = (hash("one"), hash("two"));
        let with = |rest: &str| format!(r#"{{"key_sha256":"{one}"{rest}}}"#);
        for (files, vars, says) in [
            (
                vec![("clients/a.json", r#"{"key_sha256":"sk-secret"}"#.to_owned())],
                &[][..],
                "clients/a.json:/key_sha256: is not the SHA-256 of a key",
            ),
            (
                vec![("clients/a.json", format!(r#"{{"key_sha256":["{one}","abcd"]}}"#))],
                &[],
                "clients/a.json:/key_sha256/1: is not",
            ),
            (vec![("clients/a.json", "{}".to_owned())], &[], "the field \"key_sha256\" is missing"),
            (vec![("clients/a.json", with(r#","key":"sk-secret""#))], &[], "unknown field \"key\""),
            (
                vec![("clients/a.json", with(r#","requests_per_minute":0"#))],
                &[],
                "/requests_per_minute: must be a whole number of at least 1",
            ),
            (
                vec![("clients/a.json", with(r#","per_model":{"fast":{"rpm":1}}"#))],
                &[],
                "/per_model/fast/rpm: unknown field",
            ),
            (
                vec![("clients/a.json", with(r#","per_model":{"fast":{},"quick":{}}"#))],
                &[],
                "clients/a.json:/per_model/quick: is the model \"fast\", whose limits stand here under another name too",
            ),
            (
                vec![("clients/a.json", with("")), ("clients/b.json", with(""))],
                &[],
                "clients/b.json:/key_sha256: is the key of the client \"a\" too",
            ),
            (
                vec![
                    ("clients/a.json", with(r#","name":"b""#)),
                    ("clients/b.json", format!(r#"{{"key_sha256":"{two}"}}"#)),
                ],
                &[],
                "clients/b.json:/name: \"b\" is the name of another client",
            ),
            (
                vec![("clients/default.json", with(""))],
                &[("CLIENT_API_KEY", "x")],
                "\"default\" is the name of another client",
            ),
            (
                vec![],
                &[("RATE_LIMIT_TOKENS_PER_MINUTE", "lots")],
                "environment:RATE_LIMIT_TOKENS_PER_MINUTE: must be a whole number of 1 or more, not \"lots\"",
            ),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let told = read(&files, vars).unwrap_err().join("\n");
            assert!(told.contains(says), "{says}: {told}");
            assert!(!told.contains("sk-secret"), "{told}");
        }
        for (rest, says) in [
            (r#","models":["fats"]"#, "/models/0: warning: there is no model \"fats\"; did you mean \"fast\"?"),
            (r#","per_model":{"quack":{}}"#, "/per_model/quack: warning: there is no model \"quack\""),
            (r#","name":"other""#, "/name: warning: is named \"other\", unlike its file"),
        ] {
            let (_, told) = read(&[("clients/a.json", &with(rest))], &[]).unwrap();
            assert!(told.iter().any(|line| line.contains(says)), "{says}: {told:?}");
        }
    }
}
