//! `protocol bgp` as text.

use std::fmt;

use super::option::{BGP_OPTIONS, CEASE_FLAGS, ROLES, Slot};
use super::print::write_channel;
use super::print_bfd::write_bgp_bfd;
use super::{
    AddPaths, AoPreference, Authentication, BgpChannel, BgpConfig, DEFAULT_DYNAMIC_LIMIT, Gateway, GracefulRestart,
    LocalAsAllowed, Neighbor, NextHopRewrite, PeerType,
};
use crate::filter::write_name;

pub(super) fn write_bgp(f: &mut fmt::Formatter<'_>, bgp: &BgpConfig) -> fmt::Result {
    write_peers(f, bgp)?;
    let defaults = super::parser::bgp_defaults();
    // The accessors want to change what they look at: give them copies.
    let (mut now, mut then) = (bgp.clone(), defaults);
    for row in BGP_OPTIONS {
        match row.slot {
            Slot::Switch(place) if *place(&mut now) != *place(&mut then) => {
                writeln!(f, "  {} {};", row.phrase, on_off(*place(&mut now)))?;
            }
            Slot::Number(place) if *place(&mut now) != *place(&mut then) => {
                writeln!(f, "  {} {};", row.phrase, *place(&mut now))?;
            }
            Slot::Seconds(place, ..) if *place(&mut now) != *place(&mut then) => {
                writeln!(f, "  {} {};", row.phrase, place(&mut now).as_secs())?;
            }
            Slot::Switch(_) | Slot::Number(_) | Slot::Seconds(..) => {}
        }
    }
    write_others(f, bgp)?;
    write_bgp_bfd(f, &bgp.bfd)?;
    bgp.channels
        .iter()
        .try_for_each(|channel| write_bgp_channel(f, channel))
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn write_peers(f: &mut fmt::Formatter<'_>, bgp: &BgpConfig) -> fmt::Result {
    f.write_str("  local ")?;
    if let Some(addr) = bgp.local_address {
        write!(f, "{addr} ")?;
    }
    writeln!(f, "port {} as {};", bgp.local_port, bgp.local_as)?;
    match &bgp.neighbor {
        Neighbor::Address(addr) => write!(f, "  neighbor {addr}")?,
        Neighbor::Range { prefix, .. } => write!(f, "  neighbor range {prefix}")?,
    }
    write!(f, " port {}", bgp.neighbor_port)?;
    match bgp.peer_type {
        PeerType::As(asn) => writeln!(f, " as {asn};")?,
        PeerType::Internal => f.write_str(" internal;\n")?,
        PeerType::External => f.write_str(" external;\n")?,
    }
    if let Neighbor::Range {
        name, digits, limit, ..
    } = &bgp.neighbor
    {
        writeln!(f, "  dynamic name \"{name}\";\n  dynamic name digits {digits};")?;
        // Stock BIRD would not read it.
        if *limit != DEFAULT_DYNAMIC_LIMIT {
            writeln!(f, "  dynamic limit {limit};")?;
        }
    }
    if let Some(interface) = &bgp.interface {
        writeln!(f, "  interface \"{interface}\";")?;
    }
    match bgp.transport.multihop {
        Some(ttl) => writeln!(f, "  multihop {ttl};"),
        None => f.write_str("  direct;\n"),
    }
}

fn write_others(f: &mut fmt::Formatter<'_>, bgp: &BgpConfig) -> fmt::Result {
    if let Some(id) = bgp.rr_cluster_id {
        writeln!(f, "  rr cluster id {id};")?;
    }
    let (min, max) = (bgp.timers.error_wait_min.as_secs(), bgp.timers.error_wait_max.as_secs());
    writeln!(f, "  error wait time {min}, {max};")?;
    if let Some(keepalive) = bgp.timers.keepalive {
        writeln!(f, "  keepalive time {};", keepalive.as_secs())?;
    }
    if !bgp.timers.delay_open.is_zero() {
        writeln!(f, "  delay open time {};", bgp.timers.delay_open.as_secs())?;
    }
    if let Some(send_hold) = bgp.timers.send_hold {
        writeln!(f, "  send hold time {};", send_hold.as_secs())?;
    }
    if bgp.disable_after_cease.0 != 0 {
        let flags = CEASE_FLAGS
            .iter()
            .filter(|(_, bit)| bgp.disable_after_cease.0 & (1 << bit) != 0);
        let names: Vec<&str> = flags.map(|(name, _)| *name).collect();
        writeln!(f, "  disable after cease {{ {} }};", names.join(", "))?;
    }
    write_authentication(f, &bgp.transport.authentication)?;
    match bgp.allow_local_as {
        LocalAsAllowed::Unlimited => f.write_str("  allow local as;\n")?,
        LocalAsAllowed::Times(times) => writeln!(f, "  allow local as {times};")?,
    }
    writeln!(f, "  graceful restart {};", graceful(bgp.graceful_restart))?;
    writeln!(
        f,
        "  long lived graceful restart {};",
        graceful(bgp.long_lived_graceful_restart)
    )?;
    writeln!(f, "  check link {};", on_off(bgp.transport.check_link))?;
    if let Some((name, _)) = ROLES.iter().find(|(_, role)| Some(*role) == bgp.local_role) {
        writeln!(f, "  local role {name};")?;
    }
    Ok(())
}

fn write_authentication(f: &mut fmt::Formatter<'_>, authentication: &Authentication) -> fmt::Result {
    let keys = match authentication {
        Authentication::None => return Ok(()),
        Authentication::Md5(password) => return writeln!(f, "  password \"{password}\";"),
        Authentication::Ao(keys) => keys,
    };
    f.write_str("  authentication ao;\n  keys {\n")?;
    for key in keys.iter() {
        write!(f, "    key {{ send id {}; recv id {}; ", key.send_id, key.recv_id)?;
        write!(f, "secret \"{}\"; algorithm {};", key.secret, key.algorithm.as_str())?;
        f.write_str(match key.preference {
            AoPreference::Deprecated => " deprecated; };\n",
            AoPreference::Plain => " };\n",
            AoPreference::Preferred => " preferred; };\n",
        })?;
    }
    f.write_str("  };\n")
}

fn graceful(mode: GracefulRestart) -> &'static str {
    match mode {
        GracefulRestart::Off => "off",
        GracefulRestart::Aware => "aware",
        GracefulRestart::On => "on",
    }
}

fn rewrite(which: NextHopRewrite) -> &'static str {
    match which {
        NextHopRewrite::Off => "off",
        NextHopRewrite::On => "on",
        NextHopRewrite::Ibgp => "ibgp",
        NextHopRewrite::Ebgp => "ebgp",
    }
}

fn write_bgp_channel(f: &mut fmt::Formatter<'_>, channel: &BgpChannel) -> fmt::Result {
    writeln!(f, "  {} {{", channel.channel.family.as_str())?;
    write_channel(f, &channel.channel)?;
    writeln!(f, "    next hop self {};", rewrite(channel.next_hop_self))?;
    writeln!(f, "    next hop keep {};", rewrite(channel.next_hop_keep))?;
    if let Some(addr) = channel.next_hop_address {
        writeln!(f, "    next hop address {addr};")?;
    }
    let gateway = match channel.gateway {
        Gateway::Direct => "direct",
        Gateway::Recursive => "recursive",
    };
    writeln!(f, "    gateway {gateway};")?;
    for table in [&channel.igp_table4, &channel.igp_table6].into_iter().flatten() {
        f.write_str("    igp table ")?;
        write_name(f, table)?;
        f.write_str(";\n")?;
    }
    for (phrase, on) in [
        ("next hop prefer global", channel.next_hop_prefer_global),
        ("mandatory", channel.mandatory),
        ("secondary", channel.secondary),
        ("extended next hop", channel.extended_next_hop),
        ("import table", channel.import_table),
        ("export table", channel.export_table),
    ] {
        if on {
            writeln!(f, "    {phrase};")?;
        }
    }
    let add_paths = match channel.add_paths {
        AddPaths::Off => "off",
        AddPaths::Rx => "rx",
        AddPaths::Tx => "tx",
        AddPaths::Both => "on",
    };
    writeln!(f, "    add paths {add_paths};")?;
    for (phrase, on) in [
        ("graceful restart", channel.graceful_restart),
        ("long lived graceful restart", channel.long_lived_graceful_restart),
    ] {
        if let Some(on) = on {
            writeln!(f, "    {phrase} {};", on_off(on))?;
        }
    }
    if let Some(time) = channel.long_lived_stale_time {
        writeln!(f, "    long lived stale time {};", time.as_secs())?;
    }
    if channel.cost != 0 {
        writeln!(f, "    cost {};", channel.cost)?;
    }
    f.write_str("  };\n")
}
