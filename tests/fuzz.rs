//! Replays the corpus of every fuzz target, and everything that ever broke one, as ordinary tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Chance;

type Target = (&'static str, fn(&[u8]));

/// Every target of `fuzz/`, and the law it asserts.
const TARGETS: &[Target] = &[
    ("convert", model_proxy::wire::laws::convert),
    ("door", model_proxy::server::laws::door),
    ("head_splice", model_proxy::wire::head::fuzz),
    ("json", model_proxy::wire::json::fuzz),
    ("limit", model_proxy::limit::laws::limit),
    ("pairs", model_proxy::wire::laws::pairs),
    ("plan", model_proxy::route::laws::plan),
    ("prompt", model_proxy::wire::laws::prompt),
    ("sse", model_proxy::wire::sse::fuzz),
    ("stream", model_proxy::wire::laws::stream),
];

#[test]
fn every_fuzz_target_holds_on_its_corpus() {
    for (name, body) in TARGETS {
        let cases = files(&root().join("corpus").join(name));
        assert!(!cases.is_empty(), "fuzz/corpus/{name} has no case");
        let regressions = files(&root().join("regressions").join(name));
        for case in cases.iter().chain(&regressions) {
            let data = fs::read(case).unwrap();
            let outcome = std::panic::catch_unwind(|| body(&data));
            assert!(outcome.is_ok(), "{} breaks {name}", case.display());
        }
    }
}

#[test]
fn every_fuzz_target_is_replayed() {
    let mut targets: Vec<String> =
        files(&root().join("fuzz_targets")).iter().map(|f| f.file_stem().unwrap().to_string_lossy().into()).collect();
    targets.sort();
    let mut replayed: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    replayed.sort_unstable();
    assert_eq!(targets, replayed);
}

/// Frames of the golden cases, in any order and now and then spoilt: near enough to streams to get far into the decoders.
#[test]
fn the_frames_of_the_cases_hold_the_law_in_any_order() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let streams = files(&cases).into_iter().filter(|f| f.file_name().unwrap().to_string_lossy().starts_with("streams"));
    let text: String = streams.map(|file| fs::read_to_string(file).unwrap()).collect();
    let is_frame = |text: &&str| text.lines().all(|line| line.starts_with("data:") || line.starts_with("event:"));
    let (chat, messages): (Vec<&str>, Vec<&str>) =
        text.split("\n\n").filter(is_frame).partition(|f| f.contains("choices"));
    assert!(100 < chat.len() && 100 < messages.len(), "{} {}", chat.len(), messages.len());
    let start = messages.iter().find(|frame| frame.contains("message_start")).unwrap();
    let mut chance = Chance::new(11);
    for _ in 0..2000 {
        let from = chance.below(2);
        let (pool, first, last) = match from {
            0 => (&chat, "", "data: [DONE]"),
            _ => (&messages, *start, "event: message_stop\ndata: {\"type\":\"message_stop\"}"),
        };
        let frames: Vec<&str> = (0..chance.below(9)).map(|_| pool[chance.below(pool.len())]).collect();
        let choice = u8::try_from(from + 2 * chance.below(2)).unwrap();
        let mut input = vec![choice, u8::try_from(chance.below(200)).unwrap()];
        input.extend_from_slice(format!("{first}\n\n{}\n\n{last}\n\n", frames.join("\n\n")).as_bytes());
        for _ in 0..chance.below(3).saturating_sub(1) {
            let at = 2 + chance.below(input.len() - 2);
            input[at] = b"{}[]\":,0ax\\"[chance.below(11)];
        }
        let outcome = std::panic::catch_unwind(|| model_proxy::wire::laws::stream(&input));
        assert!(outcome.is_ok(), "{}", String::from_utf8_lossy(&input));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|e| e.map(|e| e.unwrap().path()).collect::<Vec<_>>());
    let mut files = entries.unwrap_or_default();
    files.retain(|path| path.is_file());
    files.sort();
    files
}
