//! The server, and who asks after it.

use crate::cli::flags::{CONFIG, Command, ENDPOINT, ENV_FILE, Flag, TABLE_OR_JSON};
use crate::cli::{health, start, version};

pub(super) const START: Command = Command {
    words: &["start"],
    does: "serve",
    more: "Without CLIENT_API_KEY and without config/clients a random client key is made and shown, for this machine only. On \
           any other address there must be one of them. The sizes, times and numbers that the server bears are set in \
           config/server.json, or by a variable each: MODEL_PROXY_ and the key in capitals (docs/SERVER.md).",
    takes: "",
    options: &[
        Flag::value("host", "HOST", "address to listen on").short('h').default("127.0.0.1"),
        Flag::value("port", "PORT", "port to listen on; 0 takes a free one").short('p').default("9876"),
        Flag::value(
            "listen",
            "ADDRESS",
            "HOST:PORT, https://HOST:PORT or unix:PATH[?mode=0660], in the place of --host and --port; may be given \
                   many times",
        ),
        Flag::value(
            "metrics-listen",
            "ADDRESS",
            "serve /metrics at HOST:PORT, without a key, and nothing else there; otherwise beside the rest, with one",
        ),
        Flag::value(
            "tls-cert",
            "FILE",
            "the certificate and its chain in PEM form: TLS is spoken wherever http:// is not asked for; read again \
                   when it changes",
        ),
        Flag::value("tls-key", "FILE", "the certificate's private key in PEM form"),
        CONFIG,
        ENV_FILE,
        Flag::value("workers", "N", "threads that serve").short('w').default("1"),
        Flag::value("log-level", "LEVEL", "error, warn, info or debug")
            .of(&["error", "warn", "info", "debug"])
            .short('l')
            .default("info"),
        Flag::value("log-format", "FORMAT", "human, or json: an object a line").of(&["human", "json"]).default("human"),
        Flag::switch("reload", "read the configuration and .env again when they change; SIGHUP does so in any case"),
        Flag::value("drain-seconds", "SECONDS", "how long open requests may go on after SIGTERM").default("30"),
    ],
    examples: &[
        ("start", "serve on this machine, port 9876"),
        ("start --port 8000 --config ./my-config", "another port, another configuration"),
        (
            "start --listen 127.0.0.1:9876 --listen unix:/run/model-proxy.sock?mode=0660",
            "beside it a socket for a group",
        ),
        ("start --listen https://0.0.0.0:8443 --tls-cert chain.pem --tls-key key.pem", "for others, over TLS"),
        ("start --host 0.0.0.0 --workers 4 --log-level warn", "serve others; needs CLIENT_API_KEY"),
    ],
    run: start::run,
};

pub(super) const HEALTH: Command = Command {
    words: &["health"],
    does: "ask a running server how it is",
    more: "Ends with 0 if it is healthy, with 1 if it is not or does not answer within 10 seconds.",
    takes: "",
    options: &[
        ENDPOINT,
        Flag::switch("detailed", "show its parts, as JSON; sends CLIENT_API_KEY").short('d'),
        TABLE_OR_JSON,
        ENV_FILE,
    ],
    examples: &[("health", "is it well?"), ("health --endpoint http://localhost:8000 --detailed", "and its parts?")],
    run: health::run,
};

pub(super) const VERSION: Command = Command {
    words: &["version"],
    does: "show the version",
    more: "",
    takes: "",
    options: &[Flag::switch("verbose", "and those of what it is built from").short('v'), TABLE_OR_JSON],
    examples: &[("version --verbose", "for a bug report")],
    run: version::run,
};
