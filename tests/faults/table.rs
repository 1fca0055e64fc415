//! Every fault, one a line: what the upstream does, and what is to come of it.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::samples::Side;
use crate::support::upstream::{After, Script, Seen};

/// A fault that the first key of the first route meets.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    pub kind: Kind,
    pub how: How,
    pub then: Then,
    /// The status the client sees if it is all that every route has to say. 529 is 503 in OpenAI's words.
    pub shown: u16,
}

/// The requests that can meet it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Any,
    Whole,
    Stream,
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Nobody listens.
    Refuses,
    Answers(Answer),
    /// The same, by a provider with a brief timeout.
    Slowly(Answer),
}

/// An upstream's answer to a request of its format.
pub type Answer = fn(&Side, &Seen) -> Script;

/// What the gateway does then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It is no fault after all.
    Deliver,
    /// Handed back as the upstream said it.
    Refuse,
    /// Output was sent: told in the stream, and nothing else tried.
    Break,
    NextKey(Rests),
    NextRoute(Rests),
}

/// Who rests afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rests {
    Nobody,
    /// For all models.
    Key,
    /// The key for this model.
    KeyModel,
    /// This model at this provider, whatever the key.
    Route,
}

/// The upstream's own words in its errors.
pub const WORDS: &str = "so it was said";

/// The timeout of a provider that is slow.
pub const BRIEF: Duration = Duration::from_millis(600);

pub const fn fault(name: &'static str, kind: Kind, how: How, then: Then, shown: u16) -> Fault {
    Fault { name, kind, how, then, shown }
}

pub const CONNECTIONS: &[Fault] = {
    use {After::*, How::*, Kind::*, Rests::*, Then::*};
    &[
        fault("connection refused", Any, Refuses, NextRoute(Route), 502),
        fault("closed before the head", Any, Answers(|_, _| Script::nothing(Close)), NextRoute(Route), 502),
        fault("reset before the head", Any, Answers(|_, _| Script::nothing(Reset)), NextRoute(Route), 502),
        fault("closed in the head", Any, Answers(|s, r| part_of_head(s, r).then(Close)), NextRoute(Route), 502),
        fault("reset in the head", Any, Answers(|s, r| part_of_head(s, r).then(Reset)), NextRoute(Route), 502),
        fault("closed after the head", Any, Answers(|s, r| good(s, r).stop_at(0, Close)), NextRoute(Route), 502),
        fault("reset after the head", Any, Answers(|s, r| good(s, r).stop_at(0, Reset)), NextRoute(Route), 502),
        fault("closed in the body", Whole, Answers(|s, r| good(s, r).stop_at(40, Close)), NextRoute(Route), 502),
        fault("reset in the body", Whole, Answers(|s, r| good(s, r).stop_at(40, Reset)), NextRoute(Route), 502),
        fault("closed after a start", Stream, Answers(|s, _| started(s, Close)), NextRoute(Route), 502),
        fault("reset after a start", Stream, Answers(|s, _| started(s, Reset)), NextRoute(Route), 502),
        fault("closed after output", Stream, Answers(|s, _| begun(s, 0, Close)), Break, 200),
        fault("reset after output", Stream, Answers(|s, _| begun(s, 0, Reset)), Break, 200),
        fault("closed inside an event", Stream, Answers(|s, _| begun(s, 30, Close)), Break, 200),
        fault("ended before its start", Stream, Answers(|_, _| Script::stream("")), NextRoute(Route), 502),
        fault("ended after a start", Stream, Answers(|s, _| Script::stream(start(s))), NextRoute(Route), 502),
        fault("ended after output", Stream, Answers(|s, _| early(s)), Break, 200),
        fault(
            "nothing but comments",
            Stream,
            Answers(|_, _| Script::stream(": hm\n\n: hm\n\n")),
            NextRoute(Route),
            502,
        ),
    ]
};

pub const SLOWNESS: &[Fault] = {
    use {After::*, How::*, Kind::*, Rests::*, Then::*};
    &[
        fault("accepted, then nothing", Any, Slowly(|_, _| Script::nothing(Silence)), NextRoute(Route), 504),
        fault("half a head, then nothing", Any, Slowly(|s, r| part_of_head(s, r).then(Silence)), NextRoute(Route), 504),
        fault("head, then nothing", Any, Slowly(|s, r| good(s, r).stop_at(0, Silence)), NextRoute(Route), 504),
        fault(
            "half a body, then nothing",
            Whole,
            Slowly(|s, r| good(s, r).stop_at(40, Silence)),
            NextRoute(Route),
            504,
        ),
        fault("a start, then nothing", Stream, Slowly(|s, _| started(s, Silence)), NextRoute(Route), 504),
        fault("output, then nothing", Stream, Slowly(|s, _| begun(s, 0, Silence)), Break, 200),
        fault("a head in drips", Any, Slowly(head_in_drips), Deliver, 200),
        fault("a body in drips", Any, Slowly(body_in_drips), Deliver, 200),
    ]
};

pub const ODDITIES: &[Fault] = {
    use {After::*, How::*, Kind::*, Rests::*, Then::*};
    &[
        fault("another protocol", Any, Answers(|_, _| raw("SSH-2.0-OpenSSH_9.6\r\n")), NextRoute(Route), 502),
        fault("a page without a head", Any, Answers(|_, _| raw("<html>busy</html>\n")), NextRoute(Route), 502),
        fault("random bytes", Any, Answers(|_, _| Script::raw([255, 0, 13, 10, 7]).then(Close)), NextRoute(Route), 502),
        fault("a head of 70 KiB", Any, Answers(long_head), NextRoute(Route), 502),
        fault("a head of 102 fields", Any, Answers(many_fields), NextRoute(Route), 502),
        fault(
            "two lengths",
            Any,
            Answers(|_, _| headed("content-length: 5\r\ncontent-length: 6")),
            NextRoute(Route),
            502,
        ),
        fault("a length of words", Any, Answers(|_, _| headed("content-length: five")), NextRoute(Route), 502),
        fault("chunks of no size", Any, Answers(|_, _| headed("transfer-encoding: chunked")), NextRoute(Route), 502),
        fault("an end by closing", Any, Answers(until_closed), Deliver, 200),
        fault("more than its length", Any, Answers(|s, r| before("HTTP/1.1 500 No", s, r)), Deliver, 200),
        fault("gzip unasked", Any, Answers(|s, r| gzip(s, r, usize::MAX)), Deliver, 200),
        fault("gzip cut short", Whole, Answers(|s, r| gzip(s, r, 60)), NextRoute(Route), 502),
        fault("gzip cut in its start", Stream, Answers(|s, r| gzip(s, r, 14)), NextRoute(Route), 502),
        fault("gzip cut after output", Stream, Answers(gzip_begun), Break, 200),
        fault("gzip that is none", Any, Answers(|s, r| good(s, r).header(CODING, "gzip")), NextRoute(Route), 502),
        fault("an unknown coding", Any, Answers(|s, r| good(s, r).header(CODING, "br")), NextRoute(Route), 502),
        fault("100 first", Any, Answers(|s, r| behind("HTTP/1.1 100 Continue", s, r)), Deliver, 200),
        fault("102 first", Any, Answers(|s, r| behind("HTTP/1.1 102 Processing", s, r)), Deliver, 200),
        fault("103 first", Any, Answers(|s, r| behind("HTTP/1.1 103 Hints\r\nlink: </a>", s, r)), Deliver, 200),
        fault("101", Any, Answers(|_, _| raw("HTTP/1.1 101 So\r\nupgrade: x\r\n\r\n")), NextRoute(Route), 502),
        fault("204", Any, Answers(|_, _| Script::raw("HTTP/1.1 204 None\r\n\r\n")), NextRoute(Route), 502),
        fault("301", Any, Answers(|_, _| elsewhere(301)), NextRoute(Route), 502),
        fault("302", Any, Answers(|_, _| elsewhere(302)), NextRoute(Route), 502),
        fault("303", Any, Answers(|_, _| elsewhere(303)), NextRoute(Route), 502),
        fault("307", Any, Answers(|_, _| elsewhere(307)), NextRoute(Route), 502),
        fault("308", Any, Answers(|_, _| elsewhere(308)), NextRoute(Route), 502),
        fault("200, an error", Any, Answers(|s, _| said(s, 200)), NextRoute(Route), 500),
        fault("200, HTML", Any, Answers(|_, _| Script::json(200, PAGE).called("text/html")), NextRoute(Route), 502),
        fault("200, HTML called JSON", Any, Answers(|_, _| Script::json(200, PAGE)), NextRoute(Route), 502),
        fault("200, nothing", Any, Answers(|_, _| Script::json(200, "")), NextRoute(Route), 502),
        fault("200, half of it", Any, Answers(|s, _| Script::json(200, &s.reply[..80])), NextRoute(Route), 502),
        fault("200, no UTF-8", Any, Answers(|_, _| Script::json(200, b"{\"a\":\"\xff\"}")), NextRoute(Route), 502),
        fault("an error first", Stream, Answers(|s, _| Script::stream(event(s))), NextRoute(Route), 500),
        fault("an error after a start", Stream, Answers(error_after_start), NextRoute(Route), 500),
        fault("an error after output", Stream, Answers(error_after_output), Break, 200),
    ]
};

pub const STATUSES: &[Fault] = {
    use {How::*, Kind::*, Rests::*, Then::*};
    &[
        fault("400", Any, Answers(|s, _| said(s, 400)), Refuse, 400),
        fault("401", Any, Answers(|s, _| said(s, 401)), NextKey(Key), 502),
        fault("402", Any, Answers(|s, _| said(s, 402)), NextKey(Key), 502),
        fault("403", Any, Answers(|s, _| said(s, 403)), NextKey(Nobody), 502),
        fault("404", Any, Answers(|s, _| said(s, 404)), Refuse, 404),
        fault("404, no such model", Any, Answers(no_such_model), NextRoute(Nobody), 404),
        fault("405", Any, Answers(|s, _| said(s, 405)), Refuse, 405),
        fault("408", Any, Answers(|s, _| said(s, 408)), NextRoute(Route), 408),
        fault("409", Any, Answers(|s, _| said(s, 409)), Refuse, 409),
        fault("410", Any, Answers(|s, _| said(s, 410)), Refuse, 410),
        fault("413", Any, Answers(|s, _| said(s, 413)), Refuse, 413),
        fault("415", Any, Answers(|s, _| said(s, 415)), Refuse, 415),
        fault("418", Any, Answers(|s, _| said(s, 418)), Refuse, 418),
        fault("422", Any, Answers(|s, _| said(s, 422)), Refuse, 422),
        fault("425", Any, Answers(|s, _| said(s, 425)), Refuse, 425),
        fault("429", Any, Answers(|s, _| said(s, 429)), NextKey(KeyModel), 429),
        fault("500", Any, Answers(|s, _| said(s, 500)), NextRoute(Route), 500),
        fault("501", Any, Answers(|s, _| said(s, 501)), NextRoute(Route), 501),
        fault("502", Any, Answers(|s, _| said(s, 502)), NextRoute(Route), 502),
        fault("503", Any, Answers(|s, _| said(s, 503)), NextRoute(Route), 503),
        fault("504", Any, Answers(|s, _| said(s, 504)), NextRoute(Route), 504),
        fault("520", Any, Answers(|s, _| said(s, 520)), NextRoute(Route), 520),
        fault("529", Any, Answers(|s, _| said(s, 529)), NextRoute(Route), 529),
        fault("500, a page", Any, Answers(|_, _| page(500)), NextRoute(Route), 500),
        fault("400, too long", Any, Answers(|s, _| too_long(s)), Refuse, 400),
        fault("400, no credit", Any, Answers(|s, _| spent(s, 400)), NextKey(Key), 502),
        fault("403, no credit", Any, Answers(|s, _| spent(s, 403)), NextKey(Key), 502),
        fault("429, no quota", Any, Answers(no_quota), NextKey(Key), 429),
        fault("400, no quota", Any, Answers(|side, seen| no_quota(side, seen).under(400)), NextKey(Key), 502),
        fault("429 under a 200", Any, Answers(|s, r| under_200(s, r, "rate_limit_error")), NextKey(KeyModel), 429),
        fault("401 under a 200", Any, Answers(|s, r| under_200(s, r, "authentication_error")), NextKey(Key), 502),
        fault("400 under a 200", Any, Answers(|s, r| under_200(s, r, "invalid_request_error")), Refuse, 400),
    ]
};

const CODING: &str = "content-encoding";
const PAGE: &str = "<html><body>so it was said</body></html>";

/// A good answer, whole or as a stream.
pub fn good(side: &Side, seen: &Seen) -> Script {
    if seen.wants_stream() { Script::stream(side.stream) } else { Script::json(200, side.reply) }
}

/// An error in the upstream's words.
pub fn said(side: &Side, status: u16) -> Script {
    Script::json(status, side.error("api_error", WORDS))
}

fn page(status: u16) -> Script {
    Script::json(status, PAGE).called("text/html")
}

fn no_such_model(side: &Side, _: &Seen) -> Script {
    Script::json(404, side.error("not_found_error", "so it was said: no such model"))
}

fn too_long(side: &Side) -> Script {
    Script::json(400, side.error("invalid_request_error", "so it was said: prompt is too long: 9 > 8"))
}

fn spent(side: &Side, status: u16) -> Script {
    Script::json(status, side.error("invalid_request_error", "so it was said: your credit balance is too low"))
}

fn no_quota(side: &Side, _: &Seen) -> Script {
    Script::json(429, side.error("insufficient_quota", WORDS))
}

fn under_200(side: &Side, seen: &Seen, kind: &str) -> Script {
    if seen.wants_stream() {
        return Script::stream(side.error_event(kind, WORDS));
    }
    Script::json(200, side.error(kind, WORDS))
}

fn elsewhere(status: u16) -> Script {
    Script::json(status, "{}").header("location", "/elsewhere")
}

fn raw(text: &str) -> Script {
    Script::raw(text).then(After::Close)
}

/// The answer after one that is not the last.
fn behind(interim: &str, side: &Side, seen: &Seen) -> Script {
    Script::raw([interim.as_bytes(), b"\r\n\r\n", &good(side, seen).bytes()].concat())
}

/// The answer before bytes that nobody asked for.
fn before(more: &str, side: &Side, seen: &Seen) -> Script {
    Script::raw([&good(side, seen).bytes(), more.as_bytes(), b"\r\ncontent-length: 0\r\n\r\n"].concat())
}

/// A head that makes no sense of the body.
fn headed(fields: &str) -> Script {
    raw(&format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}\r\n\r\nfive!"))
}

/// As HTTP/1.0 did: the body ends with the connection.
fn until_closed(side: &Side, seen: &Seen) -> Script {
    let (kind, body) = if seen.wants_stream() { ("text/event-stream", side.stream) } else { ("", side.reply) };
    raw(&format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{body}"))
}

fn long_head(side: &Side, seen: &Seen) -> Script {
    good(side, seen).header("x", &"x".repeat(70 * 1024))
}

fn many_fields(side: &Side, seen: &Seen) -> Script {
    (0..100).fold(good(side, seen), |script, n| script.header(&format!("x-{n}"), "1"))
}

pub fn part_of_head(side: &Side, seen: &Seen) -> Script {
    Script::raw(&good(side, seen).bytes()[..24])
}

/// A stream as far as its first output.
pub fn output_at(side: &Side) -> usize {
    let said = side.stream.find("Good ").unwrap();
    said + side.stream[said..].find("\n\n").unwrap() + 2
}

/// What comes before that: no output yet.
pub fn start(side: &Side) -> &str {
    let said = side.stream.find("Good ").unwrap();
    &side.stream[..side.stream[..said].rfind("\n\n").unwrap() + 2]
}

pub fn started(side: &Side, after: After) -> Script {
    Script::stream(side.stream).stop_at(start(side).len(), after)
}

/// Up to so many bytes past the first output.
pub fn begun(side: &Side, past: usize, after: After) -> Script {
    Script::stream(side.stream).stop_at(output_at(side) + past, after)
}

/// What comes in one read with its end may still be replaced: so it comes apart.
const APART: Duration = Duration::from_millis(40);

fn early(side: &Side) -> Script {
    let end = output_at(side);
    Script::stream(&side.stream[..end]).cut(&[start(side).len()]).between(APART)
}

fn event(side: &Side) -> String {
    side.error_event("api_error", WORDS)
}

fn error_after_start(side: &Side, _: &Seen) -> Script {
    Script::stream(format!("{}{}", start(side), event(side)))
}

fn error_after_output(side: &Side, _: &Seen) -> Script {
    let end = output_at(side);
    Script::stream(format!("{}{}", &side.stream[..end], event(side))).cut(&[end]).between(APART)
}

/// Its first line and fields in six pieces, which together take a third of the timeout.
fn head_in_drips(side: &Side, seen: &Seen) -> Script {
    Script::raw(good(side, seen).bytes()).cut(&[0, 3, 9, 20, 30, 40]).between(Duration::from_millis(30))
}

/// A body in pieces, no pause of which is too long, though all of them are; output comes in time.
fn body_in_drips(side: &Side, seen: &Seen) -> Script {
    let cuts = if seen.wants_stream() {
        let from = output_at(side);
        [from, from + 40, from + 80, from + 120, from + 160]
    } else {
        [10, 20, 30, 40, 50]
    };
    good(side, seen).cut(&cuts).between(BRIEF / 3)
}

fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A good answer of which only so many bytes of its gzip come; its framing says that this is all.
fn gzip(side: &Side, seen: &Seen, bytes: usize) -> Script {
    let text = if seen.wants_stream() { side.stream } else { side.reply };
    let coded = zipped(text.as_bytes());
    let coded = &coded[..bytes.min(coded.len())];
    let script = if seen.wants_stream() { Script::stream(coded) } else { Script::json(200, coded) };
    script.header(CODING, "gzip")
}

/// A gzip that is flushed after its first output and then has no end.
fn gzip_begun(side: &Side, _: &Seen) -> Script {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&side.stream.as_bytes()[..output_at(side)]).unwrap();
    encoder.flush().unwrap();
    let coded = encoder.get_ref().clone();
    Script::stream(&coded).header(CODING, "gzip").cut(&[coded.len() - 1]).between(APART)
}
