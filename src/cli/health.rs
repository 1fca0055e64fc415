//! `health`: one request over a plain socket. The check must work in the smallest container, so it needs nothing.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::Uri;

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, say, start};
use crate::config::env::Env;
use crate::server::{WHEREABOUTS, nearby};

pub(crate) fn run(given: &Given) -> Exit {
    check(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn check(given: &Given) -> Result<Exit, Unready> {
    let env = environment(given)?;
    let endpoint = &endpoint(given, &env)?;
    let detailed = given.has("detailed");
    let key = env.text("CLIENT_API_KEY").filter(|_| detailed);
    let target = Target::parse(endpoint, if detailed { "/health/detailed" } else { "/health" })
        .ok_or_else(|| no_endpoint(endpoint))?;
    let answer = match target.get(key) {
        Ok(answer) => answer,
        Err(error) => return Ok(say::no(format_args!("{endpoint} does not answer: {error}"))),
    };
    if detailed && !answer.body.is_empty() {
        say::out(&answer.body);
    }
    if answer.status == 200 {
        if !detailed {
            say::out("healthy");
        }
        return Ok(Exit::Fine);
    }
    let hint = if answer.status == 401 { "; set CLIENT_API_KEY to the server's key" } else { "" };
    Ok(say::no(format_args!("{endpoint} is not healthy: it answered {}{hint}", answer.status)))
}

/// Where a server is asked: as was said, else where the one of this state directory has left word, else at the usual place.
pub(super) fn endpoint(given: &Given, env: &Env) -> Result<String, Unready> {
    if let Some(said) = given.text("endpoint")? {
        return Ok(said.to_owned());
    }
    let nearby = start::state_file(env, WHEREABOUTS).and_then(|path| nearby(&path));
    Ok(match nearby {
        Some(url) => url,
        None => given.text_or_default("endpoint")?.to_owned(),
    })
}

pub(super) fn no_endpoint(endpoint: &str) -> Unready {
    Unready::Usage(format!("--endpoint takes http://HOST:PORT, not {endpoint:?}"))
}

/// Where to ask.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Target {
    /// Reads an endpoint. Only plain HTTP: the check runs beside the server.
    pub(super) fn parse(endpoint: &str, path: &str) -> Option<Self> {
        let with_scheme = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let uri: Uri = with_scheme.parse().ok()?;
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = format!("{}{path}", uri.path().trim_end_matches('/'));
        (!host.is_empty()).then(|| Self {
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path,
        })
    }

    pub(super) fn get(&self, key: Option<&str>) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let key = key.map_or_else(String::new, |k| format!("authorization: Bearer {k}\r\n"));
        let head = format!("GET {} HTTP/1.1\r\nhost: {}\r\n{key}connection: close\r\n\r\n", self.path, self.authority);
        stream.write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        parse_answer(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::Error::other("what came back is not HTTP"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("the host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// As long as the seed waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes: a detailed one has some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

fn parse_answer(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
    Some(Answer { status: line.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer` and returns what it was asked.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        (endpoint, asked)
    }

    #[test]
    fn asks_and_hears() {
        let (endpoint, asked) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        let answer = Target::parse(&endpoint, "/health/detailed").unwrap().get(Some("k")).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("GET /health/detailed HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer k\r\n"), "{asked}");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let (endpoint, asked) = serve("hello\r\n");
        assert!(Target::parse(&endpoint, "/health").unwrap().get(None).is_err(), "no HTTP");
        drop(asked.join());
        for wrong in ["https://a", "http://", "", "ftp://a:1"] {
            assert!(Target::parse(wrong, "/health").is_none(), "{wrong}");
        }
        let base = Target::parse("localhost:9876/base/", "/health").unwrap();
        assert_eq!((base.path.as_str(), base.port), ("/base/health", 9876));
    }
}
