//! What we show clients over TLS: a certificate and its key, read from files and read again when these change.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::server::reload::Settling;
use crate::server::{ServeError, log};

/// Where they are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate and those that vouch for it, in PEM form.
    pub certificate: PathBuf,
    /// Its private key, in PEM form: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// What is shown now. A connection keeps what it was shown.
#[derive(Debug)]
pub(super) struct Shown {
    files: Files,
    current: ArcSwap<ServerConfig>,
}

/// How the files look: another with every change.
type Looks = [Option<(u64, u64, i64, i64)>; 2];

/// The files cannot be used.
#[derive(Debug)]
pub enum CertificateError {
    Read(PathBuf, io::Error),
    Pem(PathBuf, &'static str),
    Unfit(PathBuf, rustls::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "{} cannot be read", path.display()),
            Self::Pem(path, what) => write!(f, "{} holds no {what} in PEM form", path.display()),
            Self::Unfit(path, _) => write!(f, "{} cannot be used with its key", path.display()),
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(_, e) => Some(e),
            Self::Pem(..) => None,
            Self::Unfit(_, e) => Some(e),
        }
    }
}

impl Shown {
    pub(super) fn read(files: Files) -> Result<Self, CertificateError> {
        let current = ArcSwap::new(config(&files)?);
        Ok(Self { files, current })
    }

    pub(super) fn now(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. What cannot be used leaves the last that could in force.
    fn read_again(&self) -> Result<(), CertificateError> {
        self.current.store(config(&self.files)?);
        Ok(())
    }

    fn looks(&self) -> Looks {
        let look = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.ctime(), m.ctime_nsec()));
        [look(&self.files.certificate), look(&self.files.key)]
    }
}

/// Sees to it that what is shown is what the files hold.
#[derive(Debug)]
pub(super) struct Renewal {
    shown: Arc<Shown>,
    settling: Settling<Looks>,
}

impl Renewal {
    pub(super) fn new(shown: Arc<Shown>) -> Self {
        let settling = Settling::new(shown.looks());
        Self { shown, settling }
    }

    /// Reads the files again if they have changed, and hold still: a certificate and its key are not written at once.
    pub(super) fn look_again(&mut self) {
        if self.settling.has_settled(self.shown.looks()) {
            self.read_again();
        }
    }

    pub(super) fn read_again(&mut self) {
        self.settling = Settling::new(self.shown.looks());
        match self.shown.read_again() {
            Ok(()) => log::info("the certificate was read again: new connections are shown it"),
            Err(error) => log::error(&format!(
                "{}: connections are shown the certificate read before",
                ServeError::Certificate(error)
            )),
        }
    }
}

fn config(Files { certificate, key }: &Files) -> Result<Arc<ServerConfig>, CertificateError> {
    let read = |path: &PathBuf| fs::read(path).map_err(|e| CertificateError::Read(path.clone(), e));
    let (chain, secret) = (read(certificate)?, read(key)?);
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| CertificateError::Pem(certificate.clone(), "certificate"))?;
    let secret =
        PrivateKeyDer::from_pem_slice(&secret).map_err(|_| CertificateError::Pem(key.clone(), "private key"))?;
    let unfit = |e| CertificateError::Unfit(certificate.clone(), e);
    // Named rather than taken from the process, where any library could install another.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
