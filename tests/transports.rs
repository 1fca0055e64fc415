//! The ways in: TLS, whose certificate may change, Unix sockets, several addresses at once; HTTP/1 and HTTP/2 over each.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_proxy::wire::Format;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::gateway::{Gateway, Setup};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST};
use crate::support::upstream::{Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true, wait_until};

/// Self-signed, for `localhost`; trusted by nobody but tests.
const ONE: [&str; 2] = [
    include_str!("../src/upstream/testdata/localhost.cert.pem"),
    include_str!("../src/upstream/testdata/localhost.key.pem"),
];
const TWO: [&str; 2] = [include_str!("testdata/two.cert.pem"), include_str!("testdata/two.key.pem")];

fn setup(upstream: &Upstream) -> Setup {
    Setup::simple(Format::OpenaiChat, upstream).file("../cert.pem", ONE[0]).file("../key.pem", ONE[1])
}

fn upstream() -> Upstream {
    Upstream::answering(|_, _| Script::json(200, CHAT_REPLY))
}

/// The addresses of a scheme that the banner names.
fn addresses(gateway: &Gateway, scheme: &str) -> Vec<SocketAddr> {
    let said = gateway.stderr();
    let prefix = format!("listening on {scheme}://");
    said.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
}

/// Trusts these certificates alone.
fn trusting(pems: &[&str], protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// One request over HTTP/1, whatever carries it.
fn over_h1(mut io: impl Read + Write) -> std::io::Result<String> {
    let length = CHAT_REQUEST.len();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    io.write_all(&[head.as_bytes(), CHAT_REQUEST.as_bytes()].concat())?;
    let mut answer = Vec::new();
    io.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The same over HTTP/2.
async fn over_h2(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> (u16, Bytes) {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost{CHAT}"))
        .header("authorization", format!("Bearer {CLIENT_KEY}"))
        .body(Full::new(Bytes::from(CHAT_REQUEST)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    drop(driver.await);
    (status, body)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    StreamOwned::new(ClientConnection::new(config, name()).unwrap(), TcpStream::connect(address).unwrap())
}

#[test]
fn tls_and_plain_side_by_side() {
    let upstream = upstream();
    let gateway = setup(&upstream)
        .listening(&["https://127.0.0.1:0", "http://127.0.0.1:0", "127.0.0.1:0"])
        .arg("--tls-cert=cert.pem")
        .arg("--tls-key=key.pem")
        .start();
    let (secure, plain) = (addresses(&gateway, "https"), addresses(&gateway, "http"));
    assert_eq!((secure.len(), plain.len()), (2, 1), "{}", gateway.stderr());
    for address in &secure {
        for protocols in [&[][..], &[&b"http/1.1"[..]]] {
            let answer = over_h1(tls(*address, trusting(&[ONE[0]], protocols))).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(CHAT_REPLY), "{answer}");
        }
        let agreed = block_on(async {
            let tcp = tokio::net::TcpStream::connect(*address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(trusting(&[ONE[0]], &[b"h2", b"http/1.1"]));
            let tls = connector.connect(name(), tcp).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            over_h2(tls).await
        });
        assert_eq!(agreed, (200, Bytes::from(CHAT_REPLY)));
    }
    for address in plain {
        assert!(over_h1(TcpStream::connect(address).unwrap()).unwrap().ends_with(CHAT_REPLY));
        let prior = block_on(async { over_h2(tokio::net::TcpStream::connect(address).await.unwrap()).await });
        assert_eq!(prior, (200, Bytes::from(CHAT_REPLY)), "prior knowledge");
    }
    let (untrusting, plain_to_tls) = (trusting(&[TWO[0]], &[]), TcpStream::connect(secure[0]).unwrap());
    assert!(over_h1(tls(secure[0], untrusting)).is_err(), "another certificate");
    assert!(!over_h1(plain_to_tls).unwrap_or_default().contains("HTTP/1.1 200"), "plain words on a TLS port");
    assert_eq!(upstream.count(), 8);
}

#[test]
fn a_certificate_is_read_again_when_it_changes() {
    let upstream = upstream();
    let gateway = setup(&upstream)
        .listening(&["https://127.0.0.1:0"])
        .arg("--tls-cert=cert.pem")
        .arg("--tls-key=key.pem")
        .start();
    let address = addresses(&gateway, "https")[0];
    let shows =
        |pem: &str| over_h1(tls(address, trusting(&[pem], &[]))).is_ok_and(|answer| answer.ends_with(CHAT_REPLY));
    assert!(shows(ONE[0]) && !shows(TWO[0]), "the first");
    // Begun with the old one, and going on with it.
    let mut open = tls(address, trusting(&[ONE[0]], &[]));
    open.write_all(b"GET /health HTTP/1.1\r\nhost: t\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    open.read_exact(&mut byte).unwrap();
    gateway.home.write("key.pem", "nonsense");
    wait_until("the complaint", || {
        gateway.stderr().contains("key.pem holds no private key in PEM form: connections are shown")
    });
    assert!(shows(ONE[0]), "the last that was good");
    gateway.home.write("cert.pem", TWO[0]);
    gateway.home.write("key.pem", TWO[1]);
    wait_until("the new one", || shows(TWO[0]));
    assert!(!shows(ONE[0]), "and the old no more");
    assert!(over_h1(open).unwrap().contains("HTTP/1.1 200"), "who was in stays");
}

#[test]
fn what_cannot_be_shown_is_told_at_the_start() {
    for (words, files, says) in [
        (&["--tls-cert", "cert.pem"][..], &[][..], "--tls-cert needs --tls-key"),
        (&["--tls-key", "key.pem"], &[], "--tls-key needs --tls-cert"),
        (&["--listen", "https://127.0.0.1:0"], &[], "--tls-cert and --tls-key"),
        (&["--tls-cert", "none.pem", "--tls-key", "key.pem"], &[], "none.pem cannot be read: No such file"),
        (&["--tls-cert", "key.pem", "--tls-key", "key.pem"], &[], "key.pem holds no certificate in PEM form"),
        (&["--tls-cert", "cert.pem", "--tls-key", "cert.pem"], &[], "cert.pem holds no private key in PEM form"),
        (
            &["--tls-cert", "cert.pem", "--tls-key", "key.pem"],
            &[("key.pem", TWO[1])],
            "cert.pem cannot be used with its key",
        ),
        (&["--listen", "127.0.0.1"], &[], "has no port"),
        (&["--listen", "127.0.0.1:0", "--port", "1"], &[], "takes the place of --host and --port"),
        (&["--listen", "unix:."], &[], "cannot listen at .: there is a file of that name"),
        (&["--listen", "unix:/no/such/place/s"], &[], "cannot listen at /no/such/place/s: No such file"),
    ] {
        let upstream = Upstream::start();
        let mut setup = setup(&upstream);
        for (name, text) in files {
            setup = setup.file(&format!("../{name}"), text);
        }
        let home = setup.write();
        let output = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
            .args(["start", "--config", "config"])
            .args(words)
            .env_clear()
            .env("CLIENT_API_KEY", CLIENT_KEY)
            .env("HOME", home.path())
            .current_dir(home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
    }
}

/// What a Unix socket gives.
fn over_unix(path: &Path) -> std::io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    over_h1(stream)
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_process() {
    let upstream = upstream();
    for workers in ["1", "2"] {
        let mut gateway = setup(&upstream)
            .listening(&["http://127.0.0.1:0", "unix:mp.sock?mode=0660", "unix:own.sock"])
            .arg("--workers")
            .arg(workers)
            .start();
        let (group, own) = (gateway.home.path().join("mp.sock"), gateway.home.path().join("own.sock"));
        for (path, mode) in [(&group, 0o660), (&own, 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
            for _ in 0..4 {
                assert!(over_unix(path).unwrap().ends_with(CHAT_REPLY), "{}", path.display());
            }
            let spoken = block_on(async { over_h2(tokio::net::UnixStream::connect(path).await.unwrap()).await });
            assert_eq!(spoken, (200, Bytes::from(CHAT_REPLY)));
        }
        assert!(gateway.stderr().contains("listening on unix:mp.sock\n"), "{}", gateway.stderr());
        assert_eq!(gateway.terminate(), Some(0));
        assert!(!group.exists() && !own.exists(), "they are gone");
    }
}

#[test]
fn a_server_without_plain_http_is_asked_how_it_is() {
    let upstream = upstream();
    for only in ["https://127.0.0.1:0", "unix:own.sock"] {
        let gateway = setup(&upstream).listening(&[only]).arg("--tls-cert=cert.pem").arg("--tls-key=key.pem").start();
        let outcome = gateway.command(&["health"]).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "healthy\n"), "{only}: {outcome:?}");
        let detailed = gateway.command(&["health", "--detailed"]).env("CLIENT_API_KEY", CLIENT_KEY).run();
        assert!(detailed.stdout.contains("\"status\":\"healthy\""), "{only}: {detailed:?}");
        let doctor = gateway.command(&["doctor"]).run();
        assert!(doctor.stdout.contains("one serves at"), "{only}: {doctor:?}");
    }
}

#[test]
fn a_socket_left_behind_is_taken_over() {
    let upstream = upstream();
    let gateway = setup(&upstream).listening(&["http://127.0.0.1:0", "unix:s"]).start();
    let path = gateway.home.path().join("s");
    gateway.signal("KILL");
    assert!(comes_true(Duration::from_secs(10), || UnixStream::connect(&path).is_err()), "it has been killed");
    assert!(path.exists(), "its socket is still there");
    let place = format!("unix:{}", path.display());
    let second = setup(&upstream).listening(&["http://127.0.0.1:0", &place]).start();
    assert!(over_unix(&path).unwrap().ends_with(CHAT_REPLY));
    drop(second);
}
