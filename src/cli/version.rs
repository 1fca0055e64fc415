//! `version`

use std::fmt::Write as _;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, say};

pub(crate) fn run(given: &Given) -> Exit {
    let mut text = line();
    if given.has("verbose") {
        let _ = write!(text, "\nplatform  {}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let _ = write!(text, "\nrust      {} or later", env!("CARGO_PKG_RUST_VERSION"));
        for name in LIBRARIES {
            let _ = write!(text, "\n{name:<9} {}", locked(name).unwrap_or("unknown"));
        }
    }
    say::out(&text);
    Exit::Fine
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
