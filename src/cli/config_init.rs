//! `config init`: files to begin with. What is there stays as it is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, dotenv, environment, say, wants_json};
use crate::config::env::Env;
use crate::config::{Lookup, ProviderSummary, load, packaged, schema};
use crate::route::keys::Registry;
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    init(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn init(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    let root = given.rest.first().map_or_else(|| PathBuf::from("config"), PathBuf::from);
    let written = write(&root, &env).map_err(|(path, error)| Unready::Usage(format!("{}: {error}", path.display())))?;
    say::out(&if json { as_json(&written) } else { as_text(&written) });
    let option = if root == Path::new("config") { String::new() } else { format!(" --config {}", root.display()) };
    say::err(&format!(
        "{NAME}: next: look at {}, put keys into .env (.env.example names them), then `{NAME} config validate{option}` and \
         `{NAME} start{option}`",
        root.join("models/fast.json").display()
    ));
    Ok(Exit::Fine)
}

fn as_text(written: &[(PathBuf, bool)]) -> String {
    let line =
        |(path, is_new): &(PathBuf, bool)| format!("{} {}\n", if *is_new { "wrote" } else { "kept " }, path.display());
    written.iter().map(line).collect()
}

fn as_json(written: &[(PathBuf, bool)]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("files").array();
    for (path, is_new) in written {
        w.object().key("file").str(&path.to_string_lossy()).key("written").bool(*is_new).end_object();
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes what is not there. Gives each file, and whether it is new.
pub(super) fn write(root: &Path, env: &Env) -> Result<Vec<(PathBuf, bool)>, (PathBuf, io::Error)> {
    let providers = providers(env);
    let names: Vec<String> = providers.iter().map(|provider| provider.name.to_string()).collect();
    let mut files: Vec<(PathBuf, String)> = vec![(root.join("models/fast.json"), FAST.to_owned())];
    for (stem, text) in packaged::wildcards(&names) {
        files.push((root.join(format!("models/{stem}.json")), text.replace("../../schemas/", "../schemas/")));
    }
    for (kind, text) in schema::ALL {
        files.push((root.join(format!("schemas/{kind}.schema.json")), text.to_owned()));
    }
    files.push((PathBuf::from(".env.example"), dotenv::example(&providers)));
    let put = |(path, text): (PathBuf, String)| match put(&path, &text) {
        Ok(is_new) => Ok((path, is_new)),
        Err(error) => Err((path, error)),
    };
    files.into_iter().map(put).collect()
}

/// The providers that have a key; without any, those that most people begin with.
fn providers(env: &Env) -> Vec<ProviderSummary> {
    let keyed: Vec<ProviderSummary> = built_in(env).into_iter().filter(|provider| 0 < provider.keys).collect();
    if keyed.is_empty() { named(&["anthropic", "openai"]) } else { keyed }
}

/// The built-in providers of these names.
pub(super) fn named(names: &[&str]) -> Vec<ProviderSummary> {
    built_in(&Env::default()).into_iter().filter(|provider| names.contains(&&*provider.name)).collect()
}

fn built_in(env: &Env) -> Vec<ProviderSummary> {
    load(env, &Lookup::default(), &Registry::default()).map_or_else(|_| Vec::new(), |loaded| loaded.providers)
}

/// Writes a file that is not there, and its folder. Gives whether it was not.
pub(super) fn put(path: &Path, text: &str) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A model with two routes, as somebody would write it.
const FAST: &str = r#"{
  "$schema": "../schemas/model.schema.json",
  "logical_name": "fast",
  "description": "What clients ask for. The routes are tried in order, each with all of its provider's keys.",
  "timeout_seconds": 60,
  "model_routings": [
    { "provider": "anthropic", "model": "claude-haiku-4-5" },
    { "provider": "openai", "model": "gpt-5-mini" }
  ]
}
"#;
