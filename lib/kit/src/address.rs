//! Where a gRPC service is: `unix:/path` or `tcp:host:port`.

use std::fmt;
use std::io::IoSlice;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

use crate::tls::{self, Name, ServerTls, TlsFiles};

/// How often an idle connection is probed, and how long an answer may take: a half-open one is found within twice that.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Octets that a client takes in one frame of HTTP/2: most messages of a snapshot are one frame, and one write of typha's,
/// not one of every 16 KiB.
const FRAME: u32 = 64 << 10;

/// A service's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ServiceAddr {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// Not a service's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no service address: want unix:/path or tcp:host:port")]
pub struct BadAddr(String);

/// Reads an address to serve on without TLS: only this machine may come, so only a unix socket will do. For command
/// lines.
///
/// # Errors
/// [`BadAddr`], or [`NotLocal`] for a TCP address.
pub fn local_only(s: &str) -> Result<ServiceAddr, Box<dyn std::error::Error + Send + Sync>> {
    match s.parse()? {
        ServiceAddr::Tcp(tcp) => Err(Box::new(NotLocal(tcp))),
        addr @ ServiceAddr::Unix(_) => Ok(addr),
    }
}

/// A TCP address where whoever connects may do everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tcp:{0} would let anybody who reaches it in: without TLS only unix:/path is served")]
pub struct NotLocal(String);

/// A service could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("connect to {addr}: {reason}")]
pub struct ConnectError {
    addr: ServiceAddr,
    reason: String,
}

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {addr}: {reason}")]
pub struct ListenError {
    addr: ServiceAddr,
    reason: String,
}

impl FromStr for ServiceAddr {
    type Err = BadAddr;

    fn from_str(s: &str) -> Result<Self, BadAddr> {
        if let Some(path) = s.strip_prefix("unix:")
            && path.starts_with('/')
        {
            return Ok(ServiceAddr::Unix(PathBuf::from(path)));
        }
        if let Some(tcp) = s.strip_prefix("tcp:")
            && let Some((host, port)) = tcp.rsplit_once(':')
            && !host.is_empty()
            && port.parse::<u16>().is_ok()
        {
            return Ok(ServiceAddr::Tcp(tcp.to_owned()));
        }
        Err(BadAddr(s.to_owned()))
    }
}

impl fmt::Display for ServiceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceAddr::Unix(path) => write!(f, "unix:{}", path.display()),
            ServiceAddr::Tcp(tcp) => write!(f, "tcp:{tcp}"),
        }
    }
}

impl TryFrom<String> for ServiceAddr {
    type Error = BadAddr;

    fn try_from(s: String) -> Result<Self, BadAddr> {
        s.parse()
    }
}

impl From<ServiceAddr> for String {
    fn from(a: ServiceAddr) -> String {
        a.to_string()
    }
}

impl ServiceAddr {
    fn endpoint(&self) -> Endpoint {
        let uri = match self {
            ServiceAddr::Unix(path) => format!("unix:{}", path.display()),
            ServiceAddr::Tcp(tcp) => format!("http://{tcp}"),
        };
        let endpoint = match Endpoint::try_from(uri) {
            Ok(endpoint) => endpoint,
            // A host that is no URI host is found out when connecting, with its name in the error.
            Err(_) => Endpoint::from_static("http://invalid.invalid:1"),
        };
        endpoint
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .max_frame_size(FRAME)
            .connect_timeout(KEEPALIVE)
    }

    /// A channel without TLS that connects when first used, and again whenever the connection was lost. Must be called
    /// inside a tokio runtime.
    pub fn channel_lazy(&self) -> Channel {
        Target::from(self.clone()).channel_lazy()
    }

    /// A connected channel without TLS.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn connect(&self, timeout: Duration) -> Result<Channel, ConnectError> {
        Target::from(self.clone()).connect(timeout).await
    }

    /// Listens. A unix socket gets mode 0660; one left over by a process that is gone is replaced, one that somebody
    /// still answers on is not.
    ///
    /// # Errors
    /// [`ListenError`] naming the address.
    pub async fn listen(&self) -> Result<Incoming, ListenError> {
        let failed = |reason: String| ListenError {
            addr: self.clone(),
            reason,
        };
        match self {
            ServiceAddr::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).await.map_err(|e| failed(e.to_string()))?;
                Ok(Incoming::Tcp(listener))
            }
            ServiceAddr::Unix(path) => {
                clear_stale(path).await.map_err(&failed)?;
                let listener = UnixListener::bind(path).map_err(|e| failed(e.to_string()))?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
                    .map_err(|e| failed(e.to_string()))?;
                Ok(Incoming::Unix(listener))
            }
        }
    }
}

/// Where a service is: one address, or several that serve the same, separated by commas; they are tried in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddrs {
    first: ServiceAddr,
    others: Vec<ServiceAddr>,
}

impl FromStr for ServiceAddrs {
    type Err = BadAddr;

    fn from_str(s: &str) -> Result<Self, BadAddr> {
        let (first, others) = s.split_once(',').map_or((s, None), |(first, rest)| (first, Some(rest)));
        let others = others.into_iter().flat_map(|rest| rest.split(','));
        Ok(ServiceAddrs {
            first: first.trim().parse()?,
            others: others.map(|addr| addr.trim().parse()).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for ServiceAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others.iter().try_for_each(|addr| write!(f, ",{addr}"))
    }
}

impl From<ServiceAddr> for ServiceAddrs {
    fn from(first: ServiceAddr) -> Self {
        let others = Vec::new();
        ServiceAddrs { first, others }
    }
}

/// A service and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    addr: ServiceAddr,
    /// Where the same is served.
    others: Vec<ServiceAddr>,
    tls: Option<TlsFiles>,
}

impl From<ServiceAddr> for Target {
    /// Without TLS.
    fn from(addr: ServiceAddr) -> Self {
        Target::new(addr, None)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}

impl Target {
    /// A service; over tcp it is spoken to by TLS when there are files for it. A unix socket needs none.
    /// The first of several addresses is meant; whoever can do with another asks for [`Target::each`].
    pub fn new(addrs: impl Into<ServiceAddrs>, tls: Option<TlsFiles>) -> Self {
        let ServiceAddrs { first, others } = addrs.into();
        Target {
            addr: first,
            others,
            tls,
        }
    }

    /// All that serve the same, in the order in which they are tried; never none.
    pub fn each(&self) -> Vec<Target> {
        let all = std::iter::once(&self.addr).chain(&self.others);
        all.map(|addr| self.at(addr.clone())).collect()
    }

    /// The same service at another address, spoken to with the same files.
    #[must_use]
    pub fn at(&self, addr: ServiceAddr) -> Self {
        Target {
            addr,
            others: Vec::new(),
            tls: self.tls.clone(),
        }
    }

    /// The host and port that TLS goes to, with its files.
    fn secured(&self) -> Option<(String, u16, TlsFiles)> {
        let (ServiceAddr::Tcp(tcp), Some(files)) = (&self.addr, &self.tls) else {
            return None;
        };
        let (host, port) = tcp.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?, files.clone()))
    }

    /// A channel that connects when first used, and again whenever the connection was lost. Must be called inside a
    /// tokio runtime.
    pub fn channel_lazy(&self) -> Channel {
        let Some((host, port, files)) = self.secured() else {
            return self.addr.endpoint().connect_lazy();
        };
        self.addr
            .endpoint()
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let (host, files) = (host.clone(), files.clone());
                async move { files.connect(&host, port).await.map(TokioIo::new) }
            }))
    }

    /// A connected channel.
    ///
    /// # Errors
    /// [`ConnectError`] with the address and the innermost reason, also when `timeout` passes first.
    pub async fn connect(&self, timeout: Duration) -> Result<Channel, ConnectError> {
        let failed = |reason: String| ConnectError {
            addr: self.addr.clone(),
            reason,
        };
        let endpoint = self.addr.endpoint();
        let connected = async {
            let Some((host, port, files)) = self.secured() else {
                return endpoint.connect().await;
            };
            let connector = tower::service_fn(move |_| {
                let (host, files) = (host.clone(), files.clone());
                async move { files.connect(&host, port).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        };
        match tokio::time::timeout(timeout, connected).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(e)) => Err(failed(innermost(&e))),
            Err(_) => Err(failed(format!("no answer within {} ms", timeout.as_millis()))),
        }
    }
}

/// Removes a socket file nobody answers on.
async fn clear_stale(path: &Path) -> Result<(), String> {
    // A name alone is one in the working directory.
    let named = path.parent().filter(|d| !d.as_os_str().is_empty());
    if let Some(directory) = named.filter(|d| !d.is_dir()) {
        return Err(format!("there is no directory {}", directory.display()));
    }
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err("a file that is no socket is in the way".to_owned());
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err("another process answers on this socket".to_owned()),
        Err(_) => std::fs::remove_file(path).map_err(|e| format!("remove the stale socket: {e}")),
    }
}

fn innermost(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

/// Accepted connections, for `serve_with_incoming`. Errors of single accepts are skipped: they concern one client.
#[derive(Debug)]
pub enum Incoming {
    /// From a TCP listener.
    Tcp(TcpListener),
    /// From a unix socket.
    Unix(UnixListener),
}

impl Incoming {
    /// The port of a TCP listener, for those who asked for port 0.
    pub fn port(&self) -> Option<u16> {
        match self {
            Incoming::Tcp(l) => l.local_addr().ok().map(|a| a.port()),
            Incoming::Unix(_) => None,
        }
    }

    /// The connections. With TLS, those of a TCP listener are given after a handshake that was good; a unix socket needs
    /// none. Must be called inside a tokio runtime.
    pub fn connections(self, tls: Option<Arc<ServerTls>>) -> BoxStream<'static, std::io::Result<Conn>> {
        match (self, tls) {
            (Incoming::Tcp(listener), Some(tls)) => ReceiverStream::new(tls::serve(listener, tls)).map(Ok).boxed(),
            (plain, _) => plain.boxed(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on this machine whom the socket's permissions let in.
    Local,
    /// Nobody knows: TCP without TLS.
    Anonymous,
    /// Who the certificate says.
    Certified(Name),
}

/// A connection from either kind of listener.
#[derive(Debug)]
pub enum Conn {
    /// TCP.
    Tcp(TcpStream),
    /// Unix socket.
    Unix(UnixStream),
    /// TLS, and whose certificate was shown.
    Tls(Box<TlsStream<TcpStream>>, Peer),
}

impl Stream for Incoming {
    type Item = std::io::Result<Conn>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = match self.get_mut() {
            Incoming::Tcp(l) => l.poll_accept(cx).map_ok(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                Conn::Tcp(stream)
            }),
            Incoming::Unix(l) => l.poll_accept(cx).map_ok(|(stream, _)| Conn::Unix(stream)),
        };
        accepted.map(Some)
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match self {
            Conn::Tcp(_) => Peer::Anonymous,
            Conn::Unix(_) => Peer::Local,
            Conn::Tls(_, peer) => peer.clone(),
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Conn::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Conn::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Conn::Tls(s, _) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Conn::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Conn::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Conn::Tls(s, _) => Pin::new(s).poll_write(cx, buf),
        }
    }

    /// Heads and bodies of HTTP/2's frames go to the kernel together, without being copied into one buffer before.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Conn::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Conn::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Conn::Tls(s, _) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Conn::Tcp(s) => s.is_write_vectored(),
            Conn::Unix(s) => s.is_write_vectored(),
            Conn::Tls(s, _) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Conn::Tcp(s) => Pin::new(s).poll_flush(cx),
            Conn::Unix(s) => Pin::new(s).poll_flush(cx),
            Conn::Tls(s, _) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Conn::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Conn::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Conn::Tls(s, _) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        for good in [
            "unix:/run/x.sock",
            "tcp:127.0.0.1:5473",
            "tcp:[::1]:5473",
            "tcp:typha:1",
        ] {
            assert_eq!(good.parse::<ServiceAddr>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "unix:run/x",
            "tcp:host",
            "tcp::1",
            "tcp:h:70000",
            "http://x",
            "/run/x.sock",
        ] {
            let e = bad.parse::<ServiceAddr>().unwrap_err();
            assert!(e.to_string().contains("unix:/path"), "{e}");
        }
    }

    #[test]
    fn several_addresses_are_separated_by_commas() {
        let addrs: ServiceAddrs = "tcp:a:1, tcp:b:2,unix:/c".parse().unwrap();
        assert_eq!(addrs.to_string(), "tcp:a:1,tcp:b:2,unix:/c");
        let each: Vec<String> = Target::new(addrs, None).each().iter().map(Target::to_string).collect();
        assert_eq!(each, ["tcp:a:1", "tcp:b:2", "unix:/c"]);
        let one: ServiceAddrs = "tcp:a:1".parse().unwrap();
        assert_eq!(Target::new(one, None).each().len(), 1);
        for bad in ["", ",", "tcp:a:1,", "tcp:a:1,b"] {
            assert!(bad.parse::<ServiceAddrs>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_served() {
        assert!(local_only("unix:/run/x.sock").is_ok());
        let refused = local_only("tcp:127.0.0.1:1").unwrap_err().to_string();
        assert!(
            refused.contains("tcp:127.0.0.1:1") && refused.contains("unix:/path"),
            "{refused}"
        );
        assert!(local_only("x").unwrap_err().to_string().contains("no service address"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = std::env::temp_dir().join(format!("tortie-kit-{}-listen", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let addr = ServiceAddr::Unix(dir.join("s.sock"));
        let first = addr.listen().await.unwrap();
        let taken = addr.listen().await.unwrap_err().to_string();
        assert!(taken.contains("another process answers"), "{taken}");
        drop(first); // leaves the file
        addr.listen().await.unwrap();
        std::fs::write(dir.join("plain"), "x").unwrap();
        let plain = ServiceAddr::Unix(dir.join("plain"))
            .listen()
            .await
            .unwrap_err()
            .to_string();
        assert!(plain.contains("no socket"), "{plain}");
        let nowhere = ServiceAddr::Unix(dir.join("none/s.sock"))
            .listen()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            nowhere.ends_with(&format!("there is no directory {}/none", dir.display())),
            "{nowhere}"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_named() {
        let e = ServiceAddr::Unix("/nonexistent/s.sock".into())
            .connect(Duration::from_secs(1))
            .await
            .unwrap_err();
        assert!(
            e.to_string().starts_with("connect to unix:/nonexistent/s.sock: "),
            "{e}"
        );
    }
}
