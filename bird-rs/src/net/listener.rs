//! Listeners: one task for each address, made to match what the speaker wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tortie_bgp::config::Authentication;
use tortie_bgp::speaker::{Input, ListenSpec};
use tortie_net::Prefix;

use super::keys::ListenerKeys;
use super::socket;
use crate::engine::{Engine, Request};

/// Between attempts to listen where it was not possible: the address may come.
const RETRY: Duration = Duration::from_secs(2);

type Keys = Vec<(Prefix, Authentication)>;

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

async fn listen(addr: SocketAddr, free_bind: bool, mut wanted: watch::Receiver<Keys>, engine: Engine) {
    let mut said = String::new();
    loop {
        let mut keys = ListenerKeys::default();
        // The keys come first: nobody gets in without a signature meanwhile.
        let listener = match socket::bound(addr, free_bind) {
            Ok(socket) => {
                follow(&socket, &mut keys, &mut wanted, &engine).await;
                socket::listen(socket)
            }
            Err(error) => Err(error),
        };
        match listener {
            Ok(listener) => {
                tracing::info!(%addr, "listening");
                accept(listener, keys, wanted, engine).await;
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

async fn accept(listener: TcpListener, mut keys: ListenerKeys, mut wanted: watch::Receiver<Keys>, engine: Engine) {
    loop {
        let accepted = tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                follow(&listener, &mut keys, &mut wanted, &engine).await;
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, remote)) if keys.refuse(remote.ip()) => {
                tracing::debug!(%remote, "refusing a connection that cannot be checked");
            }
            Ok((stream, remote)) => engine.request(Request::Accepted { stream, remote }).await,
            Err(error) => {
                // Out of descriptors, most likely: without the pause this would be a busy loop.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Gives a listener the keys that are wanted now; the engine hears of those that could not be set.
async fn follow<L: AsFd>(listener: &L, keys: &mut ListenerKeys, wanted: &mut watch::Receiver<Keys>, engine: &Engine) {
    let now = wanted.borrow_and_update().clone();
    for (peers, error) in keys.follow(listener, &now) {
        tracing::error!(%peers, %error, "cannot set a key, refusing connections from there");
        let reason = error.to_string();
        engine.request(Request::Input(Input::Unguarded { peers, reason })).await;
    }
}
