//! What a node must have before its daemons run, each with what to do about it: a pure function of facts.

use std::collections::BTreeSet;
use std::fmt;

use tortie_model::resource::{EncapMode, IpPool};
use tortie_net::Prefix;

/// A sysctl as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) value: String,
    /// felix could set it.
    pub(crate) writable: bool,
}

/// A route of the host that is none of Tortie's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignRoute {
    pub(crate) prefix: Prefix,
    /// As `ip route` prints it.
    pub(crate) text: String,
}

/// What was found out about the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `net/ipv4/ip_forward` and `net/ipv6/conf/all/forwarding`, of the families in use.
    pub(crate) forwarding: Vec<Parameter>,
    /// `rp_filter` of `all` and of the interface of the node's IPv4 address.
    pub(crate) rp_filter: Vec<Parameter>,
    /// Kernel modules that are loaded, built in or can be loaded; `None` when that cannot be found out.
    pub(crate) modules: Option<BTreeSet<String>>,
    /// The running kernel.
    pub(crate) kernel: String,
    pub(crate) routes: Vec<ForeignRoute>,
    /// NetworkManager runs and was not told to leave the interfaces of workloads alone.
    pub(crate) network_manager: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The node would not work at all.
    pub(crate) fatal: bool,
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; fix: {}", self.what, self.fix)
    }
}

/// What has to be put right on a node that uses these pools.
pub(crate) fn check(facts: &Facts, pools: &[IpPool]) -> Vec<Finding> {
    let mut findings = Vec::new();
    forwarding(facts, &mut findings);
    modules(facts, pools, &mut findings);
    rp_filter(facts, &mut findings);
    routes(facts, pools, &mut findings);
    if facts.network_manager {
        findings.push(Finding {
            fatal: false,
            what: "NetworkManager runs and may take over the interfaces of workloads".to_owned(),
            fix: "write \"[keyfile]\\nunmanaged-devices=interface-name:cali*;interface-name:tunl*;\
                  interface-name:vxlan.calico;interface-name:vxlan-v6.calico\" into \
                  /etc/NetworkManager/conf.d/calico.conf and reload it (nmcli general reload)"
                .to_owned(),
        });
    }
    findings
}

fn forwarding(facts: &Facts, findings: &mut Vec<Finding>) {
    let off = facts.forwarding.iter().filter(|p| p.value != "1" && !p.writable);
    findings.extend(off.map(|p| Finding {
        fatal: true,
        what: format!(
            "{} is {} and cannot be set from here: the node would forward nothing",
            p.name, p.value
        ),
        fix: format!(
            "on the host, sysctl -w {}=1 and the same in /etc/sysctl.d/",
            p.name.replace('/', ".")
        ),
    }));
}

fn modules(facts: &Facts, pools: &[IpPool], findings: &mut Vec<Finding>) {
    let Some(known) = &facts.modules else { return };
    let enabled: Vec<&IpPool> = pools.iter().filter(|p| !p.spec.disabled).collect();
    let wants = |mode: fn(&IpPool) -> EncapMode| enabled.iter().any(|p| mode(p) != EncapMode::Never);
    let needed = [
        ("ipip", wants(|p| p.spec.ipip_mode())),
        ("vxlan", wants(|p| p.spec.vxlan_mode())),
        ("nf_tables", enabled.iter().any(|p| p.spec.nat_outgoing)),
        ("veth", true),
    ];
    let missing = needed.iter().filter(|(name, needed)| *needed && !known.contains(*name));
    findings.extend(missing.map(|(name, _)| Finding {
        fatal: false,
        what: format!(
            "kernel {} has no module {name}, which a pool or every workload needs",
            facts.kernel
        ),
        fix: format!(
            "install the package of this kernel that has it (modprobe {name} must succeed), or boot another kernel"
        ),
    }));
}

/// The kernel takes the larger of both values.
fn rp_filter(facts: &Facts, findings: &mut Vec<Finding>) {
    let strictest = facts
        .rp_filter
        .iter()
        .max_by_key(|p| p.value.parse::<u8>().unwrap_or(0));
    let Some(strict) = strictest.filter(|p| p.value == "1") else {
        return;
    };
    findings.push(Finding {
        fatal: false,
        what: format!(
            "{} is 1 (strict): packets that come another way than answers go are dropped",
            strict.name
        ),
        fix: format!(
            "sysctl -w {}=2 and the same in /etc/sysctl.d/, unless every path is symmetric",
            strict.name.replace('/', ".")
        ),
    });
}

fn routes(facts: &Facts, pools: &[IpPool], findings: &mut Vec<Finding>) {
    for pool in pools {
        // What a wider route covers is won by longer prefixes; a route inside of the pool takes workloads away.
        let inside = facts.routes.iter().filter(|r| pool.spec.cidr.covers(r.prefix));
        findings.extend(inside.map(|r| Finding {
            fatal: false,
            what: format!(
                "route '{}' lies in IPPool({}) {}: workloads there are not reached from this node",
                r.text,
                pool.name(),
                pool.spec.cidr
            ),
            fix: format!("remove what makes it, or: ip route del {}", r.text),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::resource::IpPoolSpec;

    fn parameter(name: &str, value: &str, writable: bool) -> Parameter {
        Parameter {
            name: name.to_owned(),
            value: value.to_owned(),
            writable,
        }
    }

    fn pool(cidr: &str) -> IpPool {
        IpPool::new("p", IpPoolSpec::new(cidr.parse().unwrap()))
    }

    fn route(text: &str) -> ForeignRoute {
        ForeignRoute {
            prefix: text.split(' ').next().unwrap().parse().unwrap(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_host_as_it_should_be_is_not_talked_about() {
        let facts = Facts {
            forwarding: vec![parameter("net/ipv4/ip_forward", "0", true)],
            rp_filter: vec![
                parameter("net/ipv4/conf/all/rp_filter", "1", true),
                parameter("net/ipv4/conf/eth0/rp_filter", "2", true),
            ],
            modules: Some(["veth".to_owned()].into()),
            routes: vec![route("10.0.0.0/8 dev tun0"), route("0.0.0.0/0 via 10.0.0.1")],
            ..Facts::default()
        };
        assert_eq!(check(&facts, &[pool("10.244.0.0/16")]), []);
        assert_eq!(check(&Facts::default(), &[pool("10.244.0.0/16")]), []);
    }

    #[test]
    fn each_fault_has_a_fix() {
        let facts = Facts {
            forwarding: vec![parameter("net/ipv4/ip_forward", "0", false)],
            rp_filter: vec![
                parameter("net/ipv4/conf/all/rp_filter", "0", true),
                parameter("net/ipv4/conf/eth0/rp_filter", "1", true),
            ],
            modules: Some(["veth".to_owned()].into()),
            kernel: "6.1.0".to_owned(),
            routes: vec![route("10.244.3.0/24 via 10.0.0.3 dev flannel.1")],
            network_manager: true,
        };
        let mut ipip = pool("10.244.0.0/16");
        ipip.spec.ipip_mode = Some(EncapMode::CrossSubnet);
        let findings = check(&facts, &[ipip]);
        let fatal: Vec<bool> = findings.iter().map(|f| f.fatal).collect();
        assert_eq!(fatal, [true, false, false, false, false]);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        for (i, part) in [
            "sysctl -w net.ipv4.ip_forward=1",
            "kernel 6.1.0 has no module ipip",
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
            "ip route del 10.244.3.0/24 via 10.0.0.3 dev flannel.1",
            "unmanaged-devices=interface-name:cali*",
        ]
        .iter()
        .enumerate()
        {
            assert!(said[i].contains(part), "{part}: {}", said[i]);
        }
    }
}
