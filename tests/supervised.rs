//! Who starts it, watches it and collects what it says: supervisors, and their logs.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use model_proxy::wire::Format;
use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST};
use crate::support::upstream::{Script, Upstream};
use crate::support::{TempDir, wait_until};

#[test]
fn a_log_for_machines_is_one_object_a_line() {
    let upstream = Upstream::answering(|_, n| match n {
        0 => Script::json(503, r#"{"error":{"message":"a \"bad\" day"}}"#),
        _ => Script::json(200, CHAT_REPLY),
    });
    let setup = Setup::simple(Format::OpenaiChat, &upstream).provider("q", Format::OpenaiChat, &upstream);
    // A warning at the start is a line too.
    let setup = setup.env("Q_API_KEY", "key-q").model("two", &[("q", "down"), ("p", "x")]);
    let setup = setup.provider("r", Format::OpenaiChat, &upstream).model("keyless", &[("r", "x")]);
    let mut gateway = setup.arg("--log-format").arg("json").start();
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"two\""));
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"no\\\"where\""));
    gateway.signal("HUP");
    wait_until("its reload", || gateway.stderr().contains("SIGHUP"));
    gateway.terminate();
    let said = gateway.stderr();
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect();
    for line in &lines {
        assert!(line["time"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let with = |message: &str| {
        let is_it = |line: &&Value| line["message"].as_str().is_some_and(|said| said.contains(message));
        lines.iter().find(is_it).unwrap_or_else(|| panic!("{message}: {said}"))
    };
    assert_eq!(with("no route has a key")["level"], "warn");
    with("listening on http://127.0.0.1:");
    assert_eq!(with("stopped")["level"], "info");
    let request = lines.iter().find(|line| line["message"] == "request").unwrap();
    for (name, value) in [
        ("level", json!("warn")),
        ("model", json!("two")),
        ("status", json!(200)),
        ("attempts", json!(2)),
        ("input_tokens", json!(9)),
        ("ended", json!("complete")),
        ("stream", json!(false)),
    ] {
        assert_eq!(request[name], value, "{name} of {request}");
    }
    assert_eq!(request["failed"][0]["outcome"], "server_error");
    assert!(request["failed"][0]["why"].as_str().unwrap().contains("a \"bad\" day"), "{request}");
    assert!(lines.iter().any(|line| line["model"] == "no\"where" && line["status"] == 404), "{said}");
}

#[test]
fn a_supervisor_is_told_when_it_serves_and_ends() {
    let folder = TempDir::new();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let next = || {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let setup = Setup::new().env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "100000");
    let mut gateway = setup.arg("--workers").arg("2").start();
    assert_eq!(next(), "READY=1");
    assert_eq!([next(), next()], ["WATCHDOG=1", "WATCHDOG=1"]);
    gateway.terminate();
    let mut last = next();
    while last == "WATCHDOG=1" {
        last = next();
    }
    assert_eq!(last, "STOPPING=1");
    // A watchdog for somebody else, and no socket at all, are nothing to us.
    let setup =
        Setup::new().env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1").env("NOTIFY_SOCKET", "/no/such/socket");
    assert_eq!(setup.start().terminate(), Some(0));
}

#[test]
fn commands_find_the_server_of_this_user() {
    let mut gateway = Setup::new().start();
    let outcome = gateway.command(&["health"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "healthy\n"), "{outcome:?}");
    let outcome =
        gateway.command(&["keys", "list", "-f", "json"]).env("CLIENT_API_KEY", crate::support::CLIENT_KEY).run();
    assert!(outcome.stdout.contains("\"live\":true"), "{outcome:?}");
    let folder = gateway.home.path().join(".local/state/model-proxy/listening");
    let left = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(&left).unwrap(), format!("http://{}\n", gateway.address));
    // One that was killed: its port is nobody's, and its file came last.
    fs::write(folder.join("1"), "http://127.0.0.1:1\n").unwrap();
    assert_eq!(gateway.command(&["health"]).run().code, Some(0), "the one that serves is found");
    gateway.terminate();
    assert!(!left.exists(), "it is not there any more");
}
