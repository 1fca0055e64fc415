//! What can go wrong on the way there and on the way back.

use std::error::Error;
use std::fmt;
use std::io;

/// How far a request had come when it failed. Whether another may be sent is judged by this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Nothing was sent.
    Connect,
    /// The request was sent, at least in part, and not one byte of a reply was seen.
    Sent,
    /// The request was sent and the reply's head did not come in time.
    FirstByte,
    /// A reply began that is no HTTP, too large, cut, or in an encoding nobody asked for.
    Head,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct SendError {
    pub stage: Stage,
    /// The connection had served an earlier request, and it is the connection that failed. Together with
    /// [`Stage::Sent`] this is what LIMITS R30 allows to be sent again: such a failure says nothing about the
    /// provider. The connections that rested beside this one are closed by then, so the next one is fresh.
    pub reused: bool,
    pub what: What,
    source: Option<Cause>,
}

/// The cause of an error, whatever library it comes from.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// What happened, one level deep; the cause is the error's source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The origin or the path makes no URI.
    Address,
    Resolve,
    Dial,
    ConnectTimeout,
    /// The proxy broke off, or does not speak HTTP.
    Proxy,
    /// The proxy answered CONNECT with this status.
    ProxyRefused(u16),
    Tls,
    Handshake,
    /// Connections were made and closed again before the request could be written.
    Unsent,
    Closed,
    /// HTTP/2: this one request was reset; the connection lives.
    Reset,
    FirstByteTimeout,
    HeadCut,
    HeadTooLarge,
    NotHttp,
    /// `content-encoding` names something that was not asked for and is not known.
    Encoding,
}

impl SendError {
    pub(super) fn new(stage: Stage, what: What) -> Self {
        Self { stage, reused: false, what, source: None }
    }

    /// Nothing was sent.
    pub(super) fn connect(what: What) -> Self {
        Self::new(Stage::Connect, what)
    }

    pub(super) fn because(mut self, source: impl Into<Cause>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The process, or the machine, has no descriptor left for a connection: EMFILE, ENFILE (`socket(2)`).
    #[must_use]
    pub fn lacks_descriptors(&self) -> bool {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return matches!(io.raw_os_error(), Some(23 | 24));
            }
            cause = error.source();
        }
        false
    }

    pub(super) fn reused(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::Address => "the upstream's address makes no URI",
            What::Resolve => "the upstream's name could not be resolved",
            What::Dial => "the upstream could not be reached",
            What::ConnectTimeout => "the upstream could not be connected to in time",
            What::Proxy => "the proxy did not open a way to the upstream",
            What::ProxyRefused(status) => return write!(f, "the proxy refused to connect to the upstream: {status}"),
            What::Tls => "the upstream's TLS could not be trusted or agreed on",
            What::Handshake => "the upstream did not begin to speak HTTP",
            What::Unsent => "the upstream closes connections before a request can be sent",
            What::Closed => "the upstream closed the connection before it answered",
            What::Reset => "the upstream reset the request",
            What::FirstByteTimeout => "the upstream did not begin to answer in time",
            What::HeadCut => "the upstream closed the connection inside the head of its answer",
            What::HeadTooLarge => "the head of the upstream's answer is too large",
            What::NotHttp => "the upstream's answer is not HTTP",
            What::Encoding => "the upstream answered in an encoding that was not asked for",
        })
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// Why an answer's body ends before its end.
#[derive(Debug)]
pub enum ReadError {
    /// No byte came for the idle time.
    Idle,
    /// The whole did not come within the total time.
    Total,
    /// It is longer than the caller takes.
    TooLong,
    /// There is no room for it just now.
    NoRoom,
    /// The connection, or what came over it, broke.
    Broken(Box<dyn Error + Send + Sync>),
    /// What came is not what its content-encoding says, or was cut.
    Encoding,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "the upstream went silent in the middle of its answer",
            Self::Total => "the upstream's answer took too long",
            Self::TooLong => "the upstream's answer is too long",
            Self::NoRoom => "there is no room for the upstream's answer",
            Self::Broken(_) => "the upstream's answer broke off",
            Self::Encoding => "the upstream's answer is not in the encoding it names",
        })
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken(source) => Some(source.as_ref()),
            Self::Idle | Self::Total | Self::TooLong | Self::NoRoom | Self::Encoding => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_is_told_from_what_upstreams_do() {
        for (code, is) in [(24, true), (23, true), (111, false)] {
            let error = SendError::connect(What::Dial).because(io::Error::from_raw_os_error(code));
            assert_eq!(error.lacks_descriptors(), is, "{error:?}");
        }
        assert!(!SendError::connect(What::Dial).lacks_descriptors());
    }
}
