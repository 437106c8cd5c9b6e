//! `protocol kernel`: what is to be in a routing table of the kernel's, and what others put there.
//!
//! The shell is told which tables are written and how ([`KernelSpec`]); then it is given routes as fast as it writes them:
//! one batch at a time, the next one after [`super::Input::Written`]. What waits meanwhile waits in the tables, where it
//! coalesces, as it does for a slow peer. [`Delta::InSync`] says that everything was told and the initial table is complete:
//! what is in the kernel of ours and was not named may go then, and not before.
//!
//! A spec's epoch changes when what was told of it no longer counts: everything is told again then.
//!
//! Routes of others (`learn`) come with [`super::Input::Learned`] and are imported like a peer's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::Prefix;
use tortie_replica::Delta;

use super::Speaker;
use super::export::View;
use super::import::{ImportView, Importer};
use super::instance::{Instance, Kind};
use super::io::{FibNextHop, FibRoute, Output};
use super::merge::FibView;
use super::tables::{Membership, TableKey};
use crate::attr::Attributes;
use crate::config::{ChannelFamily, KernelConfig, Policy, Protocol, ProtocolKind};
use crate::filter::{Krt, RouteDestination, RouteSource};
use crate::rib::{Hop, Learned, SourceId, Stale, Traits};

/// Routes given at a time.
const BATCH: usize = 8 * 1024;

/// A table of the kernel's that a protocol writes or reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSpec {
    /// The protocol.
    pub protocol: Arc<str>,
    /// Its routes' family.
    pub family: ChannelFamily,
    /// Another number than before: everything is told anew.
    pub epoch: u32,
    /// `kernel table`.
    pub table: u32,
    /// `metric`: a route there is ours when BIRD's number and this metric are on it; with 0, any metric.
    pub metric: u32,
    /// Routes are written. Without this none is touched.
    pub exports: bool,
    /// `learn`: routes of others are wanted.
    pub learn: bool,
    /// `persist`: what was written stays when the protocol goes.
    pub persist: bool,
    /// `scan time`: how often the table is looked at, whatever its events say.
    pub scan_time: Duration,
}

/// A route for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelEntry {
    /// What is done with packets.
    pub destination: RouteDestination,
    /// Gateways; none when `destination` is not unicast.
    pub next_hops: Vec<FibNextHop>,
    /// The metric; 0 is the kernel's own default.
    pub metric: u32,
    /// The address to send from.
    pub source: Option<IpAddr>,
}

/// A route of somebody else's in the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alien {
    /// The route.
    pub entry: KernelEntry,
    /// Who put it there (`rtm_protocol`).
    pub protocol: u8,
}

/// A `protocol kernel` while it runs.
#[derive(Debug)]
pub(super) struct KernelTable {
    /// The one channel; no membership while disabled.
    pub(super) channel: [(TableKey, Option<Membership>); 1],
    epoch: u32,
    /// The shell has written what it was given.
    room: bool,
    /// The shell was told that it has everything.
    in_sync: bool,
}

impl KernelTable {
    pub(super) fn new(key: TableKey, epoch: u32) -> Self {
        KernelTable {
            channel: [(key, None)],
            epoch,
            room: true,
            in_sync: false,
        }
    }

    pub(super) fn key(&self) -> TableKey {
        self.channel[0].0
    }

    pub(super) fn member(&self) -> Option<Membership> {
        self.channel[0].1
    }

    /// Everything is to be told anew.
    fn renew(&mut self, epoch: u32) {
        (self.epoch, self.room, self.in_sync) = (epoch, true, false);
    }
}

/// What a protocol that takes best routes is told: a view for each channel.
pub(super) fn fib_views(protocol: &Protocol) -> Vec<FibView> {
    match &protocol.kind {
        ProtocolKind::Felix(felix) => felix.channels.iter().map(FibView::of).collect(),
        ProtocolKind::Kernel(kernel) => vec![FibView {
            policy: kernel.channel.export.clone(),
            merge_paths: kernel.merge_paths,
        }],
        ProtocolKind::Device(_)
        | ProtocolKind::Direct(_)
        | ProtocolKind::Static(_)
        | ProtocolKind::Bfd(_)
        | ProtocolKind::Bgp(_)
        | ProtocolKind::Mrt(_)
        | ProtocolKind::Bmp(_)
        | ProtocolKind::Roas(_)
        | ProtocolKind::Rpki(_) => Vec::new(),
    }
}

fn exports(config: &KernelConfig) -> bool {
    config.channel.export != Policy::None
}

/// Is it a protocol for which somebody keeps routes over a restart of ours?
pub(super) fn is_written(protocol: &Protocol) -> bool {
    matches!(&protocol.kind, ProtocolKind::Kernel(kernel) if exports(kernel))
}

fn of(instance: &Instance) -> Option<(&KernelTable, &KernelConfig)> {
    match (&instance.kind, &instance.config.kind) {
        (Kind::Kernel(table), ProtocolKind::Kernel(config)) => Some((table, config)),
        _ => None,
    }
}

fn spec(instance: &Instance) -> Option<KernelSpec> {
    let (table, config) = of(instance).filter(|_| instance.enabled)?;
    Some(KernelSpec {
        protocol: instance.name().clone(),
        family: config.channel.family,
        epoch: table.epoch,
        table: config.kernel_table,
        metric: config.metric,
        exports: exports(config),
        learn: config.learn,
        persist: config.persist,
        scan_time: config.scan_time,
    })
}

/// The metric is the protocol's; where it has none, the route's own.
fn entry(route: FibRoute, metric: u32) -> KernelEntry {
    let own = route.krt.metric.filter(|_| metric == 0).unwrap_or(metric);
    KernelEntry {
        destination: route.destination,
        next_hops: route.next_hops,
        metric: own,
        source: route.krt.prefsrc,
    }
}

impl Speaker {
    pub(super) fn new_epoch(&mut self) -> u32 {
        self.next_epoch = self.next_epoch.wrapping_add(1);
        self.next_epoch
    }

    /// A kernel protocol comes up.
    pub(super) fn join_kernel(&mut self, source: SourceId) {
        let epoch = self.new_epoch();
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let Some(view) = fib_views(&instance.config).pop() else {
            return;
        };
        let Kind::Kernel(table) = &mut instance.kind else {
            return;
        };
        table.renew(epoch);
        table.channel[0].1 = self.tables.join(table.key(), View::Fib(view), source);
    }

    /// A kernel protocol goes down: the spec goes with it, and with the spec what was written.
    pub(super) fn leave_kernel(&mut self, source: SourceId) {
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let Kind::Kernel(table) = &mut instance.kind else {
            return;
        };
        let key = table.key();
        if let Some(member) = table.channel[0].1.take() {
            self.tables.leave(key, member);
        }
        self.tables.remove_where(key, source, |_| true);
    }

    /// What the shell was told may be lost: it is told everything anew.
    pub fn tell_kernels_anew(&mut self) {
        self.unflushed = true;
        for at in 0..self.instances.len() {
            let epoch = self.new_epoch();
            let Some(Some(instance)) = self.instances.get_mut(at) else {
                continue;
            };
            if let Kind::Kernel(table) = &mut instance.kind {
                table.renew(epoch);
                if let (key, Some(member)) = table.channel[0] {
                    self.tables.feed_again(key, member);
                }
            }
        }
    }

    /// The shell has written what it was given last.
    pub(super) fn written(&mut self, protocol: &str, epoch: u32) {
        let Some(instance) = self.find(protocol).and_then(|source| self.instance_mut(source)) else {
            return;
        };
        if let Kind::Kernel(table) = &mut instance.kind
            && table.epoch == epoch
        {
            table.room = true;
        }
    }

    /// Says which tables are written and how, when that has changed.
    pub(super) fn kernels(&mut self, out: &mut Vec<Output>) {
        let running = self.instances.iter().flatten().filter(|_| !self.stopping);
        let wanted: Vec<KernelSpec> = running.filter_map(spec).collect();
        if wanted != self.kernel_specs {
            self.kernel_specs.clone_from(&wanted);
            out.push(Output::Kernels(wanted));
        }
    }

    /// Is there something to tell about this kernel protocol, and may it be told?
    pub(super) fn owes_kernel(&self, instance: &Instance) -> bool {
        let Some((table, config)) = of(instance) else {
            return false;
        };
        let routes = |member| self.tables.has_work(table.key(), member);
        let marked = table.in_sync || !exports(config) || !self.convergence.is_done();
        table.room && table.member().is_some_and(|member| routes(member) || !marked)
    }

    /// Gives each writer that can take it a batch.
    pub(super) fn feed_kernels(&mut self, out: &mut Vec<Output>) {
        let converged = self.convergence.is_done();
        for at in 0..self.instances.len() {
            let Some((table, config)) = self.instances[at].as_ref().and_then(of) else {
                continue;
            };
            let (Some(member), true) = (table.member(), table.room) else {
                continue;
            };
            let (key, metric, exports) = (table.key(), config.metric, exports(config));
            let source = SourceId(u16::try_from(at).unwrap_or(u16::MAX));
            let mut deltas = Vec::new();
            if self.tables.has_work(key, member) {
                let max = self.export_max(source, key);
                for (nlri, route) in self.tables.pull(key, member, BATCH, max) {
                    let route = route.map(|route| self.tables.shared.fib.get(route));
                    deltas.push(match route {
                        Some(route) => Delta::Set(nlri.prefix, entry(route, metric)),
                        None => Delta::Delete(nlri.prefix),
                    });
                }
            }
            if !self.limit_export(source, key, member) {
                continue;
            }
            let complete = exports && converged && !self.tables.has_work(key, member);
            let Some(Some(instance)) = self.instances.get_mut(at) else {
                continue;
            };
            let protocol = instance.config.name.clone();
            let Kind::Kernel(table) = &mut instance.kind else {
                continue;
            };
            if complete && !std::mem::replace(&mut table.in_sync, true) {
                deltas.push(Delta::InSync);
            }
            if !deltas.is_empty() {
                table.room = false;
                out.push(Output::Kernel {
                    protocol,
                    epoch: table.epoch,
                    deltas,
                });
            }
        }
    }

    /// Routes of others in the kernel's table; with `complete` these are all.
    pub(super) fn learn(&mut self, protocol: &str, complete: bool, aliens: Vec<(Prefix, Option<Alien>)>) {
        let since = self.seconds();
        let Some(instance) = self.find(protocol).and_then(|source| self.instance(source)) else {
            return;
        };
        let (source, name, enabled) = (instance.source, instance.name().clone(), instance.enabled);
        let Some((table, config)) = of(instance).filter(|(_, config)| config.learn && enabled) else {
            return;
        };
        let (key, preference) = (table.key(), config.channel.preference);
        let Some(view) = self.alien_view(source) else { return };
        self.tables
            .set_source(source, &name, RouteSource::Inherit, view.traits.clone());
        if complete {
            self.tables.mark(key, source, Stale::Refresh);
        }
        for (net, alien) in aliens {
            let Some(alien) = alien else {
                self.tables.remove(key, net, source, 0);
                continue;
            };
            let learned = learned(alien, preference);
            let id = self.tables.shared.learned.intern(&learned);
            let mut importer = Importer::new(&view, id, learned);
            self.tables.insert(key, net, (source, 0, since), &mut importer, false);
            importer.finish(&mut self.tables.shared.learned);
            self.tables.shared.learned.release(id);
        }
        if complete {
            self.tables
                .remove_where(key, source, |path| path.stale() == Stale::Refresh);
        }
        self.limit_import(source, key, &view);
    }

    fn alien_view(&self, source: SourceId) -> Option<ImportView> {
        let instance = self.instance(source)?;
        let (_, config) = of(instance)?;
        Some(ImportView {
            protocol: instance.name().clone(),
            source: RouteSource::Inherit,
            traits: Traits::local(self.router_id),
            policy: config.channel.import.clone(),
            preference: config.channel.preference,
            rule: None,
            checks: None,
        })
    }

    /// Applies the filters of a kernel protocol anew.
    pub(super) fn refeed_kernel(&mut self, source: SourceId, import: bool, export: bool) {
        let view = self.alien_view(source).filter(|_| import);
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let fib = fib_views(&instance.config).pop().filter(|_| export);
        let Kind::Kernel(table) = &mut instance.kind else {
            return;
        };
        if let Some(view) = view {
            self.tables.reimport(table.key(), source, &view, None, &|_| true);
        }
        if let (Some(fib), (key, Some(member))) = (fib, table.channel[0]) {
            let moved = self.tables.change_view(key, member, View::Fib(fib));
            // The limit may be another one.
            moved.inspect(|moved| self.tables.unblock(key, *moved));
            table.channel[0].1 = moved;
        }
        let key = table.key();
        if let Some(view) = self.alien_view(source).filter(|_| import) {
            self.limit_import(source, key, &view);
        }
    }
}

fn learned(alien: Alien, preference: u16) -> Learned {
    let Alien { entry, protocol } = alien;
    let hop = |hop: FibNextHop| Hop {
        address: hop.address,
        interface: hop.interface,
        weight: hop.weight,
        onlink: hop.onlink,
    };
    Learned {
        attributes: Attributes::default(),
        preference,
        destination: entry.destination,
        igp_metric: None,
        krt: Krt {
            metric: Some(entry.metric),
            source: Some(protocol.into()),
            prefsrc: entry.source,
        },
        gateways: entry.next_hops.into_iter().map(hop).collect(),
        hop: None,
    }
}
