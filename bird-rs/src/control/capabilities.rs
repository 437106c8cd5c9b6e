//! Capabilities of a session, in BIRD's layout.

use tortie_bgp::packet::{AddPathMode, AfiSafi, Capability, GracefulRestart, LongLivedFamily, Role};

/// The lines of one side's capabilities, in BIRD's order.
pub(super) fn lines(capabilities: &[Capability]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |indent: usize, text: &str| lines.push(format!("{:indent$}{text}", ""));
    let has = |wanted: &Capability| capabilities.contains(wanted);
    let families = capabilities.iter().filter_map(|capability| match capability {
        Capability::Multiprotocol { afi, safi } => Some((*afi, *safi)),
        _ => None,
    });
    let families: Vec<_> = families.collect();
    if !families.is_empty() {
        add(6, "Multiprotocol");
        add(8, &format!("AF announced:{}", names(families)));
    }
    if has(&Capability::RouteRefresh) {
        add(6, "Route refresh");
    }
    for capability in capabilities {
        if let Capability::ExtendedNextHop(triples) = capability {
            let families = triples.iter().map(|&(afi, safi, _)| (afi, safi as u8));
            add(6, "Extended next hop");
            add(8, &format!("IPv6 nexthop:{}", names(families)));
        }
    }
    if has(&Capability::ExtendedMessage) {
        add(6, "Extended message");
    }
    for capability in capabilities {
        if let Capability::GracefulRestart(graceful) = capability {
            add(6, "Graceful restart");
            restart(graceful).iter().for_each(|line| add(8, line));
        }
    }
    if capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_))) {
        add(6, "4-octet AS numbers");
    }
    for capability in capabilities {
        if let Capability::AddPath(families) = capability {
            let with = |wanted: fn(AddPathMode) -> bool| {
                let with = families.iter().filter(move |(_, _, mode)| wanted(*mode));
                names(with.map(|&(afi, safi, _)| (afi, safi)))
            };
            add(6, "ADD-PATH");
            add(8, &format!("RX:{}", with(AddPathMode::receives)));
            add(8, &format!("TX:{}", with(AddPathMode::sends)));
        }
    }
    if has(&Capability::EnhancedRouteRefresh) {
        add(6, "Enhanced refresh");
    }
    for capability in capabilities {
        match capability {
            Capability::LongLivedGracefulRestart(families) => {
                add(6, "Long-lived graceful restart");
                long_lived(families).iter().for_each(|line| add(8, line));
            }
            Capability::Hostname { name, .. } if !name.is_empty() => add(6, &format!("Hostname: {name}")),
            _ => {}
        }
    }
    for capability in capabilities {
        if let Capability::Role(role) = capability {
            add(6, &format!("Role: {}", role_name(*role)));
        }
    }
    lines
}

fn restart(graceful: &GracefulRestart) -> Vec<String> {
    if graceful.families.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("Restart time: {}", graceful.restart_time)];
    if graceful.restarting {
        lines.push("Restart recovery".to_owned());
    }
    let all = graceful.families.iter();
    let kept = all.clone().filter(|family| family.forwarding);
    lines.push(format!("AF supported:{}", names(all.map(|f| (f.afi, f.safi)))));
    lines.push(format!("AF preserved:{}", names(kept.map(|f| (f.afi, f.safi)))));
    lines
}

fn long_lived(families: &[LongLivedFamily]) -> Vec<String> {
    let times = families.iter().map(|family| family.stale_time);
    let (Some(least), Some(most)) = (times.clone().min(), times.max()) else {
        return Vec::new();
    };
    let time = if least == most {
        least.to_string()
    } else {
        format!("{least}-{most}")
    };
    let all = families.iter();
    let kept = all.clone().filter(|family| family.forwarding);
    vec![
        format!("LL stale time: {time}"),
        format!("AF supported:{}", names(all.map(|f| (f.afi, f.safi)))),
        format!("AF preserved:{}", names(kept.map(|f| (f.afi, f.safi)))),
    ]
}

/// Each with a space before it. What is not known here is shown by its numbers.
fn names(families: impl IntoIterator<Item = (u16, u8)>) -> String {
    let name = |(afi, safi)| match AfiSafi::from_codes(afi, safi) {
        Some(AfiSafi::Ipv4Unicast) => " ipv4".to_owned(),
        Some(AfiSafi::Ipv6Unicast) => " ipv6".to_owned(),
        None => format!(" <{afi}/{safi}>"),
    };
    families.into_iter().map(name).collect()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::RouteServer => "rs_server",
        Role::RouteServerClient => "rs_client",
        Role::Customer => "customer",
        Role::Peer => "peer",
    }
}
