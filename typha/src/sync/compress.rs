//! A message in fewer octets, once for all clients that read it so.

use bytes::Bytes;
use tortie_proto::sync::Compressed;
use tortie_proto::sync::server_message::Message as ServerMsg;

use super::frame::encode;

/// zstd's own default: documents shrink to a tenth, several hundred megabytes a second.
const LEVEL: i32 = 3;
/// Less than this is sent as it is.
const LEAST: usize = 512;

/// The octets of a message that says the same as this one, which is encoded; itself when that is as good.
pub(crate) fn compress(message: Bytes) -> Bytes {
    if message.len() < LEAST {
        return message;
    }
    match zstd::bulk::compress(&message, LEVEL) {
        Ok(zstd) if zstd.len() < message.len() / 8 * 7 => encode(ServerMsg::Compressed(Compressed { zstd })),
        Ok(_) | Err(_) => message,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tortie_proto::common::Hello;
    use tortie_proto::sync::{Batch, Change, InSync, ServerMessage, SnapshotBegin, Welcome};
    use tortie_typha_client::{Engine, Progress, ProtocolError};

    use super::*;

    fn batch(documents: &[String]) -> ServerMsg {
        let change = |(n, value): (usize, &String)| Change {
            key: format!("/{n:05}"),
            revision: 7,
            value: Some(value.clone().into_bytes()),
        };
        ServerMsg::Batch(Batch {
            revision: 7,
            changes: documents.iter().enumerate().map(change).collect(),
        })
    }

    /// What a client holds after these messages of a snapshot.
    fn told(frame: Bytes) -> Result<Vec<(String, Bytes)>, ProtocolError> {
        let mut engine = Engine::new(vec![]);
        let _ = engine.open(Hello::new("felix", "n", "1"));
        let welcome = Welcome {
            hello: Some(Hello::new("typha", "", "1")),
            cluster_id: "c".into(),
            ..Welcome::default()
        };
        let begin = [
            ServerMsg::Welcome(welcome),
            ServerMsg::SnapshotBegin(SnapshotBegin { revision: 7 }),
        ];
        let end = encode(ServerMsg::InSync(InSync { revision: 7 }));
        let mut last = Progress::Going;
        for frame in begin.map(encode).into_iter().chain([frame, end]) {
            last = engine.handle(ServerMessage::decode(frame).unwrap())?;
        }
        assert_eq!(last, Progress::InSync);
        Ok(engine.entries().map(|(k, v)| (k.clone(), v.value.clone())).collect())
    }

    proptest! {
        #[test]
        fn a_client_is_told_the_same(documents in proptest::collection::vec("[a-c]{0,60}", 0..80)) {
            let plain = encode(batch(&documents));
            let small = compress(plain.clone());
            prop_assert!(small.len() <= plain.len());
            prop_assert_eq!(told(small).unwrap(), told(plain).unwrap());
        }
    }

    #[test]
    fn documents_shrink_and_what_does_not_stays() {
        let documents: Vec<String> = (0..500)
            .map(|n| format!("{{\"kind\":\"WorkloadEndpoint\",\"spec\":{{\"node\":\"node-{n}\"}}}}"))
            .collect();
        let plain = encode(batch(&documents));
        let small = compress(plain.clone());
        assert!(small.len() * 5 < plain.len(), "{} of {}", small.len(), plain.len());
        let short = encode(batch(&documents[..1]));
        assert_eq!(compress(short.clone()), short);
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let value: Vec<u8> = (0..4000).map(|_| noise()).collect();
        let change = Change {
            key: "/a".into(),
            revision: 7,
            value: Some(value),
        };
        let noise = encode(ServerMsg::Batch(Batch {
            revision: 7,
            changes: vec![change],
        }));
        assert_eq!(compress(noise.clone()), noise);
    }

    #[test]
    fn nonsense_is_refused_and_a_bomb_is_not_unpacked() {
        let refused = |zstd: Vec<u8>| {
            let frame = encode(ServerMsg::Compressed(Compressed { zstd }));
            told(frame).unwrap_err().to_string()
        };
        assert!(refused(vec![]).contains("compressed message that is no zstd frame"));
        assert!(refused(b"rubbish rubbish".to_vec()).contains("is no zstd frame"));
        let plain = encode(batch(&["x".repeat(1000)]));
        let mut cut = zstd::bulk::compress(&plain, LEVEL).unwrap();
        cut.truncate(cut.len() - 4);
        assert!(refused(cut).contains("compressed message that cannot be read"));
        let bomb = zstd::bulk::compress(&vec![0; 17 << 20], LEVEL).unwrap();
        assert!(bomb.len() < 10_000);
        assert!(refused(bomb).contains("at most 16777216"));
        let twice = encode(ServerMsg::Compressed(Compressed {
            zstd: zstd::bulk::compress(&plain, LEVEL).unwrap(),
        }));
        let twice = refused(zstd::bulk::compress(&twice, LEVEL).unwrap());
        assert!(twice.contains("holds another compressed message"), "{twice}");
        let nonsense = refused(zstd::bulk::compress(b"\xff\xff\xff\xff", LEVEL).unwrap());
        assert!(nonsense.contains("cannot be read"), "{nonsense}");
    }
}
