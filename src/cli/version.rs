//! `version`

use std::fmt::Write as _;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, say, wants_json};
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    match wants_json(given) {
        Ok(json) => {
            let more = if given.has("verbose") { more() } else { Vec::new() };
            say::out(&if json { as_json(&more) } else { as_text(&more) });
            Exit::Fine
        }
        Err(unready) => unready.tell(Exit::Wrong),
    }
}

/// Names and versions of what it is built from and runs on.
fn more() -> Vec<(&'static str, String)> {
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let rust = format!("{} or later", env!("CARGO_PKG_RUST_VERSION"));
    let libraries = LIBRARIES.map(|name| (name, locked(name).unwrap_or("unknown").to_owned()));
    [("platform", platform), ("rust", rust)].into_iter().chain(libraries).collect()
}

fn as_text(more: &[(&str, String)]) -> String {
    let mut text = line();
    for (name, version) in more {
        let _ = write!(text, "\n{name:<9} {version}");
    }
    text
}

fn as_json(more: &[(&str, String)]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("name").str(NAME).key("version").str(env!("CARGO_PKG_VERSION"));
    for (name, version) in more {
        w.key(name).str(version);
    }
    w.end_object();
    String::from_utf8_lossy(&out).into_owned()
}

pub(crate) fn line() -> String {
    format!("{NAME} {}", env!("CARGO_PKG_VERSION"))
}

/// What a bug report should name.
const LIBRARIES: [&str; 5] = ["hyper", "rustls", "tokio", "h2", "ring"];

/// The version of a package in the lock file this was built with.
fn locked(name: &str) -> Option<&'static str> {
    let (_, after) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    after.split('"').next()
}

const LOCK: &str = include_str!("../../Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_is_in_the_lock_file() {
        for name in LIBRARIES {
            assert!(locked(name).is_some_and(|v| v.contains('.')), "{name}");
        }
        assert_eq!(locked("model-proxy"), Some(env!("CARGO_PKG_VERSION")));
    }
}
