//! The two ways out. A reader that went away (`| head`) is no error of ours.

use std::fmt;
use std::io::Write;

use crate::cli::Exit;
use crate::cli::flags::NAME;

/// What was asked for.
pub(crate) fn out(text: &str) {
    write(&mut std::io::stdout(), text);
}

/// What else there is to say.
pub(crate) fn err(text: &str) {
    write(&mut std::io::stderr(), text);
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
