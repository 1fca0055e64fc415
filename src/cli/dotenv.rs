//! `.env.example`: every variable with what it does and what holds without it.

use std::fmt::Write as _;

use crate::config::env::VARS;

/// Where variables come from that nobody writes into a file.
const NOT_WRITTEN: [&str; 6] =
    ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The file's text, with a line for a key of each of these providers.
pub(super) fn example(providers: &[String]) -> String {
    let mut text =
        "# Copy this to .env, beside where model-proxy is started; what stands in the environment wins over it.\n"
            .to_owned();
    let _ = writeln!(text, "# A line that begins with # holds its variable's default, if it has one.\n");
    text.push_str("# Keys of providers; more of one are _1, _2 and so on.\n");
    for provider in providers {
        let _ = writeln!(text, "{}_API_KEY=", provider.to_uppercase().replace('-', "_"));
    }
    for var in VARS.iter().filter(|var| !NOT_WRITTEN.contains(&var.name)) {
        let sign = if var.name == "CLIENT_API_KEY" { "" } else { "# " };
        let _ = write!(text, "\n# {}\n{sign}{}={}\n", var.help, var.name, var.default);
    }
    text.push_str("\n# Sizes, times and numbers that the server bears: docs/SERVER.md, or config/server.json.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_made_from_the_table() {
        let text = example(&["anthropic", "openai", "openrouter"].map(str::to_owned));
        #[expect(clippy::disallowed_methods, reason = "asked of whoever runs the test")]
        if std::env::var_os("MODEL_PROXY_BLESS").is_some() {
            std::fs::write(".env.example", &text).unwrap();
        }
        let kept = std::fs::read_to_string(".env.example").unwrap_or_default();
        assert!(kept == text, "make it with MODEL_PROXY_BLESS=1 cargo test --lib made_from_the_table");
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            assert!(line.ends_with('='), "{line}: no value is anybody's to use");
        }
    }
}
