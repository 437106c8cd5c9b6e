//! `protocol bfd`, and `bfd` of `protocol bgp`, as text.

use std::fmt;

use super::print::{write_interval, write_pattern};
use super::{BfdConfig, BfdOptions, BfdUsage, BgpBfd};

pub(super) fn write_bfd(f: &mut fmt::Formatter<'_>, bfd: &BfdConfig) -> fmt::Result {
    if bfd.family.is_some() || bfd.accept_multihop.is_some() {
        f.write_str("  accept")?;
        if let Some(family) = bfd.family {
            write!(f, " {}", family.as_str())?;
        }
        match bfd.accept_multihop {
            Some(true) => f.write_str(" multihop")?,
            Some(false) => f.write_str(" direct")?,
            None => {}
        }
        f.write_str(";\n")?;
    }
    for (patterns, options) in &bfd.interfaces {
        f.write_str("  interface ")?;
        for (i, pattern) in patterns.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            write_pattern(f, pattern)?;
        }
        f.write_str(" {\n")?;
        write_options(f, options)?;
        f.write_str("  };\n")?;
    }
    if bfd.multihop != BfdOptions::default() {
        f.write_str("  multihop {\n")?;
        write_options(f, &bfd.multihop)?;
        f.write_str("  };\n")?;
    }
    for neighbor in &bfd.neighbors {
        write!(f, "  neighbor {}", neighbor.address)?;
        if let Some(interface) = &neighbor.interface {
            write!(f, " dev \"{interface}\"")?;
        }
        if let Some(local) = neighbor.local {
            write!(f, " local {local}")?;
        }
        f.write_str(if neighbor.multihop { " multihop on;\n" } else { ";\n" })?;
    }
    Ok(())
}

pub(super) fn write_bgp_bfd(f: &mut fmt::Formatter<'_>, bfd: &BgpBfd) -> fmt::Result {
    if bfd.usage == BfdUsage::Off {
        return Ok(());
    }
    f.write_str("  bfd {\n")?;
    if bfd.usage == BfdUsage::Graceful {
        f.write_str("    graceful;\n")?;
    }
    if bfd.strict {
        f.write_str("    strict;\n")?;
    }
    write_options(f, &bfd.options)?;
    f.write_str("  };\n")
}

fn write_options(f: &mut fmt::Formatter<'_>, options: &BfdOptions) -> fmt::Result {
    let times = [
        ("    min rx interval", options.min_rx),
        ("    min tx interval", options.min_tx),
        ("    idle tx interval", options.idle_tx),
    ];
    for (phrase, time) in times {
        if let Some(time) = time {
            write_interval(f, phrase, time)?;
        }
    }
    if let Some(multiplier) = options.multiplier {
        writeln!(f, "    multiplier {multiplier};")?;
    }
    match options.passive {
        Some(passive) => writeln!(f, "    passive {};", if passive { "on" } else { "off" }),
        None => Ok(()),
    }
}
