//! `show static` and `show interfaces`.

use std::net::IpAddr;

use tortie_bgp::config::{StaticDestination, StaticHop};
use tortie_bgp::speaker::{Speaker, StaticView};
use tortie_net::Prefix;
use tortie_netlink::link::Link;
use tortie_netlink::request::Connection;

use super::reply::Reply;
use super::words::{NoneMeant, Word};
use super::{Control, operate, unknown};
use crate::engine::Stopped;

impl Control {
    /// `show static [NAME]`: routes as they are configured, and which of their next hops cannot be used now.
    pub(super) async fn statics(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let wanted = match words {
            [] => None,
            [Word::Plain(name)] => Some(name.clone()),
            _ => return Ok(unknown("show static")),
        };
        let (names, statics) = self
            .engine
            .query(|speaker: &Speaker| (speaker.protocol_names(), speaker.statics()))
            .await?;
        let shown: Vec<_> = statics
            .iter()
            .filter(|one| wanted.as_ref().is_none_or(|name| **name == *one.protocol))
            .collect();
        if let Some(name) = wanted.filter(|_| shown.is_empty()) {
            return Ok(match names.iter().any(|known| **known == *name) {
                true => Reply::of(9001, &format!("{name}: Not a Static protocol")),
                false => {
                    let names = &self.configurator.config().await.names;
                    operate::none_meant(&NoneMeant::Unknown(name), names, "END or CF_SYM_KNOWN")
                }
            });
        }
        if shown.is_empty() {
            return Ok(Reply::of(9001, "There is no Static protocol running"));
        }
        let mut reply = Reply::default();
        for (at, one) in shown.into_iter().enumerate() {
            if at > 0 {
                reply.line(1009, "");
            }
            routes(&mut reply, one);
        }
        reply.end(0, "");
        Ok(reply)
    }

    /// `show interfaces [summary]`.
    pub(super) async fn interfaces(&self, words: &[Word]) -> Reply {
        let summary = match words {
            [] => false,
            [Word::Plain(word)] if word == "summary" => true,
            _ => return unknown("show interfaces"),
        };
        let listed = tokio::task::spawn_blocking(|| Connection::open()?.links()).await;
        match listed {
            Ok(Ok(links)) if summary => summarised(&links),
            Ok(Ok(links)) => listed_all(&links),
            Ok(Err(error)) => Reply::of(8003, &format!("the host's interfaces cannot be read: {error}")),
            Err(error) => Reply::of(8003, &format!("the host's interfaces cannot be read: {error}")),
        }
    }
}

fn routes(reply: &mut Reply, one: &StaticView) {
    for (route, usable) in &one.routes {
        let net = route.prefix;
        match &route.destination {
            StaticDestination::Blackhole => reply.line(1009, &format!("{net}\tblackhole")),
            StaticDestination::Unreachable => reply.line(1009, &format!("{net}\tunreachable")),
            StaticDestination::Prohibit => reply.line(1009, &format!("{net}\tprohibited")),
            StaticDestination::Recursive(via) => reply.line(1009, &format!("{net}\trecursive {via}")),
            StaticDestination::Via(hops) => {
                reply.line(1009, &net.to_string());
                for (hop, usable) in hops.iter().zip(usable) {
                    reply.line(1009, &format!("\t{}", next_hop(hop, *usable)));
                }
            }
        }
    }
    for roa in &one.roas {
        reply.line(1009, &format!("{roa}\t"));
    }
}

fn next_hop(hop: &StaticHop, usable: bool) -> String {
    let to = match (hop.gateway, &hop.interface) {
        (Some(gateway), Some(interface)) => format!("via {gateway}%{interface}"),
        (Some(gateway), None) => format!("via {gateway}"),
        (None, interface) => format!("dev {}", interface.as_deref().unwrap_or_default()),
    };
    let onlink = if hop.onlink { " onlink" } else { "" };
    let bfd = if hop.bfd { " (bfd)" } else { "" };
    let dormant = if usable { "" } else { " (dormant)" };
    format!("{to}{onlink}{bfd}{dormant}")
}

fn up(link: &Link) -> &'static str {
    if link.up { "up" } else { "down" }
}

fn listed_all(links: &[Link]) -> Reply {
    let mut reply = Reply::default();
    for link in links {
        let master = link
            .master
            .and_then(|index| links.iter().find(|other| other.index == index));
        let master = master
            .map(|master| format!(" master={}", master.name))
            .unwrap_or_default();
        reply.line(
            1001,
            &format!("{} {} (index={}{master})", link.name, up(link), link.index),
        );
        let words = [
            (true, if link.point_to_point { "PtP" } else { "MultiAccess" }),
            (link.broadcast, "Broadcast"),
            (link.multicast, "Multicast"),
            (true, if link.up { "AdminUp" } else { "AdminDown" }),
            (true, if link.carrier { "LinkUp" } else { "LinkDown" }),
            (link.loopback, "Loopback"),
            (link.loopback, "Ignored"),
        ];
        let words: Vec<&str> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        reply.line(1004, &format!("\t{} MTU={}", words.join(" "), link.mtu));
        for (address, on_link) in &link.addresses {
            reply.line(1003, &format!("\t{}", shown(link, *address, *on_link)));
        }
    }
    reply.end(0, "");
    reply
}

fn shown(link: &Link, address: IpAddr, on_link: Prefix) -> String {
    let role = if !on_link.contains(address) {
        format!("opposite {}", on_link.addr())
    } else if link.secondary.contains(&address) {
        "Secondary".to_owned()
    } else {
        "Preferred".to_owned()
    };
    format!("{address}/{} ({role}, scope {})", on_link.len(), scope(address))
}

/// How far an address is known, as BIRD tells them apart.
fn scope(address: IpAddr) -> &'static str {
    match address {
        _ if address.is_loopback() => "host",
        IpAddr::V4(v4) if v4.is_link_local() => "link",
        IpAddr::V4(v4) if v4.is_private() => "site",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link",
        IpAddr::V6(v6) if v6.is_unique_local() => "site",
        IpAddr::V4(_) | IpAddr::V6(_) => "univ",
    }
}

fn summarised(links: &[Link]) -> Reply {
    let mut reply = Reply::default();
    let row = |cells: [&str; 4]| {
        let [name, state, v4, v6] = cells;
        format!("{name:<10} {state:<6} {v4:<18} {v6}")
    };
    reply.line(2005, &row(["Interface", "State", "IPv4 address", "IPv6 address"]));
    for link in links {
        let first = |wanted: fn(&IpAddr) -> bool| {
            let found = link.addresses.iter().find(|(address, _)| wanted(address));
            found
                .map(|(address, on_link)| format!("{address}/{}", on_link.len()))
                .unwrap_or_default()
        };
        let v4 = first(IpAddr::is_ipv4);
        let v6 = first(|address| matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local()));
        reply.line(1005, &row([&link.name, up(link), &v4, &v6]));
    }
    reply.end(0, "");
    reply
}
