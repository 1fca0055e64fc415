//! `dev`: for who works on the configuration, or on the program itself.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::Command as Process;

use crate::cli::flags::NAME;
use crate::cli::parse::{Given, Parsed, parse};
use crate::cli::{Exit, Unready, help, say};

/// Short ways to say what is asked for most in the shell.
const SHORT: [(&str, &[&str]); 7] = [
    ("models", &["config", "list"]),
    ("show", &["config", "show"]),
    ("explain", &["config", "explain"]),
    ("routes", &["config", "explain"]),
    ("keys", &["keys", "list"]),
    ("stats", &["db", "stats"]),
    ("tail", &["db", "tail"]),
];

pub(crate) fn shell(given: &Given) -> Exit {
    let is_person = io::stdin().is_terminal();
    if is_person {
        say::err(&format!(
            "any command of {NAME} without its name; models, show MODEL, routes MODEL, keys, stats, tail; SELECT … asks the journal; \
             help, exit"
        ));
    }
    let mut worst = Exit::Fine;
    loop {
        if is_person {
            drop(write!(io::stderr(), "{NAME}> ").and_then(|()| io::stderr().flush()));
        }
        let mut bytes = Vec::new();
        let exit = match io::stdin().lock().read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(_) => match std::str::from_utf8(&bytes).map(|line| line.trim().trim_end_matches(';').trim_end()) {
                Ok("") => continue,
                Ok("exit" | "quit") => break,
                // Everything is read anew for each line: what was changed meanwhile holds.
                Ok(line) => answer(line, given),
                Err(_) => say::wrong("a line is not UTF-8, and is left out"),
            },
            Err(error) => {
                worst = say::no(format_args!("standard input: {error}"));
                break;
            }
        };
        if exit != Exit::Fine {
            worst = Exit::No;
        }
    }
    // A person has seen what failed.
    if is_person { Exit::Fine } else { worst }
}

fn answer(line: &str, shell: &Given) -> Exit {
    let is_sql = line
        .split_whitespace()
        .next()
        .is_some_and(|word| ["select", "with"].iter().any(|sql| word.eq_ignore_ascii_case(sql)));
    let words = if is_sql {
        ["db", "query", line].map(str::to_owned).to_vec()
    } else {
        match split(line) {
            Ok(words) => words,
            Err(why) => return say::wrong(why),
        }
    };
    let words = spelled_out(words);
    match parse(&words) {
        Ok(Parsed::Help(words)) => say::out(&help::text(&words).unwrap_or_default()),
        Ok(Parsed::Version) => say::out(&crate::cli::version::line()),
        Ok(Parsed::Run(command)) if matches!(command.command.words, ["start"] | ["dev", ..]) => {
            return say::wrong(format!("{:?} is not for the shell: start it outside", words.join(" ")));
        }
        Ok(Parsed::Run(mut command)) => {
            command.inherit(shell);
            return (command.command.run)(&command);
        }
        Err(usage) => return say::wrong(usage),
    }
    Exit::Fine
}

/// A command's own words, where one of the short ways was taken. `keys` begins commands, too: it is one where no word follows.
fn spelled_out(words: Vec<String>) -> Vec<String> {
    let short = SHORT.iter().find(|(short, _)| words.first().is_some_and(|word| word == short));
    let is_longer =
        words.first().is_some_and(|word| word == "keys") && words.get(1).is_some_and(|w| !w.starts_with('-'));
    match short {
        Some((_, long)) if !is_longer => {
            long.iter().map(ToString::to_string).chain(words.into_iter().skip(1)).collect()
        }
        Some(_) | None => words,
    }
}

/// Words as a shell would part them: at spaces, but for what is in quotes.
fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(quote) => Err(format!("a {quote} is not closed")),
        None => Ok(words),
    }
}

pub(crate) fn test(given: &Given) -> Exit {
    let more: &[&str] = if given.has("verbose") { &["--", "--show-output"] } else { &[] };
    cargo(&[&[&["test", "--locked"], more].concat()])
}

pub(crate) fn lint(given: &Given) -> Exit {
    const CLIPPY: [&str; 2] = ["clippy", "--all-targets"];
    if given.has("fix") {
        return cargo(&[&["fmt"], &[&CLIPPY[..], &["--fix", "--allow-dirty", "--allow-staged"]].concat()]);
    }
    cargo(&[&["fmt", "--check"], &[&CLIPPY[..], &["--locked", "--", "-D", "warnings"]].concat()])
}

/// Runs cargo in the checkout this was started in, one command after the other, and all of them.
fn cargo(commands: &[&[&str]]) -> Exit {
    let Some(root) = checkout() else {
        let message = "this is for a checkout of model-proxy, and neither this folder nor one above it is one";
        return Unready::Usage(message.to_owned()).tell(Exit::Wrong);
    };
    let mut exit = Exit::Fine;
    for words in commands {
        say::err(&format!("cargo {}", words.join(" ")));
        match Process::new("cargo").args(*words).current_dir(&root).status() {
            Ok(status) if status.success() => {}
            Ok(_) => exit = Exit::No,
            Err(error) => return Unready::Usage(format!("cargo cannot be run: {error}")).tell(Exit::Wrong),
        }
    }
    exit
}

fn checkout() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let is_ours = |folder: &&std::path::Path| {
        std::fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.contains(&format!("name = \"{NAME}\"\n")))
    };
    here.ancestors().find(is_ours).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_a_shell_does() {
        for (line, expect) in [
            ("config list", Ok(&["config", "list"][..])),
            (" a  'b c' \"d 'e'\" f''g ''", Ok(&["a", "b c", "d 'e'", "fg", ""])),
            ("a 'b", Err("a ' is not closed")),
        ] {
            let got = split(line);
            match expect {
                Ok(words) => {
                    assert_eq!(got.as_deref(), Ok(&words.iter().map(ToString::to_string).collect::<Vec<_>>()[..]));
                }
                Err(why) => assert_eq!(got, Err(why.to_owned())),
            }
        }
    }
}
