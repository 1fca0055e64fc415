//! Declared paths are passed through as they are, with the same keys, failover and records as everything else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use model_proxy::wire::Format;
use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Client, Request};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, wait_until};

const EMBEDDINGS: &str = "/v1/embeddings";
const REQUEST: &str = r#"{ "input" : "Hello", "model":"m", "dimensions":1.0e2, "x_unknown": [1,  2] }"#;
const REPLY: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]}],"model":"x","usage":{"prompt_tokens":7,"total_tokens":7}}"#;

fn setup(upstream: &Upstream, passthrough: &serde_json::Value) -> Setup {
    Setup::new()
        .provider_with("p", Format::OpenaiChat, upstream, &json!({ "passthrough": passthrough }))
        .provider("q", Format::OpenaiChat, upstream)
        .env("P_API_KEY_1", "key-one")
        .env("P_API_KEY_2", "key-two")
        .env("Q_API_KEY", "key-three")
        .model("m", &[("q", "not-here"), ("p", "up-m")])
        .model("only-q", &[("q", "y")])
        .model("any/*", &[("p", "*")])
}

fn post(gateway: &Gateway, path: &str, body: &str) -> crate::support::http::Reply {
    gateway.send(&Request::post(path, body).with_key())
}

#[test]
fn a_json_body_arrives_as_it_was_but_for_the_models_name() {
    let upstream = Upstream::answering(|seen, _| match seen.headers.one("authorization") {
        Some("Bearer key-one") => Script::json(429, r#"{"error":{"message":"slow down"}}"#).header("retry-after", "9"),
        _ => Script::json(200, REPLY).header("x-request-id", "up-1").header("openai-version", "2020"),
    });
    let gateway = setup(&upstream, &json!([EMBEDDINGS])).start();
    for (model, sent) in [("m", "up-m"), ("any/text-1", "text-1")] {
        let reply = post(&gateway, "/v1/embeddings?a=b", &REQUEST.replace("\"m\"", &format!("\"{model}\"")));
        assert_eq!((reply.status, reply.text().as_str()), (200, REPLY));
        assert_eq!(reply.headers.one("x-model-proxy-attempts"), Some("2"), "the first key is limited");
        assert_eq!(reply.headers.one("x-upstream-request-id"), Some("up-1"));
        assert_eq!(
            (reply.headers.one("openai-version"), reply.headers.one("content-type")),
            (Some("2020"), Some("application/json"))
        );
        let seen = upstream.last();
        assert_eq!(
            (seen.path.as_str(), seen.text()),
            ("/v1/embeddings?a=b", REQUEST.replace("\"m\"", &format!("\"{sent}\"")))
        );
        assert_eq!(seen.headers.one("authorization"), Some("Bearer key-two"));
    }
    wait_until("the line", || {
        gateway.stderr().contains("path=/v1/embeddings model=m route=p/up-m attempts=2 status=200")
    });
    assert!(gateway.stderr().contains("input_tokens=7"), "{}", gateway.stderr());
}

/// A body may look like the bare refusals of our HTTP library, which are given words: it is no refusal, and stays.
#[test]
fn a_body_that_looks_like_a_refusal_stays_as_it_is() {
    let body = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let upstream = Upstream::answering(move |_, _| {
        Script::json(200, ["x", body].concat()).called("text/plain").cut(&[1]).between(Duration::from_millis(50))
    });
    let gateway = setup(&upstream, &json!([{ "path": "/v1/files/*", "methods": ["GET"] }])).start();
    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.send(&Request::get("/v1/files/a").with_key());
        assert_eq!((reply.status, reply.text()), (200, ["x", body].concat()));
    }
}

#[test]
fn errors_are_told_as_elsewhere() {
    let upstream = Upstream::answering(|seen, _| match seen.text().contains("bad") {
        true => Script::json(
            400,
            r#"{"error":{"message":"bad input","type":"invalid_request_error","param":"input","code":null}}"#,
        ),
        false => Script::json(401, "{}"),
    });
    let gateway = setup(&upstream, &json!([EMBEDDINGS])).start();
    for (path, body, status, says) in [
        (EMBEDDINGS, REQUEST.replace("Hello", "bad"), 400, "bad input"),
        (EMBEDDINGS, REQUEST.to_owned(), 502, "refused the proxy's own credentials"),
        (
            EMBEDDINGS,
            REQUEST.replace("\"m\"", "\"only-q\""),
            404,
            "none of the routes passes POST /v1/embeddings through; p, lmstudio, ollama, vllm do",
        ),
        (EMBEDDINGS, REQUEST.replace("\"m\"", "\"mm\""), 404, "did you mean \\\"m\\\"?"),
        (EMBEDDINGS, "{\"model\":".to_owned(), 400, "byte 9"),
        ("/v1/rerank", REQUEST.to_owned(), 404, "there is nothing at /v1/rerank"),
    ] {
        let reply = post(&gateway, path, &body);
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.text().contains(says), "{says}: {}", reply.text());
    }
    let wrong = gateway.send(&Request::get(EMBEDDINGS).with_key());
    assert_eq!((wrong.status, wrong.headers.one("allow")), (405, Some("POST")));
    assert_eq!(gateway.send(&Request::post(EMBEDDINGS, REQUEST)).status, 401, "it needs a key");
    assert_eq!(gateway.send(&Request::new("OPTIONS", EMBEDDINGS)).headers.one("allow"), Some("POST, OPTIONS"));
}

#[test]
fn who_is_meant_without_a_model_is_known_or_asked() {
    let upstream = Upstream::answering(|_, _| Script::json(200, "{}"));
    let both = setup(&upstream, &json!(["/v1/moderations", { "path": "/v1/files/*", "methods": ["GET", "DELETE"] }]))
        .provider_with("r", Format::OpenaiChat, &upstream, &json!({ "passthrough": ["/v1/moderations"] }))
        .env("R_API_KEY", "key-r");
    let gateway = both.start();
    let nameless = r#"{"input":"x"}"#;
    let asked = post(&gateway, "/v1/moderations", nameless);
    assert_eq!(asked.status, 400);
    assert!(
        asked.text().contains("p, r could be asked: name one in the header x-model-proxy-provider"),
        "{}",
        asked.text()
    );
    let named = Request::post("/v1/moderations", nameless).with_key();
    assert_eq!(gateway.send(&named.clone().header("x-model-proxy-provider", "r")).status, 200);
    assert_eq!(
        (upstream.last().headers.one("authorization"), upstream.last().text().as_str()),
        (Some("Bearer key-r"), nameless)
    );
    assert_eq!(gateway.send(&named.header("x-model-proxy-provider", "none")).status, 404);
    let get = gateway.send(&Request::get("/v1/files/file-1/content?x=y").with_key());
    assert_eq!((get.status, upstream.last().path.as_str()), (200, "/v1/files/file-1/content?x=y"));
    assert_eq!(gateway.send(&Request::new("DELETE", "/v1/files/file-1").with_key()).status, 200);
    for path in ["/v1/files/../x", "/v1/files/a//b", "/v1/files/%2e%2e/x", "/v1/files/a%2fb", "/v1/files/", "/v1/files"]
    {
        let refused = gateway.send(&Request::get(path).with_key());
        assert_eq!(refused.status, 404, "{path}: {}", refused.text());
    }
    // Of two that declare it only one has a key.
    let one = both.unset("R_API_KEY").start();
    assert_eq!(post(&one, "/v1/moderations", nameless).status, 200);
}

/// An upstream that tells when something of a request has come, and answers when it is told to.
fn slow_upstream(answer: &'static [u8]) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (tell, mut stream) = (tell.clone(), stream);
            thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                let mut last = Vec::new();
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    last.extend_from_slice(&buffer[..n]);
                    let _gone = tell.send(buffer[..n].to_vec());
                    if last.ends_with(b"--END--") || last.ends_with(b"0\r\n\r\n") {
                        let _gone = stream.write_all(answer);
                    }
                    last.drain(..last.len().saturating_sub(16));
                }
                let _gone = tell.send(Vec::new());
            });
        }
    });
    (address, told)
}

fn slow_setup(address: SocketAddr) -> Setup {
    let upstream = Upstream::start();
    let file = json!({ "passthrough": ["/v1/audio/transcriptions"], "endpoints": {
        "base_url": format!("http://{address}/v1"), "completions": "/chat/completions", "compatible_format": "openai" } });
    Setup::new()
        .provider_with("p", Format::OpenaiChat, &upstream, &file)
        .env("P_API_KEY", "key-one")
        .model("m", &[("p", "up")])
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi";

/// What has come so far holds this; waits for it.
fn until_come(told: &mpsc::Receiver<Vec<u8>>, what: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.windows(what.len()).any(|window| window == what) {
        all.extend(told.recv_timeout(Duration::from_secs(10)).unwrap());
    }
    all
}

#[test]
fn what_is_no_json_goes_on_as_it_comes() {
    let (address, told) = slow_upstream(OK);
    let gateway = slow_setup(address).start();
    let piece = vec![b'x'; 1024 * 1024];
    for chunked in [false, true] {
        let mut client = gateway.connect();
        let framing = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {}", 5 * piece.len() + 14)
        };
        client.write(format!("POST /v1/audio/transcriptions?q=1 HTTP/1.1\r\nhost: t\r\nauthorization: {CLIENT_KEY}\r\ncontent-type: multipart/form-data; boundary=b\r\naccept: text/plain\r\n{framing}\r\n\r\n").as_bytes());
        let write = |client: &mut Client, bytes: &[u8]| match chunked {
            true => client.write(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()),
            false => client.write(bytes),
        };
        write(&mut client, b"--BEG--");
        // The beginning is there before the rest was sent.
        let head = String::from_utf8_lossy(&until_come(&told, b"--BEG--")).to_lowercase();
        assert!(head.starts_with("post /v1/audio/transcriptions?q=1 http/1.1"), "{head}");
        for line in [
            "content-type: multipart/form-data; boundary=b",
            "accept: text/plain",
            "authorization: bearer key-one",
            &framing,
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        for _ in 0..5 {
            write(&mut client, &piece);
        }
        write(&mut client, b"--END--");
        if chunked {
            client.write(b"0\r\n\r\n");
        }
        let reply = client.reply();
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.headers.one("content-type")),
            (200, "hi", Some("text/plain"))
        );
        let count = until_come(&told, b"--END--").iter().filter(|byte| **byte == b'x').count();
        assert!(5 * piece.len() <= count + 64, "all of it: {count}");
    }
}

#[test]
fn an_upload_has_its_limits_and_goes_with_its_client() {
    let (address, told) = slow_upstream(OK);
    let gateway =
        slow_setup(address).env("MODEL_PROXY_BODY_BYTES", "100000").env("MODEL_PROXY_BODY_IDLE_SECONDS", "0.3").start();
    let head = |framing: &str| {
        format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: t\r\nauthorization: {CLIENT_KEY}\r\ncontent-type: application/octet-stream\r\n{framing}\r\n\r\n"
        )
    };
    let mut large = gateway.connect();
    large.write(head("content-length: 100001").as_bytes());
    assert_eq!(large.reply().status, 413, "it says so");
    let mut growing = gateway.connect();
    growing.write(head("transfer-encoding: chunked").as_bytes());
    growing.write(format!("186a1\r\n{}\r\n", "y".repeat(100_001)).as_bytes());
    let reply = growing.reply();
    assert_eq!((reply.status, reply.headers.one("retry-after")), (413, None), "{}", reply.text());
    let mut stalled = gateway.connect();
    stalled.write(head("content-length: 500").as_bytes());
    stalled.write(b"--BEG--");
    let reply = stalled.reply();
    assert_eq!((reply.status, reply.headers.one("retry-after")), (408, None), "{}", reply.text());
    assert!(reply.text().contains("did not arrive in time"), "{}", reply.text());
    until_come(&told, b"--BEG--");
    let mut leaving = gateway.connect();
    leaving.write(head("content-length: 500").as_bytes());
    leaving.write(b"--LEAVES--");
    until_come(&told, b"--LEAVES--");
    leaving.leave();
    loop {
        // An empty piece: the upstream's connection was closed.
        if told.recv_timeout(Duration::from_secs(10)).unwrap().is_empty() {
            break;
        }
    }
    assert!(!gateway.stderr().contains("no key for"), "{}", gateway.stderr());
    let fine = gateway.send(
        &Request::new("POST", "/v1/audio/transcriptions")
            .with_key()
            .body("--END--")
            .header("content-type", "audio/mpeg"),
    );
    assert_eq!(fine.status, 200, "nobody rests for it: {}", gateway.stderr());
}

#[test]
fn replies_are_what_they_are_and_a_break_is_a_break() {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let sent = bytes.clone();
    let upstream = Upstream::answering(move |seen, _| {
        let audio = Script::json(200, &sent).called("audio/mpeg");
        match seen.text().as_str() {
            text if text.contains("cut") => audio.stop_at(1000, After::Close),
            text if text.contains("events") => Script::json(200, "data: 1\n\nnonsense").called("text/event-stream"),
            text if text.contains("silent") => audio.stop_at(1000, After::Silence),
            _ => audio.header("content-disposition", "attachment"),
        }
    });
    let gateway = setup(&upstream, &json!(["/v1/audio/speech"])).start();
    let ask = |word: &str| post(&gateway, "/v1/audio/speech", &REQUEST.replace("Hello", word));
    let whole = ask("whole");
    assert!(whole.is_whole && whole.body == bytes, "{} bytes", whole.body.len());
    assert_eq!(
        (whole.headers.one("content-type"), whole.headers.one("content-disposition")),
        (Some("audio/mpeg"), Some("attachment"))
    );
    assert_eq!(ask("events").text(), "data: 1\n\nnonsense", "not looked into");
    wait_until("the lines", || gateway.stderr().matches("path=/v1/audio/speech").count() == 2);
    assert!(!gateway.stderr().contains("client_closed"), "whoever has all of it has not left: {}", gateway.stderr());
    let body = REQUEST.replace("Hello", "cut");
    let mut raw = TcpStream::connect(gateway.address).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v1/audio/speech HTTP/1.1\r\nhost: t\r\nauthorization: {CLIENT_KEY}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    raw.write_all([head, body].concat().as_bytes()).unwrap();
    let mut came = Vec::new();
    let _reset = raw.read_to_end(&mut came);
    assert!(came.len() < bytes.len(), "the connection ends before what was announced: {} bytes", came.len());
    wait_until("the line", || gateway.stderr().contains("broken=\"the upstream's answer broke off\""));
    let mut leaving = gateway.connect();
    leaving.start(&Request::post("/v1/audio/speech", REQUEST.replace("Hello", "silent")).with_key());
    leaving.leave();
    wait_until("the upstream to be let go", || 0 < upstream.departures());
}

/// What has no body is complete when its head has gone.
#[test]
fn answers_without_a_body_are_complete() {
    let upstream = Upstream::answering(|seen, _| match seen.method.as_str() {
        "DELETE" => Script::json(204, ""),
        _ => Script::json(200, ""),
    });
    let files = json!([{ "path": "/v1/files/*", "methods": ["GET", "DELETE"] }]);
    let gateway = setup(&upstream, &files).start();
    for (lines, (method, status)) in (1..).zip([("DELETE", 204), ("GET", 200)]) {
        let reply = gateway.send(&Request::new(method, "/v1/files/a").with_key().header("connection", "close"));
        assert_eq!(reply.status, status, "{method}");
        wait_until("the line", || gateway.stderr().matches("path=/v1/files/a").count() == lines);
    }
    assert!(!gateway.stderr().contains("client_closed"), "{}", gateway.stderr());
}

/// Usage is read of whatever is JSON, however long it is and whether or not it says so.
#[test]
fn usage_is_found_at_the_end_of_what_is_not_kept() {
    let long = REPLY.replace("0.1,", &"0.25,".repeat(300_000));
    let whole = long.clone();
    let upstream = Upstream::answering(move |seen, _| match seen.text().contains("long") {
        true => Script::json(200, &long),
        false => Script::stream(REPLY).called("application/json").cut(&[REPLY.len() - 20]),
    });
    let gateway = setup(&upstream, &json!([EMBEDDINGS])).start();
    assert_eq!(post(&gateway, EMBEDDINGS, &REQUEST.replace("Hello", "long")).text(), whole);
    assert_eq!(post(&gateway, EMBEDDINGS, REQUEST).text(), REPLY);
    wait_until("the lines", || gateway.stderr().matches("input_tokens=7").count() == 2);
}

/// JSON is what says so; whatever else goes on unread, and so does JSON that is no object.
#[test]
fn what_is_no_json_object_goes_on_as_it_is() {
    let upstream = Upstream::answering(|_, _| Script::json(200, "{}"));
    let gateway = setup(&upstream, &json!(["/v1/audio/transcriptions"])).start();
    for (kind, body) in [("text/plain", "hello"), ("application/json", " [1, 2]"), ("application/jsonl", "{}\n{}")] {
        let request = Request::new("POST", "/v1/audio/transcriptions").with_key().body(body);
        let reply = gateway.send(&request.header("content-type", kind).header("x-model-proxy-model", "m"));
        assert_eq!((reply.status, upstream.last().text().as_str()), (200, body), "{kind}: {}", reply.text());
    }
}

/// Who may ask for some models only must name the model where it can be read.
#[test]
fn what_a_client_may_is_not_gone_around() {
    let upstream = Upstream::answering(|_, _| Script::json(200, "{}"));
    let sha = |key: &str| {
        data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()).as_ref())
    };
    let client = |key: &str, rest: &str| format!(r#"{{"key_sha256":"{}",{rest}}}"#, sha(key));
    let gateway = setup(&upstream, &json!(["/v1/audio/transcriptions", "/v1/moderations"]))
        .file("clients/some.json", &client("key-some", r#""models":["m"]"#))
        .file("clients/none.json", &client("key-none", r#""models":[]"#))
        .file("clients/limited.json", &client("key-limited", r#""per_model":{"m":{"requests_per_minute":9}}"#))
        .start();
    let upload = Request::new("POST", "/v1/audio/transcriptions")
        .body("--x")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("x-model-proxy-model", "m");
    let json = Request::post("/v1/audio/transcriptions", r#"{"model":"m"}"#);
    let nameless = Request::post("/v1/moderations", "{}");
    for (key, statuses) in [
        ("key-some", [403, 200, 403]),
        ("key-none", [403, 403, 403]),
        ("key-limited", [403, 200, 200]),
        (CLIENT_KEY, [200; 3]),
    ] {
        for (request, status) in [&upload, &json, &nameless].into_iter().zip(statuses) {
            let reply = gateway.send(&request.clone().header("authorization", key));
            assert_eq!(reply.status, status, "{key}: {}", reply.text());
        }
    }
    assert_eq!(upstream.count(), 6);
}

#[test]
fn what_is_declared_wrongly_is_told_with_its_place() {
    for (passthrough, says) in [
        (json!(["/v1/chat/completions"]), "/passthrough/0: \"/v1/chat/completions\" is served already"),
        (json!(["/v1/embeddings", "/v1/embeddings"]), "/passthrough/1: \"/v1/embeddings\" stands here twice"),
        (
            json!(["v1/embeddings"]),
            "/passthrough/0: \"v1/embeddings\" is no path of ours; a path is like /v1/embeddings",
        ),
        (json!([{ "path": "/v1/files/*", "upstream": "/files" }]), "needs a * in both of its paths, or in none"),
        (json!([{ "upstream": "/files" }]), "the field \"path\" is missing"),
        (json!([{ "path": "/v1/x", "methods": ["LOOK"] }]), "/passthrough/0/methods/0"),
    ] {
        let upstream = Upstream::start();
        let home = setup(&upstream, &passthrough).write();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_model-proxy"))
            .args(["config", "validate", "--config", "config"])
            .current_dir(home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(says), "{passthrough}: {said}");
    }
}
