//! Whom we trust.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The client side of TLS for all connections: the public roots, and those in `extra_ca_pem`. There is no way to
/// skip verification (LIMITS R18).
pub fn tls_config(extra_ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_ca_pem {
        let mut found = 0_usize;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| TlsError(Problem::Pem(e)))?;
            roots.add(certificate).map_err(|e| TlsError(Problem::Tls(e)))?;
            found += 1;
        }
        if found == 0 {
            return Err(TlsError(Problem::NoCertificate));
        }
    }
    // Named rather than taken from the process, where any library could install another.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError(Problem::Tls(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The extra CA file cannot be used.
#[derive(Debug)]
pub struct TlsError(Problem);

#[derive(Debug)]
enum Problem {
    NoCertificate,
    Pem(rustls_pki_types::pem::Error),
    Tls(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NoCertificate => "no certificate in PEM form",
            Problem::Pem(_) => "not in PEM form",
            Problem::Tls(_) => "a certificate that cannot be trusted as a root",
        })
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Problem::NoCertificate => None,
            Problem::Pem(e) => Some(e),
            Problem::Tls(e) => Some(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_file() {
        assert!(tls_config(None).is_ok(), "the public roots alone");
        for (pem, expect) in [
            (&b""[..], "no certificate in PEM form"),
            (b"hello", "no certificate in PEM form"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "a certificate that cannot be trusted as a root",
            ),
            (b"-----BEGIN CERTIFICATE-----\n!\n", "not in PEM form"),
        ] {
            assert_eq!(tls_config(Some(pem)).unwrap_err().to_string(), expect);
        }
    }
}
