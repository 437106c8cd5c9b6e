//! The registry of kinds: one row per kind of `projectcalico.org/v3`.

use std::fmt;

/// One row of the registry.
struct Row {
    name: &'static str,
    plural: &'static str,
    /// Further names the command line accepts, beside the lower-case name and plural.
    aliases: &'static [&'static str],
    namespaced: bool,
}

macro_rules! kinds {
    ($($variant:ident = $name:literal, $plural:literal, $namespaced:literal, [$($alias:literal),*];)+) => {
        /// A kind of resource.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $name] $variant),+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            const fn row(self) -> Row {
                match self {
                    $(Kind::$variant => Row { name: $name, plural: $plural, aliases: &[$($alias),*], namespaced: $namespaced }),+
                }
            }
        }
    };
}

kinds! {
    BgpConfiguration = "BGPConfiguration", "bgpconfigurations", false, ["bgpconfig", "bgpconfigs"];
    BgpFilter = "BGPFilter", "bgpfilters", false, ["bgpf", "bgpfs", "bf", "bfs"];
    BgpPeer = "BGPPeer", "bgppeers", false, ["bgpp", "bgpps", "bp", "bps"];
    BlockAffinity = "BlockAffinity", "blockaffinities", false, [];
    CalicoNodeStatus = "CalicoNodeStatus", "caliconodestatuses", false, ["nodestatus", "nodestatuses"];
    ClusterInformation = "ClusterInformation", "clusterinformations", false, ["clusterinfo", "clusterinfos"];
    FelixConfiguration = "FelixConfiguration", "felixconfigurations", false, ["felixconfig", "felixconfigs"];
    GlobalNetworkPolicy = "GlobalNetworkPolicy", "globalnetworkpolicies", false, ["gnp", "gnps"];
    GlobalNetworkSet = "GlobalNetworkSet", "globalnetworksets", false, ["gnetset", "gnetsets"];
    HostEndpoint = "HostEndpoint", "hostendpoints", false, ["hep", "heps"];
    IpamConfiguration = "IPAMConfiguration", "ipamconfigurations", false, ["ipamconfig", "ipamconfigs"];
    IpPool = "IPPool", "ippools", false, ["ipp", "ipps", "pool", "pools"];
    IpReservation = "IPReservation", "ipreservations", false, ["reservation", "reservations"];
    KubeControllersConfiguration = "KubeControllersConfiguration", "kubecontrollersconfigurations", false,
        ["kubecontrollersconfig", "kubecontrollersconfigs"];
    LiveMigration = "LiveMigration", "livemigrations", true, [];
    NetworkPolicy = "NetworkPolicy", "networkpolicies", true, ["policy", "np", "policies", "pol", "pols"];
    NetworkSet = "NetworkSet", "networksets", true, ["netset", "netsets"];
    Node = "Node", "nodes", false, ["no", "nos"];
    Profile = "Profile", "profiles", false, ["pro", "pros"];
    StagedGlobalNetworkPolicy = "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", false, ["sgnp", "sgnps"];
    StagedKubernetesNetworkPolicy = "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", true,
        ["sknp", "sknps"];
    StagedNetworkPolicy = "StagedNetworkPolicy", "stagednetworkpolicies", true, ["snp", "snps"];
    Tier = "Tier", "tiers", false, [];
    WorkloadEndpoint = "WorkloadEndpoint", "workloadendpoints", true, ["wep", "weps"];
}

impl Kind {
    /// As in a manifest's `kind`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// As in a key and in a command: lower case.
    pub const fn plural(self) -> &'static str {
        self.row().plural
    }

    /// Do its objects live in a namespace?
    pub const fn namespaced(self) -> bool {
        self.row().namespaced
    }

    /// The kind a manifest names: exactly.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|k| k.name() == name)
    }

    /// The kind of a key's collection.
    pub fn from_plural(plural: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|k| k.plural() == plural)
    }

    /// The kind a person means: name, plural or alias in any case.
    pub fn from_alias(text: &str) -> Option<Kind> {
        let text = text.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|k| {
            let row = k.row();
            row.name.eq_ignore_ascii_case(&text) || row.plural == text || row.aliases.contains(&text.as_str())
        })
    }

    /// Does Tortie act on this kind? Objects of the others are kept if another program stored them, but not accepted.
    pub const fn supported(self) -> bool {
        matches!(
            self,
            Kind::BgpConfiguration
                | Kind::BgpFilter
                | Kind::BgpPeer
                | Kind::ClusterInformation
                | Kind::FelixConfiguration
                | Kind::IpamConfiguration
                | Kind::IpPool
                | Kind::IpReservation
                | Kind::Node
                | Kind::WorkloadEndpoint
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn names_and_aliases_are_unambiguous() {
        let mut seen: BTreeMap<String, Kind> = BTreeMap::new();
        for &kind in Kind::ALL {
            let row = kind.row();
            let names = [row.name.to_lowercase(), row.plural.to_owned()];
            for text in names.into_iter().chain(row.aliases.iter().map(|a| a.to_string())) {
                let before = seen.insert(text.clone(), kind);
                assert!(before.is_none_or(|k| k == kind), "{text} means {before:?} and {kind:?}");
                assert_eq!(Kind::from_alias(&text.to_uppercase()), Some(kind));
            }
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert_eq!(Kind::from_plural(kind.plural()), Some(kind));
        }
        assert_eq!(Kind::from_alias("gizmo"), None);
        assert_eq!(Kind::from_name("ippool"), None);
    }
}
