//! `health`: one request over a socket. The check must work in the smallest container, so it needs nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, say, start, wants_json};
use crate::config::env::Env;
use crate::server::{WHEREABOUTS, nearby};
use crate::wire::json::Writer;

pub(crate) fn run(given: &Given) -> Exit {
    check(given).unwrap_or_else(|unready| unready.tell(Exit::No))
}

fn check(given: &Given) -> Result<Exit, Unready> {
    let json = wants_json(given)?;
    let env = environment(given)?;
    let endpoint = &endpoint(given, &env)?;
    let detailed = given.has("detailed");
    let key = env.text("CLIENT_API_KEY").filter(|_| detailed);
    let target = Target::parse(endpoint, if detailed { "/health/detailed" } else { "/health" })
        .ok_or_else(|| no_endpoint(endpoint))?;
    let answer = match target.get(key) {
        Ok(answer) => answer,
        Err(error) => {
            if json {
                say::out(&as_json(endpoint, None, None));
            }
            return Ok(say::no(format_args!("{endpoint} does not answer: {error}")));
        }
    };
    match (json, detailed) {
        (true, _) => say::out(&as_json(endpoint, Some(answer.status), detailed.then_some(&answer.body))),
        (false, true) => say::out(&answer.body),
        (false, false) if answer.status == 200 => say::out("healthy"),
        (false, false) => {}
    }
    if answer.status == 200 {
        return Ok(Exit::Fine);
    }
    let hint = if answer.status == 401 { "; set CLIENT_API_KEY to the server's key" } else { "" };
    Ok(say::no(format_args!("{endpoint} is not healthy: it answered {}{hint}", answer.status)))
}

/// What a server answered; of what it says in detail all that is JSON.
fn as_json(endpoint: &str, status: Option<u16>, detailed: Option<&String>) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("endpoint").str(endpoint).key("healthy").bool(status == Some(200)).key("status");
    match status {
        Some(status) => w.int(u64::from(status)),
        None => w.null(),
    };
    let is_json = |body: &&String| serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    if let Some(body) = detailed.filter(is_json) {
        w.key("detailed").raw(body.trim());
    }
    w.end_object();
    String::from_utf8_lossy(&out).into_owned()
}

/// Where a server is asked: as was said, else where one of this state directory has left word and takes connections, else at the
/// usual place.
pub(super) fn endpoint(given: &Given, env: &Env) -> Result<String, Unready> {
    if let Some(said) = given.text("endpoint")? {
        return Ok(said.to_owned());
    }
    let left = start::state_file(env, WHEREABOUTS).map(|folder| nearby(&folder)).unwrap_or_default();
    let is_open = |url: &String| Target::parse(url, "/").is_some_and(|target| target.connect().is_ok());
    Ok(match left.into_iter().find(is_open) {
        Some(url) => url,
        None => given.text_or_default("endpoint")?.to_owned(),
    })
}

pub(super) fn no_endpoint(endpoint: &str) -> Unready {
    Unready::Usage(format!("--endpoint takes http://HOST:PORT, https://HOST:PORT or unix:PATH, not {endpoint:?}"))
}

/// Where to ask.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    authority: String,
    path: String,
}

#[derive(Debug)]
enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// A connection that can be asked.
trait Talk: Read + Write {}

impl<T: Read + Write> Talk for T {}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Target {
    /// Reads an endpoint.
    pub(super) fn parse(endpoint: &str, path: &str) -> Option<Self> {
        if let Some(socket) = endpoint.strip_prefix("unix:") {
            let place = Place::Unix(PathBuf::from(socket));
            return (!socket.is_empty()).then(|| Self {
                place,
                authority: "localhost".to_owned(),
                path: path.to_owned(),
            });
        }
        let with_scheme = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let uri: Uri = with_scheme.parse().ok()?;
        let (tls, usual) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = format!("{}{path}", uri.path().trim_end_matches('/'));
        (!host.is_empty()).then(|| Self {
            place: Place::Tcp { host, port: authority.port_u16().unwrap_or(usual), tls },
            authority: authority.to_string(),
            path,
        })
    }

    pub(super) fn get(&self, key: Option<&str>) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        let key = key.map_or_else(String::new, |k| format!("authorization: Bearer {k}\r\n"));
        let head = format!("GET {} HTTP/1.1\r\nhost: {}\r\n{key}connection: close\r\n\r\n", self.path, self.authority);
        stream.write_all(head.as_bytes())?;
        stream.flush()?;
        let mut bytes = Vec::new();
        // Whoever closes without a farewell has said all the same what he said.
        let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        match parse_answer(&String::from_utf8_lossy(&bytes)) {
            Some(answer) => Ok(answer),
            None => read.and_then(|_| Err(io::Error::other("what came back is not HTTP"))),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Talk>> {
        match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Place::Tcp { host, port, tls } => {
                let (stream, address) = connect(host, *port)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(if *tls { Box::new(secured(stream, host, address.ip().is_loopback())?) } else { Box::new(stream) })
            }
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Speaks TLS. On this machine the certificate is for whatever name clients know it by, so none is asked for: whoever can listen
/// here could have taken the port without TLS as well. Elsewhere it has to be the host's.
fn secured(stream: TcpStream, host: &str, is_local: bool) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = if is_local {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
    } else {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(client, stream))
}

/// Takes any certificate, as long as the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
        for wrong in ["http://", "", "ftp://a:1", "unix:"] {
            assert!(Target::parse(wrong, "/health").is_none(), "{wrong}");
        }
        let base = Target::parse("localhost:9876/base/", "/health").unwrap();
        assert_eq!(base.path, "/base/health");
        assert!(matches!(base.place, Place::Tcp { port: 9876, tls: false, .. }), "{base:?}");
    }
}
