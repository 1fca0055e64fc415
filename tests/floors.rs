//! Checks that rooms only use the floors below them, and that the pure ones stay pure.
//!
//! The compiler cannot see floors inside one crate, so this test reads the sources: a path `crate::<room>` in a room
//! that must not know it is a failure, with file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, from the ground up. A room may use itself and anything lower; two rooms in one row may not use each other.
const FLOORS: &[&[&str]] = &[
    &["time", "secret"],
    &["wire"],
    &["route", "limit"],
    &["config", "journal", "metrics", "upstream"],
    &["gateway"],
    &["server"],
    &["cli"],
];

/// Rooms that take bytes and `now` and give bytes and decisions.
const PURE: &[&str] = &["wire", "route", "limit"];

/// What a pure room must never name.
const EFFECTS: &[&str] = &[
    "tokio::",
    "hyper::",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime",
];

#[test]
fn rooms_only_use_lower_floors() {
    let mut broken = Vec::new();
    for (floor, room) in rooms() {
        for (file, code) in sources(room) {
            for (line, named) in crate_paths(&code) {
                let below = rooms().find(|(_, other)| *other == named).is_some_and(|(other, _)| other < floor);
                if !below && named != room {
                    broken.push(format!("{}:{line}: {room} uses {named}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "floors crossed:\n{}", broken.join("\n"));
}

#[test]
fn pure_rooms_name_no_effects() {
    let mut broken = Vec::new();
    for room in PURE {
        for (file, code) in sources(room).into_iter().filter(|(file, _)| !is_test(file)) {
            for (at, line) in code.lines().enumerate() {
                for word in EFFECTS.iter().filter(|word| line.contains(**word)) {
                    broken.push(format!("{}:{}: {room} is pure but names {word}", file.display(), at + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "purity lost:\n{}", broken.join("\n"));
}

#[test]
fn every_room_stands_on_a_floor() {
    let map = fs::read_to_string(src().join("lib.rs")).unwrap();
    let modules = map.lines().filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    for module in modules {
        assert!(rooms().any(|(_, room)| room == module), "src/lib.rs has the room {module}, and FLOORS has not");
    }
}

#[test]
fn the_check_sees_every_way_to_name_a_room() {
    let code = "use crate::wire;\nuse crate::{\n    route::{Plan, keys},\n    time,\n};\nlet x = crate::cli::run();";
    let seen: Vec<_> = crate_paths(code).collect();
    assert_eq!(seen, [(1, "wire"), (2, "route"), (2, "time"), (6, "cli")]);
}

/// A room's tests read recorded traffic; what they test does not.
fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn rooms() -> impl Iterator<Item = (usize, &'static str)> {
    FLOORS.iter().enumerate().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, *room)))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source of a room, whether it is `room.rs` or the folder `room/`, with its comments blanked out.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![src().join(room), src().join(format!("{room}.rs"))];
    while let Some(path) = todo.pop() {
        if let Ok(entries) = fs::read_dir(&path) {
            todo.extend(entries.filter_map(|e| e.ok().map(|e| e.path())));
        } else if path.extension().is_some_and(|e| e == "rs") && path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
            found.push((path, code.collect::<Vec<_>>().join("\n")));
        }
    }
    found.sort();
    found
}

/// The first name after every `crate::`, each of a braced list too, with its line.
fn crate_paths(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("crate::").flat_map(|(at, word)| {
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + word.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => braced(list),
            None => vec![name_at(rest)],
        };
        names.into_iter().filter(|name| name.starts_with(char::is_lowercase)).map(move |name| (line, name))
    })
}

/// The first names of the items of a braced list that has just been opened.
fn braced(list: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut depth = 1;
    let mut is_item_start = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_item_start = true,
            _ if depth == 1 && is_item_start && !c.is_whitespace() => {
                names.push(name_at(&list[at..]));
                is_item_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}
