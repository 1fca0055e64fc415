//! How a line of the log is spelled: for people, or as JSON for who collects them.

use crate::config::clients::DEFAULT;
use crate::gateway::{Ended, Record, Tried};
use crate::server::log::LogLevel;
use crate::wire::json::Writer;

/// Whom the log is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    #[default]
    Human,
    /// One object a line: `time`, `level`, `message`, and of a request all there is to say of it.
    Json,
}

impl LogFormat {
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Appends a line that says something.
pub(super) fn said(format: LogFormat, (time, level): (&str, LogLevel), text: &str, out: &mut String) {
    match format {
        LogFormat::Human => {
            begin(time, level, out);
            out.push_str(text);
        }
        LogFormat::Json => json(out, |w| {
            head(w, (time, level), text);
        }),
    }
    out.push('\n');
}

/// Appends a request's line.
pub(super) fn request(format: LogFormat, (time, level): (&str, LogLevel), record: &Record, out: &mut String) {
    match format {
        LogFormat::Human => {
            begin(time, level, out);
            line(record, out);
        }
        LogFormat::Json => json(out, |w| {
            head(w, (time, level), "request");
            fields(w, record);
        }),
    }
    out.push('\n');
}

fn begin(time: &str, level: LogLevel, out: &mut String) {
    for word in [time, " ", level.as_str(), " "] {
        out.push_str(word);
    }
}

fn json(out: &mut String, spell: impl FnOnce(&mut Writer<'_>)) {
    let mut bytes = Vec::new();
    let mut w = Writer::new(&mut bytes);
    w.object();
    spell(&mut w);
    w.end_object();
    out.push_str(&String::from_utf8_lossy(&bytes));
}

fn head(w: &mut Writer<'_>, (time, level): (&str, LogLevel), message: &str) {
    w.key("time").str(time).key("level").str(level.as_str()).key("message").str(message);
}

/// The same as [`line`] says, under the names that the journal has for it.
fn fields(w: &mut Writer<'_>, record: &Record) {
    let path = record.path.get(..200).unwrap_or(&record.path);
    let model: String = record.model.chars().take(100).collect();
    for (name, text) in [
        ("request_id", record.id.as_str()),
        ("format", record.format.as_str()),
        ("client", &*record.client),
        ("path", path),
        ("model", &model),
        ("route", &*record.route),
        ("dropped", &record.dropped),
        ("untried", &record.untried),
    ] {
        if !text.is_empty() {
            w.key(name).str(text);
        }
    }
    w.key("stream").bool(record.stream);
    let usage = (!record.usage.is_empty()).then_some(&record.usage);
    for (name, number) in [
        ("attempts", Some(u64::from(record.attempts))),
        ("status", Some(u64::from(record.status))),
        ("total_us", Some(record.total_us)),
        ("first_output_us", record.first_output_us),
        ("input_tokens", usage.map(|usage| usage.input_total())),
        ("output_tokens", usage.map(|usage| usage.output.unwrap_or(0))),
        ("counted", record.counted),
    ] {
        if let Some(number) = number {
            w.key(name).int(number);
        }
    }
    w.key("ended");
    match &record.ended {
        Ended::Complete => w.str("complete"),
        Ended::Broken(why) => w.str("broken").key("broken").str(why),
        Ended::ClientClosed => w.str("client_closed"),
    };
    let failed = || record.tries.iter().filter(|tried| !tried.why.is_empty());
    if failed().next().is_some() {
        w.key("failed").array();
        for Tried { route, key, why, outcome, .. } in failed() {
            w.object().key("route").str(route).key("key").str(&key.name).key("outcome").str(outcome);
            w.key("why").str(why).end_object();
        }
        w.end_array();
    }
}

/// Appends a request's line. Every request has one, so numbers are spelled by hand: the standard formatting of one line
/// cost as much as a tenth of a request.
fn line(record: &Record, out: &mut String) {
    let mut word = |name: &str, value: &str| {
        out.push_str(name);
        out.push_str(value);
    };
    word(record.id.as_str(), " ");
    word(record.format.as_str(), "");
    // The one client there is without files is not named.
    if !record.client.is_empty() && *record.client != *DEFAULT {
        word(" client=", &record.client);
    }
    if !record.path.is_empty() {
        word(" path=", record.path.get(..200).unwrap_or(&record.path));
    }
    let plain = record.model.bytes().take(100).all(|b| b.is_ascii_graphic());
    if plain {
        word(" model=", record.model.get(..100).unwrap_or(&record.model));
    } else {
        word(
            " model=",
            &record.model.chars().take(100).flat_map(char::escape_default).collect::<String>().replace(' ', "\\x20"),
        );
    }
    word(" route=", if record.route.is_empty() { "-" } else { &record.route });
    number(" attempts=", u64::from(record.attempts), out);
    number(" status=", u64::from(record.status), out);
    out.push_str(if record.stream { " stream=true" } else { " stream=false" });
    millis(" total_ms=", record.total_us, out);
    if let Some(us) = record.first_output_us {
        millis(" first_output_ms=", us, out);
    }
    if !record.usage.is_empty() {
        number(" input_tokens=", record.usage.input_total(), out);
        number(" output_tokens=", record.usage.output.unwrap_or(0), out);
    }
    if let Some(tokens) = record.counted {
        number(" counted=", tokens, out);
    }
    if !record.dropped.is_empty() {
        quoted(" dropped=", &record.dropped, out);
    }
    match &record.ended {
        Ended::Complete => {}
        Ended::Broken(why) => quoted(" broken=", why, out),
        Ended::ClientClosed => out.push_str(" client_closed"),
    }
    for Tried { route, key, why, .. } in record.tries.iter().filter(|tried| !tried.why.is_empty()) {
        quoted(" failed=", &format!("{route} {}: {why}", key.name), out);
    }
    if !record.untried.is_empty() {
        quoted(" untried=", &record.untried, out);
    }
}

fn quoted(name: &str, text: &str, out: &mut String) {
    let text = text.escape_debug().to_string().replace("\\'", "'");
    out.push_str(name);
    out.push('"');
    out.push_str(&text);
    out.push('"');
}

fn number(name: &str, n: u64, out: &mut String) {
    out.push_str(name);
    let digit = |n: u64| char::from(b'0' + u8::try_from(n % 10).unwrap_or(0));
    let mut unit = 1;
    while unit <= n / 10 {
        unit *= 10;
    }
    while 0 < unit {
        out.push(digit(n / unit));
        unit /= 10;
    }
}

/// Microseconds as milliseconds, to a tenth.
fn millis(name: &str, us: u64, out: &mut String) {
    number(name, us / 1000, out);
    number(".", us / 100 % 10, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_they_are() {
        for n in [0, 9, 10, 105, u64::MAX] {
            let mut out = String::new();
            number("n=", n, &mut out);
            assert_eq!(out, format!("n={n}"));
        }
    }

    #[test]
    fn both_say_the_same() {
        let record =
            Record { model: "m \"x\"".to_owned(), status: 503, untried: "all rest".to_owned(), ..Record::default() };
        let mut lines = [String::new(), String::new()];
        for (format, out) in [LogFormat::Human, LogFormat::Json].into_iter().zip(&mut lines) {
            request(format, ("T", LogLevel::Error), &record, out);
            said(format, ("T", LogLevel::Info), "a \"word\"", out);
        }
        let [human, json] = lines;
        assert!(human.starts_with("T error "), "{human}");
        assert!(
            human.contains(" status=503 ") && human.ends_with("untried=\"all rest\"\nT info a \"word\"\n"),
            "{human}"
        );
        assert_eq!(
            json,
            "{\"time\":\"T\",\"level\":\"error\",\"message\":\"request\",\"format\":\"openai_chat\",\
             \"model\":\"m \\\"x\\\"\",\"untried\":\"all rest\",\"stream\":false,\"attempts\":0,\"status\":503,\"total_us\":0,\
             \"ended\":\"client_closed\"}\n\
             {\"time\":\"T\",\"level\":\"info\",\"message\":\"a \\\"word\\\"\"}\n"
        );
    }
}
