//! The sockets that clients were promised, opened before root is given up and before there are threads.

use anyhow::Context;
use tortie_kit::address::{Incoming, ServiceAddr};

use crate::privileges::Identity;

/// Sockets that listen already.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) grpc: Option<Bound>,
    pub(crate) control: Option<Bound>,
}

/// One of them, of no runtime yet.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Sockets {
    /// Opens them; unix sockets belong to `owner`.
    ///
    /// # Errors
    /// Which address cannot be listened on, and why.
    pub(crate) fn open(
        grpc: Option<&ServiceAddr>,
        control: Option<&ServiceAddr>,
        owner: Option<Identity>,
    ) -> anyhow::Result<Self> {
        // A runtime without threads: capabilities belong to threads, and these would keep theirs.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            Ok(Sockets {
                grpc: Bound::open(grpc, owner).await?,
                control: Bound::open(control, owner).await?,
            })
        })
    }
}

impl Bound {
    async fn open(address: Option<&ServiceAddr>, owner: Option<Identity>) -> anyhow::Result<Option<Self>> {
        let Some(address) = address else { return Ok(None) };
        let bound = match address.listen().await? {
            Incoming::Tcp(listener) => Bound::Tcp(listener.into_std()?),
            Incoming::Unix(listener) => Bound::Unix(listener.into_std()?),
        };
        if let (ServiceAddr::Unix(path), Some(owner)) = (address, owner) {
            nix::unistd::chown(path, Some(owner.user), Some(owner.group))
                .with_context(|| format!("give the socket {} to its user", path.display()))?;
        }
        Ok(Some(bound))
    }

    /// On the runtime that this is called in.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn incoming(self) -> std::io::Result<Incoming> {
        Ok(match self {
            Bound::Tcp(listener) => Incoming::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Incoming::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}
