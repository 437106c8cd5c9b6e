//! Listeners: one task for each address, made to match what the speaker wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tortie_bgp::speaker::ListenSpec;
use tortie_net::Prefix;
use tortie_netlink::sockopt;

use super::socket;
use crate::engine::{Engine, Request};

/// Between attempts to listen where it was not possible: the address may come.
const RETRY: Duration = Duration::from_secs(2);

type Keys = Vec<(Prefix, String)>;

/// The running listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners(BTreeMap<(SocketAddr, bool), Running>);

#[derive(Debug)]
struct Running {
    keys: watch::Sender<Keys>,
    _task: AbortOnDropHandle<()>,
}

impl Listeners {
    /// Starts, stops and re-keys. A listener that stays does not lose a connection.
    pub(crate) fn apply(&mut self, specs: &[ListenSpec], engine: &Engine) {
        let mut wanted: BTreeMap<(SocketAddr, bool), Keys> = BTreeMap::new();
        for spec in specs {
            let addrs = match spec.address {
                Some(address) => vec![SocketAddr::new(address, spec.port)],
                None => socket::everywhere(spec.port).to_vec(),
            };
            for addr in addrs {
                let keys = spec
                    .keys
                    .iter()
                    .filter(|(peer, _)| peer.is_v4() == addr.is_ipv4())
                    .cloned();
                wanted.entry((addr, spec.free_bind)).or_default().extend(keys);
            }
        }
        self.0.retain(|key, _| wanted.contains_key(key));
        for (key, keys) in wanted {
            match self.0.get(&key) {
                Some(running) => drop(running.keys.send_if_modified(|now| {
                    let changed = *now != keys;
                    *now = keys;
                    changed
                })),
                None => {
                    let (sender, receiver) = watch::channel(keys);
                    let task = tokio::spawn(listen(key.0, key.1, receiver, engine.clone()));
                    self.0.insert(
                        key,
                        Running {
                            keys: sender,
                            _task: AbortOnDropHandle::new(task),
                        },
                    );
                }
            }
        }
    }
}

async fn listen(addr: SocketAddr, free_bind: bool, keys: watch::Receiver<Keys>, engine: Engine) {
    let mut said = String::new();
    loop {
        match socket::listen(addr, free_bind) {
            Ok(listener) => {
                tracing::info!(%addr, "listening");
                accept(listener, keys, engine).await;
                return;
            }
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::warn!(%addr, %error, "cannot listen, trying again");
                    said = error;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn accept(listener: TcpListener, mut keys: watch::Receiver<Keys>, engine: Engine) {
    let mut set = Keys::new();
    loop {
        let wanted = keys.borrow_and_update().clone();
        rekey(&listener, &set, &wanted);
        set = wanted;
        let accepted = tokio::select! {
            changed = keys.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => engine.request(Request::Accepted { stream, remote }).await,
            Err(error) => {
                // Out of descriptors, most likely: without the pause this would be a busy loop.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn rekey(listener: &TcpListener, set: &Keys, wanted: &Keys) {
    let gone = set
        .iter()
        .filter(|(peer, _)| !wanted.iter().any(|(other, _)| other == peer));
    let changes = gone.map(|(peer, _)| (*peer, "")).chain(
        wanted
            .iter()
            .filter(|entry| !set.contains(entry))
            .map(|(peer, key)| (*peer, key.as_str())),
    );
    for (peer, key) in changes {
        if let Err(error) = sockopt::set_md5_key(listener, peer, key.as_bytes()) {
            tracing::error!(%peer, %error, "cannot set the TCP-MD5 key");
        }
    }
}
