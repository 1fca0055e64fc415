//! Words and options → what is meant, or why it is not understood.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser};

use crate::cli::flags::{COMMANDS, Command, Flag, GLOBAL};
use crate::route::near::near;

/// What a command line means.
#[derive(Debug)]
pub enum Parsed {
    /// Help on what begins with these words; on everything if there are none.
    Help(Vec<String>),
    Version,
    Run(Given),
}

/// A command and what it was given.
#[derive(Debug)]
pub struct Given {
    pub command: &'static Command,
    flags: Vec<(&'static Flag, OsString)>,
    pub rest: Vec<OsString>,
}

/// Why a command line is not understood, in one line.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads a command line, without the program's name.
pub fn parse<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Result<Parsed, Usage> {
    let mut parser = Parser::from_args(args.into_iter().map(Into::into));
    let mut words: Vec<String> = Vec::new();
    let mut given: Option<Given> = None;
    while let Some(arg) = parser.next()? {
        let wanted = match arg {
            Arg::Value(word) => {
                match &mut given {
                    Some(given) => given.take(word)?,
                    None => given = follow(&mut words, &word)?,
                }
                continue;
            }
            Arg::Short(letter) => Name::Short(letter),
            Arg::Long(name) => Name::Long(name.to_owned()),
        };
        let own = given.as_ref().map_or(&[][..], |g| g.command.options);
        let Some(flag) = own.iter().chain(GLOBAL).find(|f| wanted.is(f)) else {
            return Err(unknown_option(&wanted, own));
        };
        match (flag.long, &mut given) {
            ("help", _) => return Ok(Parsed::Help(words)),
            ("version", _) => return Ok(Parsed::Version),
            (_, Some(given)) => {
                let value = if flag.value.is_some() { parser.value()? } else { OsString::new() };
                given.flags.push((flag, value));
            }
            (_, None) => {}
        }
    }
    match given {
        Some(given) => Ok(Parsed::Run(given)),
        None if words.is_empty() => Err(Usage("no command".to_owned())),
        None => Err(Usage(format!("{:?} needs one more word: {}", words.join(" "), next_words(&words).join(", ")))),
    }
}

/// Takes one more word of a command. `Some`: it is complete.
fn follow(words: &mut Vec<String>, word: &OsString) -> Result<Option<Given>, Usage> {
    let known = next_words(words);
    let word = word.to_string_lossy();
    if !known.contains(&&*word) {
        let said = [words.as_slice(), &[word.to_string()]].concat().join(" ");
        let near = near(&word, known.iter().copied());
        let hint = match near.first() {
            Some(near) => format!(" (did you mean {near:?}?)"),
            None if known.is_empty() => String::new(),
            None => format!("; there are {}", known.join(", ")),
        };
        return Err(Usage(format!("there is no command {said:?}{hint}")));
    }
    words.push(word.into_owned());
    let command = COMMANDS.iter().find(|c| c.words == words.as_slice());
    Ok(command.map(|command| Given { command, flags: Vec::new(), rest: Vec::new() }))
}

/// Looks whether some words are a command, or the beginning of one.
pub fn known(words: &[OsString]) -> Result<(), Usage> {
    let mut followed = Vec::new();
    words.iter().try_for_each(|word| follow(&mut followed, word).map(drop))
}

/// The words that may follow some words.
fn next_words(words: &[String]) -> Vec<&'static str> {
    let mut next: Vec<&str> = Vec::new();
    for command in COMMANDS.iter().filter(|c| words.iter().zip(c.words).all(|(a, b)| a == b)) {
        match command.words.get(words.len()) {
            Some(word) if !next.contains(word) => next.push(word),
            Some(_) | None => {}
        }
    }
    next
}

/// An option as it was typed.
#[derive(Debug)]
enum Name {
    Short(char),
    Long(String),
}

impl Name {
    fn is(&self, flag: &Flag) -> bool {
        match self {
            Self::Short(letter) => flag.short == Some(*letter),
            Self::Long(name) => flag.long == name,
        }
    }
}

fn unknown_option(name: &Name, own: &[Flag]) -> Usage {
    match name {
        Name::Short(letter) => Usage(format!("there is no option -{letter} here")),
        Name::Long(name) => {
            let near = near(name, own.iter().chain(GLOBAL).map(|f| f.long));
            let hint = near.first().map_or_else(String::new, |n| format!(" (did you mean --{n}?)"));
            Usage(format!("there is no option --{name} here{hint}"))
        }
    }
}

impl Given {
    fn take(&mut self, word: OsString) -> Result<(), Usage> {
        let many = self.command.takes.contains("...") || self.command.words == ["help"];
        if self.command.takes.is_empty() || !many && !self.rest.is_empty() {
            return Err(Usage(format!("{:?} is one word too many for {:?}", word, self.command.words.join(" "))));
        }
        self.rest.push(word);
        Ok(())
    }

    /// Takes over options of another command that were not given here and are known here.
    pub fn inherit(&mut self, other: &Self) {
        let is_new = |long: &str| !self.has(long) && self.command.options.iter().any(|flag| flag.long == long);
        let taken: Vec<_> = other.flags.iter().filter(|(flag, _)| is_new(flag.long)).cloned().collect();
        self.flags.extend(taken);
    }

    /// Whether an option that takes no value was given.
    #[must_use]
    pub fn has(&self, long: &str) -> bool {
        self.flags.iter().any(|(f, _)| f.long == long)
    }

    /// An option's value as it was typed; of several the last.
    #[must_use]
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.flags.iter().rev().find(|(f, _)| f.long == long).map(|(_, v)| PathBuf::from(v))
    }

    /// An option's value, if it was given.
    pub fn text(&self, long: &str) -> Result<Option<&str>, Usage> {
        match self.flags.iter().rev().find(|(f, _)| f.long == long) {
            None => Ok(None),
            Some((_, value)) => {
                let text = value.to_str().ok_or_else(|| Usage(format!("the value of --{long} is not UTF-8")))?;
                Ok(Some(text))
            }
        }
    }

    /// All values of an option that may be given many times, in order.
    pub fn texts(&self, long: &str) -> Result<Vec<&str>, Usage> {
        let values = self.flags.iter().filter(|(f, _)| f.long == long);
        values.map(|(_, v)| v.to_str().ok_or_else(|| Usage(format!("the value of --{long} is not UTF-8")))).collect()
    }

    /// An option's value, or the default of the table.
    pub fn text_or_default(&self, long: &str) -> Result<&str, Usage> {
        let usual = || self.command.options.iter().find(|f| f.long == long).map_or("", |f| f.default);
        Ok(self.text(long)?.unwrap_or_else(usual))
    }

    /// A number, or the default of the table. `what` says which numbers there are.
    pub fn number<N: FromStr>(&self, long: &str, what: &str) -> Result<N, Usage> {
        let text = self.text_or_default(long)?;
        text.parse().map_err(|_| Usage(format!("--{long} takes {what}, not {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Ok`: what it means; `Err`: what the complaint says.
    #[track_caller]
    fn check(line: &str, expect: Result<&str, &str>) {
        let got = match parse(line.split_whitespace()) {
            Ok(Parsed::Help(words)) => Ok(format!("help {}", words.join(" ")).trim().to_owned()),
            Ok(Parsed::Version) => Ok("version".to_owned()),
            Ok(Parsed::Run(given)) => {
                let flags: Vec<String> =
                    given.flags.iter().map(|(f, v)| format!("{}={}", f.long, v.to_string_lossy())).collect();
                let rest: Vec<String> = given.rest.iter().map(|w| w.to_string_lossy().into_owned()).collect();
                Ok(format!("run {} {} {}", given.command.words.join(" "), flags.join(" "), rest.join(" "))
                    .trim()
                    .to_owned())
            }
            Err(usage) => Err(usage.to_string()),
        };
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), expect, "{line}"),
            (Err(got), Err(expect)) => assert!(got.contains(expect), "{line}: {got}"),
            (got, expect) => panic!("{line}: {got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn means_what_the_seed_meant() {
        check("--help", Ok("help"));
        check("-h", Ok("help"));
        check("config -h", Ok("help config"));
        check("config validate --help", Ok("help config validate"));
        check("start --help", Ok("help start"));
        check(
            "start -h 0.0.0.0 -p80 -w 4 -l warning",
            Ok("run start host=0.0.0.0 port=80 workers=4 log-level=warning"),
        );
        check("start --host=::1 --reload --env-file .e", Ok("run start host=::1 reload= env-file=.e"));
        check("health -d -e http://h:1", Ok("run health detailed= endpoint=http://h:1"));
        check("-V", Ok("version"));
        check("config list -f json", Ok("run config list format=json"));
        check("config validate a.json b.json -c d", Ok("run config validate config=d a.json b.json"));
        check("config show gpt-5.2", Ok("run config show gpt-5.2"));
        check("help config list", Ok("run help config list"));
        check(
            "route test m -o 429,retry-after=5 -o reset",
            Ok("run route test outcome=429,retry-after=5 outcome=reset m"),
        );
        check("keys list -e http://h:1", Ok("run keys list endpoint=http://h:1"));
    }

    #[test]
    fn says_what_it_does_not_understand() {
        check("", Err("no command"));
        check("strat", Err("did you mean \"start\"?"));
        check("config", Err("list, validate, show"));
        check("config lst", Err("did you mean \"list\"?"));
        check("config explian m", Err("did you mean \"explain\"?"));
        check("keys lits", Err("did you mean \"list\"?"));
        check("route", Err("test"));
        check("zzz", Err("there are start, health"));
        check("start --prot 1", Err("did you mean --port?"));
        check("start --port", Err("--port"));
        check("start now", Err("one word too many"));
        check("config show a b", Err("one word too many"));
        check("health --detailed=yes", Err("--detailed"));
        check("start -x", Err("-x"));
        check("--port 1 start", Err("--port"));
    }
}
