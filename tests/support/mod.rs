//! What every test stands on: the real binary, a scripted provider, plain HTTP, a place for files, and chance that
//! can be repeated.

pub mod cli;
pub mod gateway;
pub mod http;
pub mod samples;
pub mod upstream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The key that clients show to a test gateway.
pub const CLIENT_KEY: &str = "client-key-for-tests";

/// Waits for something that is about to happen; ten seconds are more than any of it takes.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    assert!(comes_true(Duration::from_secs(10), &mut is_so), "in vain waited for {what}");
}

/// Whether something happens within a time.
pub fn comes_true(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let tick = Duration::from_millis(5);
    let mut left = within;
    while !is_so() {
        if left.is_zero() {
            return false;
        }
        thread::sleep(tick);
        left = left.saturating_sub(tick);
    }
    true
}

/// A folder that is removed with its owner.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("model-proxy-test-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and the folders it stands in.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is left behind lies among temporary files anyway.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Chance with a seed: xorshift, as good as tests need.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }

    /// Up to `count` places inside so many bytes.
    pub fn places(&mut self, bytes: usize, count: usize) -> Vec<usize> {
        (0..count).map(|_| 1 + self.below(bytes)).filter(|at| *at < bytes).collect()
    }
}

/// Where the value of a top-level key stands in a JSON object. Written apart from the crate's own reader, so that the
/// two can be held against each other: a scan over strings and brackets that knows nothing else.
pub fn span_of(body: &[u8], wanted: &str) -> Option<std::ops::Range<usize>> {
    let mut depth = 0_u32;
    let mut at = 0;
    let mut key: Option<std::ops::Range<usize>> = None;
    while at < body.len() {
        match body[at] {
            b'"' => {
                let end = string_end(body, at);
                if depth == 1 && key.is_none() {
                    key = Some(at..end);
                }
                at = end;
                continue;
            }
            b':' if depth == 1 => {
                let name: String = serde_json::from_slice(&body[key.clone()?]).ok()?;
                if name == wanted {
                    return Some(value_span(body, at + 1));
                }
            }
            b',' if depth == 1 => key = None,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

fn value_span(body: &[u8], mut from: usize) -> std::ops::Range<usize> {
    while body[from].is_ascii_whitespace() {
        from += 1;
    }
    if body[from] == b'"' {
        return from..string_end(body, from);
    }
    let len = body[from..].iter().position(|b| b",}".contains(b) || b.is_ascii_whitespace()).unwrap();
    from..from + len
}

fn string_end(body: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while body[at] != b'"' {
        at += if body[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The body with the value of its top-level `model` replaced.
pub fn with_model(body: &[u8], model: &str) -> Vec<u8> {
    let span = span_of(body, "model").expect("a model");
    [&body[..span.start], format!("\"{model}\"").as_bytes(), &body[span.end..]].concat()
}

#[test]
fn the_scanner_finds_only_the_top_level_key() {
    let body = br#"{"a":{"model":"no"},"b":["model",{"model":1}],"c":"\"model\":","m\u006fdel" : "yes" ,"z":1}"#;
    let span = span_of(body, "model").unwrap();
    assert_eq!(&body[span], b"\"yes\"");
    assert_eq!(span_of(br#"{"a":"model"}"#, "model"), None);
}
