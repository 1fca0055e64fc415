//! Sockets and everything around them: listeners, workers, the door, health, the way down.
//!
//! ```text
//! run ─▶ bind ─▶ workers (a thread, a runtime, listeners each) ─▶ accept ─▶ door ─▶ intake ─▶ gateway
//!   └──▶ banner, then signals: SIGHUP reloads, the first of the others drains, the second ends
//! ```
//!
//! `listen.rs` opens sockets and `accept.rs` takes what comes, as long as there is room; `seat.rs` finds connections that only
//! sit there, `flow.rs` streams; `malformed.rs` and `refusal.rs` turn away what is none of ours; `cors.rs` speaks with browsers. `reload.rs` puts
//! new configurations in force, `persist.rs` and `budgets.rs` keep over a restart who rests and what clients have spent, all on
//! the thread of `upkeep.rs`. `log.rs` is the one line of every request, `scrape.rs` what metrics look up; `laws.rs` is fuzzed.

mod accept;
mod auth;
mod banner;
mod budgets;
mod certificate;
mod cors;
mod door;
mod flow;
mod health;
mod intake;
mod kept;
pub mod laws;
mod listen;
mod log;
mod log_line;
mod malformed;
mod models;
mod notify;
mod persist;
mod refusal;
mod reload;
mod resting;
mod scrape;
mod seat;
mod stream;
mod tasks;
mod upkeep;
mod whereabouts;
mod worker;

pub use accept::descriptors;
pub use certificate::{CertificateError, Files as CertificateFiles};
pub use cors::Cors;
pub use listen::Listen;
pub use log::{LogBodies, LogLevel, spelled};
pub use log_line::LogFormat;
pub use reload::{Reloading, Source};
pub use whereabouts::{FOLDER as WHEREABOUTS, nearby};

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Loaded;
use crate::config::bounds::Bounds;
use crate::config::clients::{Client, Clients};
use crate::config::env::Env;
use crate::config::snapshot::Snapshot;
use crate::gateway::{Capacity, Drain, Gateway, RequestIds};
use crate::journal::{self, Journal};
use crate::metrics::Metrics;
use crate::route::keys::Registry;
use crate::secret::Secret;
use crate::server::accept::{Crowd, Shares};
use crate::server::budgets::Budgets;
use crate::server::certificate::Shown;
use crate::server::listen::{Leavings, Opened};
use crate::server::notify::{Beat, Supervisor};
use crate::server::persist::Keeper;
use crate::server::refusal::Refusals;
use crate::server::reload::{Registered, Reloader, Standing};
use crate::server::tasks::Tasks;
use crate::server::upkeep::Upkeep;
use crate::server::whereabouts::Whereabouts;
use crate::server::worker::{Phase, Purpose, Worker};
use crate::time::Clock;
use crate::upstream::{self, Upstream};

/// All that `start` was told and found.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Where to serve metrics, if not beside everything else.
    pub metrics: Option<Listen>,
    /// Where the certificate lies that is shown over TLS.
    pub certificate: Option<CertificateFiles>,
    pub workers: usize,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// Without a client in it a random key is made for this run and shown (loopback only).
    pub loaded: Loaded,
    pub env: Env,
    pub registry: Arc<Registry>,
    pub reloading: Reloading,
    /// Whose pages may ask.
    pub cors: Cors,
    /// How long open requests may go on after the first signal.
    pub drain: Duration,
    /// Where it is kept over a restart who rests; nowhere if nobody asked for it.
    pub cooldowns: Option<PathBuf>,
    /// Where it is kept what clients have spent of a day and a month, if there is a place for it.
    pub budgets: Option<PathBuf>,
    /// The journal's file; none is kept if nobody has a place for it, or wants it.
    pub journal: Option<PathBuf>,
    /// What was asked and answered is kept in it too, of these requests.
    pub bodies: LogBodies,
    /// The file that says where we listen, for commands on this machine.
    pub whereabouts: Option<PathBuf>,
}

/// Why the server cannot start.
#[derive(Debug)]
pub enum ServeError {
    Address(String, io::Error),
    Bind(SocketAddr, io::Error),
    /// A Unix socket.
    Socket(PathBuf, io::Error),
    Certificate(CertificateError),
    /// TLS is to be spoken, and there is nothing to show.
    NoCertificate,
    /// A client key is required on an address that others can reach.
    KeyRequired(String),
    Randomness,
    Ca(String, Box<dyn std::error::Error + Send + Sync>),
    Start(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(host, e) => write!(f, "cannot listen on \"{host}\": {e}"),
            Self::Bind(addr, e) if e.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "port {} is in use on {}; choose another with --port", addr.port(), addr.ip())
            }
            Self::Bind(addr, e) => write!(f, "cannot listen on {addr}: {e}"),
            Self::Socket(path, e) => write!(f, "cannot listen at {}: {e}", path.display()),
            Self::Certificate(error) => {
                write!(f, "{error}")?;
                std::error::Error::source(error).map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::NoCertificate => {
                f.write_str("https:// is to be served: name a certificate and its key with --tls-cert and --tls-key")
            }
            Self::KeyRequired(host) => write!(
                f,
                "\"{host}\" can be reached from other machines, so a client key is required: set CLIENT_API_KEY in the environment or in .env, or make a client with `model-proxy keys new`"
            ),
            Self::Randomness => f.write_str("the system gives no random bytes"),
            Self::Ca(path, e) => write!(f, "cannot use the CA file {path}: {e}"),
            Self::Start(e) => write!(f, "cannot start: {e}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// How long those that were cut may take to say so to their clients, before their connections are closed.
const CUT_MAX: Duration = Duration::from_secs(1);

/// Listens until told to stop. Returns when everything has ended.
pub fn run(settings: Settings) -> Result<(), ServeError> {
    let served = serve(settings);
    log::flush();
    served
}

fn serve(settings: Settings) -> Result<(), ServeError> {
    let certificate = settings.certificate.clone().map(|files| Shown::read(files).map(Arc::new));
    let certificate = certificate.transpose().map_err(ServeError::Certificate)?;
    let doors = bind(&settings)?;
    let metrics_door = metrics_door(&settings)?;
    let places: Vec<Listen> = settings.listen.iter().chain(&settings.metrics).cloned().collect();
    let _leavings = Leavings::of(&places);
    let urls: Vec<String> = doors.first().into_iter().flatten().map(Opened::url).collect();
    let made_key = made_key(&settings)?;
    let registered = Registered::new(&settings.loaded.clients, made_key.as_ref());
    quiet_panics();
    let log = log::Log::start(settings.log_level, settings.log_format).map_err(ServeError::Start)?;
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
    // Before anybody can know that we are here: a signal that nobody waits for ends the process.
    let signals = runtime.block_on(async { Signals::listen() }).map_err(ServeError::Start)?;
    let budgets = restored(&settings, &registered);
    let journal = journal(&settings).map_err(ServeError::Start)?;
    let clock = Clock::start();
    let keeper = settings.cooldowns.clone().map(|path| Keeper::restore(path, Arc::clone(&settings.registry), clock));
    let bounds = &settings.loaded.bounds;
    let shares = shares(bounds, settings.workers);
    let started = Started {
        clock,
        tls: tls(&settings.env)?,
        table: Arc::new(Snapshot::new(Arc::clone(&settings.loaded.table))),
        counted: (0..settings.workers.max(1)).map(|_| Metrics::new()).collect(),
        metrics_at: metrics_door.as_ref().map(|opened| opened.url().into()),
        log,
        journal: journal.clone(),
        bodies: settings.bodies,
        clients: Arc::clone(&registered.clients),
        seed: random()?,
        capacity: Capacity::new(shares.requests, bounds.held_bytes),
        crowd: Crowd::new(shares.connections),
        resting: shares.resting / settings.workers.max(1),
        bounds: Arc::new(bounds.clone()),
        certificate,
        cors: settings.cors.clone(),
        drain: Arc::default(),
        standing: Standing::now(),
    };
    let banner = banner::Banner {
        urls: &urls,
        metrics: started.metrics_at.as_deref(),
        connections: started.crowd.most(),
        requests: shares.requests,
        key: made_key.as_ref(),
        loaded: &settings.loaded,
        workers: settings.workers,
    };
    banner.print(settings.log_format);
    let supervisor = Supervisor::of(&settings.env, settings.workers.max(1));
    let _whereabouts = settings.whereabouts.as_deref().map(|path| Whereabouts::leave(path, &urls));
    let (stop, stopped) = watch::channel(Phase::Serving);
    let threads = started.workers(doors, metrics_door, &supervisor, &stopped)?;
    drop(stopped);
    supervisor.tell("READY=1");
    let Started { table, standing, drain, certificate, .. } = started;
    let Settings { reloading, loaded, env, registry, .. } = settings;
    let reloader = Reloader::new(reloading, (&loaded, env), table, (registry, registered), standing);
    let upkeep = Upkeep::start(reloader, keeper, certificate, budgets).map_err(ServeError::Start)?;
    let end = End { stop, drain, patience: settings.drain, supervisor };
    let last_word = runtime.block_on(end.wait(threads, signals, &upkeep));
    // Threads that still run end with the process.
    runtime.shutdown_background();
    upkeep.end();
    if let Some(journal) = journal {
        journal.end();
    }
    log::info(&last_word);
    Ok(())
}

/// Upstreams that have connections at one time: many more than a configuration names, and a bound where base URLs come from
/// wildcards.
const ORIGINS_MAX: usize = 256;

/// A panic's own words may hold what it stumbled over: a piece of a body, say. Where it happened is enough to mend it.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        log::error(&format!("a mistake of ours{place}: what it happened in has failed, and nothing else"));
    }));
}

/// Who is here alone may ask without having chosen a key: one is made for this run.
fn made_key(settings: &Settings) -> Result<Option<Secret>, ServeError> {
    let reachable = settings.listen.iter().find(|listen| listen.is_reachable());
    match (settings.loaded.clients.as_slice(), reachable) {
        ([], None) => new_key().map(Some),
        ([], Some(listen)) => Err(ServeError::KeyRequired(listen.to_string())),
        _ => Ok(None),
    }
}

/// What may cost a descriptor.
fn shares(bounds: &Bounds, workers: usize) -> Shares {
    let resting = bounds.upstream_resting.saturating_mul(workers.max(1));
    let asked = Shares { connections: bounds.connections, requests: bounds.requests, resting };
    Shares::of(asked, descriptors())
}

/// What clients have spent so far, and where it goes on being kept.
fn restored(settings: &Settings, registered: &Registered) -> Option<Budgets> {
    let Some(path) = settings.budgets.clone() else {
        if settings.loaded.clients.iter().any(Client::has_budget) {
            log::warn(
                "what clients spend of a day and a month is lost with a restart: there is no state directory (XDG_STATE_HOME or HOME)",
            );
        }
        return None;
    };
    Some(Budgets::restore(path, Arc::clone(&registered.clients), &registered.accounts))
}

/// Opens the port of metrics, if they have one of their own.
fn metrics_door(settings: &Settings) -> Result<Option<Opened>, ServeError> {
    let opened = settings.metrics.as_ref().map(|listen| listen.open(1, false)).transpose()?;
    Ok(opened.into_iter().flatten().next())
}

/// Starts the journal, if one is kept.
fn journal(settings: &Settings) -> io::Result<Option<Arc<Journal>>> {
    let bounds = &settings.loaded.bounds;
    let keep = journal::Keep {
        age: Duration::from_secs(u64::from(bounds.journal_days) * 86_400),
        bytes: bounds.journal_bytes as u64,
    };
    let say = |is_bad: bool, words: &str| if is_bad { log::error(words) } else { log::info(words) };
    let start = |path: &PathBuf| Journal::start(path.clone(), keep, Box::new(say)).map(Arc::new);
    settings.journal.as_ref().map(start).transpose()
}

/// Connections to the port of metrics: a few scrapers, and some that hang.
const WATCHERS_MAX: usize = 16;

/// What all workers share.
struct Started {
    clock: Clock,
    tls: Arc<rustls::ClientConfig>,
    table: Arc<Snapshot>,
    counted: Arc<[Arc<Metrics>]>,
    metrics_at: Option<Arc<str>>,
    log: log::Log,
    journal: Option<Arc<Journal>>,
    bodies: LogBodies,
    clients: Arc<ArcSwap<Clients>>,
    seed: u64,
    drain: Arc<Drain>,
    standing: Arc<Standing>,
    bounds: Arc<Bounds>,
    capacity: Arc<Capacity>,
    crowd: Arc<Crowd>,
    /// Connections to an upstream that may rest, in each worker.
    resting: usize,
    certificate: Option<Arc<Shown>>,
    cors: Cors,
}

impl Started {
    /// Starts all workers; the first serves metrics too, where they have a port of their own.
    fn workers(
        &self,
        doors: Vec<Doors>,
        metrics_door: Option<Opened>,
        supervisor: &Supervisor,
        stopped: &watch::Receiver<Phase>,
    ) -> Result<Vec<JoinHandle<()>>, ServeError> {
        let mut metrics_door = metrics_door.map(|opened| (opened, Purpose::Metrics));
        let start = |(index, doors): (usize, Doors)| {
            let doors = doors.into_iter().map(|opened| (opened, Purpose::Everything));
            let doors = doors.chain(metrics_door.take()).collect();
            self.worker(index, (doors, supervisor.beat(index)), stopped.clone())
        };
        doors.into_iter().enumerate().map(start).collect()
    }

    /// Starts one worker on a thread of its own.
    fn worker(
        &self,
        index: usize,
        (doors, beat): (Vec<(Opened, Purpose)>, Option<Beat>),
        stop: watch::Receiver<Phase>,
    ) -> Result<JoinHandle<()>, ServeError> {
        let tasks = Tasks::default();
        let metrics = self.counted.get(index).map_or_else(Metrics::new, Arc::clone);
        let settings = upstream::Settings {
            tls: Arc::clone(&self.tls),
            spawn: tasks::aside(),
            clock: self.clock,
            keep: upstream::Keep {
                resting: self.resting,
                rest_max: self.bounds.upstream_idle,
                age_max: self.bounds.upstream_age,
                origins: ORIGINS_MAX,
            },
        };
        let gateway = Gateway {
            table: Arc::clone(&self.table),
            upstream: Upstream::new(settings),
            clock: self.clock,
            recorder: self.log.recorder(Arc::clone(&metrics), self.journal.clone(), self.bodies),
            drain: Arc::clone(&self.drain),
            bounds: Arc::clone(&self.bounds),
            capacity: Arc::clone(&self.capacity),
            bodies: (self.journal.is_some() && self.bodies != LogBodies::Off).then_some(self.bounds.journal_body_bytes),
        };
        let mut phase = stop.clone();
        let worker = Arc::new(Worker {
            gateway,
            clients: Arc::clone(&self.clients),
            ids: RequestIds::new(self.seed.wrapping_add(index as u64)),
            tasks: tasks.clone(),
            started: Clock::unix_seconds(),
            stop,
            standing: Arc::clone(&self.standing),
            certificate: self.certificate.clone(),
            crowd: Arc::clone(&self.crowd),
            watchers: Crowd::new(WATCHERS_MAX),
            cors: self.cors.clone(),
            metrics,
            counted: Arc::clone(&self.counted),
            metrics_at: self.metrics_at.clone(),
            log: self.log,
            journal: self.journal.clone(),
            refusals: Refusals::default(),
        });
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
        let serve = move || {
            runtime.block_on(async {
                if let Some(beat) = beat {
                    tasks::aside()(Box::pin(beat.go_on()));
                }
                for (opened, purpose) in doors {
                    let worker = Arc::clone(&worker);
                    tasks.spawn(async move {
                        if let Err(error) = worker::run(worker, opened, purpose).await {
                            log::error(&format!("worker {index}: {error}"));
                        }
                    });
                }
                drop(worker);
                // Open connections are told to end after their request; those that do not are cut.
                let cut = async {
                    drop(phase.wait_for(|phase| *phase == Phase::Over).await);
                    tokio::time::sleep(CUT_MAX).await;
                };
                tokio::select! {
                    () = tasks.wait() => {}
                    () = cut => {}
                }
            });
            // Not dropped: that would wait for names that are being looked up.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(format!("worker-{index}")).spawn(serve).map_err(ServeError::Start)
    }
}

/// How it ends.
struct End {
    stop: watch::Sender<Phase>,
    drain: Arc<Drain>,
    /// How long open requests may go on.
    patience: Duration,
    supervisor: Supervisor,
}

impl End {
    /// Has everything read again on SIGHUP, until another signal comes; then waits for the workers. A second signal ends at
    /// once. Gives what is to be said last.
    async fn wait(self, threads: Vec<JoinHandle<()>>, mut signals: Signals, upkeep: &Upkeep) -> String {
        tokio::select! {
            () = async { while signals.next().await == Asked::Reload { upkeep.reload() } } => {}
            () = self.supervisor.watch() => {}
        }
        self.supervisor.tell("STOPPING=1");
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join())));
        let again = async { while signals.next().await == Asked::Reload {} };
        tokio::select! {
            last_word = self.drained(joined) => last_word,
            () = again => "stopped at once".to_owned(),
        }
    }

    /// Lets what is open go on for its time, then cuts it.
    async fn drained(&self, mut joined: tokio::task::JoinHandle<()>) -> String {
        self.drain.begin();
        log::info(&format!(
            "stopping: {} requests are open and have {} s to end; a second signal ends at once",
            self.drain.open(),
            self.patience.as_secs_f64()
        ));
        let _ = self.stop.send(Phase::Draining);
        if tokio::time::timeout(self.patience, &mut joined).await.is_err() {
            log::warn(&format!("{} requests are still open, and are cut", self.drain.open()));
            self.drain.end();
            let _ = self.stop.send(Phase::Over);
            drop(joined.await);
        }
        match (self.drain.cut(), self.drain.lost()) {
            (0, 0) => "stopped".to_owned(),
            (cut, 0) => format!("stopped; {cut} requests were told that they were cut"),
            (cut, lost) => format!("stopped; {cut} requests were told that they were cut, {lost} could not be told"),
        }
    }
}

/// What is asked of the process from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    End,
    Reload,
}

impl Signals {
    /// Listens from now on. Needs a runtime.
    fn listen() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What one worker listens at.
type Doors = Vec<Opened>;

/// Opens every place to listen at once for each worker, and gives each worker its own.
fn bind(settings: &Settings) -> Result<Vec<Doors>, ServeError> {
    let workers = settings.workers.max(1);
    let mut all: Vec<Doors> = (0..workers).map(|_| Vec::new()).collect();
    for listen in &settings.listen {
        for (doors, opened) in all.iter_mut().zip(listen.open(workers, settings.certificate.is_some())?) {
            doors.push(opened);
        }
    }
    let wants_tls = all.iter().flatten().any(|opened| matches!(opened, Opened::Tcp { tls: true, .. }));
    if wants_tls && settings.certificate.is_none() {
        return Err(ServeError::NoCertificate);
    }
    Ok(all)
}

/// Tries what [`run`] would refuse of its settings: the certificate, and, if `ports`, whether they are free.
///
/// # Errors
/// What [`run`] would end with.
pub fn rehearse(settings: &Settings, ports: bool) -> Result<(), ServeError> {
    if let Some(files) = &settings.certificate {
        Shown::read(files.clone()).map_err(ServeError::Certificate)?;
    }
    let places = settings.listen.iter().chain(&settings.metrics);
    places.filter(|_| ports).try_for_each(|listen| listen.try_open(settings.certificate.is_some()))
}

/// Trust in upstreams: webpki's roots, and the operator's own CA file where there is one.
pub fn tls(env: &Env) -> Result<Arc<rustls::ClientConfig>, ServeError> {
    let Some(path) = env.first(&["MODEL_PROXY_CA_FILE", "SSL_CERT_FILE"]) else {
        return upstream::tls_config(None).map_err(|e| ServeError::Ca(String::new(), e.into()));
    };
    let pem = std::fs::read(path).map_err(|e| ServeError::Ca(path.to_owned(), e.into()))?;
    upstream::tls_config(Some(&pem)).map_err(|e| ServeError::Ca(path.to_owned(), e.into()))
}

/// A key for a client: 160 random bits. `Err`: the system gives none.
pub fn new_key() -> Result<Secret, ServeError> {
    let mut bytes = [0; 20];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ServeError::Randomness)?;
    Ok(Secret::new(&format!("mp-{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())))
}

fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ServeError::Randomness)?;
    Ok(u64::from_le_bytes(bytes))
}
