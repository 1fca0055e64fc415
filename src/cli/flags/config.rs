//! What is configured, and what comes of it.

use crate::cli::flags::{CONFIG, Command, ENV_FILE, FORMATS, Flag, TABLE_OR_JSON};
use crate::cli::{
    config_explain, config_init, config_list, config_schema, config_show, config_validate, convert, route_test,
};

pub(super) const CONFIG_LIST: Command = Command {
    words: &["config", "list"],
    does: "list the models",
    more: "",
    takes: "",
    options: &[
        Flag::value("format", "FORMAT", "table, or json: a list of names")
            .of(&["table", "json"])
            .short('f')
            .default("table"),
        CONFIG,
        ENV_FILE,
    ],
    examples: &[
        ("config list", "models, routes and how many keys were found"),
        ("config list --format json", "for scripts"),
    ],
    run: config_list::run,
};

pub(super) const CONFIG_VALIDATE: Command = Command {
    words: &["config", "validate"],
    does: "check the configuration",
    more: "Needs no key and no network. Ends with 0 if the configuration can be used, with 1 if not. With FILES only \
           what is found in them is shown and counts; the others are read for what they refer to. What is wrong with prices.json counts here; \
           start only warns of it.",
    takes: "[FILES...]",
    options: &[TABLE_OR_JSON, CONFIG, ENV_FILE],
    examples: &[
        ("config validate", "all files"),
        ("config validate config/models/gpt-5.json", "one file, as a commit hook does"),
        ("config validate --format json", "for scripts: file, pointer, severity, message and hint of each finding"),
    ],
    run: config_validate::run,
};

pub(super) const CONFIG_INIT: Command = Command {
    words: &["config", "init"],
    does: "write files to begin with",
    more: "DIR is ./config, unless another is named. Written are a model of your own, a wildcard for each provider that has a key \
           (without any, for two), the schemas for editors, and ./.env.example. What is there stays as it is.",
    takes: "[DIR]",
    options: &[TABLE_OR_JSON, ENV_FILE],
    examples: &[
        ("config init", "begin in ./config"),
        ("config init ~/.config/model-proxy", "for this user, wherever it is started"),
    ],
    run: config_init::run,
};

pub(super) const CONFIG_SCHEMA: Command = Command {
    words: &["config", "schema"],
    does: "show the JSON Schema of a kind of file",
    more: "KIND is model, provider, client, server or prices.",
    takes: "KIND",
    options: &[],
    examples: &[("config schema model", "what may stand in config/models/*.json?")],
    run: config_schema::run,
};

pub(super) const CONFIG_SHOW: Command = Command {
    words: &["config", "show"],
    does: "show one model with all that holds for it, as JSON",
    more: "Defaults are filled in, fallbacks follow, keys are shown by their last letters.",
    takes: "MODEL",
    options: &[CONFIG, ENV_FILE],
    examples: &[("config show gpt-5.2", "which routes, keys, timeouts and cooldowns does it have?")],
    run: config_show::run,
};

pub(super) const CONFIG_EXPLAIN: Command = Command {
    words: &["config", "explain"],
    does: "say what a model's requests meet: routes in order, keys, timeouts, failures, what conversion takes away",
    more: "MODEL is a name clients may ask for: a logical name, an alias, or one that a wildcard matches. Needs no \
           network; keys are shown by their variable and the first eight hexadecimal digits of their SHA-256. What \
           happens on a failure is asked of the code that decides it, with the route's own durations and its \
           provider's error_handling; what a conversion takes away comes from the tables of fields (docs/FIELDS.md) \
           and, for this route, from requests that are converted to see. Ends with 1 if there is no such model.",
    takes: "MODEL",
    options: &[
        Flag::value("from", "FORMAT", "the format of the client's requests; without it all are told").of(FORMATS),
        Flag::switch(
            "fields",
            "list every field of the format with its fate, not only what a client is likely to notice",
        ),
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

pub(super) const ROUTE_TEST: Command = Command {
    words: &["route", "test"],
    does: "try out failover: what is tried next when attempts end so and so",
    more: "Nothing is sent and nothing converted. The server's own plan is driven over the compiled configuration, \
           with a clock that stands still but for wait and timeout. Each --outcome is how one attempt ends, in order; \
           its words are parted by spaces or commas. When there are no more, attempts succeed. Every decision is told \
           with its reason, and what the client gets. Ends with 0 if some attempt delivered, with 1 if none did or there is no such model.",
    takes: "MODEL",
    options: &[
        Flag::value("outcome", "WORDS", "how the next attempt ends; may be given many times").short('o'),
        Flag::value(
            "keys",
            "N",
            "pretend that each route that needs a key has N of them, whatever the environment holds",
        ),
        Flag::value("from", "FORMAT", "the client's format, in which it is told of errors")
            .of(FORMATS)
            .default("openai_chat"),
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

pub(super) const CONVERT: Command = Command {
    words: &["convert"],
    does: "say a request, a reply or a stream in another format",
    more: "FORMAT is openai_chat, openai_responses or anthropic. Reads FILE, or standard input without one or with -. The result goes to \
           stdout and is what the server would send; the same format again is read and written, where the server \
           passes it on as it came. What a request loses goes to stderr, a line each: path, colon, why. \
           Ends with 0 if it was converted; with 1 if not: a request that cannot be said in the other format, and \
           then stdout is empty; a reply or stream that is an error or breaks off, and then stdout has the error as \
           the client is told it. Ends with 2 if it was held wrong. \
           Without --model no configuration is read: a request keeps its model's name, and nothing is taken to be \
           refused by the model or its provider.",
    takes: "[FILE]",
    options: &[
        Flag::value("from", "FORMAT", "the format FILE is in: of an answer, the upstream's").of(FORMATS),
        Flag::value("to", "FORMAT", "the format wanted: of an answer, the client's").of(FORMATS),
        Flag::switch("reply", "FILE is a whole reply, or an error's body"),
        Flag::switch("stream", "FILE is an event stream as it came over the wire"),
        Flag::value(
            "model",
            "LOGICAL",
            "convert for this model's first route in the upstream's format: its name there, capabilities, \
                   quirks and defaults; an answer is given this name",
        ),
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
