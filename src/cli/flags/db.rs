//! The journal.

use crate::cli::flags::{CONFIG, Command, ENV_FILE, Flag, TABLE_OR_JSON};
use crate::cli::{db, db_rows, db_tail};

pub(super) const JOURNAL: Flag = Flag::value(
    "journal",
    "FILE",
    "the journal; else MODEL_PROXY_JOURNAL, DATABASE_URL, or model-proxy/journal.db in the state directory",
)
.short('j');

const SINCE: Flag = Flag::value("since", "TIME", "a time like 90m, 24h or 7d, or all").short('s').default("all");

pub(super) const DB_STATS: Command = Command {
    words: &["db", "stats"],
    does: "sum up the journal",
    more: "Requests, failures, what the client left before its end (client_closed), tokens as upstreams counted them, and the times \
           within which 50, 95 and 99 of a hundred ended (to 7 %). Sums are kept by the hour, in UTC: --since counts from the \
           beginning of an hour on, which is told under the table. By route and by key a request counts where it ended, with all its \
           tries; `db query` on tries tells of each. The cost is reckoned whenever it is asked for, with config/prices.json \
           over the prices that are shipped: a + behind it means that something in it has no price or was counted by nobody, and ? \
           that nothing has one; in JSON cost_usd is null then, and unpriced and uncounted tell of how many requests.",
    takes: "",
    options: &[
        Flag::value("by", "WHAT", "model, provider, route, key, client or day")
            .of(&["model", "provider", "route", "key", "client", "day"])
            .short('b')
            .default("model"),
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

pub(super) const DB_TAIL: Command = Command {
    words: &["db", "tail"],
    does: "show the last requests of the journal",
    more: "One line each: when, its id, the client and its format, the model it named, who answered, the status, how long it took, \
           tokens in and out, what they cost where that is known, and what went wrong.",
    takes: "",
    options: &[
        Flag::value("lines", "N", "how many").short('n').default("20"),
        Flag::switch(
            "follow",
            "go on, and show what comes: of the first request too, and of another file in the place of this one",
        )
        .short('f'),
        Flag::value("format", "FORMAT", "table, or json: an object a line").of(&["table", "json"]).default("table"),
        JOURNAL,
        CONFIG,
        ENV_FILE,
    ],
    examples: &[("db tail -f", "watch"), ("db tail -n 1000 --format json", "the last thousand, for scripts")],
    run: db_tail::tail,
};

pub(super) const DB_QUERY: Command = Command {
    words: &["db", "query"],
    does: "ask the journal in SQL",
    more: "The views log (one row a request) and tries (one a try; request is log's id) have names where the tables have numbers, and log has the cost in US dollars at today's prices; \
           at_ms is milliseconds since 1970, _us microseconds. Nothing can be changed, and no other file attached or written. Ends with 2 if it is no query. SQLite's own tools read the file as well.",
    takes: "SQL",
    options: &[
        Flag::value("format", "FORMAT", "table, json (an object a line) or csv")
            .of(&["table", "json", "csv"])
            .short('f')
            .default("table"),
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

pub(super) const DB_EXPORT: Command = Command {
    words: &["db", "export"],
    does: "write out the requests of the journal",
    more: "One row a request, in the order in which they ended.",
    takes: "",
    options: &[
        SINCE,
        Flag::value("format", "FORMAT", "ndjson, an object a line, or csv")
            .of(&["ndjson", "csv"])
            .short('f')
            .default("ndjson"),
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

pub(super) const DB_PRUNE: Command = Command {
    words: &["db", "prune"],
    does: "remove what is older than so many days from the journal",
    more: "A running server does so by itself, by journal_days and journal_bytes of config/server.json; this is for once.",
    takes: "",
    options: &[
        Flag::value("days", "N", "what is to be kept").short('d').default("30"),
        TABLE_OR_JSON,
        JOURNAL,
        ENV_FILE,
    ],
    examples: &[("db prune --days 7", "keep the last week")],
    run: db::prune,
};

pub(super) const DB_RESET: Command = Command {
    words: &["db", "reset"],
    does: "remove everything from the journal",
    more: "Asks first, unless it is told beforehand. A running server goes on writing.",
    takes: "",
    options: &[Flag::switch("confirm", "do not ask").short('y'), TABLE_OR_JSON, JOURNAL, ENV_FILE],
    examples: &[("db reset", "asks first"), ("db reset --confirm", "for scripts")],
    run: db::reset,
};
