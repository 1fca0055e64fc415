//! `env check`: every variable that is read, where its value comes from, and what nobody reads.

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, say, wants_json};
use crate::config::bounds::BOUNDS;
use crate::config::env::{Env, VARS};
use crate::route::keys::Registry;
use crate::route::near::near;
use crate::secret::Secret;
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    check(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn check(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    // A configuration that cannot be used keeps nobody from seeing his variables; it only hides which are keys.
    let loaded = load(given, &env, &Registry::default()).ok();
    let keys: Vec<String> =
        loaded.iter().flat_map(|loaded| &loaded.providers).flat_map(|p| &p.found).map(|(v, _)| v.to_string()).collect();
    let has_client =
        env.text("CLIENT_API_KEY").is_some() || loaded.as_ref().is_some_and(|loaded| !loaded.clients.is_empty());
    let rows = rows(&env, &keys);
    let unknown = unknown(&env);
    let unclear = env.unclear();
    say::out(&if json { as_json(&rows, &unknown, &unclear) } else { as_table(&rows) });
    for (name, near) in &unknown {
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        say::err(&format!("{NAME}: {name} is set, and nothing reads it{hint}"));
    }
    for (file, line) in env.unread() {
        let line = line.map_or_else(String::new, |line| format!(":{line}"));
        say::err(&format!(
            "{NAME}: {}{line}: is no assignment and is left out; put values with spaces into quotes",
            file.display()
        ));
    }
    if keys.is_empty() {
        say::err(&format!("{NAME}: no provider has a key: only what needs none can answer"));
    }
    let mut exit = Exit::Fine;
    for unclear in &unclear {
        exit = say::no(unclear);
    }
    if has_client {
        return Ok(exit);
    }
    Ok(say::no("CLIENT_API_KEY is not set: each start makes a key for its own run, and only this machine is served"))
}

/// A variable and its value, as it may be shown.
struct Row {
    name: String,
    value: String,
    /// Nothing, where it is not set.
    from: Option<String>,
}

fn rows(env: &Env, keys: &[String]) -> Vec<Row> {
    let row = |name: &str, default: &str| match (env.get(name), env.origin(name)) {
        (Some(value), Some(origin)) => {
            Row { name: name.to_owned(), value: shown(name, value, keys), from: Some(origin.to_string()) }
        }
        _ => Row { name: name.to_owned(), value: default.to_owned(), from: None },
    };
    let own = VARS.iter().map(|var| row(var.name, var.default));
    let bounds = BOUNDS.iter().filter(|bound| env.get(bound.var).is_some()).map(|bound| row(bound.var, ""));
    let keys = keys.iter().map(|name| row(name, ""));
    own.chain(bounds).chain(keys).collect()
}

/// A value without what must not be seen.
fn shown(name: &str, value: &str, keys: &[String]) -> String {
    if name == "CLIENT_API_KEY" || keys.iter().any(|key| key == name) {
        return if value.is_empty() { String::new() } else { Secret::new(value).redacted() };
    }
    // A user and a password may stand before the host, and a proxy needs no scheme.
    let Some((before, rest)) = value.rsplit_once('@') else { return value.to_owned() };
    let is_scheme = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    match before.split_once("://").map(|(scheme, _)| scheme).filter(is_scheme) {
        Some(scheme) => format!("{scheme}://…@{rest}"),
        None if name.ends_with("_PROXY") || before.contains("://") => format!("…@{rest}"),
        None => value.to_owned(),
    }
}

/// Variables that look like ours and are none, and what may be meant.
pub(super) fn unknown(env: &Env) -> Vec<(String, Option<&'static str>)> {
    let known = || VARS.iter().map(|var| var.name).chain(BOUNDS.iter().map(|bound| bound.var));
    let is_ours =
        |name: &&str| name.starts_with("MODEL_PROXY_") && !is_kubernetes(name) && *name != "MODEL_PROXY_CORPUS";
    let strange = env.names().filter(is_ours).filter(|name| !known().any(|known| known == *name));
    strange.map(|name| (name.to_owned(), near(name, known()).first().copied())).collect()
}

/// Set in every pod for a service that is called model-proxy.
fn is_kubernetes(name: &str) -> bool {
    ["MODEL_PROXY_SERVICE_", "MODEL_PROXY_PORT"].iter().any(|first| name.starts_with(first))
}

fn as_table(rows: &[Row]) -> String {
    let mut table = vec![["VARIABLE", "VALUE", "FROM"].map(str::to_owned)];
    table.extend(rows.iter().map(|Row { name, value, from }| {
        let from = from.as_deref().unwrap_or(if value.is_empty() { "not set" } else { "default" });
        [name.clone(), if value.is_empty() { "-".to_owned() } else { value.clone() }, from.to_owned()]
    }));
    say::columns(&table, 3)
}

fn as_json(rows: &[Row], unknown: &[(String, Option<&str>)], unclear: &[String]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("variables").array();
    for Row { name, value, from } in rows {
        w.object().key("name").str(name).key("value").str(value).key("from");
        match from {
            Some(from) => w.str(from),
            None => w.null(),
        };
        w.end_object();
    }
    w.end_array().key("unknown").array();
    for (name, near) in unknown {
        w.object().key("name").str(name).key("near");
        match near {
            Some(near) => w.str(near),
            None => w.null(),
        };
        w.end_object();
    }
    w.end_array().key("unclear").array();
    for unclear in unclear {
        w.str(unclear);
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown_and_what_nobody_reads_is_found() {
        let env = Env::of([
            ("CLIENT_API_KEY", "client-canary-0123456789"),
            ("OPENAI_API_KEY", "sk-canary-0123456789abcdef"),
            ("HTTPS_PROXY", "http://user:canary@proxy:3128"),
            ("HTTP_PROXY", "user:canary@proxy.local:3128"),
            ("ALL_PROXY", "user:canary://canary@canary@proxy:1"),
            ("MODEL_PROXY_JOURNAL", "/home/a@b/j.db"),
            ("MODEL_PROXY_LOG_LEVLE", "debug"),
            ("MODEL_PROXY_PORT_9876_TCP", "tcp://10.0.0.1:9876"),
            ("MODEL_PROXY_BODY_BYTES", "1000"),
        ]);
        let rows = rows(&env, &["OPENAI_API_KEY".to_owned()]);
        let table = as_table(&rows);
        assert!(!table.contains("canary"), "{table}");
        let has = |words: [&str; 3]| table.lines().any(|line| line.split_whitespace().take(3).eq(words));
        assert!(
            has(["HTTP_PROXY", "…@proxy.local:3128", "the"]) && has(["ALL_PROXY", "…@proxy:1", "the"]),
            "it needs no scheme: {table}"
        );
        assert!(has(["MODEL_PROXY_JOURNAL", "/home/a@b/j.db", "the"]), "{table}");
        assert!(
            has(["CLIENT_API_KEY", "cli…6789", "the"]) && has(["HTTPS_PROXY", "http://…@proxy:3128", "the"]),
            "{table}"
        );
        assert!(
            has(["MODEL_PROXY_BODY_BYTES", "1000", "the"]) && has(["KEY_COOLDOWN_SECONDS", "180", "default"]),
            "{table}"
        );
        assert_eq!(unknown(&env), [("MODEL_PROXY_LOG_LEVLE".to_owned(), Some("MODEL_PROXY_LOG_LEVEL"))]);
    }
}
