//! The command line: words in, an exit code out. Everything it knows of itself is in [`flags`].
//!
//! What was asked for goes to stdout, everything else to stderr. 0: fine. 1: the check failed, or what was asked for cannot be
//! written. 2: used wrongly, or cannot start. Help and version work when all else is broken.

mod completions;
mod config_explain;
mod config_init;
mod config_list;
mod config_schema;
mod config_show;
mod config_validate;
mod convert;
mod db;
mod db_rows;
mod db_tail;
mod dev;
mod doctor;
mod dotenv;
mod env_check;
pub mod flags;
mod health;
pub mod help;
mod keys_list;
mod keys_new;
mod keys_test;
mod man;
mod outcome;
pub mod parse;
mod route_test;
mod say;
mod start;
mod version;

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::flags::NAME;
use crate::cli::parse::{Given, Parsed, Usage, parse};
use crate::config::env::Env;
use crate::config::{Diagnostic, Loaded, Lookup};
use crate::route::keys::Registry;
use crate::route::near::near;
use crate::route::table::{Resolved, Route, Table};
use crate::wire::Format;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    Fine,
    /// The answer is no.
    No,
    /// It was held wrong, or cannot start.
    Wrong,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::No => Self::from(1),
            Exit::Wrong => Self::from(2),
        }
    }
}

/// Does what the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    say::settle(run(std::env::args_os().skip(1))).into()
}

fn run(args: impl Iterator<Item = std::ffi::OsString>) -> Exit {
    let mut args = args.peekable();
    if args.peek().is_none() {
        say::out(&help::text(&[]).unwrap_or_default());
        return Exit::Wrong;
    }
    match parse(args) {
        Ok(Parsed::Help(words)) => {
            say::out(&help::text(&words).unwrap_or_default());
            Exit::Fine
        }
        Ok(Parsed::Version) => {
            say::out(&version::line());
            Exit::Fine
        }
        Ok(Parsed::Run(given)) => (given.command.run)(&given),
        Err(usage) => {
            say::wrong(&usage);
            say::err(&format!("see {NAME} --help"));
            Exit::Wrong
        }
    }
}

/// Why a command could not begin.
#[derive(Debug)]
enum Unready {
    /// What is wrong with how it was called.
    Usage(String),
    /// What is wrong with the configuration.
    Config(Vec<Diagnostic>),
}

impl From<Usage> for Unready {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage.0)
    }
}

impl Unready {
    /// Says why. A configuration that cannot be used ends as the command wishes.
    fn tell(self, config: Exit) -> Exit {
        match self {
            Self::Usage(message) => say::wrong(message),
            Self::Config(found) => {
                say::err(&lines(&found.iter().collect::<Vec<_>>()));
                say::err(&format!("{NAME}: the configuration cannot be used"));
                config
            }
        }
    }
}

/// The environment a command was given.
fn environment(given: &Given) -> Result<Env, Unready> {
    let file = given.path("env-file");
    Env::read(file.as_deref()).map_err(|(path, error)| Unready::Usage(format!("{}: {error}", path.display())))
}

/// The configuration a command was given.
fn load(given: &Given, env: &Env, registry: &Registry) -> Result<Loaded, Unready> {
    let lookup = lookup(given, env)?;
    crate::config::load(env, &lookup, registry).map_err(Unready::Config)
}

/// The model of a name that a client may ask for, or that of a wildcard by its name as it stands, `*` and all.
fn resolve(table: &Table, name: &str) -> Result<Resolved, String> {
    let by_own_name = || {
        let model = table.models().find(|m| *m.name == *name)?;
        Some(Resolved { model: Arc::clone(model), star: Some("*".into()), secrets: Arc::clone(&table.secrets) })
    };
    table.resolve(name).or_else(by_own_name).ok_or_else(|| {
        let near: Vec<String> = table.near(name).iter().map(|near| format!("{near:?}")).collect();
        let hint = if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) };
        format!("no model {name:?}{hint}; see config list")
    })
}

/// What to set so that a route has a key; empty where none is needed.
fn remedy(loaded: &Loaded, route: &Arc<Route>) -> String {
    let wanted = loaded.unkeyed.iter().find(|(other, _)| Arc::ptr_eq(other, route));
    let names = wanted.map_or(&[][..], |(_, names)| names);
    if names.is_empty() { String::new() } else { format!("set {}", names.join(" or ")) }
}

/// A format by its name.
fn format(name: &str, option: &str) -> Result<Format, Unready> {
    let known = Format::ALL.map(Format::as_str);
    Format::parse(name).ok_or_else(|| {
        let hint = near(name, known.iter().copied());
        let hint = hint.first().map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
        Unready::Usage(format!("--{option} takes {}, not {name:?}{hint}", known.join(" or ")))
    })
}

/// Whether `--format` asks for JSON rather than a table.
fn wants_json(given: &Given) -> Result<bool, Unready> {
    match given.text_or_default("format")? {
        "table" => Ok(false),
        "json" => Ok(true),
        other => Err(Unready::Usage(format!("--format takes table or json, not {other:?}"))),
    }
}

fn lookup(given: &Given, env: &Env) -> Result<Lookup, Unready> {
    Lookup::find(given.path("config").as_deref(), env).map_err(|e| Unready::Usage(e.to_string()))
}

/// Findings, one in a line.
fn lines(found: &[&Diagnostic]) -> String {
    found.iter().map(|d| format!("{d}\n")).collect()
}
