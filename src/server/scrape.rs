//! What metrics look up when somebody asks: gauges of ours, and what the system says of the process.

use std::fs;

use ahash::AHashMap;

use crate::gateway::Gateway;
use crate::journal::Standing;
use crate::metrics::Scraped;
use crate::route::table::Table;
use crate::server::accept;
use crate::server::worker::Worker;
use crate::time::Millis;

pub(super) fn scraped(worker: &Worker) -> Scraped {
    let Gateway { table, clock, capacity, .. } = &worker.gateway;
    let (table, now, standing) = (table.load(), clock.now(), worker.standing.state());
    let mut all = Scraped::default();
    all.say("build_info", &[env!("CARGO_PKG_VERSION")], 1.0);
    all.say("config_info", &[&table.hash], 1.0);
    all.say("config_last_reload_timestamp_seconds", &[], number(standing.loaded_at));
    let (good, failed) = standing.reloads;
    all.say("config_reloads_total", &["ok"], number(good));
    all.say("config_reloads_total", &["failed"], number(failed));
    keys(&table, now, &mut all);
    let (under_way, held) = capacity.taken();
    all.say("in_flight_requests", &[], number(under_way as u64));
    all.say("held_bytes", &[], number(held as u64));
    all.say("open_connections", &[], number(worker.crowd.open() as u64));
    all.say("log_queue_depth", &[], number(worker.log.lines_waiting() as u64));
    all.say("log_dropped_total", &[], number(worker.log.lines_left_out()));
    if let Some(journal) = &worker.journal {
        let Standing { waiting, written, dropped, failing } = journal.standing();
        all.say("journal_rows_total", &[], number(written));
        all.say("journal_dropped_total", &[], number(dropped));
        all.say("journal_queue_depth", &[], number(waiting as u64));
        all.say("journal_failing", &[], if failing.is_some() { 1.0 } else { 0.0 });
    }
    all.say("process_start_time_seconds", &[], number(worker.started));
    process(&mut all);
    all
}

#[expect(clippy::cast_precision_loss, reason = "nothing here is counted beyond 2^53")]
fn number(n: u64) -> f64 {
    n as f64
}

/// Each key, by its provider and the variable it came from: whether it rests. Keys of one variable rest together.
fn keys(table: &Table, now: Millis, all: &mut Scraped) {
    let mut soonest: AHashMap<(&str, &str), Millis> = AHashMap::new();
    for route in table.models().chain(table.direct()).flat_map(|model| &model.routes) {
        for slot in route.keys.iter().filter(|slot| slot.key.secret.is_some()) {
            let ready_at = if slot.on_key.is_ready(now) { now } else { slot.on_key.ready_at() };
            soonest
                .entry((&route.provider.name, &slot.key.name))
                .and_modify(|at| *at = ready_at.max(*at))
                .or_insert(ready_at);
        }
    }
    let mut sorted: Vec<_> = soonest.into_iter().collect();
    sorted.sort_unstable();
    for ((provider, slot), ready_at) in sorted {
        all.say("key_cooldown", &[provider, slot], if now < ready_at { 1.0 } else { 0.0 });
        all.say("key_ready_in_seconds", &[provider, slot], now.until(ready_at).as_secs_f64());
    }
}

/// What Linux tells of us; elsewhere these are left out.
fn process(all: &mut Scraped) {
    if let Some(kib) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(|text| field(text, "VmRSS:")) {
        all.say("process_resident_memory_bytes", &[], number(kib * 1024));
    }
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(ticks) {
        all.say("process_cpu_seconds_total", &[], number(ticks) / TICKS_A_SECOND);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        all.say("process_open_fds", &[], number(open.count() as u64));
    }
    if let Some(most) = accept::descriptors() {
        all.say("process_max_fds", &[], number(most as u64));
    }
}

/// In which Linux counts the time of processes, whatever the kernel is built with (`proc(5)`).
const TICKS_A_SECOND: f64 = 100.0;

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Time in user and kernel mode: the twelfth and thirteenth behind the name, which stands in brackets and may hold any.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 3 0 100 1000 200";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (x) S 1"), None);
        assert_eq!(field("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
