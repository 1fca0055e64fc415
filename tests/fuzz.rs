//! Replays the corpus of every fuzz target, and everything that ever broke one, as ordinary tests.

use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

/// Every target of `fuzz/`, and the law it asserts.
const TARGETS: &[Target] = &[
    ("head_splice", model_proxy::wire::head::fuzz),
    ("json", model_proxy::wire::json::fuzz),
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
