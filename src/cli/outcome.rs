//! The words of `route test --outcome`: how an attempt ends, or what happens between two requests.

use std::fmt;
use std::time::Duration;

use crate::gateway::rehearsal::Mishap;
use crate::route::near::near;
use crate::upstream::Stage;
use crate::wire::json::JsonStr;

/// What one `--outcome` says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// The attempt delivers.
    Delivered,
    Failed(Mishap),
    /// No first byte comes: the clock goes on by the route's time for it.
    TimedOut,
    /// The clock goes on between two requests, or before the first.
    Wait(Duration),
    /// Another request comes, with what rests since the one before.
    Request,
}

/// Every word there is, and what it means: help shows it, and who mistypes is shown it.
pub(super) const WORDS: &[(&str, &str)] = &[
    ("ok", "the attempt delivers: 200"),
    ("STATUS", "the upstream answers with this status: 429, 503, 401, …"),
    ("connect", "no connection: nothing was sent"),
    ("reset", "the connection breaks after the request was sent, before a byte came"),
    ("stale", "the same on a connection kept from an earlier request"),
    ("timeout", "no first byte in the route's time, by which the clock goes on"),
    ("garbage", "an answer that makes no sense, or breaks before any output"),
    ("retry-after=5", "beside a STATUS: the upstream asks to be left alone so long, in seconds"),
    ("insufficient_quota", "beside a STATUS: its body says so; likewise the words below"),
    ("model_not_found", "the upstream's model name is not known there"),
    ("context_length_exceeded", "the prompt is too long for the model"),
    ("invalid_encrypted_content", "thinking in the history has a seal that it does not know"),
    ("overloaded_error", "the provider is overloaded; 200 overloaded_error says so under a good status"),
    ("rate_limit_error", "the rate is limited; 200 rate_limit_error says so under a good status"),
    ("says=WORDS", "beside a STATUS, and last: the words of its body, spaces and commas too"),
    ("wait=30s", "the clock goes on; s, m, h or ms"),
    ("request", "the next request begins, with what rests since the one before"),
];

/// Words that an error's body may hold as its type and its code.
const CODES: [&str; 6] = [
    "insufficient_quota",
    "model_not_found",
    "context_length_exceeded",
    "invalid_encrypted_content",
    "overloaded_error",
    "rate_limit_error",
];

/// Why an `--outcome` is none.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unclear(String);

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        write!(f, "{}; --outcome takes {}", self.0, words.join(", "))
    }
}

/// Reads one `--outcome`.
pub(super) fn parse(text: &str) -> Result<Said, Unclear> {
    let (text, says) = match text.split_once("says=") {
        Some((before, says)) => (before, Some(says)),
        None => (text, None),
    };
    let mut words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let first = words.next().ok_or_else(|| Unclear("an outcome needs a word".to_owned()))?;
    if let Some(status) = status(first) {
        return replied(status, &words.collect::<Vec<_>>(), says);
    }
    let said = match first.split_once('=') {
        Some(("wait", time)) => Said::Wait(duration(time)?),
        Some(_) => return Err(unknown(first)),
        None => alone(first).ok_or_else(|| unknown(first))?,
    };
    match words.next().or(says) {
        Some(more) => Err(Unclear(format!("{more:?} says nothing beside {first:?}: only a status has more words"))),
        None => Ok(said),
    }
}

/// Words that need no other.
fn alone(word: &str) -> Option<Said> {
    let unsent = |stage, reused| Said::Failed(Mishap::Unsent { stage, reused });
    Some(match word {
        "ok" => Said::Delivered,
        "connect" => unsent(Stage::Connect, false),
        "reset" => unsent(Stage::Sent, false),
        "stale" => unsent(Stage::Sent, true),
        "garbage" => unsent(Stage::Head, false),
        "timeout" => Said::TimedOut,
        "request" => Said::Request,
        _ => return None,
    })
}

fn replied(status: u16, words: &[&str], says: Option<&str>) -> Result<Said, Unclear> {
    let (mut retry_after, mut code) = (None, None);
    for &word in words {
        match word.split_once('=') {
            Some(("retry-after", time)) => retry_after = Some(duration(time)?),
            None if CODES.contains(&word) => code = Some(word),
            Some(_) | None => return Err(unknown(word)),
        }
    }
    if (200..300).contains(&status) && code.is_none() {
        // What it asks for beside a good answer means nothing, and neither do its words.
        return Ok(Said::Delivered);
    }
    let literal = |text: &str| format!("\"{}\"", JsonStr::quote(text).literal());
    let message = literal(says.unwrap_or("made up by route test"));
    let code = code.map_or_else(String::new, |code| format!(",\"type\":{0},\"code\":{0}", literal(code)));
    let body = format!("{{\"error\":{{\"message\":{message}{code}}}}}");
    Ok(Said::Failed(match status {
        200..300 => Mishap::Faulty { body },
        _ => Mishap::Error { status, body, retry_after },
    }))
}

fn status(word: &str) -> Option<u16> {
    word.parse().ok().filter(|status| (100..600).contains(status))
}

/// `5`, `5s`, `250ms`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, Unclear> {
    let wrong = || Unclear(format!("{text:?} is no time: 5s, 250ms, 2m or 1h"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(millis).map(Duration::from_millis).filter(|time| *time <= TIME_MAX).ok_or_else(wrong)
}

/// A century: more would only overflow something.
const TIME_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

fn unknown(word: &str) -> Unclear {
    let near = near(word, WORDS.iter().map(|(word, _)| *word));
    let hint = near.first().map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
    Unclear(format!("there is no outcome {word:?}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let shown = match parse(text) {
            Ok(said) => format!("{said:?}").replace("\\\"", "'"),
            Err(unclear) => format!("no: {}", unclear.0),
        };
        assert!(shown.contains(expect), "{text:?}: {shown}, not {expect}");
    }

    #[test]
    fn reads_every_word() {
        check("ok", "Delivered");
        check("200", "Delivered");
        check("204", "Delivered");
        check("connect", "Unsent { stage: Connect, reused: false }");
        check("reset", "Unsent { stage: Sent, reused: false }");
        check("stale", "Unsent { stage: Sent, reused: true }");
        check("garbage", "Unsent { stage: Head, reused: false }");
        check("timeout", "TimedOut");
        check("request", "Request");
        check("wait=30s", "Wait(30s)");
        check("wait=2m", "Wait(120s)");
        check("wait=250ms", "Wait(250ms)");
        check(
            "503",
            "Error { status: 503, body: \"{'error':{'message':'made up by route test'}}\", retry_after: None }",
        );
        check("429 retry-after=5", "retry_after: Some(5s)");
        check("429,retry-after=5s", "retry_after: Some(5s)");
        check("400 insufficient_quota", "'type':'insufficient_quota','code':'insufficient_quota'");
        check("200 overloaded_error", "Faulty");
        check("400 says=prompt is too long, 'much'", "'message':'prompt is too long, 'much''");
    }

    #[test]
    fn every_word_of_the_table_is_read() {
        for (word, _) in WORDS {
            let line = match *word {
                "STATUS" => "503".to_owned(),
                word if CODES.contains(&word) || word.contains("-after") || word.starts_with("says") => {
                    format!("503 {word}")
                }
                word => word.to_owned(),
            };
            assert!(parse(&line).is_ok(), "{line}");
        }
        for code in CODES {
            assert!(WORDS.iter().any(|(word, _)| *word == code), "{code} is in the help");
        }
    }

    #[test]
    fn says_what_it_does_not_understand() {
        check("", "no: an outcome needs a word");
        check("tiemout", "no: there is no outcome \"tiemout\" (did you mean \"timeout\"?)");
        check("42", "no: there is no outcome \"42\"");
        check("429 retry-after=soon", "no: \"soon\" is no time");
        check("429 often", "no: there is no outcome \"often\"");
        check("reset 5", "no: \"5\" says nothing beside \"reset\"");
        check("wait", "no: there is no outcome \"wait\"");
        check("wait=99999999999999999999s", "is no time");
        let told = parse("x").unwrap_err().to_string();
        assert!(WORDS.iter().all(|(word, _)| told.contains(word)), "{told}");
    }
}
