//! Small files that say where we listen, for `health` and `keys list` on the same machine: a port that was chosen at the start
//! need not be told to each of them. Each process has its own, under its number: several may share a state directory.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The usual name of their folder, in the state directory.
pub const FOLDER: &str = "listening";

/// Our file, for as long as we serve.
#[derive(Debug)]
pub(super) struct Whereabouts(PathBuf);

impl Whereabouts {
    /// Writes one address in each line. That it cannot be written harms nobody: commands ask at the usual place then.
    pub(super) fn leave(folder: &Path, urls: &[String]) -> Self {
        // Whoever asks stands elsewhere.
        let whole = |url: &String| match url.strip_prefix("unix:").map(std::path::absolute) {
            Some(Ok(path)) => format!("unix:{}\n", path.display()),
            Some(Err(_)) | None => format!("{url}\n"),
        };
        let text: String = urls.iter().map(whole).collect();
        let here = Self(folder.join(std::process::id().to_string()));
        drop(fs::create_dir_all(folder));
        clear(folder);
        drop(fs::write(&here.0, text));
        here
    }
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Removes what was left by those who were killed, where the system tells that they are no more.
fn clear(folder: &Path) {
    let processes = Path::new("/proc");
    if !processes.join("self").exists() {
        return;
    }
    for (path, _) in files(folder) {
        if path.file_name().is_some_and(|number| !processes.join(number).exists()) {
            drop(fs::remove_file(path));
        }
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).collect();
    files.sort_by_key(|(_, written)| Reverse(*written));
    files
}

/// The addresses that were left there, as this machine can ask them: the last that was started first, and of each what is asked
/// most simply.
#[must_use]
pub fn nearby(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for (path, _) in files(folder) {
        let text = fs::read_to_string(path).unwrap_or_default();
        for scheme in ["http://", "unix:", "https://"] {
            let urls = text.lines().filter(|line| line.starts_with(scheme));
            all.extend(
                urls.map(|url| url.replacen("//0.0.0.0:", "//127.0.0.1:", 1).replacen("//[::]:", "//[::1]:", 1)),
            );
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Dir;

    #[test]
    fn they_are_there_as_long_as_we_are() {
        let dir = Dir::new(&[]);
        let folder = dir.path("state/listening");
        let urls = ["https://0.0.0.0:1", "unix:/run/x", "http://0.0.0.0:8000"].map(str::to_owned);
        let ours = Whereabouts::leave(&folder, &urls);
        let first = ["http://127.0.0.1:8000", "unix:/run/x", "https://127.0.0.1:1"];
        assert_eq!(nearby(&folder), first);
        // Another process, which came later; and one that was killed.
        let other = folder.join("1");
        fs::write(&other, "http://[::]:9000\n").unwrap();
        fs::write(folder.join("4194999"), "http://[::]:1\n").unwrap();
        clear(&folder);
        assert_eq!(nearby(&folder), [&["http://[::1]:9000"], &first[..]].concat());
        drop(ours);
        assert_eq!(nearby(&folder), ["http://[::1]:9000"], "not ours to take away");
        fs::remove_file(other).unwrap();
        assert_eq!(nearby(&folder), [""; 0]);
    }
}
