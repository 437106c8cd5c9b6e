//! The pools a cluster begins with: made from settings when there is none of the family.

use tortie_ipam::IpFamily;
use tortie_model::resource::{EncapMode, IpPool, IpPoolSpec};
use tortie_net::Prefix;

use super::args::PoolArgs;

/// Where an IPv4 pool lies unless it is said: the first of these that is not a network of the host. Calico's comes first.
const IPV4_CHOICES: [&str; 4] = ["192.168.0.0/16", "10.244.0.0/16", "172.28.0.0/14", "10.128.0.0/14"];

/// Why there is no default pool.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPool {
    #[error("CIDR {0} of the pool is of the other family than {1}")]
    WrongFamily(Prefix, IpFamily),
    #[error("CIDR {pool} of the pool overlaps {network} of this host: choose another with {flag}")]
    Overlaps {
        pool: Prefix,
        network: String,
        flag: &'static str,
    },
    #[error("this host is in every network an IPv4 pool lies in by default: choose one with --ipv4pool-cidr")]
    NoneFree,
}

/// A network of the host and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostNetwork {
    pub(crate) interface: String,
    pub(crate) network: Prefix,
}

fn overlapping(networks: &[HostNetwork], pool: Prefix) -> Option<String> {
    let found = networks.iter().find(|n| n.network.overlaps(pool))?;
    Some(format!("{} of {}", found.network, found.interface))
}

/// The pools to create. `chance` makes the IPv6 pool's network (RFC 4193: 40 random bits).
pub(crate) fn missing(
    existing: &[IpPool],
    args: &PoolArgs,
    (families, networks): (&[IpFamily], &[HostNetwork]),
    chance: [u8; 5],
) -> Result<Vec<IpPool>, NoPool> {
    let is_there = |family| existing.iter().any(|p| IpFamily::of(p.spec.cidr) == family);
    let wanted = families.iter().filter(|f| !args.no_default_pools && !is_there(**f));
    wanted
        .map(|family| match family {
            IpFamily::V4 => ipv4(args, networks),
            IpFamily::V6 => ipv6(args, networks, chance),
        })
        .collect()
}

fn ipv4(args: &PoolArgs, networks: &[HostNetwork]) -> Result<IpPool, NoPool> {
    let cidr = match args.ipv4pool_cidr {
        Some(cidr) => checked(cidr, IpFamily::V4, networks)?,
        None => {
            let mut choices = IPV4_CHOICES.iter().filter_map(|c| c.parse::<Prefix>().ok());
            let free = choices.find(|c| overlapping(networks, *c).is_none());
            free.ok_or(NoPool::NoneFree)?
        }
    };
    let spec = IpPoolSpec {
        block_size: args.ipv4pool_block_size,
        ipip_mode: Some(args.ipv4pool_ipip),
        vxlan_mode: Some(args.ipv4pool_vxlan),
        nat_outgoing: args.ipv4pool_nat_outgoing,
        node_selector: args.ipv4pool_node_selector.clone(),
        disable_bgp_export: args.ipv4pool_disable_bgp_export,
        ..IpPoolSpec::new(cidr)
    };
    Ok(IpPool::new("default-ipv4-ippool", spec))
}

fn ipv6(args: &PoolArgs, networks: &[HostNetwork], chance: [u8; 5]) -> Result<IpPool, NoPool> {
    let cidr = match args.ipv6pool_cidr {
        Some(cidr) => checked(cidr, IpFamily::V6, networks)?,
        None => {
            let mut octets = [0; 16];
            octets[0] = 0xfd;
            octets[1..6].copy_from_slice(&chance);
            Prefix::new(std::net::IpAddr::from(octets), 48).expect("invariant: 48 bits of IPv6")
        }
    };
    let spec = IpPoolSpec {
        block_size: args.ipv6pool_block_size,
        ipip_mode: Some(EncapMode::Never),
        vxlan_mode: Some(args.ipv6pool_vxlan),
        nat_outgoing: args.ipv6pool_nat_outgoing,
        node_selector: args.ipv6pool_node_selector.clone(),
        disable_bgp_export: args.ipv6pool_disable_bgp_export,
        ..IpPoolSpec::new(cidr)
    };
    Ok(IpPool::new("default-ipv6-ippool", spec))
}

fn checked(cidr: Prefix, family: IpFamily, networks: &[HostNetwork]) -> Result<Prefix, NoPool> {
    if IpFamily::of(cidr) != family {
        return Err(NoPool::WrongFamily(cidr, family));
    }
    match overlapping(networks, cidr) {
        None => Ok(cidr),
        Some(network) => Err(NoPool::Overlaps {
            pool: cidr,
            network,
            flag: match family {
                IpFamily::V4 => "--ipv4pool-cidr",
                IpFamily::V6 => "--ipv6pool-cidr",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        pools: PoolArgs,
    }

    fn args(of: &[&str]) -> PoolArgs {
        Cli::parse_from(std::iter::once(&"test").chain(of)).pools
    }

    fn network(network: &str) -> HostNetwork {
        HostNetwork {
            interface: "eth0".to_owned(),
            network: network.parse().unwrap(),
        }
    }

    fn made(existing: &[IpPool], of: &[&str], networks: &[HostNetwork]) -> Result<Vec<String>, String> {
        let families = [IpFamily::V4, IpFamily::V6];
        let pools = missing(existing, &args(of), (&families, networks), [1, 2, 3, 4, 5]);
        pools
            .map(|p| p.iter().map(|p| serde_json::to_string(&p.spec).unwrap()).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn pools_are_made_of_settings_beside_the_hosts_networks() {
        let four = r#"{"cidr":"192.168.0.0/16","vxlanMode":"Never","ipipMode":"Never","natOutgoing":true}"#;
        let six = r#"{"cidr":"fd01:203:405::/48","vxlanMode":"Never","ipipMode":"Never"}"#;
        assert_eq!(made(&[], &[], &[]).unwrap(), [four, six]);
        let beside = made(&[], &[], &[network("192.168.7.0/24")]).unwrap();
        assert!(beside[0].contains("10.244.0.0/16"), "{beside:?}");
        let existing = [IpPool::new("mine", IpPoolSpec::new("10.9.0.0/16".parse().unwrap()))];
        assert_eq!(made(&existing, &[], &[]).unwrap(), [six]);
        assert!(made(&existing, &["--no-default-pools"], &[]).unwrap().is_empty());
        let said = [
            "--ipv4pool-cidr=10.5.0.0/16",
            "--ipv4pool-ipip=crosssubnet",
            "--ipv4pool-block-size=24",
            "--ipv4pool-nat-outgoing=false",
            "--ipv4pool-node-selector=has(rack)",
            "--ipv4pool-disable-bgp-export=true",
        ];
        let all = made(&[], &said, &[]).unwrap();
        for part in [
            "10.5.0.0/16",
            "CrossSubnet",
            ":24",
            "has(rack)",
            r#""disableBGPExport":true"#,
        ] {
            assert!(all[0].contains(part), "{part}: {}", all[0]);
        }
        let refused = made(&[], &["--ipv4pool-cidr=10.0.0.0/8"], &[network("10.1.0.0/16")]).unwrap_err();
        assert_eq!(
            refused,
            "CIDR 10.0.0.0/8 of the pool overlaps 10.1.0.0/16 of eth0 of this host: choose another with --ipv4pool-cidr"
        );
        assert!(
            made(&[], &["--ipv4pool-cidr=fd00::/48"], &[])
                .unwrap_err()
                .contains("other family")
        );
        let all: Vec<HostNetwork> = IPV4_CHOICES.iter().map(|c| network(c)).collect();
        assert!(made(&[], &[], &all).unwrap_err().contains("--ipv4pool-cidr"));
    }
}
