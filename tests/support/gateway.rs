//! The real binary, serving on a free port, with configuration files and environment made for one test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use model_proxy::wire::Format;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::cli::Cli;
use super::http::{self, Client, Reply, Request};
use super::upstream::Upstream;
use super::{CLIENT_KEY, TempDir, wait_until};

/// Files and environment for a gateway.
#[derive(Clone, Debug)]
pub struct Setup {
    files: Vec<(String, String)>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    is_unnamed: bool,
    /// Where it listens, if not at a port of its own.
    listen: Vec<String>,
    /// How many descriptors it may have.
    descriptors: Option<u32>,
}

impl Setup {
    /// No provider, no model, one client key.
    pub fn new() -> Self {
        let env =
            vec![("CLIENT_API_KEY".to_owned(), CLIENT_KEY.to_owned()), ("RUST_BACKTRACE".to_owned(), "1".to_owned())];
        Self { files: Vec::new(), env, args: Vec::new(), is_unnamed: false, listen: Vec::new(), descriptors: None }
    }

    /// One provider `p` with the key `key-one`, and the models `m`, sent as `upstream-model`, and `any/…`, sent as `…`.
    pub fn simple(format: Format, upstream: &Upstream) -> Self {
        Self::new()
            .provider("p", format, upstream)
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "upstream-model")])
            .model("any/*", &[("p", "*")])
    }

    pub fn provider(self, name: &str, format: Format, upstream: &Upstream) -> Self {
        self.provider_with(name, format, upstream, &json!({}))
    }

    /// A provider at an upstream, with more in its file; what is given replaces what would stand there.
    pub fn provider_with(self, name: &str, format: Format, upstream: &Upstream, more: &Value) -> Self {
        let (path, header, value, compatible) = match format {
            Format::OpenaiChat => ("/v1/chat/completions", "Authorization", "Bearer {api_key}", "openai"),
            Format::OpenaiResponses => ("/v1/responses", "Authorization", "Bearer {api_key}", "openai_responses"),
            Format::Anthropic => ("/v1/messages", "x-api-key", "{api_key}", "anthropic"),
        };
        let mut file = json!({
            "name": name,
            "enabled": true,
            "endpoints": {
                "base_url": format!("http://{}", upstream.address),
                "completions": path,
                "compatible_format": compatible,
            },
            "authentication": { "header_name": header, "header_format": value },
            "api_keys": { "env_var_patterns": ["{PROVIDER}_API_KEY", "{PROVIDER}_API_KEY_{INDEX}"] },
            "request_config": { "timeout_seconds": 20 },
        });
        for (key, value) in more.as_object().unwrap() {
            file[key] = value.clone();
        }
        self.file(&format!("providers/{name}.json"), &file.to_string())
    }

    /// A model with its routes: provider, and the model's name there.
    pub fn model(self, name: &str, routes: &[(&str, &str)]) -> Self {
        let routes: Vec<Value> = routes.iter().map(|(p, m)| json!({ "provider": p, "model": m })).collect();
        let file = json!({ "logical_name": name, "model_routings": routes, "fallback_model_routings": [] });
        let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.file(&format!("models/{stem}.json"), &file.to_string())
    }

    /// A file under the configuration folder.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable that is not set after all.
    pub fn unset(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Its configuration is not named, but found: where there are no files, what is built in.
    pub fn unnamed(mut self) -> Self {
        self.is_unnamed = true;
        self
    }

    /// Listens there, and not at a port of its own; its own address is the first plain one.
    pub fn listening(mut self, places: &[&str]) -> Self {
        self.listen = places.iter().map(|&place| place.to_owned()).collect();
        self
    }

    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// A word more for `start`.
    pub fn arg(mut self, word: &str) -> Self {
        self.args.push(word.to_owned());
        self
    }

    /// Writes the files and returns the folder that holds `config/`.
    pub fn write(&self) -> TempDir {
        let home = TempDir::new();
        if self.is_unnamed && self.files.is_empty() {
            return home;
        }
        home.write("config/.keep", "");
        for folder in ["config/providers", "config/models"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        for (name, text) in &self.files {
            home.write(&format!("config/{name}"), text);
        }
        home
    }

    #[track_caller]
    pub fn start(&self) -> Gateway {
        let home = self.write();
        let binary = env!("CARGO_BIN_EXE_model-proxy");
        let mut command = match self.descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), binary]);
                shell
            }
        };
        command.arg("start");
        if self.listen.is_empty() {
            command.args(["--host", "127.0.0.1", "--port", "0"]);
        }
        for place in &self.listen {
            command.args(["--listen", place]);
        }
        if !self.is_unnamed {
            command.arg("--config").arg(home.path().join("config"));
        }
        let mut child = command
            .args(&self.args)
            .env_clear()
            .env("HOME", home.path())
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let journal = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().unwrap();
        let written = Arc::clone(&journal);
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = written.lock();
                text.push_str(&line);
                text.push('\n');
            }
        });
        let mut gateway =
            Gateway { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, journal, reader: Some(reader), home };
        wait_until("the gateway's banner", || match banner_address(&gateway.stderr()) {
            Some(address) => {
                gateway.address = address;
                true
            }
            None => {
                let ended = gateway.child.try_wait().unwrap();
                assert!(ended.is_none(), "the gateway ended with {ended:?}: {}", gateway.stderr());
                false
            }
        });
        gateway
    }
}

fn banner_address(text: &str) -> Option<SocketAddr> {
    // The banner has to be whole before its ports can be believed.
    if text.starts_with('{') {
        let (_, rest) = text.split_once("listening on http://")?;
        return rest.split([';', ',']).next()?.parse().ok();
    }
    let (listening, _) = text.split_once("  workers ")?;
    let Some((_, rest)) = listening.split_once("listening on http://") else {
        return Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    };
    let (address, _) = rest.split_once('\n')?;
    address.split_whitespace().next()?.trim_end_matches('/').parse().ok()
}

/// A running gateway; it ends with its owner.
#[derive(Debug)]
pub struct Gateway {
    pub address: SocketAddr,
    child: Child,
    journal: Arc<Mutex<String>>,
    /// Reads what it says, until it has ended.
    reader: Option<thread::JoinHandle<()>>,
    /// Where it runs; kept as long as it does.
    pub home: TempDir,
}

impl Gateway {
    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Reply {
        http::send(self.address, request)
    }

    /// Sends a body with the client's key.
    #[track_caller]
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        self.send(&Request::post(path, body).with_key())
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// All it has said so far.
    /// A command of the user who runs it, where it runs.
    pub fn command(&self, words: &[&str]) -> Cli {
        Cli::at(self.home.path(), words)
    }

    pub fn stderr(&self) -> String {
        self.journal.lock().clone()
    }

    /// Reads nothing of what it says, as long as this is held.
    pub fn unread(&self) -> impl Drop {
        self.journal.lock()
    }

    /// Sends it a signal, as `kill` does.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let asked = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success(), "kill: {asked}");
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        let mut ended = None;
        wait_until("the gateway's end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        // Its last words too.
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        ended.and_then(|status| status.code())
    }

    /// The most memory it ever held, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it holds now, in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself, which a test that minds has seen.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- the gateway said:\n{}---", self.stderr());
        }
    }
}
