//! `completions`: what shells want, made from the table of commands.
//!
//! Names come from files that others may have written. They reach a shell as lines that are compared and quoted, and are never read
//! as its language.

mod bash;
mod fish;
mod zsh;

use std::fmt::Write as _;

use crate::cli::flags::{COMMANDS, Command, Flag};
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, load, say};
use crate::route::keys::Registry;

pub(crate) fn run(given: &Given) -> Exit {
    let what = given.rest.first().map(|shell| shell.to_string_lossy().into_owned()).unwrap_or_default();
    let text = match what.as_str() {
        "bash" => Ok(bash::script()),
        "zsh" => Ok(zsh::script()),
        "fish" => Ok(fish::script()),
        "models" | "providers" => names(given, &what),
        _ => Err(Unready::Usage(format!("completions takes bash, zsh or fish, not {what:?}"))),
    };
    match text {
        Ok(text) => {
            say::out(&text);
            Exit::Fine
        }
        Err(unready) => unready.tell(Exit::No),
    }
}

/// What the configuration names, one a line. What does not fit into one cannot be typed either.
fn names(given: &Given, what: &str) -> Result<String, Unready> {
    let loaded = load(given, &environment(given)?, &Registry::default())?;
    let names: Vec<&str> = match what {
        "providers" => loaded.providers.iter().filter(|provider| provider.enabled).map(|p| &*p.name).collect(),
        _ => loaded.table.models().map(|model| &*model.name).collect(),
    };
    Ok(names.into_iter().filter(|name| !name.contains(char::is_control)).map(|name| format!("{name}\n")).collect())
}

/// The words that may follow some words, each with what it does (of a group, what its commands do).
fn next(words: &[&str]) -> Vec<(&'static str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for command in COMMANDS.iter().filter(|command| command.words.starts_with(words)) {
        let Some(word) = command.words.get(words.len()) else { continue };
        let is_whole = command.words.len() == words.len() + 1;
        match found.iter_mut().find(|(known, _)| known == word) {
            Some((_, does)) => {
                let _ = write!(does, ", {}", command.words.last().copied().unwrap_or_default());
            }
            None if is_whole => found.push((word, command.does.to_owned())),
            None => found.push((word, command.words.last().copied().unwrap_or_default().to_owned())),
        }
    }
    found
}

/// The beginnings of commands that are none themselves: no word, and the first of those that have two.
fn beginnings() -> Vec<Vec<&'static str>> {
    let mut groups: Vec<Vec<&str>> =
        COMMANDS.iter().filter(|c| 1 < c.words.len()).map(|c| c.words.iter().copied().take(1).collect()).collect();
    groups.dedup();
    [vec![Vec::new()], groups].concat()
}

/// What a word is, for a shell: something it completes by itself, the words there are, or what is asked for when it is needed.
enum Value {
    None,
    Any,
    File,
    Folder,
    Of(&'static [&'static str]),
    /// Names of the configuration: `models` or `providers`.
    Names(&'static str),
    /// The words of a command.
    Commands,
}

/// What an option's value is.
fn value(flag: &Flag) -> Value {
    match (flag.value, flag.choices) {
        (None, _) => Value::None,
        (Some(_), [_, ..]) => Value::Of(flag.choices),
        (Some("FILE"), _) => Value::File,
        (Some("DIR"), _) => Value::Folder,
        (Some("MODEL" | "LOGICAL"), _) => Value::Names("models"),
        (Some(_), _) => Value::Any,
    }
}

/// What a command takes beside its options.
fn takes(command: &Command) -> Value {
    match command.takes {
        "" => Value::None,
        "MODEL" => Value::Names("models"),
        "[PROVIDER]" => Value::Names("providers"),
        "[COMMAND]" => Value::Commands,
        "[DIR]" => Value::Folder,
        "[FILE]" | "[FILES...]" => Value::File,
        "KIND" => Value::Of(&["model", "provider", "client", "server", "prices"]),
        "SHELL" => Value::Of(&["bash", "zsh", "fish"]),
        _ => Value::Any,
    }
}

/// As a word within single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_in_all_of_them() {
        let man = crate::cli::man::page().replace("\\-", "-");
        for (name, text) in [("bash", bash::script()), ("zsh", zsh::script()), ("fish", fish::script()), ("man", man)] {
            for command in COMMANDS {
                assert!(text.contains(&command.words.join(" ")), "{name}: {:?}", command.words);
                for flag in command.options {
                    let option = if name == "fish" { format!(" -l {}", flag.long) } else { format!("--{}", flag.long) };
                    assert!(text.contains(&option), "{name}: {option}");
                    assert!(
                        flag.choices.iter().all(|choice| name == "man" || text.contains(choice)),
                        "{name}: {option}"
                    );
                }
            }
        }
    }
}
