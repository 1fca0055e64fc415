//! Where the configuration is, and the texts of its files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::config::packaged;

/// The directory that was chosen, and files to be read besides.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    pub root: Root,
    /// Files named one by one: they are read as if they stood in the directory, in the place of what they replace.
    pub extra: Vec<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Root {
    /// What is compiled in.
    #[default]
    Packaged,
    Directory(PathBuf),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packaged => f.write_str(packaged::ROOT),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A directory that was asked for is not there.
#[derive(Debug)]
pub struct NoDirectory {
    pub path: PathBuf,
    /// Who asked for it.
    pub by: &'static str,
}

impl fmt::Display for NoDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no such directory, though {} names it", self.path.display(), self.by)
    }
}

impl std::error::Error for NoDirectory {}

impl Lookup {
    /// The first there is of: the directory named on the command line, `MODEL_PROXY_CONFIG`, `./config`, the user's
    /// own. Else what is compiled in.
    ///
    /// The first two must exist. The others count only if they hold something that is read: many projects have a `config`
    /// directory that is none of ours. One file of prices or limits is enough: passed over in silence it would be taken to
    /// hold. The models are those that are built in then.
    pub fn find(flag: Option<&Path>, env: &Env) -> Result<Self, NoDirectory> {
        let asked = [(flag, "--config"), (env.text("MODEL_PROXY_CONFIG").map(Path::new), "MODEL_PROXY_CONFIG")];
        for (path, by) in asked {
            if let Some(path) = path {
                let directory = Root::Directory(path.to_owned());
                let found = path.is_dir().then_some(Self { root: directory, extra: Vec::new() });
                return found.ok_or_else(|| NoDirectory { path: path.to_owned(), by });
            }
        }
        let usual = [Some(PathBuf::from("config")), user_directory(env)];
        let root = usual.into_iter().flatten().find(|d| is_ours(d)).map_or(Root::Packaged, Root::Directory);
        Ok(Self { root, extra: Vec::new() })
    }
}

impl Lookup {
    /// The files that would be read now. What cannot be listed is left out; whoever reads is told.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.extra.clone();
        if let Root::Directory(root) = &self.root {
            let found = [PROVIDERS, MODELS, CLIENTS]
                .map(|name| json_files(&root.join(name), DEPTH_MAX, &mut Report::default()));
            files.extend(found.into_iter().flatten());
            files.extend(Some(root.join(SERVER)).filter(|file| file.exists()));
        }
        files
    }
}

/// Whether a directory holds anything that is read.
pub(crate) fn is_ours(directory: &Path) -> bool {
    [MODELS, PROVIDERS, CLIENTS].iter().any(|name| directory.join(name).is_dir())
        || [SERVER, PRICES].iter().any(|name| directory.join(name).is_file())
}

/// `$XDG_CONFIG_HOME/model-proxy`, by default under `~/.config`.
fn user_directory(env: &Env) -> Option<PathBuf> {
    let base = match env.text("XDG_CONFIG_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(env.text("HOME")?).join(".config"),
    };
    Some(base.join("model-proxy"))
}

/// A file's text and what it is.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) kind: Kind,
    /// The file as the user would name it.
    pub(crate) name: String,
    /// Its name without directories and `.json`.
    pub(crate) stem: String,
    pub(crate) text: String,
    /// It is as it was shipped, compiled in or in a directory.
    pub(crate) packaged: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Provider,
    Model,
    Client,
    /// The one file of the server's own limits.
    Server,
    /// The one file of what tokens cost.
    Prices,
}

pub(crate) const CLIENTS: &str = "clients";
const SERVER: &str = "server.json";
const PRICES: &str = "prices.json";
const MODELS: &str = "models";
const PROVIDERS: &str = "providers";

/// The texts of all files. The packaged providers are always among them, and the demo model, with which a new
/// configuration is tried; the other packaged models only where the directory has no `models` of its own.
pub(crate) fn texts(lookup: &Lookup, report: &mut Report) -> Vec<Text> {
    let mut texts = Vec::new();
    let mut own_models = false;
    if let Root::Directory(root) = &lookup.root {
        own_models = root.join(MODELS).is_dir();
        if !is_ours(root) {
            let place = Place::file(&shown(root));
            report.error(&place, "holds nothing that is read").hint("put models/*.json into it");
        }
        for (kind, name) in [(Kind::Provider, PROVIDERS), (Kind::Model, MODELS), (Kind::Client, CLIENTS)] {
            let files = json_files(&root.join(name), DEPTH_MAX, report);
            if kind == Kind::Model && own_models && files.is_empty() {
                let place = Place::file(&shown(&root.join(name)));
                report.warn(&place, "there is no model").hint("add a file for one");
            }
            texts.extend(files.iter().filter_map(|path| read(path, kind, report)));
        }
        for (kind, name) in [(Kind::Server, SERVER), (Kind::Prices, PRICES)] {
            texts.extend(Some(root.join(name)).filter(|f| f.exists()).and_then(|path| read(&path, kind, report)));
        }
    }
    for path in &lookup.extra {
        if let Some(text) = read(path, kind_of(path), report) {
            texts.retain(|t| !is_same_file(Path::new(&t.name), path));
            texts.push(text);
        }
    }
    let packaged = packaged::FILES.iter().filter(|f| f.is_always_there() || !own_models).map(packaged::File::text);
    for shipped in packaged {
        match texts.iter_mut().find(|own| own.kind == shipped.kind && own.stem == shipped.stem) {
            Some(own) if own.text == shipped.text => own.packaged = true,
            Some(_) | None => texts.push(shipped),
        }
    }
    texts
}

/// The text of the directory's own prices, if it has any.
pub(crate) fn prices(lookup: &Lookup, report: &mut Report) -> Option<Text> {
    match &lookup.root {
        Root::Packaged => None,
        Root::Directory(root) => {
            Some(root.join(PRICES)).filter(|f| f.exists()).and_then(|path| read(&path, Kind::Prices, report))
        }
    }
}

/// Whether two paths lead to one file.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// What a file named alone is: the server's or the prices' by its name, a provider or a client in a directory of that name, else a
/// model.
fn kind_of(path: &Path) -> Kind {
    for (kind, name) in [(Kind::Server, SERVER), (Kind::Prices, PRICES)] {
        if path.file_name().is_some_and(|own| own == name) {
            return kind;
        }
    }
    let directory = path.parent().and_then(Path::file_name);
    match directory.and_then(|directory| directory.to_str()) {
        Some(PROVIDERS) => Kind::Provider,
        Some(CLIENTS) => Kind::Client,
        Some(_) | None => Kind::Model,
    }
}

/// All `*.json` under a directory, sorted. Hidden files are left out; so is a directory that is not there.
fn json_files(directory: &Path, depth: usize, report: &mut Report) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            report.error(&Place::file(&shown(directory)), format!("cannot be read: {error}"));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let hidden = path.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if 0 < depth {
                files.extend(json_files(&path, depth - 1, report));
            }
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    files
}

/// Directories within directories that are searched: models may be grouped, and links may go in circles.
const DEPTH_MAX: usize = 4;

fn read(path: &Path, kind: Kind, report: &mut Report) -> Option<Text> {
    let name = shown(path);
    let place = Place::file(&name);
    let length = path.metadata().map_or(0, |m| m.len());
    if FILE_BYTES_MAX < length {
        report.error(&place, format!("has {length} bytes, more than the {FILE_BYTES_MAX} that are read"));
        return None;
    }
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => {
            let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
            Some(Text { kind, name, stem, text, packaged: false })
        }
        Ok(Err(_)) => {
            report.error(&place, "is not UTF-8").hint("save it as UTF-8");
            None
        }
        Err(error) => {
            report.error(&place, format!("cannot be read: {error}"));
            None
        }
    }
}

/// Longest file that is read, in bytes: a hundred times the longest that was ever seen.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A path as a user would write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
