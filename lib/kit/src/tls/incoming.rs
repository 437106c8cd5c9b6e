//! Accepts TCP connections and shakes hands beside one another: a client that is slow at it holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::{Name, ServerTls};
use crate::address::{Conn, Peer};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; more clients wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// After an accept that failed (too many open files, say), how long until the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the receiver is gone.
pub(crate) fn serve(listener: TcpListener, tls: Arc<ServerTls>) -> mpsc::Receiver<Conn> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        let limit = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&limit).acquire_owned().await else {
                return;
            };
            let (ready, tls) = (ready.clone(), Arc::clone(&tls));
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE, handshake(stream, &tls)).await {
                    // Who serves connections is gone: so is this one.
                    Ok(Ok(connection)) => drop(ready.send(connection).await),
                    Ok(Err(reason)) => tracing::info!(reason, "client refused"),
                    Err(_) => tracing::info!(reason = "no handshake in time", "client refused"),
                }
                drop(permit);
            });
        }
    });
    connections
}

async fn handshake(stream: TcpStream, tls: &ServerTls) -> Result<Conn, String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let from = stream.peer_addr().map_err(|e| e.to_string())?;
    let acceptor = TlsAcceptor::from(tls.config());
    let stream = acceptor.accept(stream).await.map_err(|e| format!("{from}: {e}"))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| format!("{from}: it has no certificate"))?;
    let name = Name::of(certificate).map_err(|e| format!("{from}: its certificate: {e}"))?;
    Ok(Conn::Tls(Box::new(stream), Peer::Certified(name)))
}
