//! Every command and every option, once. The parser, the help and the README's reference are made from these tables.

use crate::cli::parse::Given;
use crate::cli::{
    Exit, config_explain, config_list, config_show, config_validate, convert, db, db_rows, health, help, keys_list,
    keys_new, outcome, route_test, start, version,
};

/// The name the program goes by.
pub const NAME: &str = "model-proxy";

/// One command.
#[derive(Debug)]
pub struct Command {
    /// What is typed: `["config", "list"]`.
    pub words: &'static [&'static str],
    /// What it does, in one line.
    pub does: &'static str,
    /// More of it, for its own help.
    pub more: &'static str,
    /// What may follow the words, as help shows it; empty where nothing may.
    pub takes: &'static str,
    pub options: &'static [Flag],
    /// (command line, what it is for)
    pub examples: &'static [(&'static str, &'static str)],
    pub run: fn(&Given) -> Exit,
}

/// One option.
#[derive(Debug)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    /// What its value is called; `None` where it takes none.
    pub value: Option<&'static str>,
    /// Empty where there is none, or where `help` says it.
    pub default: &'static str,
    pub help: &'static str,
}

const CONFIG: Flag = Flag {
    long: "config",
    short: Some('c'),
    value: Some("DIR"),
    default: "",
    help: "configuration directory; else MODEL_PROXY_CONFIG, ./config, the user's own, the built-in one",
};

const ENV_FILE: Flag = Flag {
    long: "env-file",
    short: None,
    value: Some("FILE"),
    default: "",
    help: "read variables from FILE; it wins over .env, and the process environment over both",
};

const TABLE_OR_JSON: Flag = Flag {
    long: "format",
    short: Some('f'),
    value: Some("FORMAT"),
    default: "table",
    help: "table, for people, or json, for scripts",
};

const ENDPOINT: Flag = Flag {
    long: "endpoint",
    short: Some('e'),
    value: Some("URL"),
    default: "http://127.0.0.1:9876",
    help: "where it listens",
};

/// Options that work everywhere.
pub const GLOBAL: &[Flag] = &[
    Flag { long: "help", short: Some('h'), value: None, default: "", help: "show help" },
    Flag { long: "version", short: Some('V'), value: None, default: "", help: "show the version" },
];

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    START,
    HEALTH,
    VERSION,
    CONFIG_LIST,
    CONFIG_VALIDATE,
    CONFIG_SHOW,
    CONFIG_EXPLAIN,
    ROUTE_TEST,
    KEYS_LIST,
    KEYS_NEW,
    DB_STATS,
    DB_TAIL,
    DB_QUERY,
    DB_EXPORT,
    DB_PRUNE,
    DB_RESET,
    CONVERT,
    Command {
        words: &["help"],
        does: "show this help, or that of a command",
        more: "",
        takes: "[COMMAND]",
        options: &[],
        examples: &[("help config validate", "what config validate takes")],
        run: help::run,
    },
];

const START: Command = Command {
    words: &["start"],
    does: "serve",
    more: "Without CLIENT_API_KEY and without config/clients a random client key is made and shown, for this machine only. On \
           any other address there must be one of them. The sizes, times and numbers that the server bears are set in \
           config/server.json, or by a variable each: MODEL_PROXY_ and the key in capitals (docs/SERVER.md).",
    takes: "",
    options: &[
        Flag {
            long: "host",
            short: Some('h'),
            value: Some("HOST"),
            default: "127.0.0.1",
            help: "address to listen on",
        },
        Flag {
            long: "port",
            short: Some('p'),
            value: Some("PORT"),
            default: "9876",
            help: "port to listen on; 0 takes a free one",
        },
        Flag {
            long: "listen",
            short: None,
            value: Some("ADDRESS"),
            default: "",
            help: "HOST:PORT, https://HOST:PORT or unix:PATH[?mode=0660], in the place of --host and --port; may be given \
                   many times",
        },
        Flag {
            long: "metrics-listen",
            short: None,
            value: Some("ADDRESS"),
            default: "",
            help: "serve /metrics at HOST:PORT, without a key, and nothing else there; otherwise beside the rest, with one",
        },
        Flag {
            long: "tls-cert",
            short: None,
            value: Some("FILE"),
            default: "",
            help: "the certificate and its chain in PEM form: TLS is spoken wherever http:// is not asked for; read again \
                   when it changes",
        },
        Flag {
            long: "tls-key",
            short: None,
            value: Some("FILE"),
            default: "",
            help: "the certificate's private key in PEM form",
        },
        CONFIG,
        ENV_FILE,
        Flag { long: "workers", short: Some('w'), value: Some("N"), default: "1", help: "threads that serve" },
        Flag {
            long: "log-level",
            short: Some('l'),
            value: Some("LEVEL"),
            default: "info",
            help: "error, warn, info or debug",
        },
        Flag {
            long: "reload",
            short: None,
            value: None,
            default: "",
            help: "read the configuration and .env again when they change; SIGHUP does so in any case",
        },
        Flag {
            long: "drain-seconds",
            short: None,
            value: Some("SECONDS"),
            default: "30",
            help: "how long open requests may go on after SIGTERM",
        },
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

const HEALTH: Command = Command {
    words: &["health"],
    does: "ask a running server how it is",
    more: "Ends with 0 if it is healthy, with 1 if it is not or does not answer within 10 seconds.",
    takes: "",
    options: &[
        ENDPOINT,
        Flag {
            long: "detailed",
            short: Some('d'),
            value: None,
            default: "",
            help: "show its parts, as JSON; sends CLIENT_API_KEY",
        },
        ENV_FILE,
    ],
    examples: &[("health", "is it well?"), ("health --endpoint http://localhost:8000 --detailed", "and its parts?")],
    run: health::run,
};

const VERSION: Command = Command {
    words: &["version"],
    does: "show the version",
    more: "",
    takes: "",
    options: &[Flag {
        long: "verbose",
        short: Some('v'),
        value: None,
        default: "",
        help: "and those of what it is built from",
    }],
    examples: &[("version --verbose", "for a bug report")],
    run: version::run,
};

const CONFIG_LIST: Command = Command {
    words: &["config", "list"],
    does: "list the models",
    more: "",
    takes: "",
    options: &[
        Flag {
            long: "format",
            short: Some('f'),
            value: Some("FORMAT"),
            default: "table",
            help: "table, or json: a list of names",
        },
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("config list", "models, routes and how many keys were found"),
        ("config list --format json", "for scripts"),
    ],
    run: config_list::run,
};

const CONFIG_VALIDATE: Command = Command {
    words: &["config", "validate"],
    does: "check the configuration",
    more: "Needs no key and no network. Ends with 0 if the configuration can be used, with 1 if not. With FILES only \
           what is found in them is shown and counts; the others are read for what they refer to.",
    takes: "[FILES...]",
    options: &[CONFIG, ENV_FILE],
    examples: &[
        ("config validate", "all files"),
        ("config validate config/models/gpt-5.json", "one file, as a commit hook does"),
    ],
    run: config_validate::run,
};

const CONFIG_SHOW: Command = Command {
    words: &["config", "show"],
    does: "show one model with all that holds for it, as JSON",
    more: "Defaults are filled in, fallbacks follow, keys are shown by their last letters.",
    takes: "MODEL",
    options: &[CONFIG, ENV_FILE],
    examples: &[("config show gpt-5.2", "which routes, keys, timeouts and cooldowns does it have?")],
    run: config_show::run,
};

const CONFIG_EXPLAIN: Command = Command {
    words: &["config", "explain"],
    does: "say what a model's requests meet: routes in order, keys, timeouts, failures, what conversion takes away",
    more: "MODEL is a name clients may ask for: a logical name, an alias, or one that a wildcard matches. Needs no \
           network; keys are shown by their variable and the first eight hexadecimal digits of their SHA-256. What \
           happens on a failure is asked of the code that decides it, with the route's own durations and its \
           provider's error_handling; what a conversion takes away comes from the tables of fields (docs/FIELDS.md) \
           and, for this route, from requests that are converted to see. Ends with 1 if there is no such model.",
    takes: "MODEL",
    options: &[
        Flag {
            long: "from",
            short: None,
            value: Some("FORMAT"),
            default: "",
            help: "the format of the client's requests, openai_chat or anthropic; without it both are told",
        },
        Flag {
            long: "fields",
            short: None,
            value: None,
            default: "",
            help: "list every field of the format with its fate, not only what a client is likely to notice",
        },
        TABLE_OR_JSON,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("config explain gpt-5.2", "what is tried, in which order, and what is lost on the way?"),
        ("config explain claude-sonnet-4-6 --from anthropic", "the same for Claude Code alone"),
        ("config explain openai/gpt-5.2 --from openai --fields", "every field, for a name behind a wildcard"),
        ("config explain gpt-5.2 --format json", "for scripts"),
    ],
    run: config_explain::run,
};

const ROUTE_TEST: Command = Command {
    words: &["route", "test"],
    does: "try out failover: what is tried next when attempts end so and so",
    more: "Nothing is sent and nothing converted. The server's own plan is driven over the compiled configuration, \
           with a clock that stands still but for wait and timeout. Each --outcome is how one attempt ends, in order; \
           its words are parted by spaces or commas. When there are no more, attempts succeed. Every decision is told \
           with its reason, and what the client gets. Ends with 0 if some attempt delivered, with 1 if none did.",
    takes: "MODEL",
    options: &[
        Flag {
            long: "outcome",
            short: Some('o'),
            value: Some("WORDS"),
            default: "",
            help: "how the next attempt ends; may be given many times",
        },
        Flag {
            long: "keys",
            short: None,
            value: Some("N"),
            default: "",
            help: "pretend that each route that needs a key has N of them, whatever the environment holds",
        },
        Flag {
            long: "from",
            short: None,
            value: Some("FORMAT"),
            default: "openai_chat",
            help: "the client's format, in which it is told of errors",
        },
        TABLE_OR_JSON,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("route test fast --keys 2 --outcome 429,retry-after=5", "the first key is limited: who is next?"),
        ("route test fast --keys 2 --outcome 503 --outcome request --outcome wait=2s --outcome request", "and after?"),
        ("route test fast --outcome reset --outcome timeout --outcome connect", "with the keys there are"),
        ("route test fast --keys 1 --outcome 400,insufficient_quota --format json", "for scripts"),
    ],
    run: route_test::run,
};

const KEYS_LIST: Command = Command {
    words: &["keys", "list"],
    does: "list the providers' keys, and which of them rest",
    more: "Keys are shown by their variable and the first eight hexadecimal digits of their SHA-256, never by \
           themselves. A running server is asked what rests, with CLIENT_API_KEY; without one the keys are listed all \
           the same.",
    takes: "",
    options: &[ENDPOINT, TABLE_OR_JSON, CONFIG, ENV_FILE],
    examples: &[
        ("keys list", "which keys are there, and which rest until when, and why?"),
        ("keys list --endpoint http://localhost:8000 --format json", "of a server elsewhere, for scripts"),
    ],
    run: keys_list::run,
};

const JOURNAL: Flag = Flag {
    long: "journal",
    short: Some('j'),
    value: Some("FILE"),
    default: "",
    help: "the journal; else MODEL_PROXY_JOURNAL, DATABASE_URL, or model-proxy/journal.db in the state directory",
};

const SINCE: Flag = Flag {
    long: "since",
    short: Some('s'),
    value: Some("TIME"),
    default: "all",
    help: "a time like 90m, 24h or 7d, or all",
};

const DB_QUERY: Command = Command {
    words: &["db", "query"],
    does: "ask the journal in SQL",
    more: "The views log (one row a request) and tries (one a try; request is log's id) have names where the tables have numbers, and log has the cost in US dollars at today's prices; \
           at_ms is milliseconds since 1970, _us microseconds. Nothing can be changed. SQLite's own tools read the file as well.",
    takes: "SQL",
    options: &[
        Flag {
            long: "format",
            short: Some('f'),
            value: Some("FORMAT"),
            default: "table",
            help: "table, json (an object a line) or csv",
        },
        JOURNAL,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("db query \"SELECT model, count(*) FROM log WHERE status >= 500 GROUP BY 1\"", "what fails?"),
        ("db query \"SELECT key, outcome, count(*) FROM tries GROUP BY 1, 2\"", "how each key fares"),
    ],
    run: db_rows::query,
};

const DB_EXPORT: Command = Command {
    words: &["db", "export"],
    does: "write out the requests of the journal",
    more: "One row a request, in the order in which they ended.",
    takes: "",
    options: &[
        SINCE,
        Flag {
            long: "format",
            short: Some('f'),
            value: Some("FORMAT"),
            default: "ndjson",
            help: "ndjson, an object a line, or csv",
        },
        JOURNAL,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("db export --since 7d > week.ndjson", "the last week"),
        ("db export --format csv > all.csv", "for a spreadsheet"),
    ],
    run: db_rows::export,
};

const DB_STATS: Command = Command {
    words: &["db", "stats"],
    does: "sum up the journal",
    more: "Requests, failures, tokens as upstreams counted them, and the times within which 50, 95 and 99 of a hundred ended (to \
           7 %). Sums are kept by the hour, in UTC. By route and by key a request counts where it ended, with all its \
           tries; `db query` on tries tells of each. The cost is reckoned whenever it is asked for, with config/prices.json \
           over the prices that are shipped: a + behind it means that something in it has no price or was counted by nobody, and ? \
           that nothing has one.",
    takes: "",
    options: &[
        Flag {
            long: "by",
            short: Some('b'),
            value: Some("WHAT"),
            default: "model",
            help: "model, provider, route, key, client or day",
        },
        SINCE,
        TABLE_OR_JSON,
        JOURNAL,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("db stats", "what each model was asked, and how it went"),
        ("db stats --by key --since 24h", "which keys fail today?"),
        ("db stats --by day --format json", "for scripts"),
    ],
    run: db::stats,
};

const DB_TAIL: Command = Command {
    words: &["db", "tail"],
    does: "show the last requests of the journal",
    more: "One line each: when, its id, the client and its format, the model it named, who answered, the status, how long it took, \
           tokens in and out, what they cost where that is known, and what went wrong.",
    takes: "",
    options: &[
        Flag { long: "lines", short: Some('n'), value: Some("N"), default: "20", help: "how many" },
        Flag { long: "follow", short: Some('f'), value: None, default: "", help: "go on, and show what comes" },
        Flag {
            long: "format",
            short: None,
            value: Some("FORMAT"),
            default: "table",
            help: "table, or json: an object a line",
        },
        JOURNAL,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[("db tail -f", "watch"), ("db tail -n 1000 --format json", "the last thousand, for scripts")],
    run: db::tail,
};

const DB_PRUNE: Command = Command {
    words: &["db", "prune"],
    does: "remove what is older than so many days from the journal",
    more: "A running server does so by itself, by journal_days and journal_bytes of config/server.json; this is for once.",
    takes: "",
    options: &[
        Flag { long: "days", short: Some('d'), value: Some("N"), default: "30", help: "what is to be kept" },
        JOURNAL,
        ENV_FILE,
    ],
    examples: &[("db prune --days 7", "keep the last week")],
    run: db::prune,
};

const DB_RESET: Command = Command {
    words: &["db", "reset"],
    does: "remove everything from the journal",
    more: "Asks first, unless it is told beforehand. A running server goes on writing.",
    takes: "",
    options: &[
        Flag { long: "confirm", short: Some('y'), value: None, default: "", help: "do not ask" },
        JOURNAL,
        ENV_FILE,
    ],
    examples: &[("db reset", "asks first"), ("db reset --confirm", "for scripts")],
    run: db::reset,
};

const KEYS_NEW: Command = Command {
    words: &["keys", "new"],
    does: "make a key for a client, and show it once",
    more: "Writes clients/NAME.json into the configuration directory, with the key's SHA-256 and what else is given here; \
           the key itself stands in no file. A client may have several keys while one takes the place of another. Without a \
           configuration directory ./config is begun; the models that are built in stay.",
    takes: "NAME",
    options: &[
        Flag {
            long: "model",
            short: Some('m'),
            value: Some("MODEL"),
            default: "",
            help: "a logical model it may use, or several with one *; may be given many times. Without it: all",
        },
        Flag {
            long: "requests-per-minute",
            short: None,
            value: Some("N"),
            default: "",
            help: "most requests let in within any 60 seconds",
        },
        Flag {
            long: "tokens-per-minute",
            short: None,
            value: Some("N"),
            default: "",
            help: "most tokens, input and output, of the requests let in within any 60 seconds",
        },
        Flag {
            long: "requests-at-once",
            short: None,
            value: Some("N"),
            default: "",
            help: "most requests under way at one moment",
        },
        Flag {
            long: "tokens-per-day",
            short: None,
            value: Some("N"),
            default: "",
            help: "most tokens of a calendar day, in UTC",
        },
        Flag {
            long: "tokens-per-month",
            short: None,
            value: Some("N"),
            default: "",
            help: "most tokens of a calendar month, in UTC",
        },
        Flag { long: "add", short: None, value: None, default: "", help: "one more key for a client that is there" },
        TABLE_OR_JSON,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("keys new ci --model fast --requests-per-minute 60", "a client that may use one model, once a second"),
        ("keys new ci --add", "its next key, while the old one still works"),
        ("keys new laptop --tokens-per-day 2000000 --format json", "for scripts"),
    ],
    run: keys_new::run,
};

/// Words that a command's help explains, beside its options.
#[derive(Debug)]
pub struct Terms {
    /// The command's own words.
    pub of: &'static [&'static str],
    pub heading: &'static str,
    /// (what is typed, what it means)
    pub terms: &'static [(&'static str, &'static str)],
}

/// All there are.
pub const TERMS: &[Terms] = &[Terms { of: ROUTE_TEST.words, heading: "words of --outcome", terms: outcome::WORDS }];

const CONVERT: Command = Command {
    words: &["convert"],
    does: "say a request, a reply or a stream in another format",
    more: "FORMAT is openai_chat or anthropic. Reads FILE, or standard input without one or with -. The result goes to \
           stdout and is what the server would send; the same format again is read and written, where the server \
           passes it on as it came. What a request loses goes to stderr, a line each: path, colon, why. \
           Ends with 0 if it was converted; with 1 if not: a request that cannot be said in the other format, and \
           then stdout is empty; a reply or stream that is an error or breaks off, and then stdout has the error as \
           the client is told it. Ends with 2 if it was held wrong. \
           Without --model no configuration is read: a request keeps its model's name, and nothing is taken to be \
           refused by the model or its provider.",
    takes: "[FILE]",
    options: &[
        Flag {
            long: "from",
            short: None,
            value: Some("FORMAT"),
            default: "",
            help: "the format FILE is in: of an answer, the upstream's",
        },
        Flag {
            long: "to",
            short: None,
            value: Some("FORMAT"),
            default: "",
            help: "the format wanted: of an answer, the client's",
        },
        Flag {
            long: "reply",
            short: None,
            value: None,
            default: "",
            help: "FILE is a whole reply, or an error's body",
        },
        Flag {
            long: "stream",
            short: None,
            value: None,
            default: "",
            help: "FILE is an event stream as it came over the wire",
        },
        Flag {
            long: "model",
            short: None,
            value: Some("LOGICAL"),
            default: "",
            help: "convert for this model's first route in the upstream's format: its name there, capabilities, \
                   quirks and defaults; an answer is given this name",
        },
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("convert --from anthropic --to openai_chat request.json", "what an OpenAI upstream is sent for it"),
        ("convert --from openai_chat --to anthropic --model claude-opus-4-8 request.json", "as that model wants it"),
        ("convert --from openai_chat --to anthropic --reply reply.json", "what an Anthropic client gets of it"),
        ("convert --from anthropic --to openai_chat --stream events.txt", "the same of what curl -N recorded"),
        ("convert --from openai_chat --to anthropic -", "a request from a pipe"),
    ],
    run: convert::run,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_names_an_option_twice() {
        for command in COMMANDS {
            let mut longs: Vec<&str> = command.options.iter().map(|f| f.long).collect();
            let mut shorts: Vec<char> = command.options.iter().filter_map(|f| f.short).collect();
            longs.sort_unstable();
            shorts.sort_unstable();
            let distinct = longs.windows(2).all(|w| w[0] != w[1]) && shorts.windows(2).all(|w| w[0] != w[1]);
            assert!(distinct, "{:?}: {longs:?} {shorts:?}", command.words);
        }
    }

    #[test]
    fn every_example_parses() {
        for command in COMMANDS {
            for (line, _) in command.examples {
                // As a shell would: what is in quotes is one word, and what follows `>` is none.
                let line = line.split(" > ").next().unwrap();
                let part = |(at, part): (usize, &'static str)| match at % 2 {
                    0 => part.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(),
                    _ => vec![part],
                };
                let parsed = crate::cli::parse::parse(line.split('"').enumerate().flat_map(part));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
            }
        }
    }
}
