//! The command line of `tortiectl node init`. Environment variables are those of calico-node, so its manifests carry over.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tortie_model::resource::EncapMode;
use tortie_model::{InterfaceAddr, Selector};
use tortie_net::{Asn, NodeName, Prefix, RouterId};

use super::autodetect::Method;

#[derive(Debug, Args)]
pub(crate) struct NodeInitArgs {
    /// The node's name; the host's name in lower case when absent
    #[arg(long, env = "NODENAME", value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// IPv4 address: autodetect, none, or an address, perhaps with its network's length; absent: what the Node has, else autodetect
    #[arg(long, env = "IP", default_value = "", value_name = "ADDRESS")]
    pub(crate) ip: Wanted,
    /// IPv6 address, likewise; absent: what the Node has, else none
    #[arg(long, env = "IP6", default_value = "", value_name = "ADDRESS")]
    pub(crate) ip6: Wanted,
    /// How the IPv4 address is detected: first-found, interface=REGEX,.., skip-interface=REGEX,.., can-reach=HOST, cidr=NETWORK,.., kubernetes-internal-ip
    #[arg(
        long,
        env = "IP_AUTODETECTION_METHOD",
        default_value = "first-found",
        value_name = "METHOD"
    )]
    pub(crate) ip_autodetection_method: Method,
    /// How the IPv6 address is detected
    #[arg(
        long,
        env = "IP6_AUTODETECTION_METHOD",
        default_value = "first-found",
        value_name = "METHOD"
    )]
    pub(crate) ip6_autodetection_method: Method,
    /// What Kubernetes calls this node's internal addresses (status.hostIPs); absent: those in the Node
    #[arg(long, env = "TORTIE_INTERNAL_IP", value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) internal_ip: Vec<IpAddr>,
    /// Take a detected address also when the node has another one that is still on this host
    #[arg(long)]
    pub(crate) change_address: bool,
    /// Do not look whether another node has the address
    #[arg(long, env = "DISABLE_NODE_IP_CHECK")]
    pub(crate) no_conflict_check: bool,
    /// The node's AS number
    #[arg(long = "as", env = "AS", value_name = "AS")]
    pub(crate) asn: Option<Asn>,
    /// Makes the node a route reflector of this cluster id
    #[arg(long, env = "CALICO_ROUTE_REFLECTOR_CLUSTER_ID", value_name = "ID")]
    pub(crate) route_reflector_cluster_id: Option<RouterId>,
    /// The node's name in Kubernetes
    #[arg(long, env = "CALICO_K8S_NODE_REF", value_name = "NAME")]
    pub(crate) k8s_node: Option<String>,
    #[command(flatten)]
    pub(crate) pools: PoolArgs,
    /// Do not check forwarding, modules, rp_filter, routes and NetworkManager
    #[arg(long)]
    pub(crate) no_checks: bool,
    /// A file the node's name is written to
    #[arg(long, env = "CALICO_NODENAME_FILE", value_name = "FILE")]
    pub(crate) nodename_file: Option<PathBuf>,
    /// Say what would be done, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The pools that are created when there is none of their family.
#[derive(Debug, Clone, Args)]
pub(crate) struct PoolArgs {
    /// Create no pools
    #[arg(long, env = "NO_DEFAULT_POOLS")]
    pub(crate) no_default_pools: bool,
    /// Addresses of the IPv4 pool; absent: the first of a few private networks that the host does not use
    #[arg(long, env = "CALICO_IPV4POOL_CIDR", value_name = "NETWORK")]
    pub(crate) ipv4pool_cidr: Option<Prefix>,
    #[arg(long, env = "CALICO_IPV4POOL_BLOCK_SIZE", value_name = "BITS")]
    pub(crate) ipv4pool_block_size: Option<u8>,
    #[arg(long, env = "CALICO_IPV4POOL_IPIP", default_value = "Never", value_name = "MODE", value_parser = mode)]
    pub(crate) ipv4pool_ipip: EncapMode,
    #[arg(long, env = "CALICO_IPV4POOL_VXLAN", default_value = "Never", value_name = "MODE", value_parser = mode)]
    pub(crate) ipv4pool_vxlan: EncapMode,
    #[arg(long, env = "CALICO_IPV4POOL_NAT_OUTGOING", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) ipv4pool_nat_outgoing: bool,
    #[arg(long, env = "CALICO_IPV4POOL_NODE_SELECTOR", value_name = "SELECTOR")]
    pub(crate) ipv4pool_node_selector: Option<Selector>,
    #[arg(long, env = "CALICO_IPV4POOL_DISABLE_BGP_EXPORT", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) ipv4pool_disable_bgp_export: bool,
    /// Addresses of the IPv6 pool; absent: a unique local /48 drawn by chance
    #[arg(long, env = "CALICO_IPV6POOL_CIDR", value_name = "NETWORK")]
    pub(crate) ipv6pool_cidr: Option<Prefix>,
    #[arg(long, env = "CALICO_IPV6POOL_BLOCK_SIZE", value_name = "BITS")]
    pub(crate) ipv6pool_block_size: Option<u8>,
    #[arg(long, env = "CALICO_IPV6POOL_VXLAN", default_value = "Never", value_name = "MODE", value_parser = mode)]
    pub(crate) ipv6pool_vxlan: EncapMode,
    #[arg(long, env = "CALICO_IPV6POOL_NAT_OUTGOING", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) ipv6pool_nat_outgoing: bool,
    #[arg(long, env = "CALICO_IPV6POOL_NODE_SELECTOR", value_name = "SELECTOR")]
    pub(crate) ipv6pool_node_selector: Option<Selector>,
    #[arg(long, env = "CALICO_IPV6POOL_DISABLE_BGP_EXPORT", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) ipv6pool_disable_bgp_export: bool,
}

/// calico-node takes modes in any case, and Off for Never.
fn mode(text: &str) -> Result<EncapMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "never" | "off" | "" => Ok(EncapMode::Never),
        "always" => Ok(EncapMode::Always),
        "crosssubnet" | "cross-subnet" => Ok(EncapMode::CrossSubnet),
        _ => Err("want Never, Always or CrossSubnet".to_owned()),
    }
}

/// Which address a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What the Node has; when it has none, the family's default.
    Unsaid,
    /// Detected at every start.
    Detect,
    /// None; what the Node has stays.
    None,
    /// This one; without a length it is looked up.
    Fixed(IpAddr, Option<u8>),
}

/// Text that wants no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("want autodetect, none, or an address, perhaps with its network's length (10.0.0.5/24)")]
pub(crate) struct BadWanted;

impl FromStr for Wanted {
    type Err = BadWanted;

    fn from_str(text: &str) -> Result<Self, BadWanted> {
        match text {
            "" => Ok(Wanted::Unsaid),
            "autodetect" => Ok(Wanted::Detect),
            "none" => Ok(Wanted::None),
            _ => match text.parse() {
                Ok(address) => Ok(Wanted::Fixed(address, None)),
                Err(_) => {
                    let with_length: InterfaceAddr = text.parse().map_err(|_| BadWanted)?;
                    Ok(Wanted::Fixed(with_length.addr, Some(with_length.len)))
                }
            },
        }
    }
}
