//! A client over HTTP/2 that leaves: its stream is reset, its connection lives on, and the upstream is let go. (Those
//! over HTTP/1 stand in the matrix of faults.)

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_proxy::wire::Format;

use crate::support::gateway::Setup;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true};

/// Where in its answer a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    WaitingForTheHead,
    InTheStream,
    InTheWholeReply,
}

const ALL: [Leaves; 3] = [Leaves::WaitingForTheHead, Leaves::InTheStream, Leaves::InTheWholeReply];

/// The upstream's first answer, which never ends.
fn endless(side: &Side, leaves: Leaves) -> Script {
    match leaves {
        Leaves::WaitingForTheHead => Script::nothing(After::Silence),
        Leaves::InTheStream => {
            let at = side.stream.find("day").unwrap();
            Script::stream(side.stream).stop_at(at, After::Silence)
        }
        Leaves::InTheWholeReply => Script::json(200, side.reply).stop_at(side.reply.len() / 2, After::Silence),
    }
}

#[test]
fn a_client_over_http2_that_leaves_lets_the_upstream_go_and_cools_nobody() {
    for (side, client) in SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client))) {
        for leaves in ALL {
            let upstream = Upstream::answering(move |seen, n| match n {
                0 => endless(&side, leaves),
                _ if seen.wants_stream() => Script::stream(side.stream),
                _ => Script::json(200, side.reply),
            });
            let gateway = Setup::simple(side.format, &upstream).start();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
                let (mut sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                let driver = tokio::spawn(connection);
                let body = match leaves {
                    Leaves::InTheStream => client.stream_request,
                    Leaves::WaitingForTheHead | Leaves::InTheWholeReply => client.request,
                };
                let ask = |body: &'static str| {
                    http::Request::post(format!("http://{}{}", gateway.address, client.path))
                        .header("authorization", format!("Bearer {CLIENT_KEY}"))
                        .header("content-type", "application/json")
                        .body(Full::new(Bytes::from_static(body.as_bytes())))
                        .unwrap()
                };
                if let Leaves::InTheStream = leaves {
                    let mut reply = sender.send_request(ask(body)).await.unwrap().into_body();
                    let first = reply.frame().await.unwrap().unwrap().into_data().unwrap();
                    assert!(!first.is_empty(), "output has come");
                } else {
                    let waiting = tokio::time::timeout(Duration::from_millis(300), sender.send_request(ask(body)));
                    assert!(waiting.await.is_err(), "there is no answer yet");
                }
                let gone = async {
                    while upstream.departures() == 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                assert!(
                    tokio::time::timeout(Duration::from_secs(1), gone).await.is_ok(),
                    "{leaves:?}: the upstream is let go"
                );
                // The connection and the key serve the next request.
                let reply = sender.send_request(ask(client.request)).await.unwrap();
                assert_eq!(reply.status(), 200, "{leaves:?}");
                drop(reply.into_body().collect().await.unwrap());
                driver.abort();
            });
            let told = || gateway.stderr().matches("client_closed").count();
            assert!(comes_true(Duration::from_secs(5), || told() == 1), "{leaves:?}: {}", gateway.stderr());
            assert_eq!(upstream.count(), 2, "nothing is tried for who has left");
        }
    }
    assert_eq!(Format::ALL.len(), SIDES.len(), "every format has its side");
}
