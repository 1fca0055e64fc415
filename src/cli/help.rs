//! Help, made from the tables.

use std::fmt::Write as _;

use crate::cli::flags::{COMMANDS, Command, Flag, GLOBAL, NAME, TERMS};
use crate::cli::parse::{Given, known};
use crate::cli::{Exit, say};
use crate::config::env::VARS;

/// `help [COMMAND]`
pub(crate) fn run(given: &Given) -> Exit {
    if let Err(usage) = known(&given.rest) {
        return say::wrong(usage);
    }
    let words: Vec<String> = given.rest.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    say::out(&text(&words).unwrap_or_default());
    Exit::Fine
}

/// Help on a command, on all that begin with some words, or on everything. `None`: nothing begins so.
#[must_use]
pub fn text(words: &[String]) -> Option<String> {
    if words.is_empty() {
        return Some(everything());
    }
    if let Some(command) = COMMANDS.iter().find(|c| c.words == words) {
        return Some(one(command));
    }
    let group: Vec<&Command> = COMMANDS
        .iter()
        .filter(|c| words.len() < c.words.len() && c.words.iter().zip(words).all(|(a, b)| a == b))
        .collect();
    if group.is_empty() {
        return None;
    }
    let mut text = format!("usage: {NAME} {} COMMAND [OPTIONS]\n\ncommands:\n", words.join(" "));
    list(&mut text, group);
    Some(text)
}

fn everything() -> String {
    let mut text = format!(
        "{NAME} {}: {}\n\nusage: {NAME} COMMAND [OPTIONS]\n\ncommands:\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    list(&mut text, COMMANDS.iter().collect());
    options(&mut text, GLOBAL);
    text.push_str("\nenvironment (also read from .env in the working directory):\n");
    let rows = VARS.iter().map(|v| (v.name.to_owned(), with_default(v.help, v.default))).collect();
    columns(&mut text, rows);
    let _ = write!(
        text,
        "\nexit codes: 0 fine, 1 the check failed, 2 used wrongly or cannot start\n\nmore: {NAME} help COMMAND\n"
    );
    text
}

fn one(command: &Command) -> String {
    let name = format!("{NAME} {}", command.words.join(" "));
    let takes = if command.takes.is_empty() { String::new() } else { format!(" {}", command.takes) };
    let options_shown = if command.options.is_empty() { "" } else { " [OPTIONS]" };
    let mut text = format!("{name}: {}\n\nusage: {name}{takes}{options_shown}\n", command.does);
    if !command.examples.is_empty() {
        text.push_str("\nexamples:\n");
        columns(
            &mut text,
            command.examples.iter().map(|(line, why)| (format!("{NAME} {line}"), (*why).to_owned())).collect(),
        );
    }
    if !command.more.is_empty() {
        let _ = write!(text, "\n{}\n", wrap(command.more));
    }
    if !command.options.is_empty() {
        options(&mut text, command.options);
    }
    for terms in TERMS.iter().filter(|terms| terms.of == command.words) {
        let _ = write!(text, "\n{}:\n", terms.heading);
        columns(&mut text, terms.terms.iter().map(|(word, means)| ((*word).to_owned(), (*means).to_owned())).collect());
    }
    text
}

fn list(text: &mut String, commands: Vec<&Command>) {
    let row = |c: &Command| (format!("{} {}", c.words.join(" "), c.takes).trim_end().to_owned(), c.does.to_owned());
    columns(text, commands.into_iter().map(row).collect());
}

fn options(text: &mut String, flags: &[Flag]) {
    let row = |f: &Flag| {
        let short = f.short.map_or_else(|| "    ".to_owned(), |s| format!("-{s}, "));
        let value = f.value.map_or_else(String::new, |v| format!(" {v}"));
        (format!("{short}--{}{value}", f.long), with_default(f.help, f.default))
    };
    text.push_str("\noptions:\n");
    columns(text, flags.iter().map(row).collect());
}

fn with_default(help: &str, default: &str) -> String {
    if default.is_empty() { help.to_owned() } else { format!("{help} [default: {default}]") }
}

fn columns(text: &mut String, rows: Vec<(String, String)>) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, help) in rows {
        let _ = writeln!(text, "  {name:width$}  {help}");
    }
}

/// Breaks a text into lines of at most [`WIDTH`] letters.
fn wrap(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

const WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    /// The README's list of commands.
    fn reference() -> String {
        let mut text = "| command | |\n|---|---|\n".to_owned();
        for Command { words, takes, does, .. } in COMMANDS {
            let takes = if takes.is_empty() { String::new() } else { format!(" {takes}") };
            let _ = writeln!(text, "| `{}{takes}` | {does} |", words.join(" "));
        }
        text
    }

    /// All that help says, for who reads it elsewhere.
    fn page() -> String {
        let mut text = format!(
            "# Commands\n\nMade from `src/cli/flags/`: what `{NAME} help` and `{NAME} COMMAND --help` say.\n\n```text\n{}```\n",
            everything()
        );
        for command in COMMANDS {
            let _ = write!(text, "\n## {}\n\n```text\n{}```\n", command.words.join(" "), one(command));
        }
        text
    }

    #[test]
    fn the_reference_is_made_from_the_table() {
        let readme = std::fs::read_to_string("README.md").unwrap();
        let (before, rest) = readme.split_once("<!-- commands -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- /commands -->").unwrap();
        let expect = format!("{before}<!-- commands -->\n{}<!-- /commands -->{after}", reference());
        #[expect(clippy::disallowed_methods, reason = "asked of whoever runs the test")]
        if std::env::var_os("MODEL_PROXY_BLESS").is_some() {
            std::fs::write("README.md", &expect).unwrap();
            std::fs::write("docs/COMMANDS.md", page()).unwrap();
        }
        let kept = [
            std::fs::read_to_string("README.md").unwrap(),
            std::fs::read_to_string("docs/COMMANDS.md").unwrap_or_default(),
        ];
        assert!(kept == [expect, page()], "make it with MODEL_PROXY_BLESS=1 cargo test --lib made_from_the_table");
    }

    #[test]
    fn every_word_of_the_tables_is_in_the_help() {
        let all = everything();
        for command in COMMANDS {
            assert!(all.contains(&command.words.join(" ")), "{:?}", command.words);
            let words: Vec<String> = command.words.iter().map(ToString::to_string).collect();
            let own = text(&words).unwrap();
            for flag in command.options {
                assert!(own.contains(&format!("--{}", flag.long)) && own.contains(flag.help), "{own}");
            }
        }
        for terms in TERMS {
            let words: Vec<String> = terms.of.iter().map(ToString::to_string).collect();
            let own = text(&words).unwrap();
            assert!(terms.terms.iter().all(|(word, means)| own.contains(word) && own.contains(means)), "{own}");
        }
        for var in VARS {
            assert!(all.contains(var.name), "{}", var.name);
        }
        assert!(text(&["config".to_owned()]).is_some_and(|t| t.contains("config validate")), "a group");
        assert_eq!(text(&["no".to_owned()]), None);
    }
}
