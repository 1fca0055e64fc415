//! The command line: `start` alone until the table of commands lands.
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, Lookup, env::Env};
use crate::route::keys::Registry;
use crate::secret::Secret;
use crate::server::{self, LogLevel, Settings};

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let Ok(env) = Env::read(None) else { return ExitCode::from(2) };
    let Ok(lookup) = Lookup::find(flag("--config").map(std::path::PathBuf::from).as_deref(), &env) else {
        return ExitCode::from(2);
    };
    let registry = Arc::new(Registry::default());
    let Ok(loaded) = config::load(&env, &lookup, &registry) else { return ExitCode::from(2) };
    let client_key = env.text("CLIENT_API_KEY").map(Secret::new);
    let host = flag("--host").unwrap_or_else(|| "127.0.0.1".into());
    let port = flag("--port").and_then(|p| p.parse().ok()).unwrap_or(9876);
    let settings = Settings { host, port, workers: 1, log_level: LogLevel::Info, client_key, loaded, env, registry };
    match server::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            drop(std::io::Write::write_all(&mut std::io::stderr(), format!("model-proxy: {e}\n").as_bytes()));
            ExitCode::from(2)
        }
    }
}
