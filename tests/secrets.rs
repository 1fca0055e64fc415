//! No key is shown (LIMITS R28): a gateway is driven through faults whose upstreams repeat every key they can, and then
//! everything that it and the commands have said or written is searched for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use model_proxy::wire::Format;
use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{CHAT_REPLY, SIDES, Side};
use crate::support::upstream::{After, Script, Seen, Upstream};
use crate::support::wait_until;

/// Keys that stand nowhere else. One holds what JSON may escape.
const CANARIES: [(&str, &str); 7] = [
    ("P_API_KEY_1", "sk-canary-one-0123456789abcdef"),
    ("P_API_KEY_2", "sk/canary/two/0123456789abcdef"),
    ("Q_API_KEY", "sk-canary-three-0123456789abcdef"),
    ("CLIENT_API_KEY", "client-canary-0123456789abcdef"),
    ("HEADER_SECRET", "header-canary-0123456789abcdef"),
    ("QUERY_SECRET", "query-canary-0123456789abcdef"),
    // Of a provider that no model names.
    ("R_API_KEY", "sk-canary-four-0123456789abcdef"),
];

/// What an upstream says that repeats all it was sent and more: the keys of others too.
fn echo(seen: &Seen) -> String {
    let sent = format!("{:?}", seen.headers);
    let all: Vec<&str> = CANARIES.iter().map(|(_, key)| *key).filter(|key| !key.starts_with("client")).collect();
    format!("no such key: {} {sent}", all.join(" "))
}

/// Faults by a word in the prompt.
fn answer(seen: &Seen, _: usize) -> Script {
    let (text, told) = (seen.text(), echo(seen));
    let status = text.split("status ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(500);
    let is_chat = text.contains("chat-upstream");
    let error = match is_chat {
        true => json!({ "error": { "message": told, "type": told, "param": told, "code": told } }),
        false => json!({ "type": "error", "error": { "type": "api_error", "message": told } }),
    };
    if text.contains("escaped") {
        return Script::json(status, error.to_string().replace('/', "\\/"));
    }
    if text.contains("plain") {
        return Script::json(status, told);
    }
    if text.contains("headers") {
        return Script::json(status, error.to_string())
            .header("x-request-id", &told)
            .header("x-ratelimit-limit-requests", CANARIES[0].1);
    }
    if text.contains("fine") {
        return Script::json(200, CHAT_REPLY)
            .header("x-request-id", &format!("id {}", CANARIES[1].1))
            .header("openai-version", CANARIES[0].1)
            .header("x-ratelimit-limit-tokens", CANARIES[4].1)
            .header("content-disposition", CANARIES[6].1);
    }
    if text.contains("late in-stream") {
        let side = if is_chat { SIDES[0] } else { SIDES[1] };
        let event = if is_chat { format!("data: {error}\n\n") } else { format!("event: error\ndata: {error}\n\n") };
        let (mark, behind) = if is_chat { ("finish_reason\":\"stop", 2) } else { ("event: message_stop", 0) };
        let at = side.stream.find(mark).unwrap();
        let at = if behind == 0 { at } else { at + side.stream[at..].find("\n\n").unwrap() + behind };
        return Script::stream([&side.stream[..at], &event].concat());
    }
    if text.contains("in-stream") {
        let side = if is_chat { SIDES[0] } else { SIDES[1] };
        let at = side.stream.find("day").unwrap();
        let begun = &side.stream[..side.stream[..at].rfind("\n\n").unwrap() + 2];
        let event = if is_chat { format!("data: {error}\n\n") } else { format!("event: error\ndata: {error}\n\n") };
        return Script::stream([begun, &event].concat());
    }
    if text.contains("redirect") {
        return Script::json(302, "{}").header("location", &format!("http://elsewhere.test/?key={}", CANARIES[0].1));
    }
    if text.contains("garbage") {
        return Script::raw(format!("HTTP/9 {told}\r\n\r\n"));
    }
    if text.contains("cut") {
        return Script::json(200, &told).stop_at(told.len() / 2, After::Close);
    }
    Script::json(status, error.to_string())
}

const FAULTS: [&str; 14] = [
    "status 401",
    "status 402",
    "status 403",
    "status 400",
    "status 404",
    "status 422",
    "status 429 headers",
    "status 500 plain",
    "status 401 escaped",
    "status 400 escaped",
    "fine",
    "redirect",
    "garbage",
    "cut",
];

fn setup(side: &Side, upstream: &Upstream) -> Setup {
    let header = if side.format == Format::OpenaiChat {
        ("Authorization", "Bearer {api_key}")
    } else {
        ("x-api-key", "{api_key}")
    };
    let provider = json!({ "authentication": {
        "header_name": header.0, "header_format": header.1, "additional_headers": { "x-extra": "Token ${HEADER_SECRET}" } },
        "passthrough": ["/v1/audio/speech", { "path": "/v1/rerank", "upstream": "/v1/rerank?key=${QUERY_SECRET}" }] });
    let other = json!({ "passthrough": ["/v1/moderations"] });
    let setup = Setup::new().env("MODEL_PROXY_LOG_BODIES", "all");
    let setup = CANARIES.iter().fold(setup, |setup, (name, key)| setup.env(name, key));
    setup
        .provider_with("p", side.format, upstream, &provider)
        .provider("q", side.format, upstream)
        .provider_with("r", side.format, upstream, &other)
        .model("m", &[("p", "x")])
        .model("n", &[("q", "y")])
        .arg("--log-level")
        .arg("debug")
}

/// Everything in a folder.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => files(&entry.path(), into),
            false => into.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
        }
    }
}

/// All that was said, by whom.
#[derive(Default)]
struct Heard(Vec<(String, Vec<u8>)>);

impl Heard {
    #[track_caller]
    fn holds_no_key(&self) {
        assert!(100 < self.0.len(), "{} things were said", self.0.len());
        for (who, bytes) in &self.0 {
            let text = String::from_utf8_lossy(bytes);
            for (name, key) in CANARIES {
                for spelled in [key.to_owned(), key.replace('/', "\\/")] {
                    assert!(!text.contains(&spelled), "{who} shows {name}: {text}");
                }
            }
        }
    }

    fn ask(&mut self, gateway: &Gateway, what: &str, request: &Request) {
        let reply = gateway.send(request);
        self.0.push((
            format!("the reply to {what}"),
            format!("{} {:?}\n{}", reply.status, reply.headers, reply.text()).into_bytes(),
        ));
    }

    /// What is passed through: to a provider that a model names, with a query of its own, and to one that none does.
    fn ask_passages(&mut self, gateway: &Gateway, client: Side, mark: &str) {
        for fault in FAULTS {
            for (path, named) in [
                ("/v1/audio/speech", r#""model":"m","#),
                ("/v1/rerank", r#""model":"m","#),
                ("/v1/moderations", r#""input":1,"#),
            ] {
                let body = client.request.replace("Hello", &format!("{mark} {fault}"));
                let request = Request::post(path, body.replace(r#""model":"m","#, named));
                let request = request.header("x-api-key", CANARIES[3].1).header("x-model-proxy-provider", "r");
                self.ask(gateway, &format!("{fault} of {path} at {mark}"), &request);
            }
        }
    }
}

#[test]
fn no_key_is_shown_whatever_goes_wrong() {
    let mut heard = Heard::default();
    for side in SIDES {
        let upstream = Upstream::answering(answer);
        let mut gateway = setup(&side, &upstream).env("KEY_COOLDOWN_SECONDS", "0").start();
        let mark = if side.format == Format::OpenaiChat { "chat-upstream" } else { "messages-upstream" };
        for client in SIDES {
            for fault in FAULTS.iter().chain(&["in-stream", "late in-stream"]) {
                for (model, body) in [
                    ("m", client.request),
                    ("n", client.request),
                    ("m", client.stream_request),
                    ("n", client.stream_request),
                ] {
                    let body =
                        body.replace("Hello", &format!("{mark} {fault}")).replace("\"m\"", &format!("\"{model}\""));
                    let request = Request::post(client.path, body).header("x-api-key", CANARIES[3].1);
                    heard.ask(&gateway, &format!("{fault} of {mark}"), &request);
                }
            }
            heard.ask_passages(&gateway, client, mark);
            let count = Request::post(
                "/v1/messages/count_tokens",
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{mark} status 401"}}]}}"#),
            );
            heard.ask(&gateway, "a count", &count.header("x-api-key", CANARIES[3].1));
        }
        for (what, request) in [
            ("another key", Request::post(side.path, side.request).header("x-api-key", &format!("{}x", CANARIES[3].1))),
            ("no path", Request::get("/v1/none").header("authorization", CANARIES[3].1)),
            ("health", Request::get("/health/detailed").header("authorization", CANARIES[3].1)),
            ("models", Request::get("/v1/models").header("authorization", CANARIES[3].1)),
            ("nonsense", Request::post(side.path, "{").header("authorization", CANARIES[3].1)),
        ] {
            heard.ask(&gateway, what, &request);
        }
        // A configuration that is wrong, and one whose keys have changed.
        gateway.home.write("config/providers/q.json", "{\"name\": 5}");
        gateway.signal("HUP");
        wait_until("the complaint", || gateway.stderr().contains("not reloaded"));
        heard.0.push(("the log".to_owned(), gateway.stderr().into_bytes()));
        assert!(gateway.stderr().contains("sk-…cdef"), "keys were there to be hidden: {}", gateway.stderr());
        // The journal's last rows too.
        assert_eq!(gateway.terminate(), Some(0));
        let mut written = Vec::new();
        files(gateway.home.path(), &mut written);
        heard.0.extend(written);
        drop(gateway);
        let home = setup(&side, &upstream).write();
        for words in [
            &["config", "validate"][..],
            &["config", "list", "--format", "json"],
            &["config", "show", "m"],
            &["config", "explain", "m"],
            &["config", "explain", "m", "--format", "json"],
            &["keys", "list", "--format", "json"],
            &["route", "test", "m", "--outcome", "401"],
            &["health", "--detailed"],
            &["convert", "--from", "openai_chat", "--to", "anthropic", "--model", "m", "none.json"],
            &["version"],
            &["start", "--port", "x"],
        ] {
            let output = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
                .args(words)
                .env_clear()
                .envs(CANARIES)
                .current_dir(home.path())
                .output()
                .unwrap();
            heard.0.push((format!("{words:?}"), [output.stdout, output.stderr].concat()));
        }
    }
    heard.holds_no_key();
}
