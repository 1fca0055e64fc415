//! The two ways out. A reader that went away (`| head`) is no error of ours. What cannot be written for another reason (a full
//! disk) is told when the command is over, and it has not ended well then: see [`settle`].

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use crate::cli::Exit;
use crate::cli::flags::NAME;
use crate::config::env::Env;

/// What was asked for.
pub(crate) fn out(text: &str) {
    bytes(text.as_bytes());
}

/// The same, as bytes. Ends in a line end. Gives whether it arrived.
pub(crate) fn bytes(bytes: &[u8]) -> bool {
    let newline: &[u8] = if bytes.is_empty() || bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let mut to = io::stdout();
    arrived(to.write_all(bytes).and_then(|()| to.write_all(newline)).and_then(|()| to.flush()))
}

/// Keeps why something of what was asked for could not be written. Gives whether it could.
pub(crate) fn arrived(written: io::Result<()>) -> bool {
    match written {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                UNWRITTEN.get_or_init(|| error);
            }
            false
        }
    }
}

/// The first error of those that [`arrived`] was given. Every command ends with it, so nobody has to hand it on.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// How a command ends: half a result is none.
pub(crate) fn settle(exit: Exit) -> Exit {
    let Some(error) = UNWRITTEN.get() else {
        return exit;
    };
    let unwritten = no(format_args!("the result cannot be written: {error}"));
    if exit == Exit::Fine { unwritten } else { exit }
}

/// How a word looks on a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Look {
    Good,
    Doubtful,
    Bad,
}

/// Whether what goes to stdout may be coloured: on a terminal, unless somebody asks for none (no-color.org).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn of(env: &Env) -> Self {
        let is_plain = env.get("NO_COLOR").is_some_and(|said| !said.is_empty()) || env.text("TERM") == Some("dumb");
        Self(!is_plain && io::stdout().is_terminal())
    }

    pub(crate) fn on(self, look: Look, word: &str) -> String {
        let colour = match look {
            Look::Good => 32,
            Look::Doubtful => 33,
            Look::Bad => 31,
        };
        if self.0 { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

/// What takes a while is told to whoever sits there, and to nobody else.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        err(text);
    }
}

/// What else there is to say.
pub(crate) fn err(text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(io::stderr(), "{text}{newline}"));
}

/// Rows as columns, those from `numbers` on to the right. What may not stand on a terminal (names come from clients) is spelled out.
pub(crate) fn columns(rows: &[impl AsRef<[String]>], numbers: usize) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.as_ref().iter().map(|cell| plain(cell)).collect()).collect();
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cell = |(at, (cell, width)): (usize, (&String, &usize))| match at < numbers {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        };
        let line = row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text with its control characters spelled out: they would move a terminal's cursor, or worse.
pub(crate) fn plain(text: &str) -> String {
    let spell = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spell).collect()
}

/// Says what went wrong, and that it was not asked for rightly.
pub(crate) fn wrong(message: impl fmt::Display) -> Exit {
    err(&format!("{NAME}: {message}"));
    Exit::Wrong
}

/// Says what went wrong with what was rightly asked for.
pub(crate) fn no(message: impl fmt::Display) -> Exit {
    err(&format!("{NAME}: {message}"));
    Exit::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_beneath_each_other_and_move_no_cursor() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["A", "LONG", "N"]), row(["é😀x", "b\u{1b}[2J\n", "12"]), row(["", "", "3"])];
        assert_eq!(columns(&rows, 2), "A    LONG           N\né😀x  b\\u{1b}[2J\\n  12\n                    3\n");
        assert_eq!(columns(&rows, 3).lines().next(), Some("A    LONG          N"));
    }
}
