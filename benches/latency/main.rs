//! What the gateway costs beside the least a proxy can cost: latency, CPU per request and per event, start, memory.
//!
//! `cargo bench --bench latency [-- --quick] [--from FORMAT] [--only "whole, 1 KB"] [--shared]`. Five targets answer the
//! same load in one run, taking turns in every round: the upstream itself (`direct`), a pass-through on hyper that reads
//! nothing (`bare`), the gateway to an upstream of the client's format (`same`), and to one of each other (`to …`). The
//! client speaks `openai_chat`, `anthropic` or `openai_responses`; the first where nothing is said. Medians of the rounds
//! are printed; a ratio is the median of each round's own, since what slows the machine slows neighbours in time alike.
//!
//! `--beside FILE` measures another build of the gateway in the same run, to see what a change has done. `--load FILE` measures
//! nothing: it gives a build what a day brings, from clients of every format, over plain connections and over TLS and HTTP/2, and
//! has it end in order, so that whatever watches it, a profiler say, has seen what it does all day.
//!
//! CPU is the target process's own, from the kernel's scheduler, all its threads together. A target has one core to
//! itself, the load and the upstream another, where there are two and `taskset` is at hand; `--shared` lets the
//! scheduler move all of them about. Compare ratios, not figures of different machines.
//!
//! Upstream and pass-through are this binary again, told by [`ROLE`] what to be.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a bench stops where it cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time and reads its arguments and its role")]

mod bare;
mod format;
mod load;
mod process;
mod upstream;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use format::{FORMATS, Format};
use load::{Case, Figures};
use process::{Cores, Gateway, Process};

/// The variable that tells this binary to be the upstream or the pass-through.
const ROLE: &str = "MODEL_PROXY_BENCH_ROLE";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::var(ROLE).as_deref() {
        Ok("upstream") => runtime.block_on(upstream::serve()),
        Ok(role) => match role.strip_prefix("bare ").and_then(|address| address.parse().ok()) {
            Some(address) => runtime.block_on(bare::serve(address)),
            None => panic!("no such role: {role}"),
        },
        Err(_) => {
            let args: Vec<String> = std::env::args().collect();
            let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1)).cloned();
            let has = |flag: &str| args.iter().any(|a| a == flag);
            let cores = if has("--shared") { Cores::Shared } else { Cores::divide() };
            let only = value("--only").unwrap_or_default();
            let from = value("--from").unwrap_or_else(|| FORMATS[0].name.to_owned());
            let Some(client) = FORMATS.iter().find(|format| format.name == from) else {
                let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
                panic!("--from: no such format: {from}; there are {}", names.join(", "));
            };
            // Each process has a folder of its own, where a relative path would lead elsewhere.
            let program = |flag: &str| value(flag).map(|file| std::fs::canonicalize(file).unwrap());
            match program("--load") {
                Some(program) => runtime.block_on(exercise(&program, &cores)),
                None => {
                    let beside = program("--beside");
                    runtime.block_on(measure(client, has("--quick"), &only, beside.as_deref(), &cores));
                }
            }
        }
    }
}

/// The gateway as it was built for this run.
const OURS: &str = env!("CARGO_BIN_EXE_model-proxy");

/// What is measured.
struct Target {
    name: String,
    address: SocketAddr,
    /// Whose CPU is counted; nobody's for the upstream itself.
    pid: Option<u32>,
    /// The model that leads there.
    model: &'static str,
}

async fn measure(client: &'static Format, is_quick: bool, only: &str, beside: Option<&Path>, cores: &Cores) {
    match cores {
        Cores::Apart(core) => println!("targets run alone on core {core}, load and upstream on core 0"),
        Cores::Shared => println!("targets share their cores with load and upstream"),
    }
    if beside.is_none() {
        println!(
            "the gateway is built plainly; --beside target/shipped/model-proxy adds what is shipped (deploy/pgo builds it)"
        );
    }
    let upstream = Process::upstream();
    let bare = Process::bare(upstream.address, cores);
    let gateway = Gateway::start(Path::new(OURS), upstream.address, cores);
    let other = beside.map(|program| Gateway::start(program, upstream.address, cores));
    let direct = |name: &str, address, pid| Target { name: name.to_owned(), address, pid, model: client.name };
    let mut targets = vec![direct("direct", upstream.address, None), direct("bare", bare.address, Some(bare.pid()))];
    for (gateway, whose) in [(Some(&gateway), ""), (other.as_ref(), ", beside")] {
        let Some(gateway) = gateway else { continue };
        let way =
            |format: &Format| if format.name == client.name { "same".into() } else { format!("to {}", format.name) };
        targets.extend(FORMATS.iter().map(|format| Target {
            name: way(format) + whose,
            address: gateway.address(),
            pid: Some(gateway.pid()),
            model: format.name,
        }));
    }
    let rounds = if is_quick { 1 } else { 9 };
    println!("{:<34}{:<30}{:>10}{:>10}{:>12}{:>10}", "load", "target", "p50 µs", "p99 µs", "CPU µs/unit", "to bare");
    for case in cases(is_quick).into_iter().filter(|case| case.to_string().contains(only)) {
        let mut figures: Vec<Vec<Figures>> = targets.iter().map(|_| Vec::new()).collect();
        for round in 0..=rounds {
            for (target, figures) in targets.iter().zip(&mut figures) {
                let measured = load::run(client, target, &case).await;
                // The first round only warms up.
                if 0 < round {
                    figures.push(measured);
                }
            }
        }
        print(&case, &targets, &figures);
    }
    println!(
        "the gateway holds {} KiB after all this, and held {} KiB at most",
        gateway.rss("VmRSS"),
        gateway.rss("VmHWM")
    );
    drop(gateway);
    start(upstream.address, if is_quick { 1 } else { 9 }, cores).await;
}

/// What a day brings, by how often: small answers and events more than anything, and some that are large.
fn day() -> Vec<Case> {
    let whole = |kib, connections, requests| Case::Whole { kib, connections, requests };
    let stream = |streams, events, is_paced| Case::Stream { connections: streams, streams, events, is_paced };
    vec![
        whole(1, 1, 1000),
        whole(1, 64, 1000),
        whole(16, 16, 100),
        whole(128, 4, 8),
        stream(16, 100, false),
        stream(32, 20, true),
    ]
}

/// Gives a build of the gateway what a day brings.
async fn exercise(program: &Path, cores: &Cores) {
    let upstream = Process::upstream();
    let gateway = Gateway::start(program, upstream.address, cores);
    let [front, back] = Gateway::pair(program, upstream.address, cores);
    for (gateway, way) in [(&gateway, "plain"), (&front, "over TLS and HTTP/2")] {
        for client in &FORMATS {
            for format in &FORMATS {
                let (name, address) = (format.name.to_owned(), gateway.address());
                let target = Target { name, address, pid: None, model: format.name };
                for case in day() {
                    load::run(client, &target, &case).await;
                }
                println!("{way}: from {} to {}", client.name, format.name);
            }
        }
    }
    for gateway in [gateway, front, back] {
        gateway.end();
    }
}

fn cases(is_quick: bool) -> Vec<Case> {
    let scale = if is_quick { 1 } else { 10 };
    let mut cases = Vec::new();
    for kib in [1, 16, 128] {
        for connections in [1, 64] {
            cases.push(Case::Whole { kib, connections, requests: 500 * scale });
        }
    }
    cases.push(Case::Stream { connections: 1, streams: 2 * scale, events: 500, is_paced: false });
    cases.push(Case::Stream { connections: 16, streams: 16 * scale, events: 200, is_paced: false });
    // Responses takes no limit below 16 tokens.
    cases.push(Case::Stream { connections: 64, streams: 64, events: (10 * scale).max(16), is_paced: true });
    cases
}

fn print(case: &Case, targets: &[Target], figures: &[Vec<Figures>]) {
    let bare: &[Figures] = targets.iter().zip(figures).find(|(t, _)| t.name == "bare").map_or(&[], |(_, f)| f);
    for (target, figures) in targets.iter().zip(figures) {
        let p50 = median(figures.iter().map(|f| f.p50_us).collect()).unwrap_or_default();
        let p99 = median(figures.iter().map(|f| f.p99_us).collect()).unwrap_or_default();
        print!("{:<34}{:<30}{p50:>10.0}{p99:>10.0}", case.to_string(), target.name);
        // Round by round: what slows the machine down slows down neighbours in time alike.
        let ratios = figures.iter().zip(bare).filter_map(|(of, bare)| Some(of.cpu_us? / bare.cpu_us?));
        match (median(figures.iter().filter_map(|f| f.cpu_us).collect()), median(ratios.collect())) {
            (Some(cpu), Some(ratio)) => println!("{cpu:>12.2}{ratio:>10.2}"),
            _ => println!("{:>12}{:>10}", "-", "-"),
        }
    }
}

/// From the start of the process to its first answer, and what it holds when nobody asks.
async fn start(upstream: SocketAddr, times: usize, cores: &Cores) {
    let mut first = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..times {
        let started = std::time::Instant::now();
        let gateway = Gateway::start(Path::new(OURS), upstream, cores);
        let target = Target { name: "same".to_owned(), address: gateway.address(), pid: None, model: FORMATS[0].name };
        load::run(&FORMATS[0], &target, &Case::Whole { kib: 1, connections: 1, requests: 1 }).await;
        first.push(started.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(Duration::from_millis(200)).await;
        idle.push(f64::from(gateway.rss("VmRSS")));
    }
    let (first, idle) = (median(first).unwrap_or_default(), median(idle).unwrap_or_default());
    println!("start to first answer {first:.1} ms; idle memory {:.1} MiB", idle / 1_024.0);
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
