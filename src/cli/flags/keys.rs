//! Keys of providers and of clients.

use crate::cli::flags::{CONFIG, Command, ENDPOINT, ENV_FILE, Flag, TABLE_OR_JSON};
use crate::cli::{keys_list, keys_new, keys_test};

pub(super) const KEYS_LIST: Command = Command {
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

pub(super) const KEYS_TEST: Command = Command {
    words: &["keys", "test"],
    does: "ask a provider whether it takes its keys",
    more: "With each key, all at once, an empty request is sent to where the provider's requests go: it costs nothing, and whoever \
           knows the key complains of the request. valid: it was let in. limited: known, but over a limit or out of money. \
           refused: not taken. unreachable: nobody has judged it. Without PROVIDER all keys are tried. Ends with 0 if all \
           are valid, else with 1.",
    takes: "[PROVIDER]",
    options: &[TABLE_OR_JSON, CONFIG, ENV_FILE],
    examples: &[
        ("keys test openai", "are the keys of this provider good?"),
        ("keys test --format json", "all of them, for scripts"),
    ],
    run: keys_test::run,
};

pub(super) const KEYS_NEW: Command = Command {
    words: &["keys", "new"],
    does: "make a key for a client, and show it once",
    more: "Writes clients/NAME.json into the configuration directory, with the key's SHA-256 and what else is given here; \
           the key itself stands in no file. A client may have several keys while one takes the place of another. Without a \
           configuration directory ./config is begun; the models that are built in stay.",
    takes: "NAME",
    options: &[
        Flag::value(
            "model",
            "MODEL",
            "a logical model it may use, or several with one *; may be given many times. Without it: all",
        )
        .short('m'),
        Flag::value("requests-per-minute", "N", "most requests let in within any 60 seconds"),
        Flag::value(
            "tokens-per-minute",
            "N",
            "most tokens, input and output, of the requests let in within any 60 seconds",
        ),
        Flag::value("requests-at-once", "N", "most requests under way at one moment"),
        Flag::value("tokens-per-day", "N", "most tokens of a calendar day, in UTC"),
        Flag::value("tokens-per-month", "N", "most tokens of a calendar month, in UTC"),
        Flag::switch("add", "one more key for a client that is there"),
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
