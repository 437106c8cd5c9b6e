use proptest::prelude::*;

use super::*;
use crate::route::object::{Body, ObjectChange};

fn hop(v4: bool) -> impl Strategy<Value = NextHop> {
    let gateway = prop_oneof![
        Just(None),
        any::<[u8; 4]>().prop_map(move |a| Some(if v4 { IpAddr::from(a) } else { IpAddr::from([a[0]; 16]) })),
        any::<[u8; 16]>().prop_map(|a| Some(IpAddr::from(a))),
    ];
    (gateway, 1u32..100, 1u16..=256, any::<bool>()).prop_map(move |(gateway, index, weight, onlink)| {
        // RTA_VIA is for IPv4 by IPv6; the kernel has no IPv6 by IPv4.
        let gateway = gateway.filter(|g| v4 || g.is_ipv6());
        NextHop {
            gateway,
            interface: Some(IfIndex(index)),
            weight,
            onlink,
        }
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    any::<bool>().prop_flat_map(|v4| {
        let prefix = if v4 {
            (any::<[u8; 4]>(), 0u8..=32)
                .prop_map(|(a, l)| Prefix::new(a.into(), l).unwrap())
                .boxed()
        } else {
            (any::<[u8; 16]>(), 0u8..=128)
                .prop_map(|(a, l)| Prefix::new(a.into(), l).unwrap())
                .boxed()
        };
        let kind = prop_oneof![
            Just(Kind::Unicast),
            Just(Kind::Blackhole),
            Just(Kind::Unreachable),
            Just(Kind::Prohibit),
            Just(Kind::Throw)
        ];
        let hops = proptest::collection::vec(hop(v4), 1..4);
        (prefix, kind, any::<(u32, u32, u8, u8)>(), hops, any::<bool>()).prop_map(
            |(prefix, kind, (table, metric, protocol, scope), next_hops, source)| {
                let mut r = Route::new(prefix, kind, Protocol(protocol));
                (r.table, r.metric, r.scope, r.next_hops) = (table, metric, Scope(scope), next_hops.into());
                r.source = source.then(|| prefix.addr());
                r.canonical()
            },
        )
    })
}

proptest! {
    #[test]
    fn a_route_read_back_equals_the_route_written(r in any_route(), sequence: u32) {
        let mut out = Vec::new();
        encode_change(&mut out, &Change::Create(r.clone().into()), sequence, true);
        encode_change(&mut out, &Change::Delete(r.clone().into()), sequence.wrapping_add(1), false);
        let frames: Vec<_> = Frames(&out).collect();
        prop_assert_eq!(frames.len(), 2);
        prop_assert_eq!(frames[0].sequence, sequence);
        prop_assert_eq!(frames[0].flags & NLM_F_ACK, NLM_F_ACK);
        prop_assert_eq!(decode(&frames[0]), Message::Route(r.clone()));
        prop_assert_eq!(decode(&frames[1]), Message::RouteGone(r));
    }

    #[test]
    fn any_octets_are_read_without_a_panic(mut octets in proptest::collection::vec(any::<u8>(), 0..400), kind in 0u16..110) {
        for frame in Frames(&octets) {
            decode(&frame);
        }
        if let (Ok(len), true) = (u32::try_from(octets.len()), octets.len() >= HEADER) {
            octets[..4].copy_from_slice(&len.to_ne_bytes());
            octets[4..6].copy_from_slice(&kind.to_ne_bytes());
            let frame = Frames(&octets).next();
            prop_assert!(frame.is_some());
            decode(&frame.unwrap());
        }
    }

    #[test]
    fn a_route_cut_short_anywhere_is_no_panic(r in any_route(), cut in 0usize..200) {
        let mut out = Vec::new();
        encode_change(&mut out, &Change::Create(r.into()), 1, false);
        let body = &out[HEADER..];
        let frame = Frame { kind: RTM_NEWROUTE, flags: 0, sequence: 1, port: 0, body: &body[..cut.min(body.len())] };
        decode(&frame);
    }
}

fn any_object() -> impl Strategy<Value = Object> {
    let id = || any::<u32>().prop_map(ObjectId);
    let body = prop_oneof![
        any::<bool>()
            .prop_flat_map(hop)
            .prop_map(|h| Body::Single(NextHop { weight: 1, ..h })),
        proptest::collection::vec((id(), 1u16..=256), 1..6).prop_map(|mut members| {
            members.sort_unstable();
            Body::Group(members)
        }),
    ];
    (id(), any::<u8>(), body).prop_map(|(id, protocol, body)| Object {
        id,
        protocol: Protocol(protocol),
        body,
    })
}

proptest! {
    #[test]
    fn an_object_read_back_equals_the_object_written(object in any_object(), cut in 0usize..100) {
        let mut out = Vec::new();
        encode_change(&mut out, &Change::Object(ObjectChange::Create(object.clone())), 1, true);
        encode_change(&mut out, &Change::Object(ObjectChange::Delete(object.id)), 2, false);
        let frames: Vec<_> = Frames(&out).collect();
        prop_assert_eq!(frames.len(), 2);
        prop_assert_eq!(decode(&frames[1]), Message::ObjectGone(object.id));
        let short = Frame { body: &frames[0].body[..cut.min(frames[0].body.len())], ..frames[0] };
        decode(&short);
        prop_assert_eq!(decode(&frames[0]), Message::Object(object));
    }

    #[test]
    fn a_route_by_an_object_names_it_alone(r in any_route(), id: u32) {
        let by_object = Route { object: Some(ObjectId(id)), ..r.clone() };
        let mut out = Vec::new();
        encode_change(&mut out, &Change::Create(by_object.clone().into()), 1, true);
        let frame = Frames(&out).next();
        prop_assert_eq!(frame.map(|f| decode(&f)), Some(Message::Route(Route { next_hops: Arc::default(), ..by_object })));
    }
}

#[test]
fn a_refusal_carries_the_kernels_own_words() {
    let mut body = (-22i32).to_ne_bytes().to_vec();
    body.extend([0; HEADER]);
    attribute(&mut body, NLMSGERR_ATTR_MSG, b"Nexthop has invalid gateway\0");
    let flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
    let frame = Frame {
        kind: NLMSG_ERROR,
        flags,
        sequence: 7,
        port: 0,
        body: &body,
    };
    let message = Some("Nexthop has invalid gateway".to_owned());
    assert_eq!(decode(&frame), Message::Answer { errno: 22, message });
}
