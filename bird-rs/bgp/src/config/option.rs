//! The options of `protocol bgp` that are a switch, a time or a number: one row each, for parsing and printing.

use std::time::Duration;

use super::BgpConfig;

/// Where an option's value lives, and what it may be.
pub(super) enum Slot {
    Switch(fn(&mut BgpConfig) -> &mut bool),
    /// Seconds, at least and at most.
    Seconds(fn(&mut BgpConfig) -> &mut Duration, u32, u32),
    Number(fn(&mut BgpConfig) -> &mut u32),
}

/// An option: the words it begins with, and its slot.
pub(super) struct BgpOption {
    pub(super) phrase: &'static str,
    pub(super) slot: Slot,
}

/// RFC 4724 section 3: 12 bits.
const MAX_RESTART_TIME: u32 = 4095;
/// RFC 9494 section 3: 24 bits.
const MAX_STALE_TIME: u32 = 0xFF_FFFF;
const MAX_HOLD_TIME: u32 = 65_535;

macro_rules! rows {
    ($($phrase:literal => $kind:ident $($field:ident).+ $(, $low:expr, $high:expr)?;)*) => {
        &[$(BgpOption { phrase: $phrase, slot: Slot::$kind(|c| &mut c.$($field).+ $(, $low, $high)?) },)*]
    };
}

pub(super) const BGP_OPTIONS: &[BgpOption] = rows! {
    "rr client" => Switch rr_client;
    "rs client" => Switch rs_client;
    "path metric" => Switch path_metric;
    "med metric" => Switch med_metric;
    "igp metric" => Switch igp_metric;
    "prefer older" => Switch prefer_older;
    "deterministic med" => Switch deterministic_med;
    "default bgp_med" => Number default_med;
    "default bgp_local_pref" => Number default_local_pref;
    "capabilities" => Switch capabilities;
    "enable route refresh" => Switch enable_route_refresh;
    "enable as4" => Switch enable_as4;
    "enable extended messages" => Switch enable_extended_messages;
    "advertise hostname" => Switch advertise_hostname;
    "interpret communities" => Switch interpret_communities;
    "allow bgp_local_pref" => Switch allow_local_pref;
    "allow as sets" => Switch allow_as_sets;
    "enforce first as" => Switch enforce_first_as;
    "require roles" => Switch require_roles;
    "disable after error" => Switch disable_after_error;
    "ttl security" => Switch transport.ttl_security;
    "passive" => Switch transport.passive;
    "strict bind" => Switch transport.strict_bind;
    "free bind" => Switch transport.free_bind;
    "hold time" => Seconds timers.hold, 0, MAX_HOLD_TIME;
    "startup hold time" => Seconds timers.startup_hold, 0, MAX_HOLD_TIME;
    "min hold time" => Seconds timers.min_hold, 0, MAX_HOLD_TIME;
    "min keepalive time" => Seconds timers.min_keepalive, 0, MAX_HOLD_TIME;
    "connect delay time" => Seconds timers.connect_delay, 0, MAX_HOLD_TIME;
    "connect retry time" => Seconds timers.connect_retry, 1, MAX_HOLD_TIME;
    "error forget time" => Seconds timers.error_forget, 0, MAX_HOLD_TIME;
    "graceful restart time" => Seconds graceful_restart_time, 0, MAX_RESTART_TIME;
    "long lived stale time" => Seconds long_lived_stale_time, 0, MAX_STALE_TIME;
};

/// The roles of RFC 9234 by name.
pub(super) const ROLES: [(&str, super::Role); 5] = [
    ("provider", super::Role::Provider),
    ("rs_server", super::Role::RsServer),
    ("rs_client", super::Role::RsClient),
    ("customer", super::Role::Customer),
    ("peer", super::Role::Peer),
];

/// The flags of `disable after cease` by name: bit 0 is any other subcode.
pub(super) const CEASE_FLAGS: [(&str, u8); 9] = [
    ("cease", 0),
    ("prefix limit hit", 1),
    ("administrative shutdown", 2),
    ("peer deconfigured", 3),
    ("administrative reset", 4),
    ("connection rejected", 5),
    ("configuration change", 6),
    ("connection collision", 7),
    ("out of resources", 8),
];

/// `disable after cease on`: all but the collision, which is no fault.
pub(super) const CEASE_ALL: u16 = 0x1FF & !(1 << 7);
