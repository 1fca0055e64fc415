//! Who rests, kept over a restart where that is asked for: a limit that was met does not end because we did.
//!
//! The file (`kept.rs`) is written at most once a second. It holds names of providers and models, fingerprints and times, and no
//! secret.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::route::keys::{Registry, Resting, Why};
use crate::server::kept::KeptFile;
use crate::server::log;
use crate::time::Clock;

/// The file as it is written.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
struct Kept {
    resting: Vec<One>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct One {
    name: String,
    /// Seconds since 1970.
    until: u64,
    why: String,
    strikes: u32,
}

/// Keeps a registry's rests in a file.
pub(super) struct Keeper {
    file: KeptFile<Kept>,
    registry: Arc<Registry>,
    clock: Clock,
}

/// No rest that is kept is believed to last longer: clocks are set, files are copied.
const KEPT_MAX: Duration = Duration::from_secs(86_400);

impl Keeper {
    /// Lets rest who rested when the file was written.
    pub(super) fn restore(path: PathBuf, registry: Arc<Registry>, clock: Clock) -> Self {
        let mut file = KeptFile::<Kept>::read(path, "who rests");
        let kept = file.take();
        let unix_now = Clock::unix_seconds();
        let mut restored = 0;
        for One { name, until, why, strikes } in kept.resting {
            let left = Duration::from_secs(until.saturating_sub(unix_now)).min(KEPT_MAX);
            if let Some(why) = Why::parse(&why).filter(|_| !left.is_zero()) {
                registry.restore(Resting { name, left, why, strikes }, clock.now());
                restored += 1;
            }
        }
        if 0 < restored {
            log::info(&format!("{restored} keys and routes rest from before"));
        }
        Self { file, registry, clock }
    }

    /// Writes who rests, if that has changed.
    pub(super) fn keep(&mut self) {
        let unix_now = Clock::unix_seconds();
        let one = |resting: Resting| One {
            until: unix_now + resting.left.as_secs() + u64::from(0 < resting.left.subsec_nanos()),
            name: resting.name,
            why: resting.why.as_str().to_owned(),
            strikes: resting.strikes,
        };
        let mut resting: Vec<One> = self.registry.resting(self.clock.now()).into_iter().map(one).collect();
        resting.sort_by(|a, b| a.name.cmp(&b.name));
        let kept = Kept { resting };
        // Rounding may move a moment by a second, which is no news.
        let is_same = |a: &One, b: &One| a.name == b.name && a.until.abs_diff(b.until) <= 1;
        let (old, new) = (&self.file.written().resting, &kept.resting);
        if old.len() == new.len() && old.iter().zip(new).all(|(a, b)| is_same(a, b)) {
            return;
        }
        self.file.write(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_rests_still_rests_after_a_restart() {
        let folder = std::env::temp_dir().join(format!("model-proxy-kept-{}", std::process::id()));
        let path = folder.join("state/cooldowns.json");
        let clock = Clock::start();
        let registry = Arc::new(Registry::default());
        let (limited, soon) = (registry.state("a\0b".into()), registry.state("c".into()));
        limited.cool(clock.now(), Duration::from_secs(90), Why::Limited);
        soon.cool(clock.now(), Duration::from_millis(1), Why::Failed);
        // A moment later.
        let clock = clock.ahead(Duration::from_millis(5));
        let mut keeper = Keeper::restore(path.clone(), Arc::clone(&registry), clock);
        keeper.keep();
        let later = Clock::start();
        let restarted = Arc::new(Registry::default());
        let _keeper = Keeper::restore(path.clone(), Arc::clone(&restarted), later);
        let state = restarted.state("a\0b".into());
        let left = later.now().until(state.ready_at()).as_secs();
        assert!((88..=91).contains(&left) && state.why(later.now()) == Why::Limited, "{left}");
        assert!(restarted.state("c".into()).is_ready(later.now()), "that one was over");
        // A folder in the way: what could not be written is written once it can be.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        limited.cool(clock.now(), Duration::from_secs(300), Why::Limited);
        keeper.keep();
        fs::remove_dir(&path).unwrap();
        keeper.keep();
        assert!(path.is_file(), "tried again");
        fs::write(&path, "nonsense").unwrap();
        let anew = Arc::new(Registry::default());
        let _keeper = Keeper::restore(path, Arc::clone(&anew), later);
        assert!(anew.state("a\0b".into()).is_ready(later.now()), "begun anew");
        fs::remove_dir_all(folder).unwrap();
    }
}
