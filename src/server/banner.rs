//! What `start` prints: where it listens, what it serves, and two commands that work as they stand.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use crate::config::Loaded;
use crate::secret::Secret;

pub(super) struct Banner<'b> {
    pub(super) address: Option<SocketAddr>,
    /// The key made for this run, if one was.
    pub(super) key: Option<&'b Secret>,
    pub(super) loaded: &'b Loaded,
    pub(super) workers: usize,
}

impl Banner<'_> {
    /// Writes to stderr; a closed pipe is nobody's loss.
    pub(super) fn print(&self) {
        drop(std::io::stderr().write_all(self.text().as_bytes()));
    }

    fn text(&self) -> String {
        let url = self.address.map_or_else(String::new, |a| format!("http://{a}"));
        let mut text = format!("model-proxy {}\nlistening on {url}\n", env!("CARGO_PKG_VERSION"));
        let models = self.loaded.table.len();
        let keyed = self.loaded.providers.iter().filter(|p| 0 < p.keys);
        let keys: usize = keyed.clone().map(|p| p.keys).sum();
        let _ = writeln!(text, "  config   {} ({models} models)", self.loaded.root);
        let _ = writeln!(text, "  keys     {keys} for {} providers", keyed.count());
        let _ = writeln!(text, "  workers  {}", self.workers.max(1));
        // The key is shown only where it was made for this run; a shell can read the operator's own.
        let key = match self.key {
            Some(key) => {
                text.push_str("  client   CLIENT_API_KEY is not set: the key below is for this run only\n");
                key.expose()
            }
            None => "$CLIENT_API_KEY",
        };
        if self.loaded.table.resolve("demo").is_some() {
            let _ = write!(text, "\ntry it:\n{}", commands(&url, key));
        }
        text
    }
}

/// One command per format.
fn commands(url: &str, key: &str) -> String {
    format!(
        "  curl -s {url}/v1/chat/completions -H \"authorization: Bearer {key}\" -H \"content-type: application/json\" \
         -d '{{\"model\":\"demo\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n  \
         curl -s {url}/v1/messages -H \"x-api-key: {key}\" -H \"anthropic-version: 2023-06-01\" -H \"content-type: application/json\" \
         -d '{{\"model\":\"demo\",\"max_tokens\":100,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n\n"
    )
}
