//! The cluster of the chaos: its standing pods, what is somebody else's on its nodes, and what it is like when whole.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tortie_tests::demo::check_routes;
use tortie_tests::lab::{Cluster, Daemon, Netns, PingRun, Pod, first_reply, wait_for};

use super::deed::{Deed, Drift, Mode, NODES, Who};

const PATIENCE: Duration = Duration::from_secs(60);
/// A device that no pool wants stays for 40 s.
const LINGERS: Duration = Duration::from_secs(90);
/// Pods beside the standing ones, at most.
const PODS: usize = 9;
/// Open files of a daemon that leaks none, by far.
const FILES: usize = 128;

/// Things of somebody else's, of every kind that felix has too.
const FOREIGN: &str = "ip link add foreign0 type veth peer name foreign1
ip link set foreign0 addrgenmode none
ip link set foreign1 addrgenmode none
ip addr add 203.0.113.1/24 dev foreign0
ip addr add fd99::1/64 dev foreign0 nodad
ip link set foreign1 up
ip link set foreign0 up
ip route add 198.18.5.0/24 via 203.0.113.9 dev foreign0 proto static
ip route add 198.18.6.0/24 dev foreign0 proto bird
ip route add blackhole 198.18.7.0/24 proto static
ip route add default dev foreign0 table 99
ip rule add pref 1234 from 203.0.113.0/24 lookup 99
ip neigh add 203.0.113.9 lladdr 02:00:00:00:00:09 dev foreign0 nud permanent
ip nexthop add id 5 dev foreign0
nft add table ip foreign
nft add chain ip foreign out '{ type filter hook output priority 0 ; }'
nft add rule ip foreign out ip daddr 203.0.113.77 drop";

/// What they look like.
const SHOW_FOREIGN: &str = "ip -d addr show dev foreign0
ip route show table all dev foreign0
ip route show type blackhole proto static
ip -6 route show table all dev foreign0
ip rule show pref 1234
ip neigh show dev foreign0 nud permanent
ip nexthop show id 5
nft list table ip foreign
cat /proc/sys/net/ipv4/conf/foreign0/rp_filter /proc/sys/net/ipv4/conf/foreign0/proxy_arp";

/// What a node without pods has; blocks and routes to those of others aside, which stay.
const SHOW_ALL: &str = "ip -o link show | cut -d: -f2 | cut -d@ -f1 | sort
ip route show table all | grep -v '10[.]244[.]' | sed 's/ nhid [0-9]*//; s/ *$//' | sort
ip rule
ip -6 rule
ip neigh show nud permanent
ip nexthop show
nft list tables";

/// See the module.
pub(super) struct World<'a> {
    cluster: &'a mut Cluster,
    standing: Vec<Pod>,
    others: VecDeque<Pod>,
    pods_made: u32,
    mode: Mode,
    foreign: BTreeMap<&'static str, String>,
    empty: BTreeMap<&'static str, String>,
}

fn show(ns: &Netns, script: &str) -> Result<String> {
    ns.exec(&["sh", "-ec", script])
}

impl<'a> World<'a> {
    /// Puts somebody else's things on the nodes, and a standing pod.
    pub(super) fn new(cluster: &'a mut Cluster) -> Result<World<'a>> {
        let (mut foreign, mut empty) = (BTreeMap::new(), BTreeMap::new());
        for node in NODES {
            let ns = cluster.node(node)?.ns();
            show(ns, FOREIGN)?;
            foreign.insert(node, show(ns, SHOW_FOREIGN)?);
        }
        for node in cluster.nodes() {
            let tor = cluster.tor.as_ref().context("no ToR")?.behind();
            wait_for("the ToR's route", PATIENCE, || {
                let routes = node.ns().routes()?;
                ensure!(routes.iter().any(|r| r.starts_with(tor)), "{routes:?}");
                Ok(())
            })?;
        }
        for node in NODES {
            empty.insert(node, show(cluster.node(node)?.ns(), SHOW_ALL)?);
        }
        let pods = NODES
            .iter()
            .map(|n| Ok(cluster.add_pod(n, &format!("default/stands-{n}"))?.pod));
        let standing = pods.collect::<Result<_>>()?;
        let mut world = World {
            cluster,
            standing,
            others: VecDeque::new(),
            pods_made: 0,
            mode: Mode::Never,
            foreign,
            empty,
        };
        world.is_whole()?;
        Ok(world)
    }

    /// A continuous ping between every two standing pods, and from the ToR to each.
    pub(super) fn traffic(&self) -> Result<Vec<PingRun>> {
        let tor = &self.cluster.tor.as_ref().context("no ToR")?.ns;
        let mut runs = Vec::new();
        for from in &self.standing {
            for to in self.standing.iter().filter(|to| to.node != from.node) {
                runs.push(PingRun::start(&from.ns, to.ipv4()?));
            }
            runs.push(PingRun::start(tor, from.ipv4()?));
        }
        Ok(runs)
    }

    /// Does a deed. What has to be whole for it is waited for.
    pub(super) fn do_it(&mut self, deed: &Deed) -> Result<()> {
        match deed {
            Deed::Away { who, kill, ms } => self.away(who, *kill, Duration::from_millis(*ms)),
            Deed::PodCame(node) => self.pod_comes(node),
            Deed::PodWent => self.pod_goes(),
            Deed::Objects(wanted) => self.objects(*wanted),
            Deed::Flap { node, ms } => {
                let ns = self.cluster.node(node)?.ns();
                ns.ip(&["link", "set", "eth0", "down"])?;
                std::thread::sleep(Duration::from_millis(*ms));
                ns.ip(&["link", "set", "eth0", "up"]).map(drop)
            }
            Deed::Encapsulation(mode) => self.encapsulation(*mode),
            Deed::Drift { node, what } => self.drift(node, *what),
        }
    }

    fn daemon(&mut self, who: Who) -> Result<&mut Daemon> {
        match who {
            Who::Typha => Ok(&mut self.cluster.typha),
            Who::Of(node, daemon) => self.cluster.node_mut(node)?.daemon(daemon),
        }
    }

    fn away(&mut self, who: &[Who], kill: bool, time: Duration) -> Result<()> {
        for who in who {
            let daemon = self.daemon(*who)?;
            if kill { daemon.kill() } else { daemon.stop() }?;
        }
        std::thread::sleep(time);
        who.iter().try_for_each(|who| self.daemon(*who)?.start_again())
    }

    fn pod_comes(&mut self, node: &str) -> Result<()> {
        self.is_whole()?;
        if self.others.len() >= PODS {
            self.pod_goes()?;
        }
        self.pods_made += 1;
        let pod = self.cluster.add_pod(node, &format!("default/p{}", self.pods_made))?.pod;
        let elsewhere = self
            .standing
            .iter()
            .find(|p| p.node != node)
            .context("a pod elsewhere")?;
        first_reply(&elsewhere.ns, pod.ipv4()?, PATIENCE)?;
        self.others.push_back(pod);
        Ok(())
    }

    fn pod_goes(&mut self) -> Result<()> {
        self.is_whole()?;
        let Some(pod) = self.others.pop_front() else {
            return Ok(());
        };
        let node = self.cluster.node(&pod.node)?;
        pod.delete(&self.cluster.lab, node)
    }

    /// Writes through typha, which may have come back this moment.
    fn apply(&self, manifest: &str) -> Result<()> {
        wait_for("typha to take it", PATIENCE, || self.cluster.apply(manifest).map(drop))
    }

    fn objects(&self, wanted: bool) -> Result<()> {
        let wanted = if wanted { "Enabled" } else { "Disabled" };
        self.apply(&format!(
            "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {{name: default}}\n\
             spec: {{nexthopObjects: {wanted}}}\n"
        ))
    }

    fn encapsulation(&mut self, mode: Mode) -> Result<()> {
        let vxlan = match mode {
            Mode::Never => "Never",
            Mode::Vxlan => "Always",
            Mode::VxlanCrossSubnet => "CrossSubnet",
        };
        self.apply(&format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: default-ipv4-ippool}}\n\
             spec: {{cidr: 10.244.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: {vxlan}, natOutgoing: false}}\n"
        ))?;
        self.mode = mode;
        Ok(())
    }

    fn drift(&self, node: &str, what: Drift) -> Result<()> {
        let interface = self.standing.iter().find(|p| p.node == node).map(|p| &p.host_interface);
        let interface = interface.context("a pod")?;
        // Nothing to delete is an error to `ip`, and none here.
        let script = match what {
            Drift::Routes => "ip route flush proto bird metric 1024".to_owned(),
            Drift::PodRoutes => format!("ip route flush dev {interface}"),
            Drift::Blackholes => "ip route flush type blackhole proto 80".to_owned(),
            Drift::Nexthops => {
                "ip nexthop show proto 80 | while read _ id _; do ip nexthop del id $id; done".to_owned()
            }
        };
        let ns = self.cluster.node(node)?.ns();
        ns.exec(&["sh", "-c", &format!("{script} || true")]).map(drop)
    }

    /// Waits until every daemon works, every route is as the pool wants it, and every standing pod answers every other.
    pub(super) fn is_whole(&mut self) -> Result<()> {
        self.cluster.settle()?;
        for node in self.cluster.nodes() {
            wait_for(&format!("the routes of {}", node.name()), PATIENCE, || {
                self.routes_are_right(node.ns())
            })?;
        }
        for from in &self.standing {
            for to in self.standing.iter().filter(|to| to.node != from.node) {
                first_reply(&from.ns, to.ipv4()?, PATIENCE)?;
            }
            let tor = &self.cluster.tor.as_ref().context("no ToR")?.ns;
            first_reply(tor, from.ipv4()?, PATIENCE)?;
        }
        Ok(())
    }

    fn routes_are_right(&self, ns: &Netns) -> Result<()> {
        let node = self.cluster.nodes().find(|n| n.ns() == ns).context("a node")?;
        let pods = || self.standing.iter().chain(&self.others);
        let how = match self.mode {
            Mode::Never => return check_routes(self.cluster, node, pods()),
            Mode::Vxlan => " dev vxlan.calico ",
            Mode::VxlanCrossSubnet => " dev eth0 proto 80 ",
        };
        let local = pods().filter(|p| p.node == node.name());
        check_routes(self.cluster, node, local)?;
        let routes = ns.routes()?;
        for pod in pods().filter(|p| p.node != node.name()) {
            let ip = pod.ipv4()?;
            let leads = |r: &&String| {
                let to = r.split(' ').next().and_then(|t| t.parse::<tortie_net::Prefix>().ok());
                to.is_some_and(|to| to.len() >= 20 && to.contains(ip)) && r.contains(how)
            };
            ensure!(
                routes.iter().any(|r| leads(&r)),
                "{}: no route to {ip}{how}: {routes:?}",
                node.name()
            );
        }
        Ok(())
    }

    /// What is somebody else's on the nodes is as it was.
    pub(super) fn others_are_untouched(&self) -> Result<()> {
        for (node, before) in &self.foreign {
            let now = show(self.cluster.node(node)?.ns(), SHOW_FOREIGN)?;
            ensure!(
                now == *before,
                "{node}: foreign objects changed from\n{before}to\n{now}"
            );
        }
        Ok(())
    }

    /// Takes everything away that it made, and finds nothing left.
    pub(super) fn end(mut self) -> Result<()> {
        self.objects(false)?;
        self.encapsulation(Mode::Never)?;
        self.is_whole()?;
        for pod in self.others.drain(..).chain(self.standing.drain(..)) {
            let node = self.cluster.node(&pod.node)?;
            pod.delete(&self.cluster.lab, node)?;
        }
        for (node, before) in &self.empty {
            wait_for(&format!("{node} to be as it was"), LINGERS, || {
                let now = show(self.cluster.node(node)?.ns(), SHOW_ALL)?;
                ensure!(now == *before, "it was\n{before}and is\n{now}");
                Ok(())
            })?;
        }
        let left = self.cluster.ctl(&["get", "workloadendpoints", "-n", "default"])?;
        ensure!(!left.contains("eth0"), "endpoints are left: {left}");
        let checked = self.cluster.ctl(&["ipam", "check"])?;
        ensure!(checked.contains("found 0 problems"), "{checked}");
        ensure!(checked.contains("record 0 allocations"), "{checked}");
        self.no_files_are_left()?;
        self.others_are_untouched()
    }

    fn no_files_are_left(&mut self) -> Result<()> {
        let mut pids = vec![("typha".to_owned(), self.cluster.typha.pid())];
        for node in NODES {
            let daemons = self.cluster.node_mut(node)?.daemons();
            pids.extend(daemons.map(|d| (format!("{} of {node}", d.name()), d.pid())));
        }
        for (name, pid) in pids {
            let Some(pid) = pid else { bail!("{name} does not run") };
            let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
            ensure!(files < FILES, "{name} has {files} files open");
        }
        Ok(())
    }
}
