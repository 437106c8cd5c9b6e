//! Long-lived graceful restart: what is offered and agreed on (RFC 9494 section 3 and 4.1).
//!
//! The capability means nothing without that of graceful restart. A family that is only in it has no restart time: its
//! routes are long-lived stale as soon as the session is lost. How long is the peer's word.

use std::time::Duration;

use super::config::{GracefulRestartMode, PeerConfig};
use super::event::LongLivedRoutes;
use crate::packet::{AfiSafi, Capability, FamilySet, LongLivedFamily};

/// 24 bits of seconds.
const MAX_STALE_TIME: u64 = 0xff_ffff;

/// The families we offer, none of them when we only help others. F is always set, as in graceful restart.
pub(super) fn offered(config: &PeerConfig) -> Option<Vec<LongLivedFamily>> {
    if config.graceful_restart == GracefulRestartMode::Off {
        return None;
    }
    let times = match config.long_lived {
        GracefulRestartMode::Off => return None,
        GracefulRestartMode::Aware => &[],
        GracefulRestartMode::On => &*config.long_lived_times,
    };
    let ours = times.iter().filter(|(family, _)| config.families.contains(*family));
    let families = ours.map(|(family, time)| {
        let (afi, safi) = family.codes();
        LongLivedFamily {
            afi,
            safi,
            forwarding: true,
            stale_time: u32::try_from(time.as_secs().min(MAX_STALE_TIME)).unwrap_or(0),
        }
    });
    Some(families.collect())
}

/// What the peer asks us to keep, family by family, if both sides have the capability. Families with a time of zero say
/// only whether what we keep already is still good.
pub(super) fn agreed(ours: &[Capability], theirs: &[Capability], families: FamilySet) -> Option<Vec<LongLivedRoutes>> {
    last(ours)?;
    let known = last(theirs)?.iter().filter_map(|asked| {
        let family = AfiSafi::from_codes(asked.afi, asked.safi).filter(|family| families.contains(*family))?;
        Some(LongLivedRoutes {
            family,
            stale_time: Duration::from_secs(u64::from(asked.stale_time)),
            forwarding: asked.forwarding,
        })
    });
    Some(known.collect())
}

/// The last one counts should a peer send several.
fn last(capabilities: &[Capability]) -> Option<&[LongLivedFamily]> {
    capabilities.iter().rev().find_map(|capability| match capability {
        Capability::LongLivedGracefulRestart(families) => Some(&**families),
        _ => None,
    })
}
