//! Splits a stream of bytes into Server-Sent Events frames.
//!
//! A frame is everything up to and including the blank line that ends it. Frames tile their input: joined
//! together in order they are, byte for byte, what was pushed. That is what lets the relay forward a frame
//! verbatim and read it at the same time.
//!
//! Lines end in LF, CRLF or a lone CR, as the standard says, and in nothing else. The caller pushes chunks as
//! the network delivers them, cut anywhere, and pulls frames until there are none left. No I/O happens here.
//!
//! ```text
//!  push(chunk) ──▶ Framer ──▶ next() ──▶ Some(Ok(Frame)) …
//!                    │                   None: push more
//!                    └── held: the part of a frame still waiting for its end
//! ```

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Longest frame kept while waiting for its end. A tool call or an image may come whole, so this is half of
/// what a request may be; past it the stream is broken off rather than memory spent on it.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Cuts pushed chunks into frames.
///
/// A frame that lies inside one chunk is handed out as a slice of that chunk, without a copy. Only a frame that
/// straddles chunks is gathered.
#[derive(Debug)]
pub struct Framer {
    /// What is left of the last chunk pushed.
    chunk: Bytes,
    /// The start of a frame whose end has not been seen.
    held: Vec<u8>,
    line: Line,
    /// `held` never grows past this.
    frame_bytes_max: usize,
}

/// What was read of the line the framer stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    /// Nothing yet.
    Empty,
    /// Something.
    Text,
    /// It ended in CR, and may yet end in CRLF. The flag tells whether it was blank.
    Cr { blank: bool },
}

impl Framer {
    /// Returns a framer that refuses a frame longer than `frame_bytes_max`.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { chunk: Bytes::new(), held: Vec::new(), line: Line::Empty, frame_bytes_max }
    }

    /// Adds the next chunk. Every frame of the one before must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "frames were left behind");
        self.chunk = chunk;
    }

    /// Takes the next whole frame; `None` asks for another chunk.
    #[expect(clippy::should_implement_trait, reason = "None is not the end")]
    pub fn next(&mut self) -> Option<Result<Frame, FrameTooLong>> {
        let end = self.find_end();
        let part = self.chunk.split_to(end.unwrap_or(self.chunk.len()));
        if self.held.len() + part.len() > self.frame_bytes_max {
            self.chunk.clear();
            return Some(Err(FrameTooLong));
        }
        if end.is_some() && self.held.is_empty() {
            return Some(Ok(Frame { raw: part }));
        }
        self.held.extend_from_slice(&part);
        end?;
        // A frame in many pieces: its memory leaves with it.
        let raw = Bytes::from(std::mem::take(&mut self.held));
        Some(Ok(Frame { raw }))
    }

    /// Bytes of the frame that is still waiting for its end, once every whole one was taken.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Ends the stream, returning a last frame that lacks its blank line.
    #[must_use]
    pub fn finish(&mut self) -> Option<Frame> {
        let raw = Bytes::from(std::mem::take(&mut self.held));
        (!raw.is_empty()).then_some(Frame { raw })
    }

    /// Returns where in `chunk` the current frame ends, if it does.
    ///
    /// A CR is only known to end its line alone when another byte follows, so the last frame of a stream that
    /// writes lone CRs (nobody does) waits for the next chunk. LF and CRLF never wait.
    fn find_end(&mut self) -> Option<usize> {
        let bytes: &[u8] = &self.chunk;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match (self.line, byte) {
                (Line::Cr { blank }, b'\n') => {
                    self.line = Line::Empty;
                    at += 1;
                    if blank {
                        return Some(at);
                    }
                }
                (Line::Cr { blank: true }, _) => {
                    self.line = Line::Empty;
                    return Some(at);
                }
                (Line::Cr { blank: false }, _) => self.line = Line::Empty,
                (Line::Empty, b'\n') => return Some(at + 1),
                (Line::Text, b'\n') => {
                    self.line = Line::Empty;
                    at += 1;
                }
                (line @ (Line::Empty | Line::Text), b'\r') => {
                    self.line = Line::Cr { blank: line == Line::Empty };
                    at += 1;
                }
                (Line::Empty | Line::Text, _) => {
                    self.line = Line::Text;
                    let rest = bytes.get(at..).unwrap_or_default();
                    at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
            }
        }
        None
    }
}

/// One event, with the bytes it came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    raw: Bytes,
}

impl Frame {
    /// Takes bytes as one frame: for tests and for what has been gathered elsewhere.
    #[must_use]
    pub fn of(raw: Bytes) -> Self {
        Self { raw }
    }

    /// The frame exactly as it was received, blank line included.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The event's name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.fields(b"event").last()
    }

    /// The event's data. Borrowed unless it spans several lines.
    #[must_use]
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.fields(b"data");
        let mut data = Cow::Borrowed(lines.next()?);
        for line in lines {
            let joined = data.to_mut();
            joined.push(b'\n');
            joined.extend_from_slice(line);
        }
        Some(data)
    }

    fn fields<'f>(&'f self, name: &'f [u8]) -> impl Iterator<Item = &'f [u8]> {
        // A byte order mark may open the stream; it belongs to no field.
        let raw = self.raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.raw);
        Lines { rest: raw }.filter_map(move |line| {
            let value = line.strip_prefix(name)?;
            if value.is_empty() {
                // A line of a name alone is that field, empty.
                return Some(value);
            }
            let value = value.strip_prefix(b":")?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        })
    }
}

/// Lines without their ends.
struct Lines<'f> {
    rest: &'f [u8],
}

impl<'f> Iterator for Lines<'f> {
    type Item = &'f [u8];

    fn next(&mut self) -> Option<&'f [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let n = memchr::memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
        let (line, end) = self.rest.split_at_checked(n)?;
        self.rest = match end {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => &[],
        };
        Some(line)
    }
}

/// A frame went past the framer's limit. The stream cannot be resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameTooLong;

impl fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("event stream frame is longer than allowed")
    }
}

impl std::error::Error for FrameTooLong {}

/// The fuzz target's body.
///
/// The first byte tells where the rest is cut. However it is cut, the frames must be the same, and must tile the
/// input; and no frame holds a blank line before its end.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some((&seed, input)) = data.split_first() else {
        return;
    };
    let whole = frames(&[input]);
    assert_eq!(whole.concat(), input, "frames tile the input");
    let (a, b) = input.split_at(usize::from(seed).min(input.len()));
    assert_eq!(frames(&[a, b]), whole, "a cut changes nothing");
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(frames(&bytes), whole, "nor do many");
    for frame in &whole {
        let lines: Vec<&[u8]> = Lines { rest: frame }.collect();
        let blank = lines.iter().position(|l| l.is_empty());
        assert!(blank.is_none_or(|at| at + 1 == lines.len()), "one blank line, at the end: {frame:?}");
    }
}

fn frames(chunks: &[&[u8]]) -> Vec<Bytes> {
    let mut framer = Framer::new(usize::MAX);
    let mut out = Vec::new();
    for chunk in chunks {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(Ok(frame)) = framer.next() {
            out.push(frame.raw);
        }
    }
    out.extend(framer.finish().map(|frame| frame.raw));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what a stream is read as, cut at every place it can be.
    #[track_caller]
    fn check(stream: &str, expect: &[(Option<&str>, Option<&str>)]) {
        let bytes = stream.as_bytes();
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            let frames: Vec<Frame> = frames(&[a, b]).into_iter().map(Frame::of).collect();
            let got: Vec<_> = frames.iter().map(|f| (f.name().map(text), f.data().map(|d| text(&d)))).collect();
            let want: Vec<_> = expect.iter().map(|(n, d)| (n.map(str::to_owned), d.map(str::to_owned))).collect();
            assert_eq!(got, want, "cut at {at}");
            let joined: Vec<Bytes> = frames.iter().map(|f| f.raw.clone()).collect();
            assert_eq!(joined.concat(), bytes, "cut at {at}");
        }
        for seed in 0..=u8::MAX {
            fuzz(&[&[seed], bytes].concat());
        }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn reads_data() {
        check("data: a\n\ndata:b\n\n", &[(None, Some("a")), (None, Some("b"))]);
    }

    // covers EC77 8.1/line_ends
    #[test]
    fn reads_names_and_every_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = format!("event: e{end}data: a{end}{end}data: b{end}{end}");
            check(&stream, &[(Some("e"), Some("a")), (None, Some("b"))]);
        }
    }

    #[test]
    fn joins_data_lines() {
        check("data: a\ndata: b\ndata\n\n", &[(None, Some("a\nb\n"))]);
    }

    // covers 8.1/unclosed_last_event
    #[test]
    fn keeps_comments_and_an_unended_tail() {
        check(": ping\n\ndata: a", &[(None, None), (None, Some("a"))]);
    }

    #[test]
    fn keeps_characters_that_are_no_line_ends() {
        check("data: a\u{2028}b\u{85}c\u{b}😀\n\n", &[(None, Some("a\u{2028}b\u{85}c\u{b}😀"))]);
    }

    // covers 8.1/bom
    #[test]
    fn steps_over_a_byte_order_mark() {
        check("\u{feff}data: a\n\n", &[(None, Some("a"))]);
    }

    // covers 8.1/event_too_long
    #[test]
    fn refuses_a_frame_that_is_too_long() {
        let mut framer = Framer::new(8);
        framer.push(Bytes::from_static(b"data: 123456789"));
        assert_eq!(framer.next(), Some(Err(FrameTooLong)));
    }

    #[test]
    fn whole_frames_are_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\n");
        let mut framer = Framer::new(64);
        framer.push(chunk.clone());
        let frame = framer.next().unwrap().unwrap();
        assert_eq!(frame.raw().as_ptr(), chunk.as_ptr());
    }

    // covers EC78 8.1/cut_anywhere
    #[test]
    fn fuzz_body_holds_on_random_bytes() {
        let alphabet = b"\r\n:ad \n\r";
        let mut x = 0x9e37_79b9_u32;
        for _ in 0..20_000 {
            let data: Vec<u8> = (0..24)
                .map(|_| {
                    x ^= x << 13;
                    x ^= x >> 17;
                    x ^= x << 5;
                    alphabet[x as usize % alphabet.len()]
                })
                .collect();
            fuzz(&data);
        }
    }
}
