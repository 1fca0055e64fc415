//! The processes of a run: started here, ended with their owner, by their own pid.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::ROLE;
use super::format::{FORMATS, Format};

/// The key that the load shows.
pub(super) const CLIENT_KEY: &str = "client-key-of-the-bench";

/// A process that has said where it listens.
pub(super) struct Process {
    pub(super) address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Process {
    /// This binary as the upstream, beside the load.
    pub(super) fn upstream() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, "upstream");
        Self::spawn(command, folder())
    }

    /// This binary as the pass-through, where targets run.
    pub(super) fn bare(upstream: SocketAddr, cores: &Cores) -> Self {
        let mut command = cores.target(&std::env::current_exe().unwrap());
        command.env(ROLE, format!("bare {upstream}"));
        Self::spawn(command, folder())
    }

    fn spawn(mut command: Command, folder: PathBuf) -> Self {
        // A file rather than a pipe: what the process writes costs nobody else's time.
        let said = folder.join("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let mut process =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child: command.spawn().unwrap(), folder };
        for _ in 0..20_000 {
            let text = fs::read_to_string(&said).unwrap();
            if let Some(address) = address(&text) {
                process.address = address;
                return process;
            }
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("ended with {status}: {text}");
            }
            thread::sleep(Duration::from_micros(500));
        }
        panic!("it does not say where it listens");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, and the folder is a temporary one.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The address in the line that says where it listens, once that is there whole.
fn address(text: &str) -> Option<SocketAddr> {
    let (_, rest) = text.split_once("listening on http")?;
    let (_, address) = rest.split_once('\n')?.0.split_once("://")?;
    address.split_whitespace().next()?.parse().ok()
}

fn folder() -> PathBuf {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("model-proxy-bench-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Who runs where: a target has one core to itself, so that what it costs is not what its neighbours do to its caches.
pub(super) enum Cores {
    /// The load and the upstream have the first, the target has this one.
    Apart(usize),
    /// There is but one, or no `taskset` (util-linux), or it was asked for.
    Shared,
}

impl Cores {
    /// Moves this process to the first core, if there is another.
    pub(super) fn divide() -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let moved = || {
            let mut command = Command::new("taskset");
            command.args(["-a", "-c", "-p", "0", &std::process::id().to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
        };
        match 1 < count && moved().is_ok_and(|status| status.success()) {
            true => Self::Apart(count - 1),
            false => Self::Shared,
        }
    }

    fn target(&self, program: &Path) -> Command {
        match self {
            Self::Apart(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            Self::Shared => Command::new(program),
        }
    }
}

/// A certificate for `127.0.0.1`, and its key.
const CERTIFICATE: [&str; 2] =
    [include_str!("../../tests/testdata/two.cert.pem"), include_str!("../../tests/testdata/two.key.pem")];

/// The gateway, with a way to the upstream in every format: a model of its name, and one that is paced.
pub(super) struct Gateway(Process);

impl Gateway {
    pub(super) fn start(program: &Path, upstream: SocketAddr, cores: &Cores) -> Self {
        Self::between(program, (false, &format!("http://{upstream}")), ("up-", "key-p"), cores)
    }

    /// Two of them, one behind the other, that speak TLS and HTTP/2 to each other.
    pub(super) fn pair(program: &Path, upstream: SocketAddr, cores: &Cores) -> [Self; 2] {
        let back = Self::between(program, (true, &format!("http://{upstream}")), ("up-", "key-p"), cores);
        let front = Self::between(program, (false, &format!("https://{}", back.address())), ("", CLIENT_KEY), cores);
        [front, back]
    }

    /// `prefix` is what is put before a model's name upstream.
    fn between(program: &Path, (is_tls, base): (bool, &str), (prefix, key): (&str, &str), cores: &Cores) -> Self {
        let folder = folder();
        let config = folder.join("config");
        for name in ["providers", "models"] {
            fs::create_dir_all(config.join(name)).unwrap();
        }
        for Format { name, path, compatible, .. } in &FORMATS {
            let file = format!(
                r#"{{"name":"{name}","enabled":true,"endpoints":{{"base_url":"{base}","completions":"{path}",
                "compatible_format":"{compatible}"}},"authentication":{{"header_name":"x-api-key","header_format":"{{api_key}}"}},
                "api_keys":{{"env_var_patterns":["KEY"]}},"request_config":{{"timeout_seconds":30}}}}"#
            );
            fs::write(config.join(format!("providers/{name}.json")), file).unwrap();
            for model in [(*name).to_owned(), format!("{name}-paced")] {
                let file = format!(
                    r#"{{"logical_name":"{model}","model_routings":[{{"provider":"{name}","model":"{prefix}{model}"}}]}}"#
                );
                fs::write(config.join(format!("models/{model}.json")), file).unwrap();
            }
        }
        let mut command = cores.target(program);
        command.args(["start", "--host", "127.0.0.1", "--port", "0", "--config"]).arg(&config);
        let files = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        for (file, text) in files.iter().zip(CERTIFICATE) {
            fs::write(file, text).unwrap();
        }
        if is_tls {
            command.arg("--tls-cert").arg(&files[0]).arg("--tls-key").arg(&files[1]);
        }
        command.env_clear().env("HOME", &folder).env("MODEL_PROXY_CA_FILE", &files[0]).current_dir(&folder);
        command.envs([("CLIENT_API_KEY", CLIENT_KEY), ("KEY", key)]);
        Self(Process::spawn(command, folder))
    }

    /// Has it end in order, and waits until it has.
    pub(super) fn end(mut self) {
        let told = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status().unwrap();
        assert!(told.success(), "it is still there to be told");
        assert!(self.0.child.wait().unwrap().success(), "it ends as it should");
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// A line of the process's status, in KiB.
    pub(super) fn rss(&self, line: &str) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Nanoseconds that all threads of a process have been running.
pub(super) fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    stats.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum()
}
