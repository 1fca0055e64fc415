//! What `start` prints: where it listens, what it serves, and two commands that work as they stand.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::config::Loaded;
use crate::config::clients::DEFAULT;
use crate::secret::Secret;
use crate::server::{LogFormat, LogLevel, spelled};

pub(super) struct Banner<'b> {
    /// What it listens at; the first is what is shown how to use.
    pub(super) urls: &'b [String],
    /// Where metrics are, if on a port of their own.
    pub(super) metrics: Option<&'b str>,
    /// Most connections of clients.
    pub(super) connections: usize,
    /// Most requests under way.
    pub(super) requests: usize,
    /// The key made for this run, if one was.
    pub(super) key: Option<&'b Secret>,
    pub(super) loaded: &'b Loaded,
    pub(super) workers: usize,
}

impl Banner<'_> {
    /// Writes to stderr; a closed pipe is nobody's loss.
    pub(super) fn print(&self, format: LogFormat) {
        let text = match format {
            LogFormat::Human => self.text(),
            LogFormat::Json => spelled(format, LogLevel::Info, &self.line()),
        };
        drop(std::io::stderr().write_all(text.as_bytes()));
    }

    /// The same for who collects lines.
    fn line(&self) -> String {
        let (version, models, root) = (env!("CARGO_PKG_VERSION"), self.loaded.table.len(), &self.loaded.root);
        let mut line =
            format!("model-proxy {version} listening on {}; {models} models from {root}", self.urls.join(", "));
        if let Some(place) = self.metrics {
            let _ = write!(line, "; metrics at {place}/metrics");
        }
        if let Some(key) = self.key {
            let _ = write!(line, "; CLIENT_API_KEY is not set, and for this run it is {}", key.expose());
        }
        line
    }

    fn text(&self) -> String {
        let mut text = format!("model-proxy {}\n", env!("CARGO_PKG_VERSION"));
        for url in self.urls {
            let _ = writeln!(text, "listening on {url}");
        }
        let (workers, connections, requests) = (self.workers.max(1), self.connections, self.requests);
        let models = self.loaded.table.len();
        let keyed = self.loaded.providers.iter().filter(|p| 0 < p.keys);
        let keys: usize = keyed.clone().map(|p| p.keys).sum();
        let _ = writeln!(text, "  config   {} ({models} models)", self.loaded.root);
        let _ = writeln!(text, "  keys     {keys} for {} providers", keyed.count());
        let _ = writeln!(text, "  workers  {workers}, connections up to {connections}, requests up to {requests}");
        if let Some(place) = self.metrics {
            let _ = writeln!(text, "  metrics  {place}/metrics");
        }
        // The key is shown only where it was made for this run; a shell can read the operator's own.
        let key = match self.key {
            Some(key) => {
                text.push_str("  client   CLIENT_API_KEY is not set: the key below is for this run only\n");
                key.expose()
            }
            None if self.loaded.clients.iter().any(|client| *client.name == *DEFAULT) => "$CLIENT_API_KEY",
            // Its own key is known to each client alone.
            None => "KEY",
        };
        if self.loaded.table.resolve("demo").is_some()
            && let Some(url) = self.urls.first()
        {
            let _ = write!(text, "\ntry it:\n{}", commands(&curl(url), key));
        }
        text
    }
}

/// How curl is told where to go.
fn curl(url: &str) -> String {
    match url.strip_prefix("unix:") {
        Some(path) => format!("--unix-socket {path} http://localhost"),
        None => url.to_owned(),
    }
}

/// One command per format.
fn commands(url: &str, key: &str) -> String {
    format!(
        "  curl -s {url}/v1/chat/completions -H \"authorization: Bearer {key}\" -H \"content-type: application/json\" \
         -d '{{\"model\":\"demo\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n  \
         curl -s {url}/v1/responses -H \"authorization: Bearer {key}\" -H \"content-type: application/json\" \
         -d '{{\"model\":\"demo\",\"input\":\"hello\"}}'\n  \
         curl -s {url}/v1/messages -H \"x-api-key: {key}\" -H \"anthropic-version: 2023-06-01\" -H \"content-type: application/json\" \
         -d '{{\"model\":\"demo\",\"max_tokens\":100,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n\n"
    )
}
