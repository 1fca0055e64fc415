//! The environment, read once: the process's own variables, then `.env`, then a file named on the command line.
//!
//! Nothing here changes the environment, and nothing prints a value. What a name's value is and where it came from is
//! all there is to know; whoever needs a variable is given the [`Env`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A variable that this program reads by its own name. Those of keys come from patterns in provider files.
#[derive(Debug)]
pub struct Var {
    pub name: &'static str,
    /// What holds while it is unset; empty where that is nothing.
    pub default: &'static str,
    pub help: &'static str,
    /// Another value takes hold at the next start only, not when everything is read again.
    pub once: bool,
    /// It says yes or no, and nothing else.
    pub switch: bool,
}

/// Every variable there is: help, README and `Env` are made from this.
pub const VARS: &[Var] = &[
    var(
        "CLIENT_API_KEY",
        "",
        "the key of the client named default; without it and without config/clients a random one is made at every start",
    ),
    switch("REQUIRE_CLIENT_API_KEY", "refuse to start without CLIENT_API_KEY or a client in config/clients"),
    var(
        "RATE_LIMIT_REQUESTS_PER_MINUTE",
        "",
        "most requests of a client in any 60 seconds, where its file does not say; unset, there is no limit",
    ),
    var(
        "RATE_LIMIT_TOKENS_PER_MINUTE",
        "",
        "most tokens of a client in any 60 seconds, where its file does not say; unset, there is no limit",
    ),
    switch("FAIL_ON_STARTUP_VALIDATION", "refuse to start when the configuration has a warning"),
    var(
        "KEY_COOLDOWN_SECONDS",
        "180",
        "how long a failing key rests where no file says otherwise; 0 turns resting off",
    ),
    once("MODEL_PROXY_CONFIG", "", "the configuration directory, as --config"),
    once(
        "CORS_ORIGINS",
        "*",
        "whose pages may ask, parted by commas: origins as https://app.example.com, or *; empty, none",
    ),
    // There is none for the port: Kubernetes sets MODEL_PROXY_PORT to something else for every service called model-proxy.
    once("MODEL_PROXY_HOST", "127.0.0.1", "the address to listen on, as --host"),
    once("MODEL_PROXY_LISTEN", "", "addresses to listen on, parted by commas, each as --listen takes it"),
    once("MODEL_PROXY_METRICS_LISTEN", "", "an address for /metrics alone, as --metrics-listen"),
    once("MODEL_PROXY_TLS_CERT", "", "the certificate for TLS, as --tls-cert"),
    once("MODEL_PROXY_TLS_KEY", "", "its private key, as --tls-key"),
    once("MODEL_PROXY_LOG_LEVEL", "info", "error, warn, info or debug, as --log-level"),
    once("MODEL_PROXY_LOG_FORMAT", "human", "human, or json: an object a line, as --log-format"),
    once(
        "MODEL_PROXY_PERSIST_COOLDOWNS",
        "false",
        "keep over a restart which keys and routes rest: a file, or true for model-proxy/cooldowns.json in the state directory",
    ),
    var(
        "XDG_STATE_HOME",
        "~/.local/state",
        "the state directory: model-proxy/ in it keeps the journal, what clients have spent of a day and month, and where a server listens",
    ),
    once(
        "MODEL_PROXY_JOURNAL",
        "",
        "the file of the journal, or off; unset, DATABASE_URL, or else model-proxy/journal.db in the state directory",
    ),
    once(
        "MODEL_PROXY_LOG_BODIES",
        "off",
        "keep in the journal what was asked and answered, without credentials: errors (of what failed or broke), all, or off",
    ),
    once("DATABASE_URL", "", "the file of the journal as the seed names it: sqlite:///./sql_app.db"),
    once("MODEL_PROXY_DRAIN_SECONDS", "30", "how long open requests may go on after SIGTERM, as --drain-seconds"),
    once("LOG_LEVEL", "info", "the same, under the seed's name"),
    once("MODEL_PROXY_CA_FILE", "", "a PEM file with further certificate authorities to trust"),
    once("SSL_CERT_FILE", "", "the same, under the name other programs use"),
    var("HTTPS_PROXY", "", "the HTTP proxy for https:// providers; https_proxy wins over it"),
    var("HTTP_PROXY", "", "the HTTP proxy for http:// providers; http_proxy wins over it"),
    var("ALL_PROXY", "", "the HTTP proxy where neither of these is set; all_proxy wins over it"),
    var("NO_PROXY", "", "hosts reached directly: names, .suffixes, addresses, networks, *; no_proxy wins over it"),
    var("XDG_CONFIG_HOME", "~/.config", "where the user's configuration directory lies"),
    var("HOME", "", "the same, where XDG_CONFIG_HOME is unset"),
    once("NOTIFY_SOCKET", "", "where a supervisor is told that we serve and end (sd_notify); systemd sets it"),
    once("WATCHDOG_USEC", "", "how often a supervisor wants to hear that every worker comes round; systemd sets it"),
    once("WATCHDOG_PID", "", "for which process that holds; systemd sets it"),
    var("NO_COLOR", "", "anything: nothing is coloured; otherwise what goes to a terminal may be"),
];

const fn var(name: &'static str, default: &'static str, help: &'static str) -> Var {
    Var { name, default, help, once: false, switch: false }
}

const fn switch(name: &'static str, help: &'static str) -> Var {
    Var { switch: true, ..var(name, "false", help) }
}

const fn once(name: &'static str, default: &'static str, help: &'static str) -> Var {
    Var { once: true, ..var(name, default, help) }
}

/// How a switch is set, and how not.
pub const YES: [&str; 4] = ["true", "1", "yes", "on"];
pub const NO: [&str; 4] = ["false", "0", "no", "off"];

fn is_among(said: &str, words: &[&str]) -> bool {
    words.iter().any(|word| said.eq_ignore_ascii_case(word))
}

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    Process,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("the process environment"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// All variables. Names are sorted, so that whoever looks for a pattern finds them in one order.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, (String, Origin)>,
    /// Lines of files that could not be read: (file, line number where it is known).
    unread: Vec<(PathBuf, Option<usize>)>,
}

impl Env {
    /// Reads the process environment, `.env` in the working directory if there is one, and `file` if one is named.
    ///
    /// The process wins over both, and `file` over `.env`. An `Err` names the file that could not be read.
    pub fn read(file: Option<&Path>) -> Result<Self, (PathBuf, io::Error)> {
        let process = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let mut env = Self::of(process);
        if let Some(path) = file {
            env.add_file(path).map_err(|e| (path.to_owned(), e))?;
        }
        let usual = Path::new(".env");
        match env.add_file(usual) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((usual.to_owned(), error)),
            Ok(()) | Err(_) => Ok(env),
        }
    }

    /// An environment of just these variables, as of the process.
    pub fn of<K: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (K, V)>) -> Self {
        let vars = vars.into_iter().map(|(k, v)| (k.into(), (v.into(), Origin::Process))).collect();
        Self { vars, unread: Vec::new() }
    }

    /// Adds what a file says of variables that are not yet known. A later line wins over an earlier one.
    fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let text = std::fs::read(path)?;
        let text = String::from_utf8(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut found = BTreeMap::new();
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            match item {
                Ok((name, value)) => {
                    found.insert(name, (value, Origin::File(path.to_owned())));
                }
                // The error holds the line, and the line may hold a key: only its number is kept.
                Err(dotenvy::Error::LineParse(line, _)) => {
                    let number = text.lines().position(|l| !line.is_empty() && l.trim().ends_with(line.trim()));
                    self.unread.push((path.to_owned(), number.map(|n| n + 1)));
                }
                Err(_) => self.unread.push((path.to_owned(), None)),
            }
        }
        found.append(&mut self.vars);
        self.vars = found;
        Ok(())
    }

    /// A variable's value, even an empty one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(|(value, _)| value.as_str())
    }

    /// A variable's value without the space around it; an empty one is none.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|v| !v.is_empty())
    }

    /// The first of these variables that is set.
    #[must_use]
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|n| self.text(n))
    }

    /// Whether a variable says yes: `true`, `1`, `yes` or `on`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|said| is_among(said, &YES))
    }

    /// Whether a variable says no: `false`, `0`, `no` or `off`.
    #[must_use]
    pub fn denies(&self, name: &str) -> bool {
        self.text(name).is_some_and(|said| is_among(said, &NO))
    }

    /// The switches that say neither: what is taken, and what was said. Who mistypes a yes must not be given a no.
    #[must_use]
    pub fn unclear(&self) -> Vec<String> {
        let names = VARS.iter().filter(|var| var.switch).map(|var| var.name);
        let unclear = names.filter(|name| !self.flag(name) && !self.denies(name));
        let told =
            |name| Some(format!("{name} takes {} or {}, not {:?}", YES.join(", "), NO.join(", "), self.text(name)?));
        unclear.filter_map(told).collect()
    }

    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.vars.get(name).map(|(_, origin)| origin)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// The variables that have another value in `later`, or are set in only one of the two; sorted.
    #[must_use]
    pub fn changed(&self, later: &Self) -> Vec<String> {
        let names = self.vars.keys().chain(later.vars.keys().filter(|name| !self.vars.contains_key(*name)));
        let mut changed: Vec<String> = names.filter(|name| self.get(name) != later.get(name)).cloned().collect();
        changed.sort_unstable();
        changed
    }

    /// Lines of `.env` files that are no assignment: (file, line number where it is known).
    #[must_use]
    pub fn unread(&self) -> &[(PathBuf, Option<usize>)] {
        &self.unread
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Env({} variables)", self.vars.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_wins_over_files_and_files_over_each_other() {
        let dir = crate::config::tests::Dir::new(&[
            ("a", "ONE=from a\nexport TWO='from a' # said twice\nTHREE=\"x=y\"\n"),
            ("b", "TWO=from-b\nFOUR=b\nKEY=sk secret words\nnonsense\n"),
        ]);
        let mut env = Env::of([("THREE", "process"), ("EMPTY", "")]);
        env.add_file(&dir.path("b")).unwrap();
        env.add_file(&dir.path("a")).unwrap();
        for (name, expect) in [
            ("TWO", Some("from-b")),
            ("THREE", Some("process")),
            ("FOUR", Some("b")),
            ("EMPTY", Some("")),
            ("NONE", None),
        ] {
            assert_eq!(env.get(name), expect, "{name}");
        }
        assert_eq!(env.text("EMPTY"), None);
        assert_eq!(env.first(&["NONE", "EMPTY", "FOUR"]), Some("b"));
        assert_eq!(env.origin("THREE"), Some(&Origin::Process));
        assert_eq!(env.origin("FOUR"), Some(&Origin::File(dir.path("b"))));
        let lines: Vec<_> = env.unread().iter().map(|(_, line)| *line).collect();
        assert_eq!(lines, [Some(3), Some(4), Some(1)], "unquoted words are no value, and none is shown");
        assert!(!format!("{env:?}").contains("secret"), "values stay hidden");
    }

    #[test]
    fn what_changed_is_told_by_name() {
        let before = Env::of([("A", "1"), ("B", "2"), ("C", "3")]);
        let after = Env::of([("A", "1"), ("C", "other"), ("AA", "4")]);
        assert_eq!(before.changed(&after), ["AA", "B", "C"]);
        assert!(before.changed(&before.clone()).is_empty(), "nothing");
    }

    #[test]
    fn yes_is_said_in_four_ways() {
        let env = Env::of([("A", "TRUE"), ("B", " on "), ("C", "0"), ("D", "")]);
        let said: Vec<bool> = ["A", "B", "C", "D", "E"].iter().map(|n| env.flag(n)).collect();
        assert_eq!(said, [true, true, false, false, false]);
    }

    #[test]
    fn a_switch_that_says_neither_is_told() {
        let of = |said: &str| Env::of([("REQUIRE_CLIENT_API_KEY", said), ("HOME", "ture")]).unclear();
        for said in ["TRUE", "1", "yes", "on", "False", "0", "no", " off ", ""] {
            assert!(of(said).is_empty(), "{said}");
        }
        assert_eq!(of("ture"), ["REQUIRE_CLIENT_API_KEY takes true, 1, yes, on or false, 0, no, off, not \"ture\""]);
    }

    #[test]
    fn a_file_that_is_missing_is_an_error() {
        assert!(Env::read(Some(Path::new("/no/such/file.env"))).is_err(), "it was asked for");
    }
}
