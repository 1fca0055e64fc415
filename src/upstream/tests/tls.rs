//! TLS, HTTP/2 and proxies.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::Response;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::route::table::{Proxy, ProxyAuthorization};

/// Self-signed, for `localhost` and `127.0.0.1`; trusted by nobody but these tests.
const CERTIFICATE: &[u8] = include_bytes!("../testdata/localhost.cert.pem");
const KEY: &[u8] = include_bytes!("../testdata/localhost.key.pem");

fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn trusting() -> Upstream {
    upstream_with(tls_config(Some(CERTIFICATE)).unwrap(), Keep::default())
}

/// What a client gets, and what the server saw.
struct Seen {
    origin: Arc<Origin>,
    connections: Arc<AtomicUsize>,
    /// A word for each body that was dropped before its end.
    cut: mpsc::UnboundedReceiver<()>,
}

/// Serves TLS. `/hang` begins an answer that never ends; all else is echoed, head first.
async fn serve_tls(protocols: &[&[u8]], streams_max: u32) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(protocols);
    let connections = Arc::new(AtomicUsize::new(0));
    let (tell, cut) = mpsc::unbounded_channel();
    let count = Arc::clone(&connections);
    drop(spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            count.fetch_add(1, Ordering::Relaxed);
            let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let tell = tell.clone();
            let service = service_fn(move |request: Request<Incoming>| echo(request, tell.clone()));
            let io = TokioIo::new(tls);
            let exec = hyper_util::rt::TokioExecutor::new();
            drop(spawn(async move {
                if is_h2 {
                    let mut builder = hyper::server::conn::http2::Builder::new(exec);
                    builder.max_concurrent_streams(streams_max).timer(TokioTimer::new());
                    drop(builder.serve_connection(io, service).await);
                } else {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                }
            }));
        }
    }));
    let origin = Arc::new(Origin { tls: true, ..Origin::clone(&origin(port)) });
    Seen { origin, connections, cut }
}

async fn echo(request: Request<Incoming>, tell: mpsc::UnboundedSender<()>) -> Result<Response<Echo>, Infallible> {
    let (head, mut body) = request.into_parts();
    let host = head.headers.get(header::HOST).map(|h| h.to_str().unwrap());
    let mut whole = BytesMut::from(format!("{:?} {} {host:?} ", head.version, head.uri).as_bytes());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(frame) = frame {
            whole.extend_from_slice(&frame.into_data().unwrap());
        }
    }
    let hangs = head.uri.path() == "/hang";
    Ok(Response::new(Echo { first: Some(whole.freeze()), hangs, tell }))
}

struct Echo {
    first: Option<Bytes>,
    hangs: bool,
    tell: mpsc::UnboundedSender<()>,
}

impl HttpBody for Echo {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None if self.hangs => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if self.hangs {
            self.tell.send(()).unwrap_or(());
        }
    }
}

#[tokio::test]
async fn trusts_the_extra_ca_and_nobody_else() {
    let seen = serve_tls(&[b"http/1.1"], 9).await;
    let upstream = trusting();
    for reused in [false, true] {
        let answer = upstream.send(post(&seen.origin, "{}")).await.unwrap();
        assert_eq!(answer.reused, reused);
        let host = seen.origin.authority();
        assert_eq!(text(answer).await, format!("HTTP/1.1 /v1/x?y=1 Some({host:?}) {{}}"));
    }
    let error = super::upstream().send(post(&seen.origin, "{}")).await.unwrap_err();
    assert_eq!((error.stage, error.what), (Stage::Connect, What::Tls), "{}", words(&error));
    // The proxy leads to the same server, whatever name is asked for.
    let (port, _heads) = proxy("HTTP/1.1 200 OK\r\n\r\n", Some(seen.origin.port)).await;
    let misnamed = through(&Origin { host: "other.invalid".into(), ..Origin::clone(&seen.origin) }, port);
    let error = trusting().send(post(&misnamed, "{}")).await.unwrap_err();
    assert_eq!((error.stage, error.what), (Stage::Connect, What::Tls), "{}", words(&error));
}

#[tokio::test]
async fn a_burst_shares_one_http2_connection() {
    let seen = serve_tls(&[b"h2", b"http/1.1"], 99).await;
    let upstream = trusting();
    let burst: Vec<_> = (0..20)
        .map(|_| {
            let (upstream, outgoing) = (upstream.clone(), post(&seen.origin, "{}"));
            spawn(async move { text(upstream.send(outgoing).await.unwrap()).await })
        })
        .collect();
    let host = seen.origin.authority();
    for task in burst {
        assert_eq!(task.await.unwrap(), format!("HTTP/2.0 https://{host}/v1/x?y=1 None {{}}"));
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    assert!(upstream.send(post(&seen.origin, "{}")).await.unwrap().reused, "and so do later ones");
}

#[tokio::test]
async fn whoever_leaves_resets_only_its_own_stream() {
    let mut seen = serve_tls(&[b"h2"], 99).await;
    let upstream = trusting();
    let hang = || Outgoing { path: PathAndQuery::from_static("/hang"), ..post(&seen.origin, "x") };
    let mut stays = upstream.send(hang()).await.unwrap();
    stays.body.chunk().await.unwrap().unwrap();
    let mut leaves = upstream.send(hang()).await.unwrap();
    leaves.body.chunk().await.unwrap().unwrap();
    drop(leaves);
    timeout(SECS_5, seen.cut.recv()).await.unwrap().unwrap();
    assert!(seen.cut.try_recv().is_err(), "the other goes on");
    assert!(upstream.send(post(&seen.origin, "{}")).await.unwrap().reused, "the connection lives");
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    drop(stays);
    timeout(SECS_5, seen.cut.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_whose_streams_are_taken_gets_a_neighbour() {
    let seen = serve_tls(&[b"h2"], 1).await;
    let upstream = trusting();
    let hang = || Outgoing { path: PathAndQuery::from_static("/hang"), ..post(&seen.origin, "x") };
    // The first learns what the server allows.
    text(upstream.send(post(&seen.origin, "{}")).await.unwrap()).await;
    let first = upstream.send(hang()).await.unwrap();
    let second = upstream.send(hang()).await.unwrap();
    assert_eq!((first.reused, second.reused), (true, false));
    assert_eq!(seen.connections.load(Ordering::Relaxed), 2);
}

/// A proxy that answers CONNECT with `reply` and then, if that is a 200, passes bytes on. Gives its requests' heads.
async fn proxy(reply: &'static str, target: Option<u16>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heads) = mpsc::unbounded_channel();
    drop(spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Some(head) = read_request(&mut client).await else { continue };
            drop(tell.send(head));
            client.write_all(reply.as_bytes()).await.unwrap();
            if let Some(target) = target {
                let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                drop(spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) }));
            }
        }
    }));
    (port, heads)
}

fn through(origin: &Origin, port: u16) -> Arc<Origin> {
    let authorization = Some(ProxyAuthorization("Basic dTpw".into()));
    Arc::new(Origin { proxy: Some(Proxy { host: "127.0.0.1".into(), port, authorization }), ..origin.clone() })
}

#[tokio::test]
async fn a_proxy_opens_the_way_to_a_tls_origin() {
    let seen = serve_tls(&[b"http/1.1"], 9).await;
    let (port, mut heads) = proxy("HTTP/1.1 200 Fine\r\nvia: x\r\n\r\n", Some(seen.origin.port)).await;
    let origin = through(&seen.origin, port);
    let upstream = trusting();
    for reused in [false, true] {
        let answer = upstream.send(post(&origin, "{}")).await.unwrap();
        assert_eq!(answer.reused, reused);
        assert!(!text(answer).await.contains("Basic"), "the origin does not see the proxy's password");
    }
    let target = seen.origin.authority();
    let expect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
    assert_eq!(heads.recv().await.unwrap(), expect);
    assert!(heads.try_recv().is_err(), "one connection for both");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_from_one_that_is_none() {
    let long: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000)).into());
    for (reply, what) in [
        ("HTTP/1.1 407 Who are you\r\n\r\n", What::ProxyRefused(407)),
        ("HTTP/1.1 502 No\r\ncontent-length: 2\r\n\r\nno", What::ProxyRefused(502)),
        ("220 mail ready\r\n\r\n", What::Proxy),
        ("HTTP/1.1 200 OK\r\n\r\nearly", What::Proxy),
        ("HTTP/1.1 200 OK\r\n", What::Proxy),
        (long, What::Proxy),
    ] {
        let (port, _heads) = proxy(reply, None).await;
        let origin = through(&Origin { tls: true, host: "a.invalid".into(), port: 443, proxy: None }, port);
        let error = trusting().send(post(&origin, "{}")).await.unwrap_err();
        assert_eq!((error.stage, error.what), (Stage::Connect, what), "{}", words(&error));
        assert!(!format!("{error:?} {}", words(&error)).contains("dTpw"), "no password in errors");
    }
}

#[tokio::test]
async fn a_proxy_is_given_whole_addresses_of_plain_origins() {
    let (port, mut heads) = proxy(OK, None).await;
    let origin = through(&Origin { tls: false, host: "a.invalid".into(), port: 8080, proxy: None }, port);
    assert_eq!(text(upstream().send(post(&origin, "{}")).await.unwrap()).await, "hi");
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("POST http://a.invalid:8080/v1/x?y=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("host: a.invalid:8080\r\n") && head.contains("proxy-authorization: Basic dTpw\r\n"),
        "{head}"
    );
}
