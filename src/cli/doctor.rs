//! `doctor`: everything a start needs, looked at one by one, each with its remedy.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cli::config_validate::plural;
use crate::cli::flags::NAME;
use crate::cli::health::{Target, endpoint};
use crate::cli::parse::{Given, Parsed, parse};
use crate::cli::say::{Look, Paint};
use crate::cli::{Exit, Unready, config_init, env_check, environment, lookup, say, start, wants_json};
use crate::config::env::Env;
use crate::config::{Diagnostic, Loaded, Prices, Root, Severity};
use crate::journal::{Reader, Store, StoreError};
use crate::route::keys::Registry;
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    examine(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn examine(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let mut done = Vec::new();
    if given.has("fix") {
        done.extend(mend_files(given)?);
    }
    // What was just written is read here.
    let env = match environment(given) {
        Ok(env) => env,
        Err(Unready::Usage(why)) => {
            let remedy = "make it a file of text that this user can read, or move it away";
            let checks = [fault("files of variables", why, remedy)];
            say::out(&if json { as_json(&checks, &done) } else { as_text(&checks, &done, Paint::of(&Env::default())) });
            say::err(&format!("{NAME}: the rest cannot be looked at before that is mended"));
            return Ok(Exit::No);
        }
        Err(other) => return Err(other),
    };
    if given.has("fix") {
        done.extend(mend_state(&env));
    }
    let checks = checks(given, &env)?;
    let paint = Paint::of(&env);
    say::out(&if json { as_json(&checks, &done) } else { as_text(&checks, &done, paint) });
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (faults, doubts) = (count(State::Fault), count(State::Doubt));
    say::err(&format!("{NAME}: {} checks: {}, {}", checks.len(), plural(faults, "fault"), plural(doubts, "warning")));
    Ok(if faults == 0 { Exit::Fine } else { Exit::No })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Fine,
    /// It works, but not as somebody may think.
    Doubt,
    Fault,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; nothing, where nothing is to be done.
    remedy: String,
}

fn fine(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Fine, found: found.into(), remedy: String::new() }
}

fn doubt(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, state: State::Doubt, found: found.into(), remedy: remedy.into() }
}

fn fault(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, state: State::Fault, found: found.into(), remedy: remedy.into() }
}

fn checks(given: &Given, env: &Env) -> Result<Vec<Check>, Unready> {
    let lookup = lookup(given, env)?;
    let loaded = crate::config::load(env, &lookup, &Registry::default());
    let mut checks = vec![
        fine(
            "program",
            format!("{} on {}-{}", crate::cli::version::line(), std::env::consts::ARCH, std::env::consts::OS),
        ),
        env_files(env),
        variables(env),
        configuration(&lookup.root, &loaded),
    ];
    if let Ok(loaded) = &loaded {
        checks.extend([models(loaded), clients(loaded, env), keys(loaded)]);
    }
    checks.extend([certificates(env), state(env), journal(env), prices(&lookup), descriptors()]);
    let serving = server(given, env)?;
    let is_served = serving.state == State::Fine && serving.found.starts_with(SERVES);
    checks.extend([settings(given, is_served), serving]);
    Ok(checks)
}

fn env_files(env: &Env) -> Check {
    const WHAT: &str = "files of variables";
    if let Some((file, line)) = env.unread().first() {
        let line = line.map_or_else(String::new, |line| format!(":{line}"));
        return doubt(
            WHAT,
            format!("{}{line} is no assignment and is left out", file.display()),
            "put values with spaces into quotes",
        );
    }
    let usual = Path::new(".env");
    match fs::metadata(usual) {
        Ok(about) if about.permissions().mode() & 0o077 != 0 => {
            doubt(WHAT, ".env can be read by others, and holds keys", "chmod 600 .env")
        }
        Ok(_) => fine(WHAT, ".env is read"),
        Err(_) if Path::new(".env.example").exists() => {
            doubt(WHAT, "there is no .env", format!("cp .env.example .env, or {NAME} doctor --fix; then fill it in"))
        }
        Err(_) => fine(WHAT, "none: the environment holds all there is"),
    }
}

fn variables(env: &Env) -> Check {
    const WHAT: &str = "variables";
    let unknown = env_check::unknown(env);
    let Some((name, near)) = unknown.first() else {
        return fine(WHAT, "every MODEL_PROXY_ variable is known");
    };
    let remedy =
        near.map_or_else(|| format!("{NAME} env check lists those there are"), |near| format!("did you mean {near}?"));
    doubt(WHAT, format!("{name} is set, and nothing reads it"), remedy)
}

fn configuration(root: &Root, loaded: &Result<Loaded, Vec<Diagnostic>>) -> Check {
    const WHAT: &str = "configuration";
    match loaded {
        Err(found) => {
            let errors: Vec<&Diagnostic> = found.iter().filter(|d| d.severity == Severity::Error).collect();
            let first = errors.first().map_or_else(String::new, |first| format!("; first: {first}"));
            fault(
                WHAT,
                format!("{root} cannot be used: {}{first}", plural(errors.len(), "error")),
                format!("{NAME} config validate"),
            )
        }
        Ok(loaded) => {
            let warnings: Vec<&Diagnostic> =
                loaded.diagnostics.iter().filter(|d| d.severity == Severity::Warning).collect();
            match (warnings.first(), root) {
                (Some(first), _) => doubt(
                    WHAT,
                    format!("{root} has {}; first: {first}", plural(warnings.len(), "warning")),
                    format!("{NAME} config validate"),
                ),
                (None, Root::Packaged) => {
                    fine(WHAT, format!("the built-in one; `{NAME} config init` writes files of your own"))
                }
                (None, Root::Directory(_)) => fine(WHAT, root.to_string()),
            }
        }
    }
}

fn models(loaded: &Loaded) -> Check {
    const WHAT: &str = "models";
    let idle: Vec<&Diagnostic> =
        loaded.missing.iter().filter(|d| d.message.starts_with("no route has a key")).collect();
    match idle.first() {
        Some(first) => doubt(
            WHAT,
            format!("{} of {} have no route with a key; first: {}", idle.len(), loaded.table.len(), first.file),
            first.hint.clone().unwrap_or_default(),
        ),
        None => fine(WHAT, loaded.table.len().to_string()),
    }
}

fn clients(loaded: &Loaded, env: &Env) -> Check {
    const WHAT: &str = "clients";
    let remedy = format!("set CLIENT_API_KEY, or {NAME} keys new NAME");
    match loaded.clients.len() {
        0 if env.flag("REQUIRE_CLIENT_API_KEY") => {
            fault(WHAT, "there is none, and REQUIRE_CLIENT_API_KEY asks for one", remedy)
        }
        0 => doubt(
            WHAT,
            "there is none: each start makes a key for its own run, and only this machine is served",
            remedy,
        ),
        n => fine(WHAT, n.to_string()),
    }
}

fn keys(loaded: &Loaded) -> Check {
    const WHAT: &str = "keys of providers";
    let keyed: Vec<String> =
        loaded.providers.iter().filter(|p| p.enabled && 0 < p.keys).map(|p| format!("{} {}", p.name, p.keys)).collect();
    if keyed.is_empty() {
        return doubt(
            WHAT,
            "there is none: only what needs none can answer",
            "set one, as OPENAI_API_KEY, here or in .env",
        );
    }
    fine(WHAT, format!("{} (`{NAME} keys test` asks whether they are taken)", keyed.join(", ")))
}

/// All that `start` would refuse of its options and variables; where one serves already, its ports are taken by it.
fn settings(given: &Given, is_served: bool) -> Check {
    const WHAT: &str = "settings";
    let option = |long: &str| given.path(long).map(|value| [format!("--{long}").into(), value.into_os_string()]);
    let words = [Some(["start".into(), "--log-level=info".into()]), option("config"), option("env-file")];
    let start = parse(words.into_iter().flatten().flatten());
    let Ok(Parsed::Run(start)) = start else {
        return fine(WHAT, "the usual");
    };
    match start::settings(&start) {
        Ok(settings) => match crate::server::rehearse(&settings, !is_served) {
            Ok(()) => fine(WHAT, "start would take them"),
            Err(error) => {
                let mut why = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(inner) = source {
                    why.push_str(&format!(": {inner}"));
                    source = inner.source();
                }
                fault(WHAT, why, format!("{NAME} env check shows where it is set"))
            }
        },
        // Told already.
        Err(Unready::Config(_)) => fine(WHAT, "as far as the configuration lets them be read"),
        Err(Unready::Usage(why)) => fault(WHAT, why, format!("{NAME} env check shows where it is set")),
    }
}

fn certificates(env: &Env) -> Check {
    const WHAT: &str = "certificates";
    match crate::server::tls(env) {
        Ok(_) => fine(WHAT, "those of authorities can be read"),
        Err(error) => fault(WHAT, error.to_string(), "mend MODEL_PROXY_CA_FILE or SSL_CERT_FILE"),
    }
}

/// The state directory.
fn folder(env: &Env) -> Option<PathBuf> {
    Some(start::state_file(env, "x")?.parent()?.to_owned())
}

fn state(env: &Env) -> Check {
    const WHAT: &str = "state directory";
    let Some(folder) = folder(env) else {
        return doubt(
            WHAT,
            "there is no place for it: no journal, and nothing spent is kept",
            "set XDG_STATE_HOME or HOME",
        );
    };
    let shown = folder.display();
    match fs::metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match can_be_made(&folder) {
            Ok(()) => fine(WHAT, format!("{shown}, made with the first request")),
            Err(error) => fault(
                WHAT,
                format!("{shown} cannot be made: {error}"),
                "set XDG_STATE_HOME to a folder that this user may write to",
            ),
        },
        Err(error) => fault(WHAT, format!("{shown}: {error}"), "give this user the right to it, or set XDG_STATE_HOME"),
        Ok(_) => {
            let probe = folder.join(".probe");
            match fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)) {
                Ok(()) => fine(WHAT, shown.to_string()),
                Err(error) => {
                    fault(WHAT, format!("{shown}: {error}"), "give this user the right to it, or set XDG_STATE_HOME")
                }
            }
        }
    }
}

/// Whether a folder could be made where it is to be: the nearest one that is there takes another.
fn can_be_made(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|above| above.exists()).unwrap_or(folder);
    let probe = there.join(".model-proxy-probe");
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe))
}

fn journal(env: &Env) -> Check {
    const WHAT: &str = "journal";
    let path = match start::journal(env) {
        // Why is told with the settings.
        Err(_) => return fine(WHAT, "its place cannot be told"),
        Ok(None) => return fine(WHAT, "none is kept"),
        Ok(Some(path)) => path,
    };
    let shown = path.display();
    let Ok(about) = fs::metadata(&path) else {
        return fine(WHAT, format!("{shown}, made with the first request"));
    };
    if about.is_dir() {
        return fault(
            WHAT,
            format!("{shown} is a directory, and a journal is a file"),
            "name a file with MODEL_PROXY_JOURNAL",
        );
    }
    match Reader::open(&path, Box::new(|_, _| None)).and_then(|reader| reader.last()) {
        Ok(_) => fine(WHAT, format!("{shown}, {} KiB", about.len().div_ceil(1024))),
        Err(StoreError::Version(0)) if about.len() == 0 => {
            fine(WHAT, format!("{shown}, empty until the first request"))
        }
        Err(StoreError::Version(0)) => fine(WHAT, format!("{shown}, of the Python model-proxy: its rows are kept")),
        Err(StoreError::Version(version)) if version < crate::journal::VERSION => doubt(
            WHAT,
            format!("{shown} is of an earlier version"),
            format!("{NAME} doctor --fix, or start: it is brought up to date"),
        ),
        Err(error @ StoreError::Corrupt(_)) => {
            doubt(WHAT, format!("{shown}: {error}"), "the next start sets it aside and begins a new one")
        }
        Err(error) => {
            fault(WHAT, format!("{shown}: {error}"), "name another with MODEL_PROXY_JOURNAL, or move it away")
        }
    }
}

fn prices(lookup: &crate::config::Lookup) -> Check {
    const WHAT: &str = "prices";
    let (_, found) = Prices::load(lookup);
    match found.first() {
        Some(first) => doubt(WHAT, first.to_string(), format!("{NAME} config schema prices")),
        None => fine(WHAT, "can be read"),
    }
}

fn descriptors() -> Check {
    const WHAT: &str = "descriptors";
    match crate::server::descriptors() {
        Some(most) if most < FEW => {
            doubt(WHAT, format!("{most}: a connection takes one or two"), "ulimit -n 8192, before the start")
        }
        Some(most) => fine(WHAT, most.to_string()),
        None => fine(WHAT, "the system does not tell"),
    }
}

/// Fewer descriptors serve a person, not a team.
const FEW: usize = 1024;

fn server(given: &Given, env: &Env) -> Result<Check, Unready> {
    const WHAT: &str = "server";
    let asked = endpoint(given, env)?;
    if let Some(Ok(answer)) = Target::parse(&asked, "/health").map(|target| target.get(None)) {
        return Ok(match (answer.status, answer.body.contains("\"status\"")) {
            (200, true) => fine(WHAT, format!("{SERVES} at {asked}")),
            (status, true) => {
                doubt(WHAT, format!("the one at {asked} answers {status}"), format!("{NAME} health --detailed"))
            }
            (_, false) => doubt(WHAT, format!("something else is at {asked}"), "start --port with another number"),
        });
    }
    Ok(fine(WHAT, "none serves"))
}

/// How it begins that one does.
const SERVES: &str = "one serves";

/// Makes what is missing before anything is read. Gives what was done.
fn mend_files(given: &Given) -> Result<Vec<String>, Unready> {
    let mut done = Vec::new();
    let failed = |path: &Path, error: &io::Error| Unready::Usage(format!("{}: {error}", path.display()));
    let env = environment(given)?;
    if matches!(lookup(given, &env)?.root, Root::Packaged) {
        let written = config_init::write(Path::new("config"), &env).map_err(|(path, error)| failed(&path, &error))?;
        done.extend(
            written.into_iter().filter(|(_, is_new)| *is_new).map(|(path, _)| format!("wrote {}", path.display())),
        );
    }
    let (file, example) = (Path::new(".env"), Path::new(".env.example"));
    if let Ok(text) = fs::read_to_string(example)
        && config_init::put(file, &text).map_err(|error| failed(file, &error))?
    {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(|error| failed(file, &error))?;
        done.push("wrote .env from .env.example: its keys are yours to fill in".to_owned());
    }
    Ok(done)
}

/// Makes the state directory and brings the journal up to date. What cannot be done is found by the checks.
fn mend_state(env: &Env) -> Vec<String> {
    let mut done = Vec::new();
    if let Some(folder) = folder(env).filter(|folder| !folder.exists())
        && fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
            .is_ok()
    {
        done.push(format!("made {}", folder.display()));
    }
    if let Ok(Some(path)) = start::journal(env)
        && path.exists()
        && let Err(StoreError::Version(_)) = Reader::open(&path, Box::new(|_, _| None))
        && Store::open(&path).is_ok()
    {
        done.push(format!("brought {} up to date", path.display()));
    }
    done
}

fn as_text(checks: &[Check], done: &[String], paint: Paint) -> String {
    let mut text: String = done.iter().map(|done| format!("{} {done}\n", paint.on(Look::Good, "+"))).collect();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, state, found, remedy } in checks {
        let mark = match state {
            State::Fine => paint.on(Look::Good, "✓"),
            State::Doubt => paint.on(Look::Doubtful, "⚠"),
            State::Fault => paint.on(Look::Bad, "✗"),
        };
        text.push_str(&format!("{mark} {name:width$}  {}\n", say::plain(found)));
        if !remedy.is_empty() {
            text.push_str(&format!("  {:width$}  → {remedy}\n", ""));
        }
    }
    text
}

fn as_json(checks: &[Check], done: &[String]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("done").array();
    for done in done {
        w.str(done);
    }
    w.end_array().key("checks").array();
    for Check { name, state, found, remedy } in checks {
        let state = match state {
            State::Fine => "fine",
            State::Doubt => "warning",
            State::Fault => "fault",
        };
        w.object()
            .key("name")
            .str(name)
            .key("state")
            .str(state)
            .key("found")
            .str(found)
            .key("remedy")
            .str(remedy)
            .end_object();
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}
