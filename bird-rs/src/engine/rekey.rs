//! New keys for connections that stand (RFC 5925 section 7.3; a changed TCP-MD5 password too): a session outlives them.

use tortie_bgp::fsm::ConnId;
use tortie_bgp::speaker::Input;

use super::{Entry, Loop};

impl Loop {
    /// Gives every connection the keys that its peer has now. One that cannot have them ends: it must not go on with a key
    /// that somebody wanted to be rid of.
    pub(super) fn rekey(&mut self) {
        let mut failed: Vec<(ConnId, String)> = Vec::new();
        for (conn, entry) in &mut self.connections {
            let Entry::Open(handle) = entry else { continue };
            if let Err(error) = handle.follow(&self.keyring) {
                failed.push((*conn, error.to_string()));
            }
        }
        for (conn, error) in failed {
            tracing::error!(%conn, %error, "cannot change the keys of a connection, closing it");
            self.connections.remove(&conn);
            self.input(Input::Closed {
                conn,
                reason: format!("cannot change its keys: {error}"),
            });
        }
    }
}
