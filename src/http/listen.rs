//! Connections: accepted, encrypted, counted, and ended when they do nothing.
//!
//! A client that opens connections and says nothing, or one byte a minute, takes places that are bounded in number and
//! given back in time. Not who may ask what: that is `guard`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 512;
/// A TLS handshake takes less.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A connection on which nothing moves is closed after this: longer than any answer takes.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Any connection is closed after this; a client opens another.
const LIFE_MAX: Duration = Duration::from_secs(600);
/// The pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    /// Its address.
    pub(super) address: IpAddr,
    /// It has shown a certificate of the configured authorities.
    pub(super) has_certificate: bool,
}

/// Accepted connections, handshakes done.
pub(super) struct Accepted {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl Accepted {
    /// Begins to accept. Ends when it is dropped.
    pub(super) fn begin(listener: TcpListener, address: SocketAddr, tls: Option<Arc<Tls>>) -> Accepted {
        let (sender, ready) = mpsc::channel(1);
        tokio::spawn(accept(listener, tls, sender));
        Accepted { address, ready }
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, sender: mpsc::Sender<(Connection, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let Ok((stream, address)) = accepted else {
            sleep(ACCEPT_RETRY).await;
            continue;
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        // Beside the others: a slow handshake must not hold up who comes next.
        tokio::spawn(async move {
            let stream = match tls {
                None => Stream::Plain(stream),
                Some(tls) => match timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.current()).accept(stream)).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    _ => return,
                },
            };
            // Nobody takes it any more when the server ends.
            let _ = sender.send((Connection::new(stream, place), address)).await;
        });
    }
}

impl Listener for Accepted {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task is gone: nothing comes any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Accepted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> Peer {
        let has_certificate = match &stream.io().stream {
            Stream::Plain(_) => false,
            // The verifier of the configuration has checked it: a bad one ends the handshake.
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty()),
        };
        Peer { address: stream.remote_addr().ip().to_canonical(), has_certificate }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with its place among those there may be, and its time.
pub(super) struct Connection {
    stream: Stream,
    _place: OwnedSemaphorePermit,
    idle: Pin<Box<Sleep>>,
    life: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(stream: Stream, place: OwnedSemaphorePermit) -> Connection {
        let (idle, life) = (Box::pin(sleep(IDLE_MAX)), Box::pin(sleep(LIFE_MAX)));
        Connection { stream, _place: place, idle, life }
    }

    /// What came of a read or write: with progress the time starts anew, without it the time may be over.
    fn timed<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.life.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match progress {
            Poll::Ready(done) => {
                self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.timed(cx, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.timed(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.timed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.timed(cx, shut)
    }
}
