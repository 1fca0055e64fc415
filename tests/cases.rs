//! Golden cases: `tests/cases/*.txt` hold inputs and exactly what is made of them, each under the numbers of the rules
//! it shows; `tests/cases/rules.txt` lists the rules, and none may be without a case.
//!
//! ```text
//! == EC2 3.1/max_tokens | a title
//! request openai_chat -> anthropic [for SHIPPED_MODEL] [with {"capabilities":{…},"quirks":{…}}]
//! {"model":"m", …}
//! ---- gives
//! {"model":"up", …}
//! ---- loses
//! temperature: why
//! ```
//!
//! The kinds are `request`, `reply`, `stream` and `error` (with the status at the end: `error openai_chat -> anthropic
//! 429`); for the last three the first format is the upstream's, and a block `---- asked` may hold the client's request.
//! A request that is not converted has `---- refuses` with `path: message`. `MODEL_PROXY_BLESS=1` writes the expected
//! blocks anew: read every one of them before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model_proxy::config::env::Env;
use model_proxy::config::{self, Lookup, Root};
use model_proxy::route::keys::Registry;
use model_proxy::route::table::Route;
use model_proxy::wire::fault::Fault;
use model_proxy::wire::loss::{Losses, Refusal};
use model_proxy::wire::sse::{FRAME_BYTES_MAX, Framer};
use model_proxy::wire::translate::{self, StreamTranslator};
use model_proxy::wire::{Format, Memory, Target};
use serde_json::Value;

use crate::support::TempDir;

/// One case as it stands in its file.
#[derive(Debug)]
struct Case {
    /// Comments and the title line.
    head: String,
    ids: Vec<String>,
    title: String,
    how: String,
    input: String,
    asked: Option<String>,
    expected: Vec<(String, String)>,
}

/// What the second line of a case says.
#[derive(Debug)]
struct How<'a> {
    kind: &'a str,
    from: Format,
    to: Format,
    status: u16,
    model: Option<&'a str>,
    facts: Option<&'a str>,
}

type Blocks = Vec<(String, String)>;

#[test]
fn every_case_gives_what_it_says() {
    let bless = std::env::var_os("MODEL_PROXY_BLESS").is_some();
    let mut routes = Routes::default();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for file in files() {
        let mut written = String::new();
        let (cases, tail) = read(&file);
        for case in &cases {
            let given = outcome(case, &mut routes);
            if given != case.expected && !bless {
                wrong.push(differing(&file, case, &given));
            }
            written.push_str(&case.write(&given));
        }
        count += cases.len();
        written.push_str(&tail);
        if bless {
            fs::write(&file, written).unwrap();
        }
    }
    eprintln!("{count} golden cases");
    assert!(wrong.is_empty(), "{} of {count} cases differ\n\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let listed = rules();
    for number in 1..=EDGE_CASES {
        assert!(listed.contains(&format!("EC{number}")), "EC{number} is not in the list");
    }
    let mut shown: BTreeSet<String> = files().iter().flat_map(|f| read(f).0).flat_map(|c| c.ids).collect();
    shown.extend(covered_by_tests());
    let missing: Vec<_> = listed.difference(&shown).collect();
    let unlisted: Vec<_> = shown.difference(&listed).collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
    assert!(unlisted.is_empty(), "not in the list: {unlisted:?}");
}

#[test]
fn every_flag_is_a_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/model.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let listed = rules();
    for kind in ["capabilities", "quirks"] {
        for (flag, value) in schema["$defs"][kind]["properties"].as_object().unwrap() {
            // `thinking` is several flags.
            let parts =
                value["properties"].as_object().map(|parts| parts.keys().map(|part| format!("11/{flag}.{part}")));
            let ids: Vec<String> = parts.map_or_else(|| vec![format!("11/{flag}")], Iterator::collect);
            assert!(ids.iter().all(|id| listed.contains(id)), "{ids:?} are not in the list");
        }
    }
}

/// How many edge cases the conversion document numbers.
const EDGE_CASES: usize = 105;

/// The listed rules.
fn rules() -> BTreeSet<String> {
    let text = fs::read_to_string(folder().join("rules.txt")).unwrap();
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut rules = BTreeSet::new();
    for line in lines {
        let (id, _) = line.split_once(' ').unwrap_or((line, ""));
        assert!(rules.insert(id.to_owned()), "{id} is listed once");
    }
    rules
}

/// Rules shown by tests in code: a line `// covers EC93` above the test.
fn covered_by_tests() -> Vec<String> {
    let mut ids = Vec::new();
    for root in ["src", "tests"] {
        each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), &mut |text| {
            let mut lines = text.lines().map(str::trim_start).peekable();
            while let Some(line) = lines.next() {
                let Some(named) = line.strip_prefix("// covers ") else {
                    continue;
                };
                assert!(lines.peek().is_some_and(|l| l.starts_with("#[")), "`{line}` stands above a test");
                ids.extend(named.split([' ', ',']).filter(|id| !id.is_empty()).map(str::to_owned));
            }
        });
    }
    ids
}

fn each_source(folder: &Path, see: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, see);
        } else if path.extension().is_some_and(|e| e == "rs") {
            see(&fs::read_to_string(path).unwrap());
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt") && f.file_name().is_some_and(|n| n != "rules.txt"));
    files.sort();
    files
}

fn differing(file: &Path, case: &Case, given: &Blocks) -> String {
    let mut text = format!("== {} ({})\n", case.title, file.file_name().unwrap().to_string_lossy());
    for (title, blocks) in [("expected", &case.expected), ("given", given)] {
        writeln!(text, "-- {title}").unwrap();
        for (name, body) in blocks {
            writeln!(text, "---- {name}\n{body}").unwrap();
        }
    }
    text
}

/// The cases of a file, and what stands after the last.
fn read(file: &Path) -> (Vec<Case>, String) {
    let text = fs::read_to_string(file).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    let mut head = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        head.push_str(line);
        head.push('\n');
        let Some(title) = line.strip_prefix("== ") else {
            assert!(line.is_empty() || line.starts_with('#'), "{}: `{line}` stands in no case", file.display());
            continue;
        };
        let (ids, title) = title.split_once('|').unwrap_or_else(|| panic!("{}: `{line}` has no |", file.display()));
        let how = lines.next().unwrap_or_default().to_owned();
        let mut blocks: Blocks = vec![("input".to_owned(), String::new())];
        while let Some(line) = lines.next_if(|l| !l.starts_with("== ") && !l.starts_with('#')) {
            match line.strip_prefix("---- ") {
                Some(name) => blocks.push((name.to_owned(), String::new())),
                None => {
                    let (_, block) = blocks.last_mut().unwrap();
                    block.push_str(line);
                    block.push('\n');
                }
            }
        }
        for (_, block) in &mut blocks {
            block.truncate(block.trim_end().len());
        }
        let mut expected = blocks.split_off(1);
        let asked = expected.iter().position(|(name, _)| name == "asked").map(|at| expected.remove(at).1);
        cases.push(Case {
            head: std::mem::take(&mut head),
            ids: ids.split_whitespace().map(str::to_owned).collect(),
            title: title.trim().to_owned(),
            how,
            input: blocks.remove(0).1,
            asked,
            expected,
        });
    }
    (cases, head)
}

impl Case {
    fn write(&self, blocks: &Blocks) -> String {
        let mut text = format!("{}{}\n{}\n", self.head, self.how, self.input);
        let asked = self.asked.iter().map(|a| ("asked", a));
        for (name, body) in asked.chain(blocks.iter().map(|(n, b)| (n.as_str(), b))) {
            write!(text, "---- {name}\n{body}{}", if body.is_empty() { "" } else { "\n" }).unwrap();
        }
        text.push('\n');
        text
    }

    fn how(&self) -> How<'_> {
        let (line, facts) = match self.how.split_once(" with ") {
            Some((line, facts)) => (line, Some(facts)),
            None => (self.how.as_str(), None),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let format = |at: usize| {
            let name = words.get(at).copied().unwrap_or_default();
            Format::parse(name).unwrap_or_else(|| panic!("{}: `{name}` is no format", self.title))
        };
        let model = words.iter().position(|w| *w == "for").and_then(|at| words.get(at + 1)).copied();
        let status = words.get(4).and_then(|w| w.parse().ok()).unwrap_or_default();
        How { kind: words.first().copied().unwrap_or_default(), from: format(1), to: format(3), status, model, facts }
    }
}

/// The routes of the configuration whose capabilities and quirks cases ask for.
#[derive(Debug, Default)]
struct Routes(BTreeMap<String, Arc<Route>>);

impl Routes {
    /// The route to a format that a case speaks of.
    fn find(&mut self, how: &How<'_>, format: Format) -> Arc<Route> {
        let key = format!("{format} {:?} {:?}", how.model, how.facts);
        let route = self.0.entry(key).or_insert_with(|| match how.model {
            Some(model) => shipped(model, format),
            None => declared(how.facts.unwrap_or("{}"), format),
        });
        Arc::clone(route)
    }
}

/// A route of a model that comes with the program.
fn shipped(model: &str, format: Format) -> Arc<Route> {
    let env = Env::default();
    let loaded = config::load(&env, &Lookup::default(), &Registry::default()).unwrap();
    let found = loaded.table.resolve(model).unwrap_or_else(|| panic!("no model `{model}`"));
    let route = found.model.routes.iter().find(|r| r.format == format);
    Arc::clone(route.unwrap_or_else(|| panic!("`{model}` has no route in {format}")))
}

/// A route of which only these facts are known.
fn declared(facts: &str, format: Format) -> Arc<Route> {
    let facts: Value = serde_json::from_str(facts).unwrap_or_else(|e| panic!("{facts}: {e}"));
    let dir = TempDir::new();
    let part =
        |name: &str| facts[name].as_object().map_or_else(|| "{}".to_owned(), |o| serde_json::to_string(o).unwrap());
    let path = if format == Format::Anthropic { "/v1/messages" } else { "/v1/chat/completions" };
    dir.write(
        "providers/p.json",
        &format!(
            r#"{{"name":"p","enabled":true,"endpoints":{{"base_url":"http://127.0.0.1:1","completions":"{path}","compatible_format":"{format}"}},
            "authentication":{{"header_name":"x-api-key","header_format":"{{api_key}}"}},"api_keys":{{"env_var_patterns":["P_API_KEY"]}},"quirks":{}}}"#,
            part("quirks")
        ),
    );
    dir.write(
        "models/m.json",
        &format!(
            r#"{{"logical_name":"m","model_routings":[{{"provider":"p","model":"up"}}],"capabilities":{}}}"#,
            part("capabilities")
        ),
    );
    let lookup = Lookup { root: Root::Directory(dir.path().to_owned()), extra: Vec::new() };
    let loaded = config::load(&Env::default(), &lookup, &Registry::default()).unwrap();
    Arc::clone(&loaded.table.resolve("m").unwrap().model.routes[0])
}

fn outcome(case: &Case, routes: &mut Routes) -> Blocks {
    let how = case.how();
    let block = |name: &str, body: String| (name.to_owned(), body);
    match how.kind {
        "request" => {
            let mut losses = Losses::default();
            let mut blocks = match request(&how, &case.input, routes, &mut losses) {
                Ok((body, _)) => vec![block("gives", body)],
                Err(refusal) => {
                    let path = refusal.place.path(&case.input);
                    return vec![block("refuses", format!("{path}: {}", refusal.message))];
                }
            };
            if !losses.is_empty() {
                let lines = losses.iter().map(|l| format!("{}: {}", l.place.path(&case.input), l.why));
                blocks.push(block("loses", lines.collect::<Vec<_>>().join("\n")));
            }
            blocks
        }
        "reply" => match translate::reply(how.from, how.to, &case.input, &memory(case, &how, routes)) {
            Ok((body, _)) => vec![block("gives", String::from_utf8(body).unwrap())],
            Err(fault) => vec![block("fails", failed(how.to, &fault))],
        },
        "stream" => vec![block("gives", stream(case, &how, &memory(case, &how, routes)))],
        "error" => vec![block("gives", failed(how.to, &Fault::read(how.status, case.input.as_bytes())))],
        other => panic!("{}: `{other}` is no kind of case", case.title),
    }
}

fn request(how: &How<'_>, body: &str, routes: &mut Routes, losses: &mut Losses) -> Result<(String, Memory), Refusal> {
    let route = routes.find(how, how.to);
    let model = route.model.fixed().unwrap_or("up");
    let target = Target { model, capabilities: &route.capabilities, quirks: &route.quirks };
    let (body, memory) = translate::request((how.from, how.to), body, None, &target, losses)?;
    Ok((String::from_utf8(body).unwrap(), memory))
}

/// What the way back remembers: of what the client asked, where the case tells.
fn memory(case: &Case, how: &How<'_>, routes: &mut Routes) -> Memory {
    let memory = match &case.asked {
        Some(asked) => {
            let there = How { from: how.to, to: how.from, ..case.how() };
            let made = request(&there, asked, routes, &mut Losses::default());
            made.unwrap_or_else(|r| panic!("{}: what was asked is refused: {r}", case.title)).1
        }
        None => Memory { model: "m".into(), ..Memory::default() },
    };
    Memory { created: 1_700_000_000, seed: 7, ..memory }
}

/// An error as the client is shown it: the status, then the body.
fn failed(to: Format, fault: &Fault) -> String {
    let mut body = Vec::new();
    (to.codec().encode_fault)(fault, "req_1", &mut body);
    format!("{}\n{}", (to.codec().status)(fault), String::from_utf8(body).unwrap())
}

/// The translated stream; cutting it anywhere changes nothing.
fn stream(case: &Case, how: &How<'_>, memory: &Memory) -> String {
    // What the file cannot show: the blank line that ends the last frame.
    let input = format!("{}\n\n", case.input);
    let whole = translated(how, memory, &[input.as_bytes()]);
    for size in [1, 7] {
        let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
        assert_eq!(translated(how, memory, &pieces), whole, "{}: cut every {size} bytes", case.title);
    }
    whole.trim_end().to_owned()
}

fn translated(how: &How<'_>, memory: &Memory, pieces: &[&[u8]]) -> String {
    let mut translator = StreamTranslator::new(how.from, how.to, memory);
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    let mut out = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = framer.next() {
            translator.frame(&frame.unwrap(), &mut out);
        }
    }
    if let Some(frame) = framer.finish() {
        translator.frame(&frame, &mut out);
    }
    translator.finish(&mut out);
    String::from_utf8(out).unwrap()
}
