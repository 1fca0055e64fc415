//! The room as a whole: files in, table or findings out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::env::Env;
use super::*;
use crate::route::keys::Registry;

/// A directory of its own, gone when dropped.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("model-proxy-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&dir.0).unwrap();
        for (name, text) in files {
            let path = dir.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Loads a directory; findings name files relative to it.
pub(crate) fn load_files(files: &[(&str, &str)], vars: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let dir = Dir::new(files);
    let env = Env::of(vars.iter().copied());
    let lookup = Lookup::find(Some(Path::new(&dir.0)), &env).unwrap();
    let prefix = format!("{}/", dir.0.display());
    load(&env, &lookup, &Registry::default())
        .map_err(|found| found.iter().map(|d| d.to_string().replace(&prefix, "")).collect())
}

#[test]
fn the_shipped_files_have_no_findings() {
    let env = Env::default();
    let loaded = load(&env, &Lookup::default(), &Registry::default()).unwrap();
    let said: Vec<String> = loaded.diagnostics.iter().chain(&loaded.missing).map(ToString::to_string).collect();
    assert!(said.is_empty(), "{said:#?}");
    assert!(20 <= loaded.table.len(), "{} models", loaded.table.len());
    assert!(loaded.table.resolve("demo").is_some_and(|m| m.model.routes.iter().any(|r| !r.keys.is_empty())), "demo");
}
