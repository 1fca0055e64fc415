//! Runs the format over recorded traffic, when `MODEL_PROXY_CORPUS` names the folder of it. What is written goes to
//! `MODEL_PROXY_CORPUS_OUT`, for the validator that knows the official types.

use std::path::{Path, PathBuf};

use crate::wire::caps::{Capabilities, Quirks, ThinkingModes};
use crate::wire::json::Cursor;
use crate::wire::loss::Losses;
use crate::wire::{Memory, Target};

use super::super::CODEC;
use super::{frames, streamed, translated, whole};

/// One line of the corpus' index: file, kind, status.
fn index(root: &Path) -> Vec<(String, String, u64)> {
    let index = std::fs::read_to_string(root.join("index.jsonl")).unwrap();
    let line = |line: &str| {
        let (mut file, mut kind, mut api, mut status) = (String::new(), String::new(), String::new(), 0);
        let mut cursor = Cursor::new(line);
        cursor.object().unwrap();
        while let Some(key) = cursor.key().unwrap() {
            match key.decode().as_ref() {
                "file" => file = cursor.str().unwrap().decode().into_owned(),
                "kind" => kind = cursor.str().unwrap().decode().into_owned(),
                "api" => api = cursor.str().unwrap().decode().into_owned(),
                "status" => status = cursor.opt_u64().unwrap().unwrap_or(200),
                _ => {
                    cursor.skip().unwrap();
                }
            }
        }
        (api == "messages").then_some((file, kind, status))
    };
    index.lines().filter_map(line).collect()
}

/// A model of the kind before effort and structured outputs, so that everything else has to stand in for them.
fn old() -> Capabilities {
    Capabilities {
        max_output_tokens: Some(8192),
        temperature_and_top_p: false,
        thinking: ThinkingModes { adaptive: false, enabled: true, disabled: true },
        structured_outputs: false,
        ..Capabilities::default()
    }
}

/// A model that takes everything, so that only the format itself is tried.
fn able() -> Capabilities {
    Capabilities {
        thinking: ThinkingModes { adaptive: true, enabled: true, disabled: true },
        effort: crate::wire::prompt::Effort::ALL.to_vec(),
        inline_system: true,
        ..Capabilities::default()
    }
}

fn save(out: Option<&PathBuf>, kind: &str, file: &str, bytes: &[u8]) {
    if let Some(out) = out {
        let folder = out.join(kind);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file.replace('/', "__")), bytes).unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that runs only where somebody names the corpus")]
fn the_recorded_traffic_is_understood() {
    let Ok(root) = std::env::var("MODEL_PROXY_CORPUS").map(PathBuf::from) else {
        return;
    };
    let out = std::env::var("MODEL_PROXY_CORPUS_OUT").map(PathBuf::from).ok();
    let out = out.as_ref();
    let (models, quirks) = ([("requests", able()), ("requests-old", old())], Quirks::default());
    let memory = Memory { model: "m".to_owned(), seed: 7, ..Memory::default() };
    let mut counts = [0_usize; 3];
    for (file, kind, status) in index(&root) {
        let Ok(body) = std::fs::read_to_string(root.join(&file)) else {
            continue;
        };
        match kind.as_str() {
            "requests" => {
                for (folder, capabilities) in &models {
                    let mut losses = Losses::default();
                    let target = Target { model: "m", capabilities, quirks: &quirks };
                    let mut bytes = Vec::new();
                    let written = (CODEC.decode_request)(&body, &mut losses)
                        .and_then(|prompt| (CODEC.encode_request)(&prompt, &target, &mut bytes, &mut losses));
                    match written {
                        Ok(_) => save(out, folder, &file, &bytes),
                        Err(refusal) => {
                            eprintln!("REFUSED {status} {folder} {file}: {} {refusal}", refusal.place.path(&body));
                        }
                    }
                    if !losses.is_empty() {
                        eprintln!("LOST {folder} {file}: {}", losses.header(&body));
                    }
                }
                counts[0] += 1;
            }
            "responses" => {
                let reply = whole(&body);
                match &reply.fault {
                    Some(fault) => eprintln!("FAULT {status} {file}: {fault}"),
                    None => {
                        let mut bytes = Vec::new();
                        (CODEC.encode_reply)(&reply, &memory, &mut bytes);
                        save(out, "responses", &file, &bytes);
                        assert_eq!(reply.usage, (CODEC.inspect_reply)(&body).unwrap(), "{file}");
                    }
                }
                counts[1] += 1;
            }
            "streams" => {
                let cut = frames(&[body.as_bytes()]);
                let (_, reply) = streamed(&cut);
                if let Some(fault) = &reply.fault {
                    eprintln!("FAULT {status} {file}: {fault}");
                }
                let mut usage = crate::wire::event::Usage::default();
                for frame in &cut {
                    if let Some(seen) = (CODEC.inspect)(frame, crate::wire::Past::Nothing).usage {
                        usage.update(&seen);
                    }
                }
                assert_eq!(reply.usage, usage, "{file}");
                save(out, "streams", &file, &translated(&cut, &memory));
                counts[2] += 1;
            }
            _ => {}
        }
    }
    eprintln!("{counts:?} requests, responses, streams");
}
