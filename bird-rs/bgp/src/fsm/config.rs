//! What a session is configured to be.

use std::time::Duration;

use tortie_net::{Asn, RouterId};

use crate::packet::{AfiSafi, FamilySet, Role};

/// Which AS the peer may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerAs {
    /// Exactly this one.
    Exactly(Asn),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

impl PeerAs {
    /// May the peer be in `asn` when we are in `local`?
    pub fn allows(self, asn: Asn, local: Asn) -> bool {
        match self {
            PeerAs::Exactly(wanted) => asn == wanted,
            PeerAs::Internal => asn == local,
            PeerAs::External => asn != local,
        }
    }
}

/// What we do about graceful restart (BIRD's `graceful restart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GracefulRestartMode {
    /// Nothing: the capability is not sent.
    Off,
    /// Keep the peer's routes while it restarts.
    Aware,
    /// That, and ask the peer to keep ours.
    On,
}

/// Everything the state machine needs to know of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The AS we say we are in.
    pub local_as: Asn,
    /// The AS the peer must be in.
    pub peer_as: PeerAs,
    /// Our identifier.
    pub router_id: RouterId,
    /// Never connect, only accept.
    pub passive: bool,
    /// Families we offer; never empty.
    pub families: FamilySet,
    /// Families without which a peer is refused.
    pub mandatory_families: FamilySet,
    /// Offer capabilities at all. Without them the session is IPv4 with two-octet AS numbers.
    pub capabilities: bool,
    /// Offer four-octet AS numbers.
    pub four_octet_as: bool,
    /// Offer ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Offer BoRR and EoRR too.
    pub enhanced_route_refresh: bool,
    /// Offer messages of up to 65,535 octets.
    pub extended_messages: bool,
    /// Offer IPv6 next hops for IPv4 routes.
    pub ext_next_hop: bool,
    /// Offer to receive several paths for these families.
    pub add_path_rx: FamilySet,
    /// Offer to send several paths for these families.
    pub add_path_tx: FamilySet,
    /// What to call ourselves, if that is to be said.
    pub hostname: Option<String>,
    /// Our role, if we announce one.
    pub role: Option<Role>,
    /// Refuse a peer that announces no role.
    pub require_role: bool,
    /// Graceful restart.
    pub graceful_restart: GracefulRestartMode,
    /// Families whose routes the peer should keep over our restart.
    pub graceful_families: FamilySet,
    /// How long the peer should keep our routes, at most 4095 s.
    pub restart_time: Duration,
    /// Long-lived graceful restart (RFC 9494); nothing without graceful restart.
    pub long_lived: GracefulRestartMode,
    /// How long the peer should keep our routes of a family beyond the restart time, at most 2^24 - 1 s.
    pub long_lived_times: Vec<(AfiSafi, Duration)>,
    /// How long stale routes may live after the session is back, should the peer never say that its table is complete.
    pub stale_time: Duration,
    /// Hold time we offer: 0 or at least 3 s, whole seconds.
    pub hold_time: Duration,
    /// A peer with which the hold time would be less is refused.
    pub min_hold_time: Duration,
    /// Hold time until the OPEN arrives.
    pub startup_hold_time: Duration,
    /// Between KEEPALIVEs, for our hold time; less in proportion when the peer's is less. `None`: a third of the hold
    /// time that was agreed on.
    pub keepalive_time: Option<Duration>,
    /// Never less between KEEPALIVEs.
    pub min_keepalive_time: Duration,
    /// LOCAL_PREF is taken from an external peer too.
    pub local_pref: bool,
    /// Before the first attempt to connect.
    pub connect_delay: Duration,
    /// How long our OPEN waits for the peer's on a new connection (DelayOpenTime, RFC 4271 section 8.1.1); zero: not at all.
    pub delay_open: Duration,
    /// How long an attempt to connect may take, and the time between attempts.
    pub connect_retry: Duration,
    /// The pause after an error: from the first to the second, doubling with every error.
    pub error_wait: (Duration, Duration),
    /// An error that long ago counts no more for doubling.
    pub error_forget: Duration,
    /// Stay down after an error until started again.
    pub disable_after_error: bool,
    /// Stay down after receiving a Cease of these subcodes: bit `1 << subcode`.
    pub disable_after_cease: u16,
    /// How long the peer may take none of our bytes; zero: for ever. `None`: the longer of 8 minutes and twice the hold
    /// time.
    pub send_hold_time: Option<Duration>,
    /// When BFD ends the session, graceful restart keeps the routes.
    pub bfd_graceful: bool,
    /// No session before BFD is up.
    pub bfd_strict: bool,
}

impl PeerConfig {
    /// BIRD's defaults, for the values that have one.
    pub fn new(local_as: Asn, peer_as: PeerAs, router_id: RouterId, families: FamilySet) -> Self {
        PeerConfig {
            local_as,
            peer_as,
            router_id,
            passive: false,
            families,
            mandatory_families: FamilySet::EMPTY,
            capabilities: true,
            four_octet_as: true,
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_messages: false,
            ext_next_hop: false,
            add_path_rx: FamilySet::EMPTY,
            add_path_tx: FamilySet::EMPTY,
            hostname: None,
            role: None,
            require_role: false,
            graceful_restart: GracefulRestartMode::Aware,
            graceful_families: families,
            restart_time: Duration::from_secs(120),
            long_lived: GracefulRestartMode::Aware,
            long_lived_times: Vec::new(),
            stale_time: Duration::from_secs(360),
            hold_time: Duration::from_secs(240),
            min_hold_time: Duration::ZERO,
            startup_hold_time: Duration::from_secs(240),
            keepalive_time: None,
            min_keepalive_time: Duration::ZERO,
            local_pref: false,
            connect_delay: Duration::from_secs(5),
            delay_open: Duration::ZERO,
            connect_retry: Duration::from_secs(120),
            error_wait: (Duration::from_secs(60), Duration::from_secs(300)),
            error_forget: Duration::from_secs(300),
            disable_after_error: false,
            disable_after_cease: 0,
            send_hold_time: None,
            bfd_graceful: false,
            bfd_strict: false,
        }
    }
}
