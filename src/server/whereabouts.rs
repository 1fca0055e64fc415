//! A small file that says where we listen, for `health` and `keys list` on the same machine: a port that was chosen at the start
//! need not be told to each of them.

use std::fs;
use std::path::{Path, PathBuf};

/// The usual name of the file, in the state directory.
pub const FILE: &str = "listening";

/// The file, for as long as we serve.
#[derive(Debug)]
pub(super) struct Whereabouts {
    path: PathBuf,
    text: String,
}

impl Whereabouts {
    /// Writes one address in each line. That it cannot be written harms nobody: commands ask at the usual place then.
    pub(super) fn leave(path: &Path, urls: &[String]) -> Self {
        let text = urls.iter().map(|url| format!("{url}\n")).collect();
        let here = Self { path: path.to_owned(), text };
        if let Some(folder) = path.parent() {
            drop(fs::create_dir_all(folder));
        }
        drop(fs::write(path, &here.text));
        here
    }
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        // Somebody who came later has written its own.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The plain HTTP address that was left there, as this machine can ask it.
#[must_use]
pub fn nearby(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let url = text.lines().find(|line| line.starts_with("http://"))?;
    Some(url.replacen("//0.0.0.0:", "//127.0.0.1:", 1).replacen("//[::]:", "//[::1]:", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Dir;

    #[test]
    fn it_is_there_as_long_as_we_are() {
        let dir = Dir::new(&[]);
        let path = dir.path("state/listening");
        let urls = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = Whereabouts::leave(&path, &urls(&["unix:/run/x", "https://0.0.0.0:1", "http://0.0.0.0:8000"]));
        assert_eq!(nearby(&path).as_deref(), Some("http://127.0.0.1:8000"));
        let second = Whereabouts::leave(&path, &urls(&["http://[::]:9000"]));
        drop(first);
        assert_eq!(nearby(&path).as_deref(), Some("http://[::1]:9000"), "not theirs to take away");
        drop(second);
        assert_eq!(nearby(&path), None);
    }
}
