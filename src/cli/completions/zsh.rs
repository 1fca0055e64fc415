//! For zsh. What `compadd` is given in an array is taken as it is, and quoted where it is put in.

use std::fmt::Write as _;

use crate::cli::completions::{Value, beginnings, next, quoted, takes, value};
use crate::cli::flags::{COMMANDS, Command, GLOBAL, NAME};

const NAMES: &str = r#"_model_proxy_names() {
  local -a names
  names=(${(f)"$(model-proxy completions $1 2>/dev/null)"})
  compadd -a names
}
"#;

pub(super) fn script() -> String {
    let mut text = format!("#compdef {NAME}\n# {NAME}, for zsh: put it as _{NAME} into a folder of $fpath.\n{NAMES}");
    text.push_str("_model_proxy_commands() {\n  local -a list\n  case \"${(j: :)${(@)words[2,CURRENT-1]:#-*}}\" in\n");
    for words in beginnings() {
        let row = |(word, does): (&str, String)| quoted(&format!("{word}:{}", plain(&does)));
        let list: Vec<String> = next(&words).into_iter().map(row).collect();
        let _ = writeln!(text, "    {}) list=({}) ;;", quoted(&words.join(" ")), list.join(" "));
    }
    text.push_str(
        "  esac\n  _describe command list\n}\n_model-proxy() {\n  \
         local words_given=\"${(j: :)${(@)words[2,CURRENT-1]:#-*}}\"\n  case \"$words_given\" in\n",
    );
    for command in COMMANDS {
        one(&mut text, command);
    }
    text.push_str("    *) _model_proxy_commands ;;\n  esac\n}\n\ncompdef _model-proxy model-proxy\n");
    text
}

fn one(text: &mut String, command: &Command) {
    let (words, count) = (command.words.join(" "), command.words.len());
    let _ = writeln!(text, "    {}|{}*)", quoted(&words), quoted(&format!("{words} ")));
    let _ = write!(text, "      shift {count} words; (( CURRENT -= {count} ))\n      _arguments");
    for flag in command.options.iter().chain(GLOBAL) {
        let help = plain(flag.help);
        let action = action(&value(flag), flag.value.unwrap_or_default()).unwrap_or_default();
        let _ = write!(text, " \\\n        {}", quoted(&format!("*--{}[{help}]{action}", flag.long)));
        if let Some(short) = flag.short {
            let _ = write!(text, " \\\n        {}", quoted(&format!("*-{short}[{help}]{action}")));
        }
    }
    if let Some(action) = action(&takes(command), command.takes) {
        let _ = write!(text, " \\\n        {}", quoted(&format!("*{action}")));
    }
    text.push_str("\n      ;;\n");
}

/// What completes a value, with what it is called.
fn action(value: &Value, called: &str) -> Option<String> {
    let called = plain(called);
    match value {
        Value::None => None,
        Value::Any => Some(format!(":{called}: ")),
        Value::File => Some(":FILE:_files".to_owned()),
        Value::Folder => Some(":DIR:_files -/".to_owned()),
        Value::Of(words) => Some(format!(":{called}:({})", words.join(" "))),
        // Behind a space it is given no words but its own.
        Value::Names(what) => Some(format!(":{called}: _model_proxy_names {what}")),
        Value::Commands => Some(format!(":{called}: _model_proxy_commands")),
    }
}

/// Without what has a meaning in brackets or after a colon.
fn plain(text: &str) -> String {
    text.replace(['[', ']', '\\'], "").replace(':', " -")
}
