//! Messages that typha compressed. Nothing is unpacked beyond what a message may have.

use prost::Message;
use tortie_proto::sync::ServerMessage;
use tortie_proto::sync::server_message::Message as ServerMsg;

/// The largest message. Batches are cut to 256 KiB by typha; one document may be larger than its share.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// Why a compressed message is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Something else, or one that does not say its size.
    #[error("is no zstd frame that says its size")]
    NoFrame,
    /// Larger than any message.
    #[error("has {0} octets when it is unpacked, at most {MAX_MESSAGE} are allowed")]
    TooLarge(u64),
    /// Damaged, or something else in it.
    #[error("cannot be read: {0}")]
    Damaged(String),
    /// It would not end.
    #[error("holds another compressed message")]
    Nested,
}

/// The message in these octets.
pub(crate) fn expand(octets: &[u8]) -> Result<ServerMessage, ExpandError> {
    let size = zstd::zstd_safe::get_frame_content_size(octets);
    let size = size.ok().flatten().ok_or(ExpandError::NoFrame)?;
    let room = usize::try_from(size).ok().filter(|n| *n <= MAX_MESSAGE);
    let room = room.ok_or(ExpandError::TooLarge(size))?;
    let plain = zstd::bulk::decompress(octets, room).map_err(|e| ExpandError::Damaged(e.to_string()))?;
    let message = ServerMessage::decode(plain.as_slice()).map_err(|e| ExpandError::Damaged(e.to_string()))?;
    if matches!(message.message, Some(ServerMsg::Compressed(_))) {
        return Err(ExpandError::Nested);
    }
    Ok(message)
}
