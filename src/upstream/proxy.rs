//! Asking an HTTP proxy for a way to a TLS origin (RFC 9110 9.3.6).

use std::io;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::route::table::{Origin, Proxy};
use crate::upstream::error::{SendError, What};

/// Turns a connection to the proxy into one to the origin.
pub(super) async fn tunnel<T>(io: &mut T, proxy: &Proxy, origin: &Origin) -> Result<(), SendError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |e: io::Error| SendError::connect(What::Proxy).because(e);
    io.write_all(request(proxy, origin).as_bytes()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut head = Vec::with_capacity(512);
    let end = loop {
        if let Some(at) = memmem::find(&head, b"\r\n\r\n") {
            break at + 4;
        }
        if HEAD_BYTES_MAX <= head.len() {
            return Err(SendError::connect(What::Proxy).because("the head of its answer is too large"));
        }
        if io.read_buf(&mut head).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    match status(&head) {
        Some(200..=299) => {}
        Some(status) => return Err(SendError::connect(What::ProxyRefused(status))),
        None => return Err(SendError::connect(What::Proxy).because("its answer is not HTTP")),
    }
    // In TLS the client speaks first: whoever has something to say now is not the origin.
    if end < head.len() {
        return Err(SendError::connect(What::Proxy).because("it sent bytes the upstream cannot have sent"));
    }
    Ok(())
}

/// Longest answer to CONNECT: a status line and a few headers, with room for the talkative.
const HEAD_BYTES_MAX: usize = 16 * 1024;

fn request(proxy: &Proxy, origin: &Origin) -> String {
    // The port always stands in the target of CONNECT, the usual one too.
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.to_string() };
    let target = format!("{host}:{}", origin.port);
    let authorization = match &proxy.authorization {
        Some(secret) => format!("Proxy-Authorization: {}\r\n", secret.0),
        None => String::new(),
    };
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
}

/// The status of a head that begins `HTTP/1.x NNN`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.0 ").or_else(|| head.strip_prefix(b"HTTP/1.1 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let ends = matches!(after.first(), Some(b' ' | b'\r'));
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && (100..600).contains(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_http_1_status_lines() {
        for (head, expect) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407\r\n\r\n", Some(407)),
            ("HTTP/1.1 2000\r\n\r\n", None),
            ("HTTP/1.1 +20 x\r\n\r\n", None),
            ("HTTP/2 200\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(head.as_bytes()), expect, "{head:?}");
        }
    }

    #[test]
    fn names_the_port_always() {
        let proxy = Proxy { host: "p".into(), port: 3128, authorization: None };
        let origin = Origin { tls: true, host: "::1".into(), port: 443, proxy: None };
        assert_eq!(request(&proxy, &origin), "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
    }
}
