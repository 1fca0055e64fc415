//! Making a connection: name, TCP, proxy, TLS, and the protocol both agreed on.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use smallvec::SmallVec;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::route::table::Origin;
use crate::time::Clock;
use crate::upstream::Spawn;
use crate::upstream::error::{SendError, What};
use crate::upstream::h1::{Bell, H1, Metered, Run};
use crate::upstream::line::{Line, drive};
use crate::upstream::pool::{H2, Taken};
use crate::upstream::proxy;
use crate::upstream::watch::{Watch, from_now};

/// All it takes to make a connection.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) spawn: Spawn,
    pub(super) clock: Clock,
    pub(super) rest_max: Duration,
    pub(super) resolve: Resolve,
}

/// Finds a name's addresses. Asked for every connection that is made: what moves is followed as soon as the connections to
/// where it was are closed or too old.
pub(super) type Resolve = Arc<dyn Fn(&str, u16) -> Resolving + Send + Sync>;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// As the system does.
pub(super) fn by_system() -> Resolve {
    Arc::new(|host, port| {
        let host = host.to_owned();
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    })
}

impl Connector {
    /// Makes one connection. The caller sets the time limit.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<Taken, SendError> {
        let (host, port) = match &origin.proxy {
            Some(proxy) => (&*proxy.host, proxy.port),
            None => (&*origin.host, origin.port),
        };
        let mut tcp = self.dial(host, port).await?;
        if !origin.tls {
            return self.speak(tcp, false).await;
        }
        if let Some(proxy) = &origin.proxy {
            proxy::tunnel(&mut tcp, proxy, origin).await?;
        }
        let name =
            ServerName::try_from(origin.host.to_string()).map_err(|e| SendError::connect(What::Address).because(e))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(name, tcp).await.map_err(|e| SendError::connect(What::Tls).because(e))?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        self.speak(tls, is_h2).await
    }

    /// Opens a TCP connection to a name.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, SendError> {
        let found = (self.resolve)(host, port).await.map_err(|e| SendError::connect(What::Resolve).because(e))?;
        let addresses = interleave(found.into_iter().take(ADDRESSES_MAX));
        let tcp = race(addresses).await.map_err(|e| SendError::connect(What::Dial).because(e))?;
        // Without it a request's last packet may wait 40 ms for an acknowledgement (PERFORMANCE 1.5).
        tcp.set_nodelay(true).map_err(|e| SendError::connect(What::Dial).because(e))?;
        // Helps, but is not needed: a system without it is no reason to fail.
        drop(SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE)));
        Ok(tcp)
    }

    async fn speak<T>(&self, io: T, is_h2: bool) -> Result<Taken, SendError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |e: hyper::Error| SendError::connect(What::Handshake).because(e);
        let (clock, rest_max) = (self.clock, self.rest_max);
        let born = clock.now();
        if is_h2 {
            let line = Line::new();
            let (sender, mut connection) = h2_builder(self).handshake(TokioIo::new(io)).await.map_err(broken)?;
            let shared = Arc::clone(&line);
            let run = move |cx: &mut std::task::Context<'_>| {
                let done = Pin::new(&mut connection).poll(cx);
                shared.allow_streams(connection.current_max_send_streams());
                // How a connection ends is told to the requests on it.
                done.map(drop)
            };
            (self.spawn)(Box::pin(drive(run, Arc::clone(&line), clock, rest_max)));
            line.queue();
            return Ok(Taken::H2(H2 { sender, line, born }));
        }
        let bell = Bell::new();
        let io = TokioIo::new(Metered::new(io, &bell));
        let (sender, mut connection) = h1_builder().handshake(io).await.map_err(broken)?;
        // How it ends is told to the request on it.
        let run: Run = Box::new(move |cx| Pin::new(&mut connection).poll(cx).map(drop));
        Ok(Taken::H1(Box::new(H1::new(sender, run, bell, born))))
    }
}

/// Most bytes of a reply's head, and so of one read (LIMITS 3).
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Most fields of a reply's head. LIMITS 3 suggests 256; beyond hyper's own 100 its parser makes two tables of 8 KiB for each
/// head, which is the coldest memory a request touches, and no provider sends half as many.
pub(super) const HEAD_FIELDS_MAX: usize = 100;

fn h1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head = HEAD_BYTES_MAX as usize;
    builder.max_buf_size(head).max_header_size(head);
    builder
}

fn h2_builder(connector: &Connector) -> http2::Builder<Executor> {
    let mut builder = http2::Builder::new(Executor(Arc::clone(&connector.spawn)));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        // While a model thinks for minutes, nothing else tells a dead connection from a silent one.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// What one slow reader may have waiting here: the bound on what a stream buffers (LIMITS 3).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// And all of a connection's together.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Gives hyper's own tasks to the server, as ours are.
#[derive(Clone)]
struct Executor(Spawn);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        (self.0)(Box::pin(task));
    }
}

/// Addresses tried of one name.
const ADDRESSES_MAX: usize = 16;

const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Alternates between the families, beginning with the resolver's first choice (RFC 8305 4).
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: SmallVec<[SocketAddr; 8]> = addresses.collect();
    let v6_first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = all.iter().partition(|a| a.is_ipv6() == v6_first);
    let mut mixed = VecDeque::with_capacity(all.len());
    while let Some(address) = first.pop_front() {
        mixed.push_back(address);
        std::mem::swap(&mut first, &mut second);
        if first.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    mixed
}

/// Connects to whichever address answers first, giving each a head start on the next (RFC 8305 5).
async fn race(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts: SmallVec<[Attempt; 2]> = SmallVec::new();
    let mut next_at = from_now(HEAD_START);
    let mut watch = Watch::new(next_at);
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut start_next = true;
    poll_fn(move |cx| {
        loop {
            if std::mem::take(&mut start_next)
                && let Some(address) = addresses.pop_front()
            {
                attempts.push(Box::pin(TcpStream::connect(address)));
                next_at = from_now(HEAD_START);
            }
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(tcp)) => return Poll::Ready(Ok(tcp)),
                    Poll::Ready(Err(e)) => {
                        failed = e;
                        // What has failed need not be waited for.
                        start_next = true;
                        drop(attempts.remove(index));
                    }
                }
            }
            if addresses.is_empty() {
                if !attempts.is_empty() {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(std::mem::replace(&mut failed, io::ErrorKind::Other.into())));
            }
            if !start_next && watch.poll_past(cx, next_at).is_pending() {
                return Poll::Pending;
            }
            start_next = true;
        }
    })
    .await
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// How long one address is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_families() {
        let parse = |text: &str| -> Vec<SocketAddr> { text.split(' ').map(|a| a.parse().unwrap()).collect() };
        for (found, expect) in [
            ("[::1]:1 [::2]:1 1.1.1.1:1 [::3]:1 2.2.2.2:1", "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"),
            ("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1", "1.1.1.1:1 2.2.2.2:1 3.3.3.3:1"),
            ("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 [::1]:1", "1.1.1.1:1 [::1]:1 2.2.2.2:1 3.3.3.3:1"),
        ] {
            assert_eq!(Vec::from(interleave(parse(found).into_iter())), parse(expect));
        }
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_living_one() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let tcp = race(VecDeque::from([closed, open])).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), open);
        assert!(race(VecDeque::from([closed, closed])).await.is_err(), "all are dead");
        assert!(race(VecDeque::new()).await.is_err(), "none at all");
    }
}
