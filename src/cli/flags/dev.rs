//! What is wrong here, and what helps to work with it.

use crate::cli::flags::db::JOURNAL;
use crate::cli::flags::{CONFIG, Command, ENV_FILE, Flag, TABLE_OR_JSON};
use crate::cli::{completions, dev, doctor, env_check, man};

pub(super) const DOCTOR: Command = Command {
    words: &["doctor"],
    does: "check all that a start needs, and say what to do",
    more: "Looks at files of variables, variables, configuration, models, clients, keys, certificates, the state directory, the \
           journal, prices, descriptors and the port. --fix does what is safe: it makes folders, example files (config init) where \
           there is no configuration, .env from .env.example, and brings a journal of an earlier version up to date. It says what it \
           did, changes no file that is there but the journal, and writes no key. Ends with 1 if something keeps the server from \
           working.",
    takes: "",
    options: &[Flag::switch("fix", "do what is safe to do"), TABLE_OR_JSON, CONFIG, ENV_FILE],
    examples: &[("doctor", "is my setup right?"), ("doctor --fix", "and mend what can be mended")],
    run: doctor::run,
};

pub(super) const ENV_CHECK: Command = Command {
    words: &["env", "check"],
    does: "show every variable that is read, and where its value comes from",
    more: "Keys and passwords are shown by their last letters. Variables that begin with MODEL_PROXY_ and are read by nobody are \
           named, and switches that say neither yes nor no. Ends with 1 if there is one of these, or no key for clients.",
    takes: "",
    options: &[TABLE_OR_JSON, CONFIG, ENV_FILE],
    examples: &[("env check", "what does it see?"), ("env check --env-file .env.production", "and with this file?")],
    run: env_check::run,
};

pub(super) const DEV_SHELL: Command = Command {
    words: &["dev", "shell"],
    does: "ask one thing after the other: configuration, routes, keys, journal",
    more: "Reads lines: any command without the program's name, models, show MODEL, routes MODEL, keys, stats, tail for those that \
           are asked for most, SQL that begins with SELECT for the journal, help, exit. The configuration is read anew for each. \
           Lines may come from a pipe; then it ends with 1 if one of them failed.",
    takes: "",
    options: &[CONFIG, JOURNAL, ENV_FILE],
    examples: &[("dev shell", "and then: models"), ("dev shell --config ./other", "of another configuration")],
    run: dev::shell,
};

pub(super) const DEV_TEST: Command = Command {
    words: &["dev", "test"],
    does: "run the tests, in a checkout",
    more: "",
    takes: "",
    options: &[Flag::switch("verbose", "show what the tests say").short('v')],
    examples: &[("dev test", "cargo test")],
    run: dev::test,
};

pub(super) const DEV_LINT: Command = Command {
    words: &["dev", "lint"],
    does: "check formatting and lints, in a checkout",
    more: "",
    takes: "",
    options: &[Flag::switch("fix", "mend what can be mended").short('f')],
    examples: &[("dev lint", "cargo fmt --check, cargo clippy"), ("dev lint --fix", "cargo fmt, cargo clippy --fix")],
    run: dev::lint,
};

pub(super) const COMPLETIONS: Command = Command {
    words: &["completions"],
    does: "write what a shell needs to complete commands, options, models and providers",
    more: "SHELL is bash, zsh or fish. What is written asks for names when they are needed: models and providers in the place of SHELL \
           give those of the configuration, one a line.",
    takes: "SHELL",
    options: &[CONFIG, ENV_FILE],
    examples: &[
        ("completions bash", "eval \"$(model-proxy completions bash)\""),
        ("completions zsh", "into a file called _model-proxy, in a folder of $fpath"),
        ("completions fish", "into ~/.config/fish/completions/model-proxy.fish"),
        ("completions models", "the names that are offered"),
    ],
    run: completions::run,
};

pub(super) const MAN: Command = Command {
    words: &["man"],
    does: "write the manual page",
    more: "",
    takes: "",
    options: &[],
    examples: &[("man", "for man -l -, or for /usr/local/share/man/man1/model-proxy.1")],
    run: man::run,
};
