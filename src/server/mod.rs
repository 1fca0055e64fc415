//! A placeholder: the server comes from another room.

use std::fmt;
use std::sync::Arc;

use crate::config::Loaded;
use crate::config::env::Env;
use crate::route::keys::Registry;
use crate::secret::Secret;

/// What is worth a line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    /// The names that are taken; the seed's `trace`, `critical` and `warning` too.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("critical", Self::Error),
        ("warning", Self::Warn),
        ("trace", Self::Debug),
    ];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, level)| *level)
    }
}

/// All that `start` was told and found.
#[derive(Debug)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub workers: usize,
    pub log_level: LogLevel,
    pub client_key: Option<Secret>,
    pub loaded: Loaded,
    pub env: Env,
    pub registry: Arc<Registry>,
}

#[derive(Debug)]
pub struct ServeError;

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is not built yet")
    }
}

impl std::error::Error for ServeError {}

pub fn run(_settings: Settings) -> Result<(), ServeError> {
    Err(ServeError)
}
