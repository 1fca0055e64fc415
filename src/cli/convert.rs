//! `convert`: one request, reply or stream from one format to another, without a server.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, format, load, resolve, say};
use crate::route::keys::Registry;
use crate::route::table::Route;
use crate::time::Clock;
use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::convert::{Converted, Document, convert};
use crate::wire::{Format, Memory};

pub(crate) fn run(given: &Given) -> Exit {
    converted(given).unwrap_or_else(|unready| unready.tell(Exit::Wrong))
}

fn converted(given: &Given) -> Result<Exit, Unready> {
    let formats @ (from, to) = (stated(given, "from")?, stated(given, "to")?);
    let (is_reply, is_stream) = (given.has("reply"), given.has("stream"));
    if is_reply && is_stream {
        return Err(Unready::Usage("--reply and --stream exclude each other: a stream is no whole reply".to_owned()));
    }
    let logical = given.text("model")?;
    // A request goes to the upstream, an answer comes from it.
    let upstream = if is_reply || is_stream { from } else { to };
    let found = logical.map(|name| find(given, name, upstream)).transpose()?;
    let input = read(given)?;
    let memory = Memory {
        model: logical.unwrap_or_default().to_owned(),
        created: Clock::unix_seconds(),
        seed: hash(&input),
        include_usage: true,
        ..Memory::default()
    };
    let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
    let document = match &found {
        _ if is_reply => Document::Reply(&memory),
        _ if is_stream => Document::Stream(&memory),
        None => Document::Request { model: None, capabilities: &capabilities, quirks: &quirks, defaults: &[] },
        Some((route, model)) => Document::Request {
            model: Some(model),
            capabilities: &route.capabilities,
            quirks: &route.quirks,
            defaults: &route.defaults,
        },
    };
    Ok(tell(&convert(formats, document, input.into())))
}

fn tell(converted: &Converted) -> Exit {
    say::bytes(&converted.out);
    if !converted.losses.is_empty() {
        say::err(&converted.losses.join("\n"));
    }
    converted.refused.as_ref().map_or(Exit::Fine, say::no)
}

fn stated(given: &Given, option: &str) -> Result<Format, Unready> {
    let [first, second, last] = Format::ALL.map(Format::as_str);
    let Some(name) = given.text(option)? else {
        return Err(Unready::Usage(format!("--{option} is missing; it takes {first}, {second} or {last}")));
    };
    format(name, option)
}

/// The first route of a model that speaks a format, and the model's name there.
fn find(given: &Given, name: &str, format: Format) -> Result<(Arc<Route>, String), Unready> {
    let loaded = load(given, &environment(given)?, &Registry::default())?;
    let resolved = resolve(&loaded.table, name).map_err(Unready::Usage)?;
    let routes = &resolved.model.routes;
    let Some(route) = routes.iter().find(|route| route.format == format) else {
        let spoken: Vec<String> = routes.iter().map(|r| format!("{} speaks {}", r.label(), r.format)).collect();
        return Err(Unready::Usage(format!("no route of model {name:?} speaks {format}: {}", spoken.join(", "))));
    };
    let model = resolved.upstream_model(route).into_owned();
    Ok((Arc::clone(route), model))
}

/// The document: the file's, or what comes in.
fn read(given: &Given) -> Result<Vec<u8>, Unready> {
    let file = given.rest.first().filter(|file| *file != "-");
    let mut input = Vec::new();
    let outcome = match file {
        Some(file) => File::open(file).and_then(|mut file| file.read_to_end(&mut input)),
        None => {
            let mut stdin = io::stdin();
            if stdin.is_terminal() {
                say::err(&format!("{NAME}: reads what is typed, up to Ctrl-D"));
            }
            stdin.read_to_end(&mut input)
        }
    };
    let name = file.map_or_else(|| "standard input".to_owned(), |file| file.to_string_lossy().into_owned());
    outcome.map(|_| input).map_err(|error| Unready::Usage(format!("{name}: {error}")))
}

/// FNV-1a: replies without an id are given the same one each time.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
