//! For bash, from 3.2 on. `compgen -W` reads its words as the shell's language, and an unquoted list is matched against files: what
//! is offered here comes as lines.

use std::fmt::Write as _;

use crate::cli::completions::{Value, beginnings, next, takes, value};
use crate::cli::flags::{COMMANDS, Command, GLOBAL, NAME};

/// How words are offered. A word is compared as it is and as it would be typed, and is put in as it would be typed.
const OFFER: &str = r#"_model_proxy_offer() {
  local name word
  while IFS= read -r name; do
    printf -v word %q "$name"
    if [[ -n $name && ( $name == "$cur"* || $word == "$cur"* ) ]]; then COMPREPLY+=("$word"); fi
  done
}
_model_proxy_words() { _model_proxy_offer < <(printf '%s\n' "$@"); }
_model_proxy_names() { _model_proxy_offer < <(model-proxy completions "$1" 2>/dev/null); }
_model_proxy_files() {
  local name
  compopt -o filenames 2>/dev/null || :
  while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen "$1" -- "$cur")
}
"#;

pub(super) fn script() -> String {
    let mut text = format!(
        "# {NAME}, for bash: eval \"$({NAME} completions bash)\", or put it into /etc/bash_completion.d/{NAME}.\n{OFFER}"
    );
    text.push_str("_model_proxy_commands() {\n  case \"$1\" in\n");
    for words in beginnings() {
        let follow: Vec<&str> = next(&words).into_iter().map(|(word, _)| word).collect();
        let said: String = words.iter().map(|word| format!(" {word}")).collect();
        let _ = writeln!(text, "    \"{said}\") _model_proxy_words {} ;;", follow.join(" "));
    }
    text.push_str(
        "  esac\n}\n_model_proxy() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= w\n  \
         for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $w in -*) ;; *) words=\"$words $w\" ;; esac\n  done\n  \
         COMPREPLY=()\n  case \"$words\" in\n",
    );
    for command in COMMANDS {
        one(&mut text, command);
    }
    text.push_str(
        "    *)\n      case $cur in\n        -*) _model_proxy_words --help --version ;;\n        \
         *) _model_proxy_commands \"$words\" ;;\n      esac\n      ;;\n  esac\n}\ncomplete -F _model_proxy model-proxy\n",
    );
    text
}

fn one(text: &mut String, command: &Command) {
    let words = command.words.join(" ");
    let _ = write!(text, "    \" {words}\"|\" {words} \"*)\n      case $prev in\n");
    let flags = || command.options.iter().chain(GLOBAL);
    for flag in flags().filter(|flag| flag.value.is_some()) {
        let short = flag.short.map_or_else(String::new, |short| format!("|-{short}"));
        let offer = offer(&value(flag), &words).map_or_else(String::new, |offer| format!("{offer}; "));
        let _ = writeln!(text, "        --{}{short}) {offer}return ;;", flag.long);
    }
    let longs: Vec<String> = flags().map(|flag| format!("--{}", flag.long)).collect();
    let _ = writeln!(text, "      esac\n      case $cur in -*) _model_proxy_words {}; return ;; esac", longs.join(" "));
    if let Some(offer) = offer(&takes(command), &words) {
        let _ = writeln!(text, "      {offer}");
    }
    text.push_str("      ;;\n");
}

/// What offers a value, behind a command's words.
fn offer(value: &Value, words: &str) -> Option<String> {
    match value {
        Value::None | Value::Any => None,
        Value::File => Some("_model_proxy_files -f".to_owned()),
        Value::Folder => Some("_model_proxy_files -d".to_owned()),
        Value::Of(words) => Some(format!("_model_proxy_words {}", words.join(" "))),
        Value::Names(what) => Some(format!("_model_proxy_names {what}")),
        Value::Commands => Some(format!("_model_proxy_commands \"${{words# {words}}}\"")),
    }
}
