//! `completions` and `man`: what shells and readers of manuals want, made from the table of commands.

use std::fmt::Write as _;

use crate::cli::flags::{COMMANDS, Command, Flag, GLOBAL, NAME, TERMS};
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, say};
use crate::config::env::VARS;

pub(crate) fn run(given: &Given) -> Exit {
    let shell = given.rest.first().map(|shell| shell.to_string_lossy().into_owned()).unwrap_or_default();
    let text = match shell.as_str() {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        _ => {
            let message = format!("completions takes bash, zsh or fish, not {shell:?}");
            return Unready::Usage(message).tell(Exit::Wrong);
        }
    };
    say::out(&text);
    Exit::Fine
}

pub(crate) fn man(_: &Given) -> Exit {
    say::out(&page());
    Exit::Fine
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

/// The first words of commands that have more than one.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> =
        COMMANDS.iter().filter(|c| 1 < c.words.len()).filter_map(|c| c.words.first().copied()).collect();
    groups.dedup();
    groups
}

/// What an option's value is, for a shell: a word it completes by itself, or the words there are.
enum Value {
    None,
    Any,
    File,
    Folder,
    Of(&'static [&'static str]),
}

fn value(flag: &Flag) -> Value {
    match (flag.value, flag.choices) {
        (None, _) => Value::None,
        (Some(_), [_, ..]) => Value::Of(flag.choices),
        (Some("FILE"), _) => Value::File,
        (Some("DIR"), _) => Value::Folder,
        (Some(_), _) => Value::Any,
    }
}

/// What a command takes beside its options: as [`Value`], and whether it is the name of a model.
fn takes(command: &Command) -> (Value, bool) {
    match command.takes {
        "" => (Value::None, false),
        "MODEL" => (Value::Any, true),
        "[DIR]" => (Value::Folder, false),
        "[FILE]" | "[FILES...]" => (Value::File, false),
        "KIND" => (Value::Of(&["model", "provider", "client", "server", "prices"]), false),
        "SHELL" => (Value::Of(&["bash", "zsh", "fish"]), false),
        _ => (Value::Any, false),
    }
}

/// The models of the configuration there is, one a line.
const MODELS: &str = "model-proxy config list --format json 2>/dev/null | tr -d '[]\" ' | tr ',' '\\n'";

fn bash() -> String {
    let mut text = format!(
        "# {NAME}, for bash: eval \"$({NAME} completions bash)\", or put it into /etc/bash_completion.d/{NAME}.\n\
         _model_proxy() {{\n  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words= w\n  \
         for w in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    case $w in -*) ;; *) words=\"$words $w\" ;; esac\n  done\n  \
         COMPREPLY=()\n  case \"$words\" in\n"
    );
    for command in COMMANDS {
        let words = command.words.join(" ");
        let _ = writeln!(text, "    \" {words}\"|\" {words} \"*)");
        text.push_str("      case $prev in\n");
        for flag in command.options.iter().chain(GLOBAL).filter(|flag| flag.value.is_some()) {
            let short = flag.short.map_or_else(String::new, |short| format!("|-{short}"));
            let reply = match value(flag) {
                Value::Of(words) => format!("-W \"{}\" -- \"$cur\"", words.join(" ")),
                Value::File => "-f -- \"$cur\"".to_owned(),
                Value::Folder => "-d -- \"$cur\"".to_owned(),
                Value::None | Value::Any => String::new(),
            };
            let reply = if reply.is_empty() { String::new() } else { format!("COMPREPLY=($(compgen {reply})); ") };
            let _ = writeln!(text, "        --{}{short}) {reply}return ;;", flag.long);
        }
        text.push_str("      esac\n");
        let longs: Vec<String> = command.options.iter().chain(GLOBAL).map(|flag| format!("--{}", flag.long)).collect();
        let _ = writeln!(
            text,
            "      case $cur in -*) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;; esac",
            longs.join(" ")
        );
        let reply = match takes(command) {
            (_, true) => format!("compgen -W \"$({MODELS})\" -- \"$cur\""),
            (Value::Of(words), _) => format!("compgen -W \"{}\" -- \"$cur\"", words.join(" ")),
            (Value::File, _) => "compgen -f -- \"$cur\"".to_owned(),
            (Value::Folder, _) => "compgen -d -- \"$cur\"".to_owned(),
            (Value::None | Value::Any, _) => String::new(),
        };
        if !reply.is_empty() {
            let _ = writeln!(text, "      COMPREPLY=($({reply}))");
        }
        text.push_str("      ;;\n");
    }
    let list = |words: &[&str]| next(words).iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" ");
    for group in groups() {
        let _ = writeln!(text, "    \" {group}\") COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")) ;;", list(&[group]));
    }
    let _ = writeln!(text, "    \"\") COMPREPLY=($(compgen -W \"{} --help --version\" -- \"$cur\")) ;;", list(&[]));
    text.push_str("  esac\n}\ncomplete -F _model_proxy model-proxy\n");
    text
}

/// As a word within single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh() -> String {
    // What stands in brackets or after a colon has a meaning there.
    let plain = |text: &str| text.replace(['[', ']', '\\'], "").replace(':', " -");
    let mut text = format!("#compdef {NAME}\n# {NAME}, for zsh: put it as _{NAME} into a folder of $fpath.\n");
    let _ = write!(
        text,
        "_model_proxy_models() {{ local -a names; names=(${{(f)\"$({MODELS})\"}}); compadd -a names }}\n\n"
    );
    text.push_str("_model-proxy() {\n  local -a list\n  local words_given=\"${(j: :)${(@)words[2,CURRENT-1]:#-*}}\"\n  case \"$words_given\" in\n");
    for command in COMMANDS {
        let words = command.words.join(" ");
        let _ = writeln!(text, "    {}|{}*)", quoted(&words), quoted(&format!("{words} ")));
        let _ = write!(
            text,
            "      shift {} words; (( CURRENT -= {} ))\n      _arguments",
            command.words.len(),
            command.words.len()
        );
        for flag in command.options.iter().chain(GLOBAL) {
            let action = match value(flag) {
                Value::None => String::new(),
                Value::Any => format!(":{}: ", flag.value.unwrap_or_default()),
                Value::File => ":FILE:_files".to_owned(),
                Value::Folder => ":DIR:_files -/".to_owned(),
                Value::Of(words) => format!(":{}:({})", flag.value.unwrap_or_default(), words.join(" ")),
            };
            let help = plain(flag.help);
            let _ = write!(text, " \\\n        {}", quoted(&format!("*--{}[{help}]{action}", flag.long)));
            if let Some(short) = flag.short {
                let _ = write!(text, " \\\n        {}", quoted(&format!("*-{short}[{help}]{action}")));
            }
        }
        let rest = match takes(command) {
            (_, true) => "*:MODEL:_model_proxy_models".to_owned(),
            (Value::Of(words), _) => format!("*:{}:({})", command.takes, words.join(" ")),
            (Value::File, _) => "*:FILE:_files".to_owned(),
            (Value::Folder, _) => "*:DIR:_files -/".to_owned(),
            (Value::Any, _) => format!("*:{}: ", plain(command.takes)),
            (Value::None, _) => String::new(),
        };
        if !rest.is_empty() {
            let _ = write!(text, " \\\n        {}", quoted(&rest));
        }
        text.push_str("\n      ;;\n");
    }
    let list = |words: &[&str]| {
        let row = |(word, does): &(&str, String)| quoted(&format!("{word}:{}", plain(does)));
        next(words).iter().map(row).collect::<Vec<_>>().join(" ")
    };
    for group in groups() {
        let _ = writeln!(text, "    {group}) list=({}); _describe command list ;;", list(&[group]));
    }
    let _ = writeln!(text, "    '') list=({}); _describe command list ;;", list(&[]));
    text.push_str("  esac\n}\n\ncompdef _model-proxy model-proxy\n");
    text
}

fn fish() -> String {
    let mut text = format!(
        "# {NAME}, for fish: put it as {NAME}.fish into ~/.config/fish/completions.\n\
         function __model_proxy_words\n  set -l words (commandline -opc)[2..]\n  string match -v -- '-*' $words\nend\n\
         function __model_proxy_at\n  set -l said (__model_proxy_words)\n  test \"$said\" = \"$argv\"\nend\n\
         function __model_proxy_in\n  set -l said (__model_proxy_words)\n  string match -q -- \"$argv *\" \"$said \"\nend\n\
         complete -c {NAME} -f\n"
    );
    for words in std::iter::once(Vec::new()).chain(groups().into_iter().map(|group| vec![group])) {
        for (word, does) in next(&words) {
            let at = quoted(&format!("__model_proxy_at {}", words.join(" ")));
            let _ = writeln!(text, "complete -c {NAME} -n {at} -a {} -d {}", quoted(word), quoted(&does));
        }
    }
    for command in COMMANDS {
        let within = quoted(&format!("__model_proxy_in {}", command.words.join(" ")));
        for flag in command.options.iter().chain(GLOBAL) {
            let short = flag.short.map_or_else(String::new, |short| format!(" -s {short}"));
            let more = match value(flag) {
                Value::None => String::new(),
                Value::Any => " -x".to_owned(),
                Value::File | Value::Folder => " -r -F".to_owned(),
                Value::Of(words) => format!(" -x -a {}", quoted(&words.join(" "))),
            };
            let _ =
                writeln!(text, "complete -c {NAME} -n {within} -l {}{short}{more} -d {}", flag.long, quoted(flag.help));
        }
        let rest = match takes(command) {
            (_, true) => format!(" -a {}", quoted(&format!("({MODELS})"))),
            (Value::Of(words), _) => format!(" -a {}", quoted(&words.join(" "))),
            (Value::File | Value::Folder, _) => " -F".to_owned(),
            (Value::None | Value::Any, _) => continue,
        };
        let _ = writeln!(text, "complete -c {NAME} -n {within}{rest}");
    }
    text
}

/// The manual page, in the macros of man(7).
fn page() -> String {
    let mut text = format!(
        ".TH MODEL-PROXY 1 \"\" \"{NAME} {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\nCOMMAND [OPTIONS]\n.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION"),
        roff(NAME),
        roff(env!("CARGO_PKG_DESCRIPTION")),
        roff(NAME),
    );
    for command in COMMANDS {
        let _ = writeln!(text, ".SS {} {}", roff(&command.words.join(" ")), roff(command.takes));
        let mut does = command.does.to_owned();
        if let Some(first) = does.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let _ = writeln!(text, "{}.", roff(&does));
        if !command.more.is_empty() {
            let _ = writeln!(text, ".PP\n{}", roff(command.more));
        }
        options(&mut text, command.options);
        for terms in TERMS.iter().filter(|terms| terms.of == command.words) {
            let _ = writeln!(text, ".PP\n{}:", roff(terms.heading));
            for (word, means) in terms.terms {
                let _ = writeln!(text, ".TP\n.B {}\n{}", roff(word), roff(means));
            }
        }
        for (line, why) in command.examples {
            let _ = writeln!(text, ".PP\n{}:\n.RS\n.B {NAME} {}\n.RE", roff(why), roff(line));
        }
    }
    text.push_str(".SH OPTIONS EVERYWHERE\n");
    options(&mut text, GLOBAL);
    text.push_str(".SH ENVIRONMENT\nRead from the process, from \\-\\-env\\-file, and from .env in the working directory, in this order.\n");
    for var in VARS {
        let default = if var.default.is_empty() { String::new() } else { format!(" [default: {}]", var.default) };
        let _ = writeln!(text, ".TP\n.B {}\n{}{}", roff(var.name), roff(var.help), roff(&default));
    }
    text.push_str(
        ".SH EXIT STATUS\n.TP\n.B 0\nFine.\n.TP\n.B 1\nThe check failed.\n.TP\n.B 2\nUsed wrongly, or cannot start.\n",
    );
    text
}

fn options(text: &mut String, flags: &[Flag]) {
    for flag in flags {
        let short = flag.short.map_or_else(String::new, |short| format!("\\-{short}, "));
        let value = flag.value.map_or_else(String::new, |value| format!(" {value}"));
        let default = if flag.default.is_empty() { String::new() } else { format!(" [default: {}]", flag.default) };
        let _ =
            writeln!(text, ".TP\n.B {short}\\-\\-{}{value}\n{}{}", roff(flag.long), roff(flag.help), roff(&default));
    }
}

/// Plain text as man(7) wants it: what begins a line with a dot or a quote would be a request.
fn roff(text: &str) -> String {
    let spell = |c: char| match c {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        c if c.is_ascii() => c.to_string(),
        c => format!("\\[u{:04X}]", u32::from(c)),
    };
    let text: String = text.chars().map(spell).collect();
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_in_all_of_them() {
        for (name, text) in [("bash", bash()), ("zsh", zsh()), ("fish", fish()), ("man", page().replace("\\-", "-"))] {
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
