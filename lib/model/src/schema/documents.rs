//! The tables of what is no resource: IPAM's documents, leases, reports. Bounds that concern several fields are rules.

use super::Ty::{Any, Bool, Int, List, Object, OneOf, Text, TextMap};
use super::format::strict_network;
use super::tables::{ANY_TEXT, MANY};
use super::{Field, Ty, opt, req};
use crate::ipam::AffinityState;
use crate::key::Key;
use crate::report::{EndpointState, ReportOf};

const U32: Ty = Int(0, u32::MAX as i64);

/// The fields of the document under a key that is no resource's; `None` where nothing is known.
pub(crate) fn of(key: &Key) -> Option<&'static [Field]> {
    Some(match key {
        Key::Block(_) => BLOCK,
        Key::Affinity { .. } => AFFINITY,
        Key::Handle(_) => HANDLE,
        Key::IpamConfig => IPAM_CONFIG,
        Key::Lease(_) => LEASE,
        Key::Report(report) => match report.of {
            ReportOf::Status | ReportOf::LastStatus => STATUS,
            ReportOf::Endpoint { .. } => ENDPOINT,
        },
        Key::Resource { .. } | Key::IpamHost(_) => return None,
    })
}

const BLOCK: &[Field] = &[
    req("cidr", Text(strict_network)),
    opt("affinity", ANY_TEXT),
    opt("allocations", List(&Any, MANY)),
    opt("unallocated", List(&U32, MANY)),
    opt(
        "attributes",
        List(
            &Object(&[
                opt("handle_id", ANY_TEXT),
                opt("secondary", TextMap),
                opt("releasedAt", ANY_TEXT),
            ]),
            MANY,
        ),
    ),
    opt("deleted", Bool),
];

const AFFINITY: &[Field] = &[opt("state", OneOf(AffinityState::TEXTS)), opt("deleted", Bool)];

const HANDLE: &[Field] = &[opt("deleted", Bool)];

const IPAM_CONFIG: &[Field] = &[
    opt("strict_affinity", Bool),
    opt("auto_allocate_blocks", Bool),
    opt("maxBlocksPerHost", U32),
    opt("ipCooldownSeconds", U32),
    opt("deleted", Bool),
];

const LEASE: &[Field] = &[opt("holder", ANY_TEXT), opt("termSeconds", U32)];

const STATUS: &[Field] = &[opt("time", ANY_TEXT), opt("first_update", Bool)];

const ENDPOINT: &[Field] = &[opt("status", OneOf(EndpointState::TEXTS))];
