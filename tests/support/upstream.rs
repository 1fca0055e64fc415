//! A provider that does as it is told, on raw sockets, and remembers what it was sent.
//!
//! Every request is answered by the oldest queued [`Script`], else by the upstream's own rule. A script is carried
//! out byte by byte: it may cut a body anywhere, wait, stop short, reset the connection or never answer.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};

use super::http::{Arrived, Headers, Wire};
use super::{samples, wait_until};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Seen {
    fn of(connection: usize, arrived: Arrived) -> Self {
        let Arrived { head, headers, body } = arrived;
        let text = String::from_utf8_lossy(&head);
        let mut words = text.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Self { connection, method, path, headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn wants_stream(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

/// What a script does once its bytes are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// The answer is whole; the connection takes the next request.
    KeepAlive,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more comes until the client goes away.
    Silence,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

/// One answer, and how it is to be given.
#[derive(Clone, Debug)]
pub struct Script {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
    /// Where the body is cut; each piece is a write of its own.
    cuts: Vec<usize>,
    /// How much of the body is sent at all.
    sent: usize,
    has_head: bool,
    before_head: Duration,
    between: Duration,
    before_after: Duration,
    after: After,
}

impl Script {
    fn new(status: u16, kind: &str, body: &[u8], framing: Framing) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.to_vec(),
            framing,
            cuts: Vec::new(),
            sent: body.len(),
            has_head: true,
            before_head: Duration::ZERO,
            between: Duration::ZERO,
            before_after: Duration::ZERO,
            after: After::KeepAlive,
        }
    }

    /// A whole reply with its length.
    pub fn json(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::new(status, "application/json", body.as_ref(), Framing::Length)
    }

    /// An event stream in chunks.
    pub fn stream(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, "text/event-stream", body.as_ref(), Framing::Chunked)
    }

    /// The same under another status.
    pub fn under(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// No answer at all.
    pub fn nothing(after: After) -> Self {
        Self { has_head: false, sent: 0, after, ..Self::json(0, "") }
    }

    /// These bytes in the place of an answer.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { has_head: false, ..Self::json(0, bytes) }
    }

    /// The whole answer as it goes out, to be sent otherwise with [`raw`](Self::raw).
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head();
        all.extend(self.pieces().concat());
        if self.framing == Framing::Chunked {
            all.extend_from_slice(b"0\r\n\r\n");
        }
        all
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Names the kind of its content otherwise, or not at all.
    pub fn called(mut self, kind: &str) -> Self {
        self.headers.retain(|(name, _)| name != "content-type");
        if kind.is_empty() { self } else { self.header("content-type", kind) }
    }

    /// Cuts the body at these places.
    pub fn cut(mut self, at: &[usize]) -> Self {
        self.cuts = at.to_vec();
        self
    }

    pub fn before_head(mut self, pause: Duration) -> Self {
        self.before_head = pause;
        self
    }

    /// Waits between the pieces of the body.
    pub fn between(mut self, pause: Duration) -> Self {
        self.between = pause;
        self
    }

    /// Sends only the first `bytes` of the body, and then does `after`.
    pub fn stop_at(mut self, bytes: usize, after: After) -> Self {
        self.sent = bytes.min(self.body.len());
        self.after = after;
        self
    }

    /// Does `after` once the whole answer is out.
    pub fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// Does `after` once the whole answer is out and a while has passed.
    pub fn then_after(mut self, pause: Duration, after: After) -> Self {
        self.before_after = pause;
        self.then(after)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::Length => head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len())),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
        }
        head.into_bytes()
    }

    fn pieces(&self) -> Vec<Vec<u8>> {
        let mut places: Vec<usize> = self.cuts.iter().copied().filter(|at| *at < self.sent).collect();
        places.extend([0, self.sent]);
        places.sort_unstable();
        places.dedup();
        let ranges = places.windows(2).map(|pair| &self.body[pair[0]..pair[1]]);
        ranges
            .map(|piece| match self.framing {
                Framing::Length => piece.to_vec(),
                Framing::Chunked => {
                    let size = format!("{:x}\r\n", piece.len());
                    [size.as_bytes(), piece, b"\r\n"].concat()
                }
            })
            .collect()
    }

    /// Gives the answer. `false`: the connection is of no further use.
    fn perform(&self, wire: &mut Wire, shared: &Shared) -> bool {
        let done = self.send(wire, shared);
        if done {
            thread::sleep(self.before_after);
        } else {
            shared.departures.fetch_add(1, Ordering::SeqCst);
        }
        done && match self.after {
            After::KeepAlive => true,
            After::Close => false,
            After::Reset => {
                SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
            After::Silence => {
                if shared.pause(wire, Duration::MAX) == Pause::Gone {
                    shared.departures.fetch_add(1, Ordering::SeqCst);
                }
                false
            }
        }
    }

    /// `false`: the client went away before it had everything.
    fn send(&self, wire: &mut Wire, shared: &Shared) -> bool {
        if shared.pause(wire, self.before_head) != Pause::Over {
            return false;
        }
        let mut head = if self.has_head { self.head() } else { Vec::new() };
        let mut pieces = self.pieces().into_iter();
        // Head and first piece in one write, as servers do; a body that is cut at 0 comes apart from its head.
        if !self.cuts.contains(&0) {
            head.extend(pieces.next().unwrap_or_default());
        }
        if wire.stream.write_all(&head).is_err() {
            return false;
        }
        for piece in pieces {
            if shared.pause(wire, self.between) != Pause::Over || wire.stream.write_all(&piece).is_err() {
                return false;
            }
        }
        let is_all = self.sent == self.body.len();
        self.framing != Framing::Chunked || !is_all || !self.has_head || wire.stream.write_all(b"0\r\n\r\n").is_ok()
    }
}

/// How a pause ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pause {
    Over,
    /// The client went away.
    Gone,
    /// The upstream is being taken down.
    Stopped,
}

type Rule = dyn Fn(&Seen, usize) -> Script + Send + Sync;

struct Shared {
    rule: Box<Rule>,
    queue: Mutex<VecDeque<Script>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    departures: AtomicUsize,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn new(rule: Box<Rule>) -> Arc<Self> {
        Arc::new(Self {
            rule,
            queue: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            departures: AtomicUsize::new(0),
            stop: Arc::default(),
        })
    }

    /// Waits, and looks all the while whether the client is still there.
    fn pause(&self, wire: &Wire, pause: Duration) -> Pause {
        let tick = Duration::from_millis(5);
        let mut left = pause;
        while !left.is_zero() {
            if self.stop.load(Ordering::Relaxed) {
                return Pause::Stopped;
            }
            if left < tick {
                thread::sleep(left);
                break;
            }
            // Looking takes up to a tick of its own where nothing has come.
            if wire.is_gone() {
                return Pause::Gone;
            }
            left = left.saturating_sub(tick * 2);
        }
        Pause::Over
    }

    fn serve(&self, stream: TcpStream, number: usize) {
        let mut wire = Wire::new(stream, Arc::clone(&self.stop));
        while let Ok(Some(arrived)) = wire.request() {
            let seen = Seen::of(number, arrived);
            let at = {
                let mut all = self.seen.lock();
                all.push(seen.clone());
                all.len() - 1
            };
            let queued = self.queue.lock().pop_front();
            let script = queued.unwrap_or_else(|| (self.rule)(&seen, at));
            if !script.perform(&mut wire, self) {
                break;
            }
        }
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// A scripted provider on a port of its own.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// Keeps the port of one that listens to nobody.
    _port: Option<Socket>,
}

impl Upstream {
    /// An upstream that answers well in both formats, whole or streamed as asked.
    pub fn start() -> Self {
        Self::answering(|seen, _| match (seen.path.as_str(), seen.wants_stream()) {
            ("/v1/chat/completions", false) => Script::json(200, samples::CHAT_REPLY),
            ("/v1/chat/completions", true) => Script::stream(samples::CHAT_STREAM),
            ("/v1/messages", false) => Script::json(200, samples::MESSAGES_REPLY),
            ("/v1/messages", true) => Script::stream(samples::MESSAGES_STREAM),
            ("/v1/responses", false) => Script::json(200, samples::RESPONSES_REPLY),
            ("/v1/responses", true) => Script::stream(samples::RESPONSES_STREAM),
            _ => Script::json(404, r#"{"error":{"message":"no such path here","type":"not_found"}}"#),
        })
    }

    /// An upstream whose answer depends on the request and on how many came before it.
    pub fn answering(rule: impl Fn(&Seen, usize) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::new(Box::new(rule));
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let number = accepting.connections.fetch_add(1, Ordering::SeqCst);
                let serving = Arc::clone(&accepting);
                thread::spawn(move || serving.serve(stream, number));
            }
        });
        Self { address, shared, _port: None }
    }

    /// An address where every connection is refused. The port is taken all the while, so that nobody else gets it.
    pub fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let shared = Shared::new(Box::new(|_, _| Script::nothing(After::Close)));
        Self { address, shared, _port: Some(socket) }
    }

    /// Answers the next request that no earlier script answers.
    pub fn queue(&self, script: Script) {
        self.shared.queue.lock().push_back(script);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().len()
    }

    /// The request that came last.
    pub fn last(&self) -> Seen {
        self.shared.seen.lock().last().cloned().expect("a request")
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections have ended, by whichever side.
    pub fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }

    /// How often the client went away before it had its answer.
    pub fn departures(&self) -> usize {
        self.shared.departures.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, requests: usize) {
        wait_until(&format!("{requests} requests at the upstream"), || self.count() >= requests);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; it may be gone already.
        drop(TcpStream::connect(self.address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::http::{Client, Request};
    use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, CHAT_STREAM, CHAT_STREAM_REQUEST};

    #[test]
    fn the_upstream_answers_by_script_and_then_by_its_rule() {
        let upstream = Upstream::start();
        upstream.queue(Script::json(503, "{}").header("retry-after", "1").cut(&[0, 1]));
        let mut client = Client::connect(upstream.address);
        let first = client.send(&Request::post(CHAT, CHAT_REQUEST));
        assert_eq!((first.status, first.text().as_str(), first.headers.one("Retry-After")), (503, "{}", Some("1")));
        assert_eq!(client.send(&Request::post(CHAT, CHAT_REQUEST)).text(), CHAT_REPLY);
        let stream = client.send(&Request::post(CHAT, CHAT_STREAM_REQUEST));
        assert!(stream.is_whole && stream.text() == CHAT_STREAM, "{stream:?}");
        assert_eq!((upstream.count(), upstream.connections()), (3, 1));
    }

    #[test]
    fn the_upstream_breaks_off_where_it_is_told() {
        for after in [After::Close, After::Reset] {
            for script in [Script::stream(CHAT_STREAM), Script::json(200, CHAT_REPLY)] {
                let upstream = Upstream::start();
                upstream.queue(script.cut(&[7]).stop_at(40, after));
                let mut client = Client::connect(upstream.address);
                let reply = client.send(&Request::post(CHAT, CHAT_REQUEST));
                assert!(!reply.is_whole && reply.body.len() <= 40, "{reply:?}");
                wait_until("the connection's end", || upstream.closed() == 1);
                assert_eq!(upstream.departures(), 0, "it was the upstream that left");
            }
        }
    }

    #[test]
    fn the_upstream_notices_that_its_client_left() {
        for script in [
            Script::nothing(After::Silence),
            Script::stream(CHAT_STREAM).stop_at(40, After::Silence),
            Script::json(200, CHAT_REPLY).before_head(Duration::from_secs(60)),
            Script::json(200, CHAT_REPLY).cut(&[3]).between(Duration::from_secs(60)),
        ] {
            let upstream = Upstream::start();
            upstream.queue(script);
            let mut client = Client::connect(upstream.address);
            client.ask(&Request::post(CHAT, CHAT_REQUEST));
            upstream.wait_for(1);
            assert_eq!(upstream.departures(), 0, "it is still there");
            client.leave();
            wait_until("the departure", || upstream.departures() == 1);
        }
    }
}
