//! The two ways out. A reader that went away (`| head`) is no error of ours.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::cli::Exit;
use crate::cli::flags::NAME;
use crate::config::env::Env;

/// What was asked for.
pub(crate) fn out(text: &str) {
    write(&mut io::stdout(), text);
}

/// What was asked for, as bytes that must all arrive: half a result is none. Ends in a line end.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let newline: &[u8] = if bytes.is_empty() || bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let mut to = io::stdout();
    let written = to.write_all(bytes).and_then(|()| to.write_all(newline)).and_then(|()| to.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
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
    write(&mut io::stderr(), text);
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

fn write(to: &mut impl Write, text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(to, "{text}{newline}"));
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
