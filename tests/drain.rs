//! How it ends: nobody who has sent a request is left without an answer.

use std::thread;
use std::time::Duration;

use model_proxy::wire::Format;

use crate::support::gateway::Setup;
use crate::support::http::Request;
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST};
use crate::support::upstream::{Script, Upstream};

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
    let ask = |mut client: crate::support::http::Client| {
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
