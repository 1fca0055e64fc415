//! The two ways out. A reader that went away (`| head`) is no error of ours.

use std::fmt;
use std::io::{self, Write};

use crate::cli::Exit;
use crate::cli::flags::NAME;

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

/// What else there is to say.
pub(crate) fn err(text: &str) {
    write(&mut io::stderr(), text);
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
