//! What is read and written while requests are served: the configuration, and who rests. On a thread of its own, for a disk
//! that hangs must hold up no signal.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use crate::server::budgets::Budgets;
use crate::server::certificate::{Renewal, Shown};
use crate::server::persist::Keeper;
use crate::server::reload::Reloader;

/// How often files are looked at that may have changed, and rests that may have to be written.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long the process waits for what is written last.
const LAST_MAX: Duration = Duration::from_secs(1);

/// The thread, for whoever tells it what to do.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// With room for one: asked several times before it is begun, once is enough.
    asks: SyncSender<()>,
    /// Nothing is ever sent: it is closed when the thread has ended.
    ended: Receiver<()>,
}

impl Upkeep {
    pub(super) fn start(
        mut reloader: Reloader,
        mut keeper: Option<Keeper>,
        certificate: Option<Arc<Shown>>,
        mut budgets: Option<Budgets>,
    ) -> io::Result<Self> {
        let mut renewal = certificate.map(Renewal::new);
        let (asks, asked) = sync_channel(1);
        let (end, ended) = channel();
        thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
            let _end: Sender<()> = end;
            let mut kept = Kept { keeper: keeper.as_mut(), budgets: budgets.as_mut() };
            run(&mut reloader, &mut kept, renewal.as_mut(), &asked);
        })?;
        Ok(Self { asks, ended })
    }

    /// Has everything read again, soon.
    pub(super) fn reload(&self) {
        // Full: it is asked for already. It listens as long as there is somebody to ask.
        let _is_heard = self.asks.try_send(());
    }

    /// Has written who rests, if that can be done in time.
    pub(super) fn end(self) {
        drop(self.asks);
        let _ended = self.ended.recv_timeout(LAST_MAX);
    }
}

fn run(reloader: &mut Reloader, kept: &mut Kept<'_>, mut renewal: Option<&mut Renewal>, asked: &Receiver<()>) {
    loop {
        let has_rounds = reloader.watches() || kept.has_any() || renewal.is_some();
        let next = match has_rounds {
            true => asked.recv_timeout(LOOK_PAUSE),
            false => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(()) => {
                reloader.reload("SIGHUP");
                if let Some(renewal) = &mut renewal {
                    renewal.read_again();
                }
            }
            Err(RecvTimeoutError::Timeout) if reloader.watches() => reloader.look_again(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        kept.keep();
        if let Some(renewal) = &mut renewal {
            renewal.look_again();
        }
    }
    kept.keep();
}

/// What is written down.
struct Kept<'k> {
    keeper: Option<&'k mut Keeper>,
    budgets: Option<&'k mut Budgets>,
}

impl Kept<'_> {
    fn has_any(&self) -> bool {
        self.keeper.is_some() || self.budgets.as_ref().is_some_and(|budgets| budgets.has_any())
    }

    fn keep(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.keep();
        }
        if let Some(budgets) = &mut self.budgets {
            budgets.keep();
        }
    }
}
