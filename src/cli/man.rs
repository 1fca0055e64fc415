//! `man`: the manual page, made from the table of commands, in the macros of man(7).

use std::fmt::Write as _;

use crate::cli::flags::{COMMANDS, Command, Flag, GLOBAL, NAME, TERMS};
use crate::cli::parse::Given;
use crate::cli::{Exit, say};
use crate::config::env::VARS;

pub(crate) fn run(_: &Given) -> Exit {
    say::out(&page());
    Exit::Fine
}

pub(super) fn page() -> String {
    let mut text = format!(
        ".TH MODEL-PROXY 1 \"\" \"{NAME} {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\nCOMMAND [OPTIONS]\n.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION"),
        roff(NAME),
        roff(env!("CARGO_PKG_DESCRIPTION")),
        roff(NAME),
    );
    for command in COMMANDS {
        one(&mut text, command);
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

fn one(text: &mut String, command: &Command) {
    let _ = writeln!(text, ".SS {} {}", roff(&command.words.join(" ")), roff(command.takes));
    let mut does = command.does.to_owned();
    if let Some(first) = does.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let _ = writeln!(text, "{}.", roff(&does));
    if !command.more.is_empty() {
        let _ = writeln!(text, ".PP\n{}", roff(command.more));
    }
    options(text, command.options);
    for terms in TERMS.iter().filter(|terms| terms.of == command.words) {
        let _ = writeln!(text, ".PP\n{}:", roff(terms.heading));
        for (word, means) in terms.terms {
            let _ = writeln!(text, ".TP\n.B {}\n{}", roff(word), roff(means));
        }
    }
    for (line, why) in command.examples {
        let _ = write!(text, ".PP\n{}:\n{}", roff(why), example(line));
    }
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

/// A line to be typed as it stands: neither filled nor parted, however long it is.
fn example(line: &str) -> String {
    format!(".RS\n.nf\n\\fB{}\\fR\n.fi\n.RE\n", roff(&format!("{NAME} {line}")))
}

/// Plain text as man(7) wants it. What begins a line with a dot would be a request, a quote would part a macro's words, and others
/// are set as signs that look alike.
fn roff(text: &str) -> String {
    let spell = |c: char| match c {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        '"' => "\\(dq".to_owned(),
        '\'' => "\\(aq".to_owned(),
        '`' => "\\(ga".to_owned(),
        '~' => "\\(ti".to_owned(),
        '^' => "\\(ha".to_owned(),
        c if c.is_ascii() => c.to_string(),
        c => format!("\\[u{:04X}]", u32::from(c)),
    };
    let text: String = text.chars().map(spell).collect();
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_set_as_they_are_typed() {
        let page = page();
        for (line, _) in COMMANDS.iter().flat_map(|command| command.examples) {
            assert!(page.contains(&example(line)), "{line}");
        }
        assert_eq!(
            example("db query \"SELECT 1\" --format csv > ~/x"),
            ".RS\n.nf\n\\fBmodel\\-proxy db query \\(dqSELECT 1\\(dq \\-\\-format csv > \\(ti/x\\fR\n.fi\n.RE\n"
        );
        let (_, rest) = page.split_once('\n').unwrap();
        assert!(!rest.contains('"'), "a macro would eat it");
        assert_eq!(roff(".env, 'x'"), "\\&.env, \\(aqx\\(aq");
    }
}
