//! Where clients come in: TCP and Unix sockets, with TLS or without.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::server::ServeError;

/// One place to listen at, as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// Port 0 takes any free one. `tls`: as its scheme said; `None` where it had none, and then TLS is spoken if there is a
    /// certificate.
    Tcp { host: String, port: u16, tls: Option<bool> },
    /// A file that is there as long as we listen. Who may open it is the file system's to say, by `mode`.
    Unix { path: PathBuf, mode: u32 },
}

impl Listen {
    /// Reads `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT`, `unix:PATH` or `unix:PATH?mode=0660`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (path, mode) = rest.split_once("?mode=").unwrap_or((rest, MODE));
            let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
            let mode =
                mode.ok_or_else(|| format!("{text:?}: the mode is in octal digits, as in unix:{path}?mode=0660"))?;
            if path.is_empty() {
                return Err(format!("{text:?} names no file"));
            }
            return Ok(Self::Unix { path: PathBuf::from(path), mode });
        }
        let (address, tls) = match text.split_once("://") {
            None => (text, None),
            Some(("http", rest)) => (rest, Some(false)),
            Some(("https", rest)) => (rest, Some(true)),
            Some((scheme, _)) => return Err(format!("{text:?}: {scheme} is neither http nor https nor unix")),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) =
            address.rsplit_once(':').ok_or_else(|| format!("{text:?} has no port, as in {text}:9876"))?;
        let port = port.parse().map_err(|_| format!("{text:?}: {port:?} is no port, a number up to 65535"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("{text:?} has no host: 127.0.0.1 for this machine only, 0.0.0.0 for all"));
        }
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }

    /// Whether other machines can reach it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Unix { .. } => false,
        }
    }

    /// Whether it could be opened. Nothing is left of it.
    pub(super) fn try_open(&self, has_certificate: bool) -> Result<(), ServeError> {
        let opened = self.open(1, has_certificate)?;
        for one in &opened {
            if let Opened::Unix { path, .. } = one {
                drop(fs::remove_file(path));
            }
        }
        Ok(())
    }

    /// Opens it, once for each worker. On TCP the kernel spreads connections over them; a Unix socket is shared.
    pub(super) fn open(&self, workers: usize, has_certificate: bool) -> Result<Vec<Opened>, ServeError> {
        match self {
            Self::Tcp { host, port, tls } => {
                let tls = tls.unwrap_or(has_certificate);
                let opened = open_tcp(host, *port, workers)?;
                Ok(opened.into_iter().map(|listener| Opened::Tcp { listener, tls }).collect())
            }
            Self::Unix { path, mode } => {
                let failed = |e| ServeError::Socket(path.clone(), e);
                let listener = open_unix(path, *mode).map_err(failed)?;
                let opened = |listener| Opened::Unix { listener, path: path.clone() };
                (0..workers).map(|_| listener.try_clone().map(opened).map_err(failed)).collect()
            }
        }
    }
}

/// Only the user who runs us: the key of a client may lie in the same user's files anyway.
const MODE: &str = "0600";

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Opened {
    Tcp { listener: TcpListener, tls: bool },
    Unix { listener: UnixListener, path: PathBuf },
}

impl Opened {
    /// What a client may be given: a URL, or where the socket lies.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp { listener, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                listener.local_addr().map_or_else(|_| String::new(), |address| format!("{scheme}://{address}"))
            }
            Self::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }
}

/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;

fn open_tcp(host: &str, port: u16, workers: usize) -> Result<Vec<TcpListener>, ServeError> {
    let resolved = (host, port).to_socket_addrs().and_then(|mut all| {
        all.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    });
    let mut address = resolved.map_err(|e| ServeError::Address(host.to_owned(), e))?;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = listen(address, 1 < workers).map_err(|e| ServeError::Bind(address, e))?;
        address = listener.local_addr().map_err(|e| ServeError::Bind(address, e))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// What the kernel takes of an answer that its client does not: without a bound that is megabytes for each, in memory that
/// counts as ours wherever memory is counted.
const UNSENT_BYTES: u32 = 128 * 1024;

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Only where several workers listen: otherwise a second process could take the port unseen.
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Each connection has it from here. Helps, but is not needed: a system without it is no reason to fail.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    drop(socket.set_tcp_notsent_lowat(UNSENT_BYTES));
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listens under another name first and then takes the right one, so that nobody can open it before it has its mode.
fn open_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    clear(path)?;
    let mut other = path.as_os_str().to_owned();
    other.push(format!(".{}", std::process::id()));
    let other = PathBuf::from(other);
    let listener = UnixListener::bind(&other)?;
    let opened = fs::set_permissions(&other, fs::Permissions::from_mode(mode)).and_then(|()| fs::rename(&other, path));
    if let Err(error) = opened {
        drop(fs::remove_file(&other));
        return Err(error);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes away a socket that nobody listens at any more: it stays behind when a process is killed.
fn clear(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        about => about?,
    };
    if !about.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The files of Unix sockets, which go when we do: unless somebody else has put one there meanwhile.
#[derive(Debug, Default)]
pub(super) struct Leavings(Vec<(PathBuf, u64)>);

impl Leavings {
    pub(super) fn of(all: &[Listen]) -> Self {
        let file = |listen: &Listen| match listen {
            Listen::Unix { path, .. } => Some((path.clone(), fs::metadata(path).ok()?.ino())),
            Listen::Tcp { .. } => None,
        };
        Self(all.iter().filter_map(file).collect())
    }
}

impl Drop for Leavings {
    fn drop(&mut self) {
        for (path, inode) in &self.0 {
            if fs::metadata(path).is_ok_and(|about| about.ino() == *inode) {
                drop(fs::remove_file(path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, expect) in [
            ("127.0.0.1:80", "127.0.0.1:80 None"),
            ("localhost:0", "localhost:0 None"),
            ("[::1]:8080", "[::1]:8080 None"),
            ("http://0.0.0.0:9876/", "0.0.0.0:9876 Some(false)"),
            ("https://example.com:443", "example.com:443 Some(true)"),
            ("unix:/run/mp.sock", "unix:/run/mp.sock 600"),
            ("unix:a b?mode=0660", "unix:a b 660"),
            ("9876", "has no port"),
            ("127.0.0.1", "has no port"),
            (":80", "has no host"),
            ("h:x", "is no port"),
            ("h:70000", "is no port"),
            ("ftp://h:1", "neither http nor https"),
            ("unix:", "names no file"),
            ("unix:/x?mode=9", "octal digits"),
            ("unix:/x?mode=7777", "octal digits"),
        ] {
            let got = match Listen::parse(text) {
                Ok(Listen::Unix { path, mode }) => format!("unix:{} {mode:o}", path.display()),
                Ok(tcp @ Listen::Tcp { tls, .. }) => format!("{tcp} {tls:?}"),
                Err(why) => why,
            };
            assert!(got == expect || Listen::parse(text).is_err() && got.contains(expect), "{text}: {got}");
        }
    }

    #[test]
    fn a_socket_is_taken_only_from_nobody() {
        let directory = std::env::temp_dir().join(format!("model-proxy-listen-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("s");
        let first = open_unix(&path, 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(open_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse, "it is listened at");
        drop(first);
        let second = open_unix(&path, 0o600).unwrap();
        let leavings = Leavings::of(&[Listen::Unix { path: path.clone(), mode: 0 }]);
        drop((second, leavings));
        assert!(!path.exists(), "it goes with us");
        fs::write(&path, "precious").unwrap();
        assert_eq!(open_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "no socket");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(&directory).unwrap();
    }
}
