//! Sockets and everything around them: listeners, workers, the door, health, the way down.
//!
//! ```text
//! run ─▶ bind ─▶ workers (a thread, a runtime, a listener each) ─▶ door ─▶ gateway
//!   └──▶ banner, then signals: SIGHUP reloads, the first of the others drains, the second ends
//! ```
//!
//! `seat.rs` finds connections that only sit there; `reload.rs` puts new configurations in force and `persist.rs` keeps over a
//! restart who rests, both on the thread of `upkeep.rs`; `log.rs` is the one line of every request.

mod auth;
mod banner;
mod door;
mod health;
mod log;
mod models;
mod persist;
mod reload;
mod resting;
mod seat;
mod tasks;
mod upkeep;
mod worker;

pub use log::LogLevel;
pub use reload::{Reloading, Source};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Loaded;
use crate::config::env::Env;
use crate::config::snapshot::Snapshot;
use crate::gateway::{Drain, Gateway, Recorder, RequestIds};
use crate::route::keys::Registry;
use crate::secret::Secret;
use crate::server::persist::Keeper;
use crate::server::reload::{Reloader, Standing};
use crate::server::tasks::Tasks;
use crate::server::upkeep::Upkeep;
use crate::server::worker::{Phase, Worker};
use crate::time::Clock;
use crate::upstream::{self, Upstream};

/// All that `start` was told and found.
#[derive(Debug)]
pub struct Settings {
    pub host: String,
    /// 0 takes any free port; the banner names it.
    pub port: u16,
    pub workers: usize,
    pub log_level: LogLevel,
    /// What clients must send. `None`: a random key is made for this run and shown (loopback only).
    pub client_key: Option<Secret>,
    pub loaded: Loaded,
    pub env: Env,
    pub registry: Arc<Registry>,
    pub reloading: Reloading,
    /// How long open requests may go on after the first signal.
    pub drain: Duration,
    /// Where it is kept over a restart who rests; nowhere if nobody asked for it.
    pub cooldowns: Option<PathBuf>,
}

/// Why the server cannot start.
#[derive(Debug)]
pub enum ServeError {
    Address(String, io::Error),
    Bind(SocketAddr, io::Error),
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
            Self::KeyRequired(host) => write!(
                f,
                "\"{host}\" can be reached from other machines, so a client key is required: set CLIENT_API_KEY in the environment or in .env"
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
    let listeners = bind(&settings)?;
    let local = listeners.first().and_then(|l| l.local_addr().ok());
    let made_key = settings.client_key.is_none();
    let client_key = match &settings.client_key {
        Some(key) => key.clone(),
        None if local.is_some_and(|a| a.ip().is_loopback()) => random_key()?,
        None => return Err(ServeError::KeyRequired(settings.host)),
    };
    let log = log::Log::start(settings.log_level).map_err(ServeError::Start)?;
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
    // Before anybody can know that we are here: a signal that nobody waits for ends the process.
    let signals = runtime.block_on(async { Signals::listen() }).map_err(ServeError::Start)?;
    let clock = Clock::start();
    let registry = Arc::clone(&settings.registry);
    let keeper = settings.cooldowns.clone().map(|path| Keeper::restore(path, registry, clock));
    let started = Started {
        clock,
        tls: tls(&settings.env)?,
        table: Arc::new(Snapshot::new(Arc::clone(&settings.loaded.table))),
        recorder: log.recorder(),
        client_key,
        seed: random()?,
        drain: Arc::default(),
        standing: Standing::now(),
    };
    let banner = banner::Banner {
        address: local,
        key: made_key.then_some(&started.client_key),
        loaded: &settings.loaded,
        workers: settings.workers,
    };
    banner.print();
    let (stop, stopped) = watch::channel(Phase::Serving);
    let mut threads = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        threads.push(started.worker(index, listener, stopped.clone())?);
    }
    drop(stopped);
    let Started { table, standing, drain, .. } = started;
    let Settings { reloading, loaded, env, registry, .. } = settings;
    let reloader = Reloader::new(reloading, (&loaded, env), table, registry, standing);
    let upkeep = Upkeep::start(reloader, keeper).map_err(ServeError::Start)?;
    let end = End { stop, drain, patience: settings.drain };
    let last_word = runtime.block_on(end.wait(threads, signals, &upkeep));
    // Threads that still run end with the process.
    runtime.shutdown_background();
    upkeep.end();
    // After the lines of the requests.
    log.flush();
    log::info(&last_word);
    Ok(())
}

/// What all workers share.
struct Started {
    clock: Clock,
    tls: Arc<rustls::ClientConfig>,
    table: Arc<Snapshot>,
    recorder: Recorder,
    client_key: Secret,
    seed: u64,
    drain: Arc<Drain>,
    standing: Arc<Standing>,
}

impl Started {
    /// Starts one worker on a thread of its own.
    fn worker(
        &self,
        index: usize,
        listener: TcpListener,
        stop: watch::Receiver<Phase>,
    ) -> Result<JoinHandle<()>, ServeError> {
        let tasks = Tasks::default();
        let settings = upstream::Settings { tls: Arc::clone(&self.tls), spawn: tasks::aside(), clock: self.clock };
        let gateway = Gateway {
            table: Arc::clone(&self.table),
            upstream: Upstream::new(settings),
            clock: self.clock,
            recorder: Arc::clone(&self.recorder),
            drain: Arc::clone(&self.drain),
        };
        let mut phase = stop.clone();
        let worker = Arc::new(Worker {
            gateway,
            client_key: self.client_key.clone(),
            ids: RequestIds::new(self.seed.wrapping_add(index as u64)),
            tasks: tasks.clone(),
            started: Clock::unix_seconds(),
            stop,
            standing: Arc::clone(&self.standing),
        });
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
        let serve = move || {
            runtime.block_on(async {
                if let Err(error) = worker::run(worker, listener).await {
                    log::error(&format!("worker {index}: {error}"));
                }
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
}

impl End {
    /// Has everything read again on SIGHUP, until another signal comes; then waits for the workers. A second signal ends at
    /// once. Gives what is to be said last.
    async fn wait(self, threads: Vec<JoinHandle<()>>, mut signals: Signals, upkeep: &Upkeep) -> String {
        while signals.next().await == Asked::Reload {
            upkeep.reload();
        }
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

/// Opens one listener per worker on the same port; the kernel spreads connections over them.
fn bind(settings: &Settings) -> Result<Vec<TcpListener>, ServeError> {
    let host = settings.host.trim_start_matches('[').trim_end_matches(']');
    let resolved = (host, settings.port).to_socket_addrs().and_then(|mut all| {
        all.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    });
    let mut address = resolved.map_err(|e| ServeError::Address(settings.host.clone(), e))?;
    let workers = settings.workers.max(1);
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = listen(address, 1 < workers).map_err(|e| ServeError::Bind(address, e))?;
        address = listener.local_addr().map_err(|e| ServeError::Bind(address, e))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Only where several workers listen: otherwise a second process could take the port unseen.
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Trust in upstreams: webpki's roots, and the operator's own CA file where there is one.
fn tls(env: &Env) -> Result<Arc<rustls::ClientConfig>, ServeError> {
    let Some(path) = env.first(&["MODEL_PROXY_CA_FILE", "SSL_CERT_FILE"]) else {
        return upstream::tls_config(None).map_err(|e| ServeError::Ca(String::new(), e.into()));
    };
    let pem = std::fs::read(path).map_err(|e| ServeError::Ca(path.to_owned(), e.into()))?;
    upstream::tls_config(Some(&pem)).map_err(|e| ServeError::Ca(path.to_owned(), e.into()))
}

fn random_key() -> Result<Secret, ServeError> {
    let mut bytes = [0; 20];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ServeError::Randomness)?;
    Ok(Secret::new(&format!("mp-{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())))
}

fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ServeError::Randomness)?;
    Ok(u64::from_le_bytes(bytes))
}
