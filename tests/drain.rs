//! How it ends: nobody who has sent a request is left without an answer.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_proxy::wire::Format;

use crate::support::gateway::Setup;
use crate::support::http::{Client, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, SIDES};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true, wait_until};

/// How long the upstream thinks: long enough for the signal to come in between.
const THINKING: Duration = Duration::from_millis(500);

#[test]
fn a_request_that_is_open_is_answered_and_an_idle_connection_closed() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY).before_head(THINKING));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let mut idle = gateway.connect();
    assert_eq!(idle.send(&Request::get("/health")).status, 200);
    let mut open = gateway.connect();
    open.ask(&Request::post(CHAT, CHAT_REQUEST).with_key());
    upstream.wait_for(1);
    let answered = thread::spawn(move || open.reply());
    assert_eq!(gateway.terminate(), Some(0));
    let reply = answered.join().unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn clients_that_ask_all_the_time_are_told_before_their_connection_ends() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let ask = |mut client: Client| {
        // Ends when told; a connection that breaks before fails the test.
        thread::spawn(move || {
            loop {
                let reply = client.send(&Request::post(CHAT, CHAT_REQUEST).with_key());
                assert_eq!(reply.status, 200, "{}", reply.text());
                if reply.headers.one("connection") == Some("close") {
                    break;
                }
            }
        })
    };
    let clients: Vec<_> = (0..4).map(|_| ask(gateway.connect())).collect();
    upstream.wait_for(20);
    assert_eq!(gateway.terminate(), Some(0));
    for client in clients {
        client.join().unwrap();
    }
}

/// All that is left of a stream.
fn rest(mut client: Client) -> String {
    let mut text = String::new();
    while let Ok(Some(piece)) = client.piece() {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

#[test]
fn two_hundred_streams_are_let_go_on_to_their_ends() {
    for side in SIDES {
        let at = side.stream.find("day").unwrap();
        let upstream = Upstream::answering(move |_, _| Script::stream(side.stream).cut(&[at]).between(THINKING));
        let mut gateway = Setup::simple(side.format, &upstream).arg("--drain-seconds").arg("20").start();
        let ask = |_| {
            let mut client = gateway.connect();
            client.ask(&Request::post(side.path, side.stream_request).with_key());
            thread::spawn(move || {
                assert_eq!(client.head().0, 200);
                rest(client)
            })
        };
        let streams: Vec<_> = (0..200).map(ask).collect();
        upstream.wait_for(200);
        assert_eq!(gateway.terminate(), Some(0));
        for stream in streams {
            let text = stream.join().unwrap();
            assert!(side.has_ended_well(&text), "{text}");
        }
        let told = || {
            let said = gateway.stderr();
            said.contains("requests are open and have 20 s to end") && said.ends_with("info stopped\n")
        };
        assert!(comes_true(Duration::from_secs(5), told), "{}", gateway.stderr());
    }
}

#[test]
fn what_is_open_at_the_deadline_is_told_so_in_its_format() {
    for (side, client) in SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client))) {
        let at = side.stream.find("day").unwrap();
        let upstream = Upstream::answering(move |seen, _| match seen.wants_stream() {
            true => Script::stream(side.stream).stop_at(at, After::Silence),
            false => Script::nothing(After::Silence),
        });
        let mut gateway = Setup::simple(side.format, &upstream).arg("--drain-seconds").arg("0.5").start();
        let mut stream = gateway.connect();
        assert_eq!(stream.start(&Request::post(client.path, client.stream_request).with_key()).0, 200);
        let mut whole = gateway.connect();
        whole.ask(&Request::post(client.path, client.request).with_key());
        upstream.wait_for(2);
        let asked = Instant::now();
        let (streamed, replied) = (thread::spawn(move || rest(stream)), thread::spawn(move || whole.reply()));
        assert_eq!(gateway.terminate(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        let (text, reply) = (streamed.join().unwrap(), replied.join().unwrap());
        assert!(text.contains("Good") && text.contains("the proxy is stopping"), "{text}");
        assert!(!client.has_ended_well(&text), "{text}");
        assert_eq!((reply.status, client.error_message(&reply).as_str()), (503, "the proxy is stopping; ask again"));
        let told = || {
            let said = gateway.stderr();
            let lines = said.matches(" req_").count();
            said.contains("2 requests are still open") && said.contains("2 requests were told") && lines == 2
        };
        assert!(comes_true(Duration::from_secs(5), told), "each has its line: {}", gateway.stderr());
    }
}

#[test]
fn without_requests_the_end_is_there_at_once() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    // A connection to the upstream rests now; it does not hold anything up.
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    let asked = Instant::now();
    assert_eq!(gateway.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(comes_true(Duration::from_secs(1), || upstream.closed() == 1), "and is closed");
}

#[test]
fn over_http2_too_what_is_open_at_the_deadline_is_told_so() {
    let side = SIDES[1];
    let at = side.stream.find("day").unwrap();
    let upstream = Upstream::answering(move |seen, _| match seen.wants_stream() {
        true => Script::stream(side.stream).stop_at(at, After::Silence),
        false => Script::nothing(After::Silence),
    });
    let mut gateway = Setup::simple(side.format, &upstream).arg("--drain-seconds").arg("0.5").start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut ask = |body: &'static str| {
            let request = http::Request::post(format!("http://{}{}", gateway.address, side.path))
                .header("authorization", format!("Bearer {CLIENT_KEY}"))
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .unwrap();
            tokio::spawn(sender.send_request(request))
        };
        let streamed = ask(side.stream_request).await.unwrap().unwrap().into_body();
        let whole = ask(side.request);
        while upstream.count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.signal("TERM");
        let text = streamed.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("Good") && text.contains("the proxy is stopping"), "{text}");
        assert!(!side.has_ended_well(&text), "{text}");
        assert_eq!(whole.await.unwrap().unwrap().status(), 503);
        driver.await.unwrap().unwrap();
    });
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn whoever_is_still_sending_at_the_deadline_is_told_so_too() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    for side in SIDES {
        let mut gateway = Setup::simple(side.format, &upstream).arg("--drain-seconds").arg("0.3").start();
        let mut client = gateway.connect();
        let path = side.path;
        client.write(
            format!(
                "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-length: 99\r\n\r\n{{"
            )
            .as_bytes(),
        );
        assert_eq!(gateway.connect().send(&Request::get("/health")).status, 200, "that has been read by now");
        let asked = Instant::now();
        assert_eq!(gateway.terminate(), Some(0));
        let reply = client.reply();
        assert_eq!((reply.status, side.error_message(&reply).as_str()), (503, "the proxy is stopping; ask again"));
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up_and_is_not_said_to_have_left() {
    let event = CHAT_EVENT.repeat(200_000);
    let upstream = Upstream::answering(move |_, _| Script::stream(&event));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).arg("--drain-seconds").arg("0.3").start();
    let mut client = gateway.connect();
    assert_eq!(client.start(&Request::post(CHAT, SIDES[0].stream_request).with_key()).0, 200);
    // Time for all buffers to fill up.
    thread::sleep(THINKING);
    let asked = Instant::now();
    assert_eq!(gateway.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    let said = gateway.stderr();
    assert!(said.contains("broken=\"the proxy stopped") && !said.contains(" client_"), "{said}");
    assert!(said.ends_with("0 requests were told that they were cut, 1 could not be told\n"), "{said}");
}

const CHAT_EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more and more of it\"}}]}\n\n";

#[test]
fn health_says_that_the_end_has_begun_and_a_second_signal_ends_at_once() {
    let upstream = Upstream::answering(|_, _| Script::nothing(After::Silence));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let mut open = gateway.connect();
    open.ask(&Request::post(CHAT, CHAT_REQUEST).with_key());
    upstream.wait_for(1);
    // Idle connections are closed soon: these have begun to ask before the signal.
    let paths = ["/health", "/health/detailed", "/readyz?verbose", "/livez"];
    let mut asking: Vec<(Client, &str)> = paths.map(|path| (gateway.connect(), path)).into();
    for (client, path) in &mut asking {
        client.write(format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {CLIENT_KEY}\r\n").as_bytes());
    }
    assert_eq!(gateway.connect().send(&Request::get("/health")).status, 200, "these have been read by now");
    gateway.signal("TERM");
    wait_until("the end to begin", || gateway.stderr().contains("stopping: 1 requests are open"));
    // Longer than idle connections are kept.
    thread::sleep(THINKING);
    assert!(std::net::TcpStream::connect(gateway.address).is_err(), "nobody new is let in");
    for (client, path) in &mut asking {
        client.write(b"host: t\r\n\r\n");
        let reply = client.reply();
        match *path {
            "/livez" => assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"), "it lives"),
            "/readyz?verbose" => {
                let said = "[-]serving failed\n[+]a usable key ok\nnot ready\n";
                assert_eq!((reply.status, reply.text().as_str()), (503, said));
            }
            _ => assert_eq!((reply.status, reply.json()["status"].as_str()), (503, Some("draining")), "{path}"),
        }
        assert_eq!(reply.headers.one("connection"), Some("close"), "{path}");
    }
    let asked = Instant::now();
    gateway.signal("INT");
    assert_eq!(gateway.ended(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(gateway.stderr().ends_with("stopped at once\n"), "{}", gateway.stderr());
}

#[test]
fn two_hundred_streams_go_on_up_to_the_deadline_and_not_beyond() {
    for side in SIDES {
        let at = side.stream.find("day").unwrap();
        let upstream = Upstream::answering(move |_, _| Script::stream(side.stream).stop_at(at, After::Silence));
        let setup = Setup::simple(side.format, &upstream).arg("--workers").arg("2").arg("--drain-seconds").arg("1");
        let mut gateway = setup.start();
        let ask = |_| {
            let mut client = gateway.connect();
            assert_eq!(client.start(&Request::post(side.path, side.stream_request).with_key()).0, 200);
            thread::spawn(move || (rest(client), Instant::now()))
        };
        let streams: Vec<_> = (0..200).map(ask).collect();
        let asked = Instant::now();
        assert_eq!(gateway.terminate(), Some(0));
        for stream in streams {
            let (text, ended) = stream.join().unwrap();
            assert!(text.contains("the proxy is stopping") && !side.has_ended_well(&text), "{text}");
            let took = ended - asked;
            assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
        }
        let said = gateway.stderr();
        assert!(said.contains("200 requests are still open") && said.contains("200 requests were told"), "{said}");
    }
}

#[test]
fn a_client_over_http2_that_says_nothing_holds_nothing_up() {
    let mut gateway = Setup::new().start();
    let mut client = gateway.connect();
    // Its preface and empty settings. It answers no ping, and so never says that it knows of the end.
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(gateway.connect().send(&Request::get("/health")).status, 200, "that has been read by now");
    let asked = Instant::now();
    assert_eq!(gateway.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    client.leave();
}
