//! `keys list`: the keys of the configuration, and what a running server says of them.

use serde::{Deserialize, Serialize};

use crate::cli::flags::NAME;
use crate::cli::health::{Target, endpoint, no_endpoint};
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, say, wants_json};
use crate::config::Loaded;
use crate::config::env::Env;
use crate::route::keys::Registry;

pub(crate) fn run(given: &Given) -> Exit {
    list(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn list(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    let endpoint = &endpoint(given, &env)?;
    let target = Target::parse(endpoint, "/health/detailed").ok_or_else(|| no_endpoint(endpoint))?;
    let loaded = load(given, &env, &Registry::default())?;
    let live = match ask(&target, &env) {
        Ok(resting) => Some(resting),
        Err(why) => {
            say::err(&format!("{NAME}: what rests is not known: {endpoint} {why}"));
            None
        }
    };
    let listing = Listing::new(keys(&loaded), live);
    if listing.keys.is_empty() {
        say::err(&format!("{NAME}: no key was found; `{NAME} config list` shows which models lack one"));
    }
    if json {
        let text = serde_json::to_string(&listing).map_err(|error| Unready::Usage(error.to_string()))?;
        say::out(&text);
    } else {
        say::out(&table(&listing));
    }
    Ok(Exit::Fine)
}

/// All there is to tell.
#[derive(Debug, Serialize)]
struct Listing {
    /// Whether a server was asked.
    live: bool,
    keys: Vec<Key>,
    /// What rests and is none of these keys: routes, providers, keys of another configuration.
    resting: Vec<Resting>,
}

/// One key, of one provider.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Key {
    variable: String,
    fingerprint: String,
    provider: String,
    models: Vec<String>,
    /// Not known without a server.
    resting: Option<Vec<Resting>>,
}

/// Something that rests, as `/health/detailed` says it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Resting {
    scope: String,
    provider: String,
    model: Option<String>,
    variable: Option<String>,
    fingerprint: Option<String>,
    until: String,
    seconds: u64,
    why: String,
    strikes: u32,
}

/// As much of `/health/detailed` as is read.
#[derive(Debug, Deserialize)]
struct Detailed {
    /// A server of an earlier version does not tell.
    resting: Option<Vec<Resting>>,
}

/// What rests at a running server; else why that is not known.
fn ask(target: &Target, env: &Env) -> Result<Vec<Resting>, String> {
    let answer = target.get(env.text("CLIENT_API_KEY")).map_err(|error| format!("does not answer: {error}"))?;
    match answer.status {
        200 => {}
        401 => return Err("refuses the client key; set CLIENT_API_KEY to the server's".to_owned()),
        status => return Err(format!("answers {status}")),
    }
    let detailed: Result<Detailed, _> = serde_json::from_str(&answer.body);
    detailed.ok().and_then(|d| d.resting).ok_or_else(|| "does not tell".to_owned())
}

/// Every key of every provider, and of routes that name their own; those that serve no model too.
fn keys(loaded: &Loaded) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut add = |provider: &str, variable: &str, fingerprint: String, model: Option<&str>| {
        let same = |key: &&mut Key| key.provider == provider && key.fingerprint == fingerprint;
        if let Some(key) = keys.iter_mut().find(same) {
            key.models.extend(model.filter(|model| !key.models.iter().any(|m| m == model)).map(str::to_owned));
            return;
        }
        let models = model.map(str::to_owned).into_iter().collect();
        let (variable, provider) = (variable.to_owned(), provider.to_owned());
        keys.push(Key { variable, fingerprint, provider, models, resting: None });
    };
    for provider in loaded.providers.iter().filter(|p| p.enabled) {
        for (variable, fingerprint) in &provider.found {
            add(&provider.name, variable, fingerprint.clone(), None);
        }
    }
    for model in loaded.table.models() {
        for route in &model.routes {
            for slot in &route.keys {
                if let Some(secret) = &slot.key.secret {
                    add(&route.provider.name, &slot.key.name, secret.fingerprint(), Some(&model.name));
                }
            }
        }
    }
    keys.sort_by(|a, b| a.provider.cmp(&b.provider));
    keys
}

impl Listing {
    /// Gives each key what rests of it.
    fn new(mut keys: Vec<Key>, live: Option<Vec<Resting>>) -> Self {
        let Some(mut resting) = live else {
            return Self { live: false, keys, resting: Vec::new() };
        };
        for key in &mut keys {
            let is_its = |r: &Resting| r.fingerprint.as_ref() == Some(&key.fingerprint) && r.provider == key.provider;
            key.resting = Some(resting.extract_if(.., |r| is_its(r)).collect());
        }
        Self { live: true, keys, resting }
    }
}

fn table(listing: &Listing) -> String {
    let mut rows = vec![["KEY", "FINGERPRINT", "PROVIDER", "MODELS", "STATE"].map(str::to_owned)];
    rows.extend(listing.keys.iter().map(row));
    let mut text = say::columns(&rows, 5);
    for resting in &listing.resting {
        text.push_str(&format!("{} {}\n", who(resting), state(resting)));
    }
    text
}

fn row(key: &Key) -> [String; 5] {
    let models = match key.models.len() {
        0 => "none".to_owned(),
        1..=MODELS_SHOWN_MAX => key.models.join(", "),
        n => format!(
            "{} and {} more",
            key.models.get(..MODELS_SHOWN_MAX).unwrap_or_default().join(", "),
            n - MODELS_SHOWN_MAX
        ),
    };
    let state = match key.resting.as_deref() {
        None => "not known".to_owned(),
        Some([]) => "ready".to_owned(),
        Some(all) => {
            let told = all.iter().map(|r| match &r.model {
                Some(model) => format!("for {model} {}", state(r)),
                None => state(r),
            });
            told.collect::<Vec<_>>().join("; ")
        }
    };
    [key.variable.clone(), key.fingerprint.clone(), key.provider.clone(), models, state]
}

/// So many of a key's models are named in a table; JSON has them all.
const MODELS_SHOWN_MAX: usize = 3;

fn who(resting: &Resting) -> String {
    let Resting { scope, provider, model, variable, fingerprint, .. } = resting;
    match (model, variable, fingerprint) {
        (_, Some(variable), Some(print)) => format!("the key {variable} ({print}) of {provider}"),
        (Some(model), ..) => format!("the {scope} {provider}/{model}"),
        (None, ..) => format!("the {scope} {provider}"),
    }
}

fn state(resting: &Resting) -> String {
    let Resting { until, seconds, why, strikes, .. } = resting;
    let failures = if *strikes == 1 { "1 failure".to_owned() } else { format!("{strikes} failures in a row") };
    format!("rests {seconds} s, until {until}: {why}, {failures}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resting(scope: &str, model: Option<&str>, key: Option<(&str, &str)>) -> Resting {
        Resting {
            scope: scope.to_owned(),
            provider: "p".to_owned(),
            model: model.map(str::to_owned),
            variable: key.map(|(variable, _)| variable.to_owned()),
            fingerprint: key.map(|(_, print)| print.to_owned()),
            until: "2026-11-23T15:18:00Z".to_owned(),
            seconds: 5,
            why: "rate limited".to_owned(),
            strikes: 1,
        }
    }

    fn key(variable: &str, print: &str) -> Key {
        let (variable, fingerprint) = (variable.to_owned(), print.to_owned());
        let models = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        Key { variable, fingerprint, provider: "p".to_owned(), models, resting: None }
    }

    #[test]
    fn each_key_is_told_its_own_rest() {
        let live = vec![
            resting("key", None, Some(("K1", "11111111"))),
            resting("key_model", Some("m"), Some(("K1", "11111111"))),
            resting("route", Some("m"), None),
            resting("key", None, Some(("GONE", "33333333"))),
        ];
        let listing = Listing::new(vec![key("K1", "11111111"), key("K2", "22222222")], Some(live));
        assert_eq!(
            table(&listing),
            "KEY  FINGERPRINT  PROVIDER  MODELS              STATE\n\
             K1   11111111     p         a, b, c and 1 more  rests 5 s, until 2026-11-23T15:18:00Z: rate limited, 1 failure; \
             for m rests 5 s, until 2026-11-23T15:18:00Z: rate limited, 1 failure\n\
             K2   22222222     p         a, b, c and 1 more  ready\n\
             the route p/m rests 5 s, until 2026-11-23T15:18:00Z: rate limited, 1 failure\n\
             the key GONE (33333333) of p rests 5 s, until 2026-11-23T15:18:00Z: rate limited, 1 failure\n"
        );
        let unknown = Listing::new(vec![key("K1", "11111111")], None);
        assert!(table(&unknown).ends_with("not known\n") && !unknown.live, "{unknown:?}");
    }
}
