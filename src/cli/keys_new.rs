//! `keys new`: a key for a client, shown once, and the file that knows it by its digest.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, lookup, say, wants_json};
use crate::config::{Lookup, Root};
use crate::route::keys::Registry;
use crate::route::near::near;
use crate::route::table::Table;
use crate::secret::Secret;
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    make(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn make(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let name = name(given)?;
    let env = environment(given)?;
    let lookup = lookup(given, &env)?;
    // What is there must be right before anything is put beside it: a name or a model may be misspelt.
    let loaded = crate::config::load(&env, &lookup, &Registry::default()).map_err(Unready::Config)?;
    let root = match &lookup.root {
        Root::Directory(root) => root.clone(),
        // A directory with nothing but clients leaves the models that are built in where they are.
        Root::Packaged => PathBuf::from("config"),
    };
    let path = root.join("clients").join(format!("{name}.json"));
    let key = crate::server::new_key().map_err(|e| Unready::Usage(e.to_string()))?;
    let is_new = !given.has("add");
    let before = if is_new {
        create(&path, &text(&name, &key, given, &loaded.table)?)?;
        // Another client may have this name already: a file that breaks the rest is not left behind.
        if let Err(found) = crate::config::load(&env, &beside(&lookup, &root), &Registry::default()) {
            let _gone = fs::remove_file(&path);
            return Err(Unready::Config(found));
        }
        None
    } else if let Some((flag, _)) = limits(given)?.first() {
        let file = path.display();
        let message = format!("--add makes one more key for a client as it is; --{flag} belongs into {file}");
        return Err(Unready::Usage(message));
    } else {
        Some(add(&path, &key)?)
    };
    let file = path.display().to_string();
    if !tell(&name, &key, &file, json) {
        take_back(&path, before).map_err(|error| Unready::Usage(format!("{file}: {error}")))?;
        return Ok(say::no(format_args!("nobody was told the key, so {file} is again as it was")));
    }
    if !json {
        let said = if is_new { "wrote" } else { "added its digest to" };
        say::err(&format!(
            "{NAME}: {said} {file}; a running server reads it on SIGHUP, or by itself with start --reload"
        ));
    }
    Ok(Exit::Fine)
}

/// Shows the key. Gives whether it arrived: nobody can be told a second time.
fn tell(name: &str, key: &Secret, file: &str, json: bool) -> bool {
    if json {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.object().key("name").str(name).key("key").str(key.expose()).key("file").str(file).end_object();
        return say::bytes(&out);
    }
    say::err("this is the key, shown once: the client sends it as `authorization: Bearer KEY` or as `x-api-key: KEY`");
    say::bytes(key.expose().as_bytes())
}

/// Leaves the file as it was before: not there, or with this text.
fn take_back(path: &Path, before: Option<String>) -> io::Result<()> {
    match before {
        None => fs::remove_file(path),
        Some(text) => replace(path, &text),
    }
}

/// Where the next start will look: a directory that was just made is there now.
fn beside(lookup: &Lookup, root: &Path) -> Lookup {
    Lookup { root: Root::Directory(root.to_owned()), extra: lookup.extra.clone() }
}

/// The client's name, which is its file's too.
fn name(given: &Given) -> Result<String, Unready> {
    let [name] = given.rest.as_slice() else {
        return Err(Unready::Usage(format!("a name is missing: {NAME} keys new NAME")));
    };
    let name = name.to_string_lossy();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.len() <= NAME_MAX && name.chars().all(fits) && !name.starts_with('.') && !name.is_empty() {
        return Ok(name.into_owned());
    }
    let message =
        format!("{name:?} is no name: up to {NAME_MAX} letters, digits, '-', '_' and '.', not begun with '.'");
    Err(Unready::Usage(message))
}

/// As long as the schema allows.
const NAME_MAX: usize = 64;

/// The limits that were given: (option, number).
fn limits(given: &Given) -> Result<Vec<(&'static str, u64)>, Unready> {
    let mut found = Vec::new();
    for (flag, _) in LIMITS {
        if let Some(text) = given.text(flag)? {
            let number = text.parse::<u64>().ok().filter(|n| 0 < *n);
            let wrong = || Unready::Usage(format!("--{flag} takes a whole number of 1 or more, not {text:?}"));
            found.push((flag, number.ok_or_else(wrong)?));
        }
    }
    if let Some(model) = given.texts("model")?.first()
        && given.has("add")
    {
        return Err(Unready::Usage(format!(
            "--add makes one more key for a client as it is; --model {model} belongs into its file"
        )));
    }
    Ok(found)
}

/// Options, and the fields they become.
const LIMITS: [(&str, &str); 5] = [
    ("requests-per-minute", "requests_per_minute"),
    ("tokens-per-minute", "tokens_per_minute"),
    ("requests-at-once", "requests_at_once"),
    ("tokens-per-day", "tokens_per_day"),
    ("tokens-per-month", "tokens_per_month"),
];

/// The text of a new client's file.
fn text(name: &str, key: &Secret, given: &Given, table: &Table) -> Result<String, Unready> {
    let quoted = |text: &str| {
        let mut out = Vec::new();
        Writer::new(&mut out).str(text);
        String::from_utf8_lossy(&out).into_owned()
    };
    let mut lines = vec![
        "\"$schema\": \"../../schemas/client.schema.json\"".to_owned(),
        format!("\"name\": {}", quoted(name)),
        format!("\"key_sha256\": \"{}\"", hex(key)),
    ];
    let models = given.texts("model")?;
    for model in &models {
        known(model, table)?;
    }
    if !models.is_empty() {
        lines.push(format!("\"models\": [{}]", models.iter().map(|m| quoted(m)).collect::<Vec<_>>().join(", ")));
    }
    for (flag, number) in limits(given)? {
        let field = LIMITS.iter().find(|(known, _)| *known == flag).map_or(flag, |(_, field)| field);
        lines.push(format!("\"{field}\": {number}"));
    }
    Ok(format!("{{\n  {}\n}}\n", lines.join(",\n  ")))
}

fn hex(key: &Secret) -> String {
    data_encoding::HEXLOWER.encode(&key.digest())
}

/// A model that is not there is a mistake here, not a warning later.
fn known(model: &str, table: &Table) -> Result<(), Unready> {
    if model.contains('*') || table.resolve(model).is_some() {
        return Ok(());
    }
    let near = near(model, table.models().map(|known| &*known.name));
    let hint = near.first().map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
    Err(Unready::Usage(format!("--model {model:?}: there is no such model{hint}; see {NAME} config list")))
}

/// Writes a file that must not be there yet. Anybody may read it: it holds no key.
fn create(path: &Path, text: &str) -> Result<(), Unready> {
    let failed = |e: io::Error| {
        let shown = path.display();
        Unready::Usage(if e.kind() == io::ErrorKind::AlreadyExists {
            format!("{shown} is there already; give its client one more key with --add")
        } else {
            format!("{shown}: {e}")
        })
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// As much of a client's file as is read to add to it.
#[derive(Debug, Deserialize)]
struct Keys {
    key_sha256: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Adds a digest to a file, and changes nothing else in it. Gives the text it had before.
fn add(path: &Path, key: &Secret) -> Result<String, Unready> {
    let failed = |why: String| Unready::Usage(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| {
        let is_new = e.kind() == io::ErrorKind::NotFound;
        failed(if is_new { "there is no such client; leave --add away to make it".to_owned() } else { e.to_string() })
    })?;
    let changed =
        added(&text, &hex(key)).ok_or_else(|| failed("no digest was found in it to put one beside".to_owned()))?;
    replace(path, &changed).map_err(|e| failed(e.to_string()))?;
    Ok(text)
}

/// Puts a text into a file that may be read at any time.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// The text with one more digest behind the last that is there.
fn added(text: &str, digest: &str) -> Option<String> {
    let keys: Keys = serde_json::from_str(text).ok()?;
    let (last, is_list) = match keys.key_sha256 {
        OneOrMany::One(one) => (one, false),
        OneOrMany::Many(many) => (many.last()?.clone(), true),
    };
    // Digests stand in a file as they are, so the last one is found by its letters.
    let old = format!("\"{last}\"");
    let new = if is_list { format!("{old}, \"{digest}\"") } else { format!("[{old}, \"{digest}\"]") };
    text.contains(&old).then(|| text.replacen(&old, &new, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_put_beside_those_that_are_there() {
        for (before, after) in [
            (
                "{ \"x-a\": 1.0,\n \"key_sha256\" : \"aa\" }",
                Some("{ \"x-a\": 1.0,\n \"key_sha256\" : [\"aa\", \"zz\"] }"),
            ),
            (
                "{\"key_sha256\":[\"aa\",\"bb\"],\"name\":\"n\"}",
                Some("{\"key_sha256\":[\"aa\",\"bb\", \"zz\"],\"name\":\"n\"}"),
            ),
            ("{\"key_sha256\":[]}", None),
            ("{}", None),
            ("nonsense", None),
        ] {
            assert_eq!(added(before, "zz").as_deref(), after, "{before}");
        }
    }
}
