//! How far the guesses at input tokens are off, on recorded requests whose usage is known.
//!
//! `MODEL_PROXY_CORPUS` names the folder of recordings; without it this says so and passes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model_proxy::wire::Format;
use model_proxy::wire::tokens::estimate;
use serde_json::Value;

/// A recorded request, what its upstream speaks, and the input tokens its upstream counted.
#[derive(Debug)]
struct Pair {
    file: String,
    format: Format,
    body: String,
    counted: u64,
}

/// What a guess cannot know: things the vendor fetches, runs or adds by itself.
const UNKNOWABLE: [&str; 12] = [
    "mcp_servers",
    "context_management",
    "container",
    "web_search",
    "web_fetch",
    "code_execution",
    "tool_search",
    "compaction",
    "file_id",
    "input_audio",
    "compound",
    "search_context",
];

fn pairs(folder: &Path) -> Vec<Pair> {
    let index = fs::read_to_string(folder.join("index.jsonl")).expect("the corpus has an index");
    let mut exchanges: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for row in index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let Some(pair) = row["pair"].as_str() else { continue };
        let (asked, answered) = exchanges.entry(pair.to_owned()).or_default();
        let list = if row["side"] == "request" { asked } else { answered };
        list.push(row);
    }
    exchanges.values().filter_map(|(asked, answered)| pair(folder, asked, answered)).collect()
}

fn pair(folder: &Path, asked: &[Value], answered: &[Value]) -> Option<Pair> {
    let ([asked], [answered]) = (asked, answered) else { return None };
    let format = match asked["api"].as_str()? {
        "chat" => Format::OpenaiChat,
        "messages" | "count_tokens" => Format::Anthropic,
        _ => return None,
    };
    let file = asked["file"].as_str()?.to_owned();
    let body = fs::read_to_string(folder.join(&file)).ok()?;
    // Recordings whose base64 was cut short, and what cannot be known.
    let cut = asked["edits"].as_array().is_some_and(|edits| !edits.is_empty());
    if cut || UNKNOWABLE.iter().any(|word| body.contains(word)) {
        return None;
    }
    // A Responses request was counted.
    if format == Format::Anthropic && !body.contains("\"messages\"") {
        return None;
    }
    let answer = fs::read_to_string(folder.join(answered["file"].as_str()?)).ok()?;
    let counted = counted(&answer)?;
    Some(Pair { file, format, body, counted })
}

/// The input tokens an answer tells of, cached ones included: the most of any event.
fn counted(answer: &str) -> Option<u64> {
    let whole = serde_json::from_str::<Value>(answer).ok();
    let events = answer.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok());
    whole.into_iter().chain(events).filter_map(|event| input(&event)).max().filter(|n| 0 < *n)
}

fn input(event: &Value) -> Option<u64> {
    let usage = [&event["usage"], &event["message"]["usage"], event];
    let count = |usage: &Value| {
        let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
        let anthropic = usage["input_tokens"].as_u64()?;
        Some(anthropic + parts.iter().skip(1).filter_map(|name| usage[*name].as_u64()).sum::<u64>())
    };
    usage.iter().find_map(|usage| usage["prompt_tokens"].as_u64().or_else(|| count(usage)))
}

/// How near a group's guesses have to be: at least so many of a hundred within the factor 1.5 or 50 tokens, and at most so
/// far off in the middle. Chat upstreams of other vendors than OpenAI wrap small prompts in templates of very different
/// length, which no guess can know.
const GROUPS: [(Format, &str, bool, usize, f64); 6] = [
    (Format::OpenaiChat, "openai-chat", false, 88, 1.1),
    (Format::OpenaiChat, "openai-chat", true, 55, 1.7),
    (Format::OpenaiChat, "openai-compatible", false, 75, 1.2),
    (Format::OpenaiChat, "openai-compatible", true, 42, 1.2),
    (Format::Anthropic, "anthropic", false, 88, 1.15),
    (Format::Anthropic, "anthropic", true, 90, 1.15),
];

#[test]
fn guesses_are_near_what_vendors_count() {
    let Some(folder) = std::env::var_os("MODEL_PROXY_CORPUS").map(PathBuf::from) else {
        eprintln!("guesses_are_near_what_vendors_count: skipped, MODEL_PROXY_CORPUS names no folder");
        return;
    };
    let pairs = pairs(&folder);
    for (format, family, tools, near_least, middle_most) in GROUPS {
        let is_one =
            |p: &&Pair| p.format == format && p.file.starts_with(family) && p.body.contains("\"tools\"") == tools;
        let guesses: Vec<(f64, f64)> = pairs
            .iter()
            .filter(is_one)
            .map(|pair| (estimate(&pair.body, pair.format) as f64, pair.counted as f64))
            .collect();
        let mut ratios: Vec<f64> = guesses.iter().map(|(guess, count)| guess / count).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |percent: usize| ratios[(ratios.len() - 1) * percent / 100];
        let percent = |near: &dyn Fn(&(f64, f64)) -> bool| {
            100 * guesses.iter().filter(|guess| near(guess)).count() / guesses.len()
        };
        let factor = |most: f64| percent(&|(guess, count)| (1.0 / most..=most).contains(&(guess / count)));
        let near = percent(&|(g, count)| (1.0 / 1.5..=1.5).contains(&(g / count)) || (g - count).abs() <= 50.0);
        let title = format!("{family} {} tools", if tools { "with" } else { "without" });
        eprintln!(
            "{title}: {} requests; guess / count: 5 % {:.2}, 25 % {:.2}, median {:.2}, 75 % {:.2}, 95 % {:.2}; \
             within 1.5 times {} %, within 2 times {} %, within 1.5 times or 50 tokens {near} %",
            guesses.len(),
            at(5),
            at(25),
            at(50),
            at(75),
            at(95),
            factor(1.5),
            factor(2.0)
        );
        assert!(near_least <= near, "{title}: {near} %");
        assert!((1.0 / middle_most..=middle_most).contains(&at(50)), "{title}: {}", at(50));
    }
}
