//! A small file that outlives the process: written whole and put in place by a rename, and only when something has changed. What
//! cannot be read or written is said once; it is no reason to serve nobody.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::server::log;

#[derive(Debug)]
pub(super) struct KeptFile<T> {
    path: PathBuf,
    /// What is lost without it, for whoever is told.
    what: &'static str,
    written: T,
    has_failed: bool,
}

impl<T: Default + DeserializeOwned + Serialize> KeptFile<T> {
    /// Reads what was written before. What is no such file is told and begun anew.
    pub(super) fn read(path: PathBuf, what: &'static str) -> Self {
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error),
        };
        let written = kept.unwrap_or_else(|error| {
            log::warn(&format!("{}: {error}; {what} before is not known", path.display()));
            T::default()
        });
        Self { path, what, written, has_failed: false }
    }

    /// What it holds.
    pub(super) fn written(&self) -> &T {
        &self.written
    }

    /// What it holds, to be taken over: as if nothing had been written.
    pub(super) fn take(&mut self) -> T {
        std::mem::take(&mut self.written)
    }

    /// Writes something else. Where that fails it is tried again the next time, and said once.
    pub(super) fn write(&mut self, kept: T) {
        match self.put(&kept) {
            Ok(()) => {
                self.has_failed = false;
                self.written = kept;
            }
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                log::warn(&format!("{}: {error}; {} is not kept", self.path.display(), self.what));
            }
            Err(_) => {}
        }
    }

    fn put(&self, kept: &T) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("tmp");
        fs::write(&beside, serde_json::to_vec(kept)?)?;
        fs::rename(&beside, &self.path)
    }
}
