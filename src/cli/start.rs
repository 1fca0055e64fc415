//! `start`: puts together what the server needs, and refuses what would surprise.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, lookup, say};
use crate::config::env::{Env, NO, YES};
use crate::config::{Diagnostic, Loaded, Lookup, Severity};
use crate::route::keys::Registry;
use crate::route::near::near;
use crate::server::{
    CertificateFiles, Cors, Listen, LogBodies, LogFormat, LogLevel, Reloading, Settings, Source, WHEREABOUTS, spelled,
};

pub(crate) fn run(given: &Given) -> Exit {
    let settings = match settings(given) {
        Ok(settings) => settings,
        Err(unready) => return unready.tell(Exit::Wrong),
    };
    tell(&settings.loaded, settings.log_format);
    match crate::server::run(settings) {
        Ok(()) => Exit::Fine,
        Err(error) => say::wrong(error),
    }
}

/// All that `start` needs of what it was given and what is there.
pub(super) fn settings(given: &Given) -> Result<Settings, Unready> {
    let env = environment(given)?;
    let unclear = env.unclear();
    if !unclear.is_empty() {
        return Err(Unready::Usage(unclear.join("; ")));
    }
    let listen = listen(given, &env)?;
    let certificate = certificate(given, &env)?;
    let metrics = metrics(given, &env)?;
    let workers: NonZeroUsize = given.number("workers", "a number of threads, 1 or more")?;
    let log_level = log_level(given, &env)?;
    let log_format = log_format(given, &env)?;
    let drain = drain(given, &env)?;
    let registry = Arc::new(Registry::default());
    let lookup = lookup(given, &env)?;
    // Before anything is read: what changes meanwhile is seen.
    let reloading = reloading(given, &lookup, &registry);
    let loaded = crate::config::load(&env, &lookup, &registry).map_err(Unready::Config)?;
    if loaded.clients.is_empty() {
        without_client_key(&listen, &env)?;
    }
    strict(&loaded, &env)?;
    let (workers, cooldowns) = (workers.get(), cooldowns(&env)?);
    // What is empty is said on purpose.
    let cors = env.get("CORS_ORIGINS").map_or_else(|| Cors::parse("*"), Cors::parse);
    let cors = cors.map_err(|why| Unready::Usage(format!("CORS_ORIGINS: {why}")))?;
    let budgets = state_file(&env, "budgets.json");
    let whereabouts = state_file(&env, WHEREABOUTS);
    let journal = journal(&env)?;
    let bodies = bodies(&env, journal.is_some())?;
    Ok(Settings {
        listen,
        metrics,
        certificate,
        workers,
        log_level,
        log_format,
        loaded,
        env,
        registry,
        reloading,
        drain,
        cooldowns,
        budgets,
        journal,
        bodies,
        whereabouts,
        cors,
    })
}

/// Where to listen: as the command line says, else as the environment does, else at one port of this machine.
fn listen(given: &Given, env: &Env) -> Result<Vec<Listen>, Unready> {
    const NAME: &str = "MODEL_PROXY_LISTEN";
    let said = given.texts("listen")?;
    if !said.is_empty() {
        if given.has("host") || given.has("port") {
            let message = "--listen takes the place of --host and --port: give one or the other";
            return Err(Unready::Usage(message.to_owned()));
        }
        let read = said.into_iter().map(Listen::parse).collect::<Result<_, _>>();
        return read.map_err(|why| Unready::Usage(format!("--listen: {why}")));
    }
    if let Some(all) = env.text(NAME).filter(|_| !given.has("host") && !given.has("port")) {
        let parts = all.split(',').map(str::trim).filter(|part| !part.is_empty());
        let read = parts.map(Listen::parse).collect::<Result<_, _>>();
        return read.map_err(|why| Unready::Usage(format!("{NAME}: {why}")));
    }
    let host = match given.text("host")?.or_else(|| env.text("MODEL_PROXY_HOST")) {
        Some(host) => host,
        None => given.text_or_default("host")?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(vec![Listen::Tcp { host, port: given.number("port", "a number up to 65535")?, tls: None }])
}

/// Where metrics are served, if on a port of their own.
fn metrics(given: &Given, env: &Env) -> Result<Option<Listen>, Unready> {
    let (text, said_by) = match (given.text("metrics-listen")?, env.text("MODEL_PROXY_METRICS_LISTEN")) {
        (Some(text), _) => (text, "--metrics-listen"),
        (None, Some(text)) => (text, "MODEL_PROXY_METRICS_LISTEN"),
        (None, None) => return Ok(None),
    };
    match Listen::parse(text) {
        Ok(Listen::Tcp { tls: Some(true), .. }) => {
            Err(Unready::Usage(format!("{said_by}: metrics are served without TLS only")))
        }
        Ok(listen) => Ok(Some(listen)),
        Err(why) => Err(Unready::Usage(format!("{said_by}: {why}"))),
    }
}

/// The certificate to be shown, if one is named.
fn certificate(given: &Given, env: &Env) -> Result<Option<CertificateFiles>, Unready> {
    let named = |flag: &str, var: &str| given.path(flag).or_else(|| env.text(var).map(PathBuf::from));
    match (named("tls-cert", "MODEL_PROXY_TLS_CERT"), named("tls-key", "MODEL_PROXY_TLS_KEY")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
        (Some(_), None) => {
            Err(Unready::Usage("--tls-cert needs --tls-key: a certificate is worth nothing without it".to_owned()))
        }
        (None, Some(_)) => Err(Unready::Usage("--tls-key needs --tls-cert: the certificate it belongs to".to_owned())),
    }
}

/// The file in which it is kept who rests: as named, or the usual one where a yes was said.
fn cooldowns(env: &Env) -> Result<Option<PathBuf>, Unready> {
    const NAME: &str = "MODEL_PROXY_PERSIST_COOLDOWNS";
    let Some(said) = env.text(NAME).filter(|_| !env.denies(NAME)) else {
        return Ok(None);
    };
    if !env.flag(NAME) {
        let meant = near(said, YES.into_iter().chain(NO)).into_iter().next().filter(|_| !said.contains(['/', '.']));
        let Some(meant) = meant else { return Ok(Some(PathBuf::from(said))) };
        let message =
            format!("{NAME} takes true, false or a file, not {said:?} (did you mean {meant:?}? a file is ./{said})");
        return Err(Unready::Usage(message));
    }
    state_file(env, "cooldowns.json")
        .map(Some)
        .ok_or_else(|| Unready::Usage(format!("{NAME}: name a file, for there is no HOME to keep one in")))
}

/// The file of the journal; `None` if none is kept.
pub(crate) fn journal(env: &Env) -> Result<Option<PathBuf>, Unready> {
    const NAME: &str = "MODEL_PROXY_JOURNAL";
    if let Some(said) = env.text(NAME) {
        return Ok((!said.eq_ignore_ascii_case("off")).then(|| PathBuf::from(said)));
    }
    if let Some(url) = env.text("DATABASE_URL") {
        let wrong = |why| Unready::Usage(format!("DATABASE_URL {why}; or turn the journal off with {NAME}=off"));
        return crate::journal::path_of_url(url).map(Some).map_err(wrong);
    }
    Ok(state_file(env, crate::journal::FILE))
}

/// Whose bodies are kept in the journal.
fn bodies(env: &Env, has_journal: bool) -> Result<LogBodies, Unready> {
    const NAME: &str = "MODEL_PROXY_LOG_BODIES";
    let Some(word) = env.text(NAME) else {
        return Ok(LogBodies::Off);
    };
    let bodies = LogBodies::parse(&word.to_ascii_lowercase())
        .ok_or_else(|| Unready::Usage(format!("{NAME} takes errors, all or off, not {word:?}")))?;
    if bodies != LogBodies::Off && !has_journal {
        return Err(Unready::Usage(format!("{NAME}={word} keeps bodies in the journal, and none is kept")));
    }
    Ok(bodies)
}

/// A file in the state directory, if there is one.
pub(crate) fn state_file(env: &Env, name: &str) -> Option<PathBuf> {
    let state = env.text("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| env.text("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    state.map(|folder| folder.join("model-proxy").join(name))
}

/// How everything is read again: from where it was read now. A directory that is gone is an error then, and no reason to
/// serve what is built in.
fn reloading(given: &Given, lookup: &Lookup, registry: &Arc<Registry>) -> Reloading {
    let env_file = given.path("env-file");
    let env_files = [Some(PathBuf::from(".env")), env_file.clone()].into_iter().flatten().collect();
    let (registry, again) = (Arc::clone(registry), lookup.clone());
    let source: Source = Box::new(move || {
        let env = Env::read(env_file.as_deref())
            .map_err(|(path, e)| vec![Diagnostic::unreadable(&path.display().to_string(), e)])?;
        let loaded = crate::config::load(&env, &again, &registry)?;
        Ok((loaded, env))
    });
    Reloading::new(source, lookup.clone(), env_files, given.has("reload"))
}

/// How long open requests may go on after a signal: as on the command line, else as in the environment.
fn drain(given: &Given, env: &Env) -> Result<Duration, Unready> {
    let (text, said_by) = match (given.text("drain-seconds")?, env.text("MODEL_PROXY_DRAIN_SECONDS")) {
        (Some(text), _) => (text, "--drain-seconds"),
        (None, Some(text)) => (text, "MODEL_PROXY_DRAIN_SECONDS"),
        (None, None) => (given.text_or_default("drain-seconds")?, "--drain-seconds"),
    };
    let seconds = text.trim().parse::<f64>().ok().filter(|s| (0.0..=DRAIN_SECONDS_MAX).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Unready::Usage(format!("{said_by} takes seconds from 0 to {DRAIN_SECONDS_MAX}, not {text:?}")))
}

/// A day: nobody waits longer for a process to end.
const DRAIN_SECONDS_MAX: f64 = 86_400.0;

/// What was said on the command line, else in the environment.
fn log_level(given: &Given, env: &Env) -> Result<LogLevel, Unready> {
    let (name, said_by) = match given.text("log-level")? {
        Some(name) => (name, "--log-level"),
        None => match ["MODEL_PROXY_LOG_LEVEL", "LOG_LEVEL"].iter().find_map(|var| Some((env.text(var)?, *var))) {
            Some(said) => said,
            None => (given.text_or_default("log-level")?, "--log-level"),
        },
    };
    LogLevel::parse(name)
        .ok_or_else(|| Unready::Usage(format!("{said_by} takes error, warn, info or debug, not {name:?}")))
}

/// For whom the log is: as on the command line, else as in the environment.
fn log_format(given: &Given, env: &Env) -> Result<LogFormat, Unready> {
    let (word, said_by) = match (given.text("log-format")?, env.text("MODEL_PROXY_LOG_FORMAT")) {
        (Some(word), _) => (word, "--log-format"),
        (None, Some(word)) => (word, "MODEL_PROXY_LOG_FORMAT"),
        (None, None) => return Ok(LogFormat::Human),
    };
    LogFormat::parse(word).ok_or_else(|| Unready::Usage(format!("{said_by} takes human or json, not {word:?}")))
}

/// Where a server may do without a client key: only where nobody else can reach it.
fn without_client_key(listen: &[Listen], env: &Env) -> Result<(), Unready> {
    if env.flag("REQUIRE_CLIENT_API_KEY") {
        let message =
            "CLIENT_API_KEY is not set, and config/clients has no client, though REQUIRE_CLIENT_API_KEY asks for one";
        return Err(Unready::Usage(message.to_owned()));
    }
    let Some(reachable) = listen.iter().find(|listen| listen.is_reachable()) else {
        return Ok(());
    };
    let message =
        format!("others can reach {reachable}: set CLIENT_API_KEY to the key they must send, or use --host 127.0.0.1");
    Err(Unready::Usage(message))
}

/// With `FAIL_ON_STARTUP_VALIDATION` a warning is reason enough not to start.
fn strict(loaded: &Loaded, env: &Env) -> Result<(), Unready> {
    let warnings = || loaded.diagnostics.iter().chain(&loaded.missing).filter(|d| d.severity == Severity::Warning);
    if env.flag("FAIL_ON_STARTUP_VALIDATION") && warnings().next().is_some() {
        return Err(Unready::Config(warnings().cloned().collect()));
    }
    Ok(())
}

/// Says what was found.
fn tell(loaded: &Loaded, format: LogFormat) {
    let found = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Warning);
    let missing: Vec<&Diagnostic> = loaded.missing.iter().filter(|d| d.severity != Severity::Error).collect();
    // A checkout's own configuration names every provider there is; nobody has a key for each.
    let (few, count) = if missing.len() <= MISSING_SHOWN_MAX { (missing, 0) } else { (Vec::new(), missing.len()) };
    let said: Vec<&Diagnostic> = found.chain(few).collect();
    let mut said: Vec<String> = said.iter().map(ToString::to_string).collect();
    if 0 < count {
        said.push(format!(
            "{count} models or routes lack a key or a variable and answer 503 until it is set \
             (`model-proxy config list` shows which have keys)"
        ));
    }
    for line in said {
        say::err(&match format {
            LogFormat::Human => line,
            LogFormat::Json => spelled(format, LogLevel::Warn, &line),
        });
    }
}

/// So many missing keys and variables are named one by one at start; more would hide all else.
const MISSING_SHOWN_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_kept_where_that_was_said() {
        const NAME: &str = "MODEL_PROXY_PERSIST_COOLDOWNS";
        for (vars, file) in [
            (&[][..], None),
            (&[(NAME, "False"), ("HOME", "/h")], None),
            (&[(NAME, "0"), ("HOME", "/h")], None),
            (&[(NAME, "True"), ("HOME", "/h")], Some("/h/.local/state/model-proxy/cooldowns.json")),
            (&[(NAME, "on"), ("HOME", "/h"), ("XDG_STATE_HOME", "/s")], Some("/s/model-proxy/cooldowns.json")),
            (&[(NAME, "kept.json")], Some("kept.json")),
        ] {
            let found = cooldowns(&Env::of(vars.iter().copied())).unwrap_or_else(|e| panic!("{vars:?}: {e:?}"));
            assert_eq!(found, file.map(PathBuf::from), "{vars:?}");
        }
        assert!(cooldowns(&Env::of([(NAME, "yes")])).is_err(), "there is no place to keep it in");
        for (said, is_file) in [("ture", false), ("flase", false), ("./ture", true), ("kept", true)] {
            assert_eq!(cooldowns(&Env::of([(NAME, said), ("HOME", "/h")])).is_ok(), is_file, "{said}");
        }
    }

    #[test]
    fn only_this_machine_may_do_without_a_key() {
        let env = Env::default();
        let at = |host: &str| vec![Listen::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port: 1, tls: None }];
        for (host, fine) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("localhost", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.168.1.5", false),
            ("example.com", false),
        ] {
            assert_eq!(without_client_key(&at(host), &env).is_ok(), fine, "{host}");
        }
        let strict = Env::of([("REQUIRE_CLIENT_API_KEY", "true")]);
        assert!(without_client_key(&at("127.0.0.1"), &strict).is_err(), "it was asked for");
    }
}
