//! `keys test`: every key of a provider, tried at the provider.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::say::{Look, Paint};
use crate::cli::{Exit, Unready, environment, load, say, wants_json};
use crate::config::env::Env;
use crate::config::{Loaded, Lookup};
use crate::gateway::inquiry::{Inquiry, Standing, inquire};
use crate::route::keys::Registry;
use crate::route::near::near;
use crate::route::table::{Route, Slot};
use crate::secret::scrub;
use crate::time::Clock;
use crate::upstream::{self, Keep, Spawn, Upstream};
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    test(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn test(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    let loaded = load(given, &env, &Registry::default())?;
    // Where no model of one's own leads to a provider, one of those that are built in may.
    let built_in = crate::config::load(&env, &Lookup::default(), &Registry::default()).ok();
    let wanted = given.rest.first().map(|name| name.to_string_lossy().into_owned());
    let mut keys = Vec::new();
    for provider in asked(&loaded, wanted.as_deref())? {
        let own = keys_of(&loaded, &provider);
        let other = || built_in.as_ref().map(|loaded| keys_of(loaded, &provider)).unwrap_or_default();
        keys.extend(if own.is_empty() { other() } else { own });
    }
    if keys.is_empty() {
        return Ok(say::no(match wanted {
            Some(name) => format!("no key of {name} was found: {}", hint(&loaded, &name)),
            None => format!("no key was found; `{NAME} env check` shows which variables are set"),
        }));
    }
    let count = keys.len();
    say::progress(&format!("asking with {count} {}…", if count == 1 { "key" } else { "keys" }));
    let mut told = ask(&keys, &env)?;
    for told in &mut told {
        // Some repeat the key they refuse.
        let hidden = loaded.table.secrets.hidden(&told.words).unwrap_or_else(|| told.words.clone());
        told.words = scrub(&hidden).unwrap_or(hidden);
    }
    let paint = Paint::of(&env);
    say::out(&if json { as_json(&keys, &told) } else { as_table(&keys, &told, paint) });
    let all_valid = told.iter().all(|told| told.standing == Standing::Valid);
    Ok(if all_valid { Exit::Fine } else { Exit::No })
}

/// The providers to be asked: the one that is named, or all that have a key.
fn asked(loaded: &Loaded, wanted: Option<&str>) -> Result<Vec<String>, Unready> {
    let known = || loaded.providers.iter().filter(|provider| provider.enabled).map(|provider| &*provider.name);
    let Some(name) = wanted else {
        return Ok(known().map(str::to_owned).collect());
    };
    if known().any(|provider| provider == name) {
        return Ok(vec![name.to_owned()]);
    }
    let near = near(name, known());
    let hint = match near.first() {
        Some(near) => format!(" (did you mean {near:?}?)"),
        None => format!("; there are {}", known().collect::<Vec<_>>().join(", ")),
    };
    Err(Unready::Usage(format!("no provider {name:?}{hint}")))
}

fn hint(loaded: &Loaded, name: &str) -> String {
    match loaded.providers.iter().find(|provider| *provider.name == *name) {
        Some(provider) if provider.keyless => "it needs none".to_owned(),
        Some(provider) if !provider.found.is_empty() => {
            "no model leads to it, so nobody knows how it is asked".to_owned()
        }
        Some(provider) => format!("set {}", provider.patterns.join(" or ")),
        None => String::new(),
    }
}

/// Each key of a provider once, with a route that uses it.
fn keys_of(loaded: &Loaded, provider: &str) -> Vec<(Arc<Route>, Slot)> {
    let mut keys: Vec<(Arc<Route>, Slot)> = Vec::new();
    let models = loaded.table.models();
    for route in models.flat_map(|model| &model.routes).filter(|route| *route.provider.name == *provider) {
        for slot in &route.keys {
            let Some(secret) = &slot.key.secret else { continue };
            let is_known = |(_, known): &(Arc<Route>, Slot)| {
                known.key.secret.as_ref().is_some_and(|known| known.digest() == secret.digest())
            };
            if !keys.iter().any(is_known) {
                keys.push((Arc::clone(route), slot.clone()));
            }
        }
    }
    keys
}

/// Asks with all of them at once.
fn ask(keys: &[(Arc<Route>, Slot)], env: &Env) -> Result<Vec<Inquiry>, Unready> {
    let failed = |error: &dyn std::fmt::Display| Unready::Usage(error.to_string());
    let tls = crate::server::tls(env).map_err(|e| failed(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    let keep = Keep { resting: 0, rest_max: Duration::ZERO, age_max: Duration::ZERO, origins: keys.len() };
    let settings = upstream::Settings { tls, spawn: spawn(), clock: Clock::start(), keep };
    let told = runtime.block_on(async {
        let upstream = Upstream::new(settings);
        let inquiries = keys.iter().map(|(route, slot)| inquire(&upstream, route, slot));
        all(inquiries.collect()).await
    });
    runtime.shutdown_background();
    Ok(told)
}

#[expect(clippy::disallowed_methods, reason = "a command ends with its answers: nothing is waited for")]
fn spawn() -> Spawn {
    Arc::new(|future| drop(tokio::spawn(future)))
}

/// Waits for all futures at once.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_over = true;
        for (future, done) in futures.iter_mut().filter(|(_, done)| done.is_none()) {
            match Pin::new(future).poll(cx) {
                Poll::Ready(result) => *done = Some(result),
                Poll::Pending => is_over = false,
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

fn as_table(keys: &[(Arc<Route>, Slot)], told: &[Inquiry], paint: Paint) -> String {
    let mut rows = vec![["KEY", "FINGERPRINT", "PROVIDER", "STANDING", "WHAT IT SAID"].map(str::to_owned)];
    for ((route, slot), Inquiry { standing, words }) in keys.iter().zip(told) {
        let fingerprint = slot.key.secret.as_ref().map(|secret| secret.fingerprint()).unwrap_or_default();
        let provider = route.provider.name.to_string();
        rows.push([slot.key.name.to_string(), fingerprint, provider, standing.as_str().to_owned(), words.clone()]);
    }
    let mut text = say::columns(&rows, 5);
    for (standing, look) in [
        (Standing::Valid, Look::Good),
        (Standing::Limited, Look::Doubtful),
        (Standing::Refused, Look::Bad),
        (Standing::Unreachable, Look::Doubtful),
    ] {
        let word = format!("  {}  ", standing.as_str());
        text = text.replace(&word, &format!("  {}  ", paint.on(look, standing.as_str())));
    }
    text
}

fn as_json(keys: &[(Arc<Route>, Slot)], told: &[Inquiry]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.array();
    for ((route, slot), Inquiry { standing, words }) in keys.iter().zip(told) {
        let fingerprint = slot.key.secret.as_ref().map(|secret| secret.fingerprint()).unwrap_or_default();
        w.object().key("variable").str(&slot.key.name).key("fingerprint").str(&fingerprint);
        w.key("provider").str(&route.provider.name).key("standing").str(standing.as_str());
        w.key("said").str(words).end_object();
    }
    w.end_array();
    String::from_utf8_lossy(&out).into_owned()
}
