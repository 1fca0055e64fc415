//! `.env.example`: every variable with what it does and what holds without it.

use std::fmt::Write as _;

use crate::config::ProviderSummary;
use crate::config::env::VARS;

/// Where variables come from that nobody writes into a file.
const NOT_WRITTEN: [&str; 6] =
    ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What stands for 1, 2 and so on in a pattern.
const INDEX: &str = "{INDEX}";

/// The file's text, with a line for a key of each of these providers: where it is looked for, which not every name tells.
pub(super) fn example(providers: &[ProviderSummary]) -> String {
    let mut text =
        "# Copy this to .env, beside where model-proxy is started; what stands in the environment wins over it.\n"
            .to_owned();
    let _ = writeln!(text, "# A line that begins with # holds its variable's default, if it has one.\n");
    text.push_str("# Keys of providers; more of one are _1, _2 and so on.\n");
    for provider in providers {
        let single = provider.patterns.iter().find(|pattern| !pattern.contains(INDEX));
        let more = provider.patterns.iter().find(|pattern| pattern.contains(INDEX));
        let first = more.map(|more| more.replace(INDEX, "1"));
        match (single, first) {
            (Some(single), Some(first)) if first != format!("{single}_1") => {
                let _ = writeln!(text, "{single}=\n# more of them: {first}=");
            }
            (Some(name), _) => drop(writeln!(text, "{name}=")),
            (None, Some(first)) => drop(writeln!(text, "{first}=")),
            (None, None) => {}
        }
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
    use crate::cli::config_init::named;

    #[test]
    fn each_key_is_named_as_it_is_looked_for() {
        let text = example(&named(&["azure", "github", "openai"]));
        let keys = "\nAZURE_AI_API_KEY=\nGITHUB_TOKEN=\n# more of them: GITHUB_API_KEY_1=\nOPENAI_API_KEY=\n\n";
        assert!(text.contains(keys), "{text}");
    }

    #[test]
    fn the_example_is_made_from_the_table() {
        let text = example(&named(&["anthropic", "openai", "openrouter"]));
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
