//! For fish. The lines that a command gives in `-a` are taken as they are, and quoted where they are put in.

use std::fmt::Write as _;

use crate::cli::completions::{Value, beginnings, next, quoted, takes, value};
use crate::cli::flags::{COMMANDS, Command, GLOBAL, NAME};

const WORDS: &str = r#"function __model_proxy_words
  set -l words (commandline -opc)[2..]
  string match -v -- '-*' $words
end
function __model_proxy_at
  set -l said (__model_proxy_words)
  test "$said" = "$argv"
end
function __model_proxy_in
  set -l said (__model_proxy_words)
  string match -q -- "$argv *" "$said "
end
"#;

pub(super) fn script() -> String {
    let mut text = format!(
        "# {NAME}, for fish: put it as {NAME}.fish into ~/.config/fish/completions.\n{WORDS}complete -c {NAME} -f\n"
    );
    commands(&mut text, &[]);
    for command in COMMANDS {
        one(&mut text, command);
    }
    text
}

/// The words of commands, behind some words.
fn commands(text: &mut String, behind: &[&str]) {
    for words in beginnings() {
        let at = quoted(&format!("__model_proxy_at {}", [behind, &words].concat().join(" ")));
        for (word, does) in next(&words) {
            let _ = writeln!(text, "complete -c {NAME} -n {at} -a {} -d {}", quoted(word), quoted(&does));
        }
    }
}

fn one(text: &mut String, command: &Command) {
    let within = quoted(&format!("__model_proxy_in {}", command.words.join(" ")));
    for flag in command.options.iter().chain(GLOBAL) {
        let short = flag.short.map_or_else(String::new, |short| format!(" -s {short}"));
        let more = match value(flag) {
            Value::None => String::new(),
            Value::Any | Value::Commands => " -x".to_owned(),
            Value::File | Value::Folder => " -r -F".to_owned(),
            Value::Of(words) => format!(" -x -a {}", quoted(&words.join(" "))),
            Value::Names(what) => format!(" -x -a {}", names(what)),
        };
        let _ = writeln!(text, "complete -c {NAME} -n {within} -l {}{short}{more} -d {}", flag.long, quoted(flag.help));
    }
    let rest = match takes(command) {
        Value::Names(what) => format!(" -a {}", names(what)),
        Value::Of(words) => format!(" -a {}", quoted(&words.join(" "))),
        Value::File | Value::Folder => " -F".to_owned(),
        Value::Commands => return commands(text, command.words),
        Value::None | Value::Any => return,
    };
    let _ = writeln!(text, "complete -c {NAME} -n {within}{rest}");
}

fn names(what: &str) -> String {
    quoted(&format!("({NAME} completions {what} 2>/dev/null)"))
}
