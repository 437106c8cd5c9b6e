//! A configuration as text: parsing it gives an equal value.
//!
//! What the parser resolved stays resolved: there are no templates, includes or defines, and every protocol has its
//! name. Options that have BIRD's default are left out where the default does not depend on other options.

use std::fmt;
use std::time::Duration;

use super::bmp::write_bmp;
use super::monitor::write_mrt;
use super::print_bfd::write_bfd;
use super::print_bgp::write_bgp;
use super::rpki::{write_roas, write_rpki};
use super::{
    Channel, ChannelFamily, Config, DEFAULT_GRACEFUL_RESTART_WAIT, DirectConfig, InterfacePattern, KernelConfig, Limit,
    Policy, Protocol, ProtocolKind, StaticConfig, StaticDestination, StaticHop, TimeFormat,
};
use crate::filter::write_name;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.router_id {
            writeln!(f, "router id {id};")?;
        }
        if !self.router_id_from.is_empty() {
            f.write_str("router id from ")?;
            write_patterns(f, &self.router_id_from)?;
        }
        if let Some(hostname) = &self.hostname {
            writeln!(f, "hostname \"{hostname}\";")?;
        }
        for target in &self.log {
            writeln!(f, "{target}")?;
        }
        write_time_formats(f, self)?;
        if let Some(time) = self.watchdog_warning {
            write_interval(f, "watchdog warning", time)?;
        }
        if let Some(time) = self.watchdog_timeout {
            write_interval(f, "watchdog timeout", time)?;
        }
        if self.graceful_restart_wait != DEFAULT_GRACEFUL_RESTART_WAIT {
            writeln!(f, "graceful restart wait {};", self.graceful_restart_wait.as_secs())?;
        }
        for table in &self.tables {
            if *table.name == *table.family.default_table() {
                continue;
            }
            write!(f, "{} table ", table.family.as_str())?;
            write_name(f, &table.name)?;
            writeln!(f, "{};", if table.sorted { " sorted" } else { "" })?;
        }
        for table in &self.roa_tables {
            write!(f, "{} table ", table.family.roa_str())?;
            write_name(f, &table.name)?;
            f.write_str(";\n")?;
        }
        for function in &self.functions {
            writeln!(f, "{function}")?;
        }
        for filter in &self.filters {
            writeln!(f, "{filter}")?;
        }
        self.protocols.iter().try_for_each(|protocol| protocol.fmt(f))
    }
}

fn write_time_formats(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let formats = &config.time_formats;
    let all = [
        ("route", &formats.route),
        ("protocol", &formats.protocol),
        ("base", &formats.base),
        ("log", &formats.log),
    ];
    for (class, format) in all {
        match format {
            None => {}
            Some(TimeFormat::Iso { long, digits }) => {
                let length = if *long { "long" } else { "short" };
                let unit = match digits {
                    0 => "",
                    3 => " ms",
                    _ => " us",
                };
                writeln!(f, "timeformat {class} iso {length}{unit};")?;
            }
            Some(TimeFormat::Custom { format, older: None }) => writeln!(f, "timeformat {class} \"{format}\";")?,
            Some(TimeFormat::Custom {
                format,
                older: Some((limit, older)),
            }) => writeln!(f, "timeformat {class} \"{format}\" {} \"{older}\";", limit.as_secs())?,
        }
    }
    Ok(())
}

pub(super) fn write_interval(f: &mut fmt::Formatter<'_>, phrase: &str, time: Duration) -> fmt::Result {
    let micros = time.as_micros();
    if micros.is_multiple_of(1_000_000) {
        writeln!(f, "{phrase} {} s;", time.as_secs())
    } else if micros.is_multiple_of(1000) {
        writeln!(f, "{phrase} {} ms;", time.as_millis())
    } else {
        writeln!(f, "{phrase} {micros} us;")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {} ", self.kind.as_str())?;
        write_name(f, &self.name)?;
        f.write_str(" {\n")?;
        if let Some(description) = &self.description {
            writeln!(f, "  description \"{description}\";")?;
        }
        if self.disabled {
            f.write_str("  disabled;\n")?;
        }
        if self.debug {
            f.write_str("  debug { states };\n")?;
        }
        if let Some(id) = self.router_id {
            writeln!(f, "  router id {id};")?;
        }
        match &self.kind {
            ProtocolKind::Device(device) => writeln!(f, "  scan time {};", device.scan_time.as_secs())?,
            ProtocolKind::Direct(direct) => write_direct(f, direct)?,
            ProtocolKind::Static(config) => write_static(f, config)?,
            ProtocolKind::Kernel(kernel) => write_kernel(f, kernel)?,
            ProtocolKind::Felix(felix) => {
                for channel in &felix.channels {
                    // `import none` is the default here, unlike elsewhere, and cannot be said otherwise.
                    writeln!(f, "  {} {{", channel.family.as_str())?;
                    write_channel(f, channel)?;
                    f.write_str("  };\n")?;
                }
            }
            ProtocolKind::Bfd(bfd) => write_bfd(f, bfd)?,
            ProtocolKind::Bgp(bgp) => write_bgp(f, bgp)?,
            ProtocolKind::Mrt(mrt) => write_mrt(f, mrt)?,
            ProtocolKind::Bmp(bmp) => write_bmp(f, bmp)?,
            ProtocolKind::Roas(roas) => write_roas(f, roas)?,
            ProtocolKind::Rpki(rpki) => write_rpki(f, rpki)?,
        }
        f.write_str("}\n")
    }
}

/// A channel of a protocol other than BGP.
fn write_plain_channel(f: &mut fmt::Formatter<'_>, channel: &Channel) -> fmt::Result {
    writeln!(f, "  {} {{", channel.family.as_str())?;
    write_channel(f, channel)?;
    f.write_str("  };\n")
}

/// The items that all channels have.
pub(super) fn write_channel(f: &mut fmt::Formatter<'_>, channel: &Channel) -> fmt::Result {
    f.write_str("    table ")?;
    write_name(f, &channel.table)?;
    f.write_str(";\n    import ")?;
    write_policy(f, &channel.import)?;
    f.write_str(";\n    export ")?;
    write_policy(f, &channel.export)?;
    writeln!(f, ";\n    preference {};", channel.preference)?;
    let limits = [
        ("receive", channel.receive_limit),
        ("import", channel.import_limit),
        ("export", channel.export_limit),
    ];
    for (direction, limit) in limits {
        if let Some(Limit { routes, action }) = limit {
            writeln!(f, "    {direction} limit {routes} action {};", action.as_str())?;
        }
    }
    if channel.import_keep_filtered {
        f.write_str("    import keep filtered;\n")?;
    }
    if !channel.rpki_reload {
        f.write_str("    rpki reload off;\n")?;
    }
    if let Some(limit) = channel.merge_paths {
        writeln!(f, "    merge paths on limit {limit};")?;
    }
    Ok(())
}

fn write_policy(f: &mut fmt::Formatter<'_>, policy: &Policy) -> fmt::Result {
    match policy {
        Policy::None => f.write_str("none"),
        Policy::All => f.write_str("all"),
        Policy::Filter(filter) => match &filter.name {
            Some(name) => {
                f.write_str("filter ")?;
                write_name(f, name)
            }
            None => write!(f, "{filter}"),
        },
    }
}

fn write_direct(f: &mut fmt::Formatter<'_>, direct: &DirectConfig) -> fmt::Result {
    for patterns in &direct.interfaces {
        f.write_str("  interface ")?;
        write_patterns(f, patterns)?;
    }
    if direct.check_link {
        f.write_str("  check link;\n")?;
    }
    direct
        .channels
        .iter()
        .try_for_each(|channel| write_plain_channel(f, channel))
}

/// A list, with the `;` behind it.
fn write_patterns(f: &mut fmt::Formatter<'_>, patterns: &[InterfacePattern]) -> fmt::Result {
    for (i, pattern) in patterns.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        write_pattern(f, pattern)?;
    }
    f.write_str(";\n")
}

pub(super) fn write_pattern(f: &mut fmt::Formatter<'_>, pattern: &InterfacePattern) -> fmt::Result {
    f.write_str(if pattern.positive { "" } else { "-" })?;
    match (&pattern.name, pattern.prefix) {
        (Some(name), Some(prefix)) => write!(f, "\"{name}\" {prefix}"),
        (Some(name), None) => write!(f, "\"{name}\""),
        (None, Some(prefix)) => write!(f, "{prefix}"),
        (None, None) => f.write_str("\"*\""),
    }
}

fn write_static(f: &mut fmt::Formatter<'_>, config: &StaticConfig) -> fmt::Result {
    write_plain_channel(f, &config.channel)?;
    if config.check_link {
        f.write_str("  check link;\n")?;
    }
    if let Some(table) = &config.igp_table {
        f.write_str("  igp table ")?;
        write_name(f, table)?;
        f.write_str(";\n")?;
    }
    for route in &config.routes {
        write!(f, "  route {}", route.prefix)?;
        match &route.destination {
            StaticDestination::Blackhole => f.write_str(" blackhole")?,
            StaticDestination::Unreachable => f.write_str(" unreachable")?,
            StaticDestination::Prohibit => f.write_str(" prohibit")?,
            StaticDestination::Recursive(addr) => write!(f, " recursive {addr}")?,
            StaticDestination::Via(hops) => hops.iter().try_for_each(|hop| write_hop(f, hop))?,
        }
        if let Some(attributes) = &route.attributes {
            write!(f, " {}", attributes.body)?;
        }
        f.write_str(";\n")?;
    }
    Ok(())
}

fn write_hop(f: &mut fmt::Formatter<'_>, hop: &StaticHop) -> fmt::Result {
    match (hop.gateway, &hop.interface) {
        (Some(gateway), Some(interface)) => {
            write!(f, " via {gateway}%")?;
            write_name(f, interface)?;
        }
        (Some(gateway), None) => write!(f, " via {gateway}")?,
        (None, interface) => write!(f, " via \"{}\"", interface.as_deref().unwrap_or_default())?,
    }
    if hop.weight != 1 {
        write!(f, " weight {}", hop.weight)?;
    }
    f.write_str(if hop.onlink { " onlink on" } else { "" })?;
    f.write_str(if hop.bfd { " bfd on" } else { "" })
}

fn write_kernel(f: &mut fmt::Formatter<'_>, kernel: &KernelConfig) -> fmt::Result {
    writeln!(f, "  kernel table {};", kernel.kernel_table)?;
    writeln!(f, "  scan time {};", kernel.scan_time.as_secs())?;
    writeln!(f, "  metric {};", kernel.metric)?;
    for (phrase, on) in [
        ("persist", kernel.persist),
        ("learn", kernel.learn),
        ("graceful restart", kernel.graceful_restart),
    ] {
        if on {
            writeln!(f, "  {phrase};")?;
        }
    }
    if let Some(limit) = kernel.merge_paths {
        writeln!(f, "  merge paths on limit {limit};")?;
    }
    write_plain_channel(f, &kernel.channel)
}

impl fmt::Display for ChannelFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
