//! The command line: words in, an exit code out. Everything it knows of itself is in [`flags`].
//!
//! What was asked for goes to stdout, everything else to stderr. 0: fine. 1: the check failed. 2: used wrongly, or cannot
//! start. Help and version work when all else is broken.

mod config_list;
mod config_show;
mod config_validate;
mod convert;
pub mod flags;
mod health;
pub mod help;
pub mod parse;
mod say;
mod start;
mod version;

use std::process::ExitCode;

use crate::cli::flags::NAME;
use crate::cli::parse::{Given, Parsed, Usage, parse};
use crate::config::env::Env;
use crate::config::{Diagnostic, Loaded, Lookup};
use crate::route::keys::Registry;

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
    run(std::env::args_os().skip(1)).into()
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

fn lookup(given: &Given, env: &Env) -> Result<Lookup, Unready> {
    Lookup::find(given.path("config").as_deref(), env).map_err(|e| Unready::Usage(e.to_string()))
}

/// Findings, one in a line.
fn lines(found: &[&Diagnostic]) -> String {
    found.iter().map(|d| format!("{d}\n")).collect()
}
