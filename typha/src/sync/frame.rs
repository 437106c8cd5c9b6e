//! A message as it goes to clients: octets that all who are sent it share.
//!
//! gRPC's head of a message (one octet: is it compressed; four: its length) is made with it, once, so that a connection
//! has nothing left to write of its own. gRPC's own compression is not used: what is compressed is so within
//! the message ([`compress`]), for clients that name the capability.
//!
//! Pure.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{InSync, ServerMessage};

use super::compress::compress;
use crate::datastore::Revision;

/// Octets of gRPC's head.
const HEAD: usize = 5;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Framed(Bytes);

impl Framed {
    /// A message as it is.
    pub(crate) fn plain(message: ServerMsg) -> Self {
        Framed::around(&encode(message))
    }

    /// A message in fewer octets, when that is worth it.
    pub(crate) fn compressed(message: ServerMsg) -> Self {
        Framed::around(&compress(encode(message)))
    }

    /// An in-sync mark.
    pub(crate) fn in_sync(revision: Revision) -> Self {
        Framed::plain(ServerMsg::InSync(InSync { revision }))
    }

    fn around(message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).expect("invariant: a message is far from 4 GiB, no document is");
        let mut octets = BytesMut::with_capacity(HEAD + message.len());
        octets.put_u8(0);
        octets.put_u32(length);
        octets.put_slice(message);
        Framed(octets.freeze())
    }

    /// Of the message, without its head.
    pub(crate) fn len(&self) -> usize {
        self.0.len() - HEAD
    }

    /// The head and the message.
    pub(crate) fn octets(self) -> Bytes {
        self.0
    }
}

/// The octets of a message.
pub(super) fn encode(message: ServerMsg) -> Bytes {
    ServerMessage { message: Some(message) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use tortie_proto::sync::SnapshotBegin;

    use super::*;

    #[test]
    fn the_head_says_how_long_the_message_is_and_clones_share_the_octets() {
        let message = ServerMsg::SnapshotBegin(SnapshotBegin { revision: 300 });
        let framed = Framed::plain(message.clone());
        assert_eq!(
            framed,
            Framed::compressed(message.clone()),
            "too short to be compressed"
        );
        let octets = framed.clone().octets();
        assert_eq!(octets[..HEAD], [0, 0, 0, 0, u8::try_from(framed.len()).unwrap()]);
        assert_eq!(octets.slice(HEAD..), encode(message));
        assert_eq!(framed.clone().octets().as_ptr(), octets.as_ptr());
    }
}
