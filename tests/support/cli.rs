//! The binary as a command: what it prints and how it ends.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{TempDir, comes_true};

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command about to run, in an empty environment and a folder of its own.
#[derive(Debug)]
pub struct Cli {
    command: Command,
    /// Where it runs.
    home: PathBuf,
    /// That folder, if it is its own: kept until it has run.
    _own: Option<TempDir>,
}

impl Cli {
    pub fn new(args: &[&str]) -> Self {
        Self::of(env!("CARGO_BIN_EXE_model-proxy"), args)
    }

    /// A line as a person types it into a shell.
    pub fn shell(line: &str) -> Self {
        Self::of("sh", &["-c", line]).env("PATH", "/usr/local/bin:/usr/bin:/bin")
    }

    /// The same in a folder that is there.
    pub fn shell_at(home: &Path, line: &str) -> Self {
        Self::within(home, "sh", &["-c", line]).env("PATH", "/usr/local/bin:/usr/bin:/bin")
    }

    /// The program in a folder that is there.
    pub fn at(home: &Path, args: &[&str]) -> Self {
        Self::within(home, env!("CARGO_BIN_EXE_model-proxy"), args)
    }

    fn of(program: &str, args: &[&str]) -> Self {
        let own = TempDir::new();
        let here = Self::within(own.path(), program, args);
        Self { _own: Some(own), ..here }
    }

    fn within(home: &Path, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("HOME", home).current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, home: home.to_owned(), _own: None }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from its standard input.
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        let file = self.home.join("stdin");
        std::fs::write(&file, text).unwrap();
        self.command.stdin(std::fs::File::open(file).unwrap());
        self
    }

    /// Puts a file where it runs.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Runs it to its end, which has to come within half a minute.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        let mut child = self.command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let ended = comes_true(Duration::from_secs(30), || child.try_wait().unwrap().is_some());
        if !ended {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let outcome = Outcome { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
        assert!(ended, "the command does not end: {outcome:?}");
        outcome
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
