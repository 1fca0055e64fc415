//! Every command and every option, once. The parser, the help and the README's reference are made from these tables.

mod config;
mod db;
mod dev;
mod keys;
mod serve;

use crate::cli::flags::config::{
    CONFIG_EXPLAIN, CONFIG_INIT, CONFIG_LIST, CONFIG_SCHEMA, CONFIG_SHOW, CONFIG_VALIDATE, CONVERT, ROUTE_TEST,
};
use crate::cli::flags::db::{DB_EXPORT, DB_PRUNE, DB_QUERY, DB_RESET, DB_STATS, DB_TAIL};
use crate::cli::flags::dev::{COMPLETIONS, DEV_LINT, DEV_SHELL, DEV_TEST, DOCTOR, ENV_CHECK, MAN};
use crate::cli::flags::keys::{KEYS_LIST, KEYS_NEW, KEYS_TEST};
use crate::cli::flags::serve::{HEALTH, START, VERSION};
use crate::cli::parse::Given;
use crate::cli::{Exit, help, outcome};

/// The name the program goes by.
pub const NAME: &str = "model-proxy";

/// One command.
#[derive(Debug)]
pub struct Command {
    /// What is typed: `["config", "list"]`.
    pub words: &'static [&'static str],
    /// What it does, in one line.
    pub does: &'static str,
    /// More of it, for its own help.
    pub more: &'static str,
    /// What may follow the words, as help shows it; empty where nothing may.
    pub takes: &'static str,
    pub options: &'static [Flag],
    /// (command line, what it is for)
    pub examples: &'static [(&'static str, &'static str)],
    pub run: fn(&Given) -> Exit,
}

/// One option.
#[derive(Debug)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    /// What its value is called; `None` where it takes none.
    pub value: Option<&'static str>,
    /// Empty where there is none, or where `help` says it.
    pub default: &'static str,
    pub help: &'static str,
    /// The words its value may be, for shells; empty where it may be anything, or help says it.
    pub choices: &'static [&'static str],
}

impl Flag {
    const fn switch(long: &'static str, help: &'static str) -> Self {
        Self { long, short: None, value: None, default: "", help, choices: &[] }
    }

    const fn value(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { long, short: None, value: Some(value), default: "", help, choices: &[] }
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn of(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

const CONFIG: Flag = Flag::value(
    "config",
    "DIR",
    "configuration directory; else MODEL_PROXY_CONFIG, ./config, the user's own, the built-in one",
)
.short('c');

const ENV_FILE: Flag = Flag::value(
    "env-file",
    "FILE",
    "read variables from FILE; it wins over .env, and the process environment over both",
);

const TABLE_OR_JSON: Flag = Flag::value("format", "FORMAT", "table, for people, or json, for scripts")
    .of(&["table", "json"])
    .short('f')
    .default("table");

/// The formats, as options name them.
const FORMATS: &[&str] = &["openai_chat", "openai_responses", "anthropic"];

const ENDPOINT: Flag = Flag::value(
    "endpoint",
    "URL",
    "where it listens; else where the server of this user has said it does, else the default",
)
.short('e')
.default("http://127.0.0.1:9876");

/// Options that work everywhere.
pub const GLOBAL: &[Flag] =
    &[Flag::switch("help", "show help").short('h'), Flag::switch("version", "show the version").short('V')];

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    START,
    HEALTH,
    VERSION,
    CONFIG_LIST,
    CONFIG_VALIDATE,
    CONFIG_SHOW,
    CONFIG_EXPLAIN,
    CONFIG_SCHEMA,
    CONFIG_INIT,
    ROUTE_TEST,
    DOCTOR,
    ENV_CHECK,
    KEYS_LIST,
    KEYS_TEST,
    KEYS_NEW,
    DB_STATS,
    DB_TAIL,
    DB_QUERY,
    DB_EXPORT,
    DB_PRUNE,
    DB_RESET,
    CONVERT,
    DEV_SHELL,
    DEV_TEST,
    DEV_LINT,
    COMPLETIONS,
    MAN,
    Command {
        words: &["help"],
        does: "show this help, or that of a command",
        more: "",
        takes: "[COMMAND]",
        options: &[],
        examples: &[("help config validate", "what config validate takes")],
        run: help::run,
    },
];

/// Words that a command's help explains, beside its options.
#[derive(Debug)]
pub struct Terms {
    /// The command's own words.
    pub of: &'static [&'static str],
    pub heading: &'static str,
    /// (what is typed, what it means)
    pub terms: &'static [(&'static str, &'static str)],
}

/// All there are.
pub const TERMS: &[Terms] = &[Terms { of: ROUTE_TEST.words, heading: "words of --outcome", terms: outcome::WORDS }];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_names_an_option_twice() {
        for command in COMMANDS {
            let mut longs: Vec<&str> = command.options.iter().map(|f| f.long).collect();
            let mut shorts: Vec<char> = command.options.iter().filter_map(|f| f.short).collect();
            longs.sort_unstable();
            shorts.sort_unstable();
            let distinct = longs.windows(2).all(|w| w[0] != w[1]) && shorts.windows(2).all(|w| w[0] != w[1]);
            assert!(distinct, "{:?}: {longs:?} {shorts:?}", command.words);
        }
    }

    #[test]
    fn every_format_can_be_named() {
        assert_eq!(FORMATS, crate::wire::Format::ALL.map(crate::wire::Format::as_str));
    }

    #[test]
    fn every_example_parses() {
        for command in COMMANDS {
            for (line, _) in command.examples {
                // As a shell would: what is in quotes is one word, and what follows `>` is none.
                let line = line.split(" > ").next().unwrap();
                let part = |(at, part): (usize, &'static str)| match at % 2 {
                    0 => part.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(),
                    _ => vec![part],
                };
                let parsed = crate::cli::parse::parse(line.split('"').enumerate().flat_map(part));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
            }
        }
    }
}
