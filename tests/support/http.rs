//! HTTP/1.1 by hand: enough to send anything and to see exactly what came back.
//!
//! [`Wire`] is one end of a connection and reads both requests and replies; [`Client`] is the end tests hold.
//! Reads wait in short ticks, so that a test that hangs fails within [`TICKS_MAX`] of them and a server thread
//! notices that it is to stop.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long one read waits before it looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(10);

/// How many ticks without a byte are too many: 30 s, far beyond what any test expects.
const TICKS_MAX: u32 = 3_000;

/// Header fields in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first field of that name.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// How often the field stands there.
    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// Reads the lines after the first of a head.
    fn of(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let fields = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }
}

/// How the end of a body is found.
#[derive(Debug)]
pub enum Body {
    Length(usize),
    Chunked,
    UntilClose,
    Ended,
}

impl Body {
    /// What the headers of a message say. A request without a length has none; a reply without one ends with the
    /// connection.
    fn of(headers: &Headers, unsaid: Self) -> Self {
        if headers.one("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Self::Chunked;
        }
        match headers.one("content-length") {
            Some("0") => Self::Ended,
            Some(n) => Self::Length(n.parse().expect("a content-length is a number")),
            None => unsaid,
        }
    }
}

/// A request in its parts.
#[derive(Debug)]
pub struct Arrived {
    pub head: Vec<u8>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    stop: Arc<AtomicBool>,
}

impl Wire {
    pub fn new(stream: TcpStream, stop: Arc<AtomicBool>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TICK)).unwrap();
        Self { stream, buffer: Vec::new(), stop }
    }

    /// Reads some bytes more. `Ok(0)`: the other side has ended.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        for _ in 0..TICKS_MAX {
            match self.stream.read(&mut chunk) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(0);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no byte for half a minute"))
    }

    /// Whether the other side has ended or reset the connection. Waits a tick at most; bytes that came are kept.
    pub fn is_gone(&self) -> bool {
        let mut byte = [0; 1];
        match self.stream.peek(&mut byte) {
            Ok(n) => n == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// A head, blank line included; `None` if the other side ended before its first byte.
    pub fn head(&mut self) -> io::Result<Option<(Vec<u8>, Headers)>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                let headers = Headers::of(&head);
                return Ok(Some((head, headers)));
            }
            if self.fill()? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// The next piece of a body; `None` at its proper end.
    pub fn piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        match body {
            Body::Ended => Ok(None),
            Body::Length(left) => {
                let piece = self.some(*left)?;
                *left -= piece.len();
                if *left == 0 {
                    *body = Body::Ended;
                }
                Ok(Some(piece))
            }
            Body::UntilClose => {
                if self.buffer.is_empty() && self.fill()? == 0 {
                    *body = Body::Ended;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
            Body::Chunked => {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other("no chunk size"))?;
                let mut chunk = Vec::with_capacity(size);
                while chunk.len() < size {
                    chunk.extend(self.some(size - chunk.len())?);
                }
                if !self.line()?.is_empty() {
                    return Err(io::Error::other("a chunk does not end where it should"));
                }
                if size == 0 {
                    *body = Body::Ended;
                    return Ok(None);
                }
                Ok(Some(chunk))
            }
        }
    }

    /// The rest of a body.
    pub fn rest(&mut self, body: &mut Body) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece(body)? {
            all.extend(piece);
        }
        Ok(all)
    }

    /// A request and its body; `None` if the other side ended instead.
    pub fn request(&mut self) -> io::Result<Option<Arrived>> {
        let Some((head, headers)) = self.head()? else {
            return Ok(None);
        };
        let mut body = Body::of(&headers, Body::Ended);
        let body = self.rest(&mut body)?;
        Ok(Some(Arrived { head, headers, body }))
    }

    /// At least one byte and at most `max` of them.
    fn some(&mut self, max: usize) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Err(cut());
        }
        let n = max.min(self.buffer.len());
        Ok(self.buffer.drain(..n).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(cut());
            }
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a message")
}

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }.header("content-type", "application/json")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The client key every test gateway knows.
    pub fn with_key(self) -> Self {
        self.header("authorization", &format!("Bearer {}", super::CLIENT_KEY))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !self.body.is_empty() || self.method == "POST" {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// A reply read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// The body ended where its framing says; not so if the connection broke first.
    pub is_whole: bool,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// The end of a connection that a test holds.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    body: Body,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self { wire: Wire::new(stream, Arc::default()), body: Body::Ended }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.wire.stream.write_all(bytes).unwrap();
    }

    /// Sends a request and reads the whole reply. The connection may be used again.
    pub fn send(&mut self, request: &Request) -> Reply {
        self.write(&request.bytes());
        self.reply()
    }

    /// Sends a request and reads nothing yet.
    pub fn ask(&mut self, request: &Request) {
        self.write(&request.bytes());
    }

    /// Sends a request and reads the head of its reply only.
    pub fn start(&mut self, request: &Request) -> (u16, Headers) {
        self.ask(request);
        self.head()
    }

    pub fn head(&mut self) -> (u16, Headers) {
        let (head, headers) = self.wire.head().unwrap().expect("an answer");
        let text = String::from_utf8_lossy(&head);
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("a status line: {text}"));
        let bodiless = status == 204 || status == 304;
        self.body = if bodiless { Body::Ended } else { Body::of(&headers, Body::UntilClose) };
        (status, headers)
    }

    /// The next piece of the reply's body; `None` at its proper end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.wire.piece(&mut self.body)
    }

    pub fn reply(&mut self) -> Reply {
        let (status, headers) = self.head();
        let mut body = Vec::new();
        let is_whole = loop {
            match self.piece() {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => break true,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => panic!("the reply does not end: {e}"),
                Err(_) => break false,
            }
        };
        Reply { status, headers, body, is_whole }
    }

    /// Goes away without reading on.
    pub fn leave(self) {
        // The socket may be closed already, which is as good.
        drop(self.wire.stream.shutdown(Shutdown::Both));
    }
}

/// One request on a connection of its own.
pub fn send(address: SocketAddr, request: &Request) -> Reply {
    Client::connect(address).send(request)
}
