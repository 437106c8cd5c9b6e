//! By what felix knows its routes in the kernel, also those of a former life that was told other numbers.
//!
//! Calico's numbers are always felix's. Others are asked for by FelixConfiguration and BGPConfiguration, and they change: so they
//! are kept in a file before the first route has them, until the kernel was seen without any, and with every source in
//! sync. Without the file a route whose number was given up while felix was down would stay for ever, as somebody else's.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tortie_calc::{RouteMetrics, Settings};
use tortie_net::Prefix;
use tortie_netlink::route::Protocol;

use super::class::RouteClass;

/// What routes were given besides Calico's numbers: what one life tells the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Protocol numbers, of any route.
    protocols: BTreeSet<u8>,
    /// Metrics of routes learned by BGP.
    metrics: BTreeSet<u32>,
}

impl Remembered {
    /// What the file says; nothing when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not what [`Remembered::write`] wrote; the text names it.
    pub fn read(path: &Path) -> io::Result<Remembered> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| named(e.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Remembered::default()),
            Err(e) => Err(named(e)),
        }
    }

    /// Replaces the file. Blocks.
    ///
    /// # Errors
    /// What the file system said, naming the file, which is as it was then.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        tortie_kit::file::write_atomic(path, &text, 0o600)
    }
}

/// By which protocol numbers routes of ours are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// What routes to workloads and through VXLAN are given.
    device: Protocol,
    /// Numbers of our own besides Calico's, and those of before while there may be routes that have them.
    own: BTreeSet<Protocol>,
    /// Whatever else leads to workloads' interfaces alone is ours too, to be removed.
    external: bool,
    /// What routes are given.
    metrics: RouteMetrics,
    /// The metrics of routes learned by BGP, Calico's default, and those of before while there may be routes that have them.
    learned: BTreeSet<u32>,
}

impl Default for Marks {
    fn default() -> Self {
        Marks {
            device: Protocol::BOOT,
            own: BTreeSet::new(),
            external: false,
            metrics: RouteMetrics::default(),
            learned: BTreeSet::from(RouteMetrics::default().learned),
        }
    }
}

impl Marks {
    /// Routes get these from now on. Gives whether other routes may be ours now.
    pub fn change(&mut self, settings: &Settings) -> bool {
        let before = self.clone();
        self.device = Protocol(settings.device_route_protocol);
        if self.device != Protocol::BOOT {
            self.own.insert(self.device);
        }
        self.external = settings.remove_external_routes;
        self.metrics = settings.metrics;
        self.learned.extend(settings.metrics.learned);
        before != *self
    }

    /// These besides the default: what is now, and what was before.
    pub fn to_remember(&self) -> Remembered {
        let default = RouteMetrics::default().learned;
        Remembered {
            protocols: self.own.iter().map(|p| p.0).collect(),
            metrics: self.learned.iter().copied().filter(|m| !default.contains(m)).collect(),
        }
    }

    /// What a former life gave to routes.
    pub fn recall(&mut self, remembered: &Remembered) {
        self.own.extend(remembered.protocols.iter().copied().map(Protocol));
        self.learned.extend(&remembered.metrics);
    }

    /// Without what was before.
    pub fn current(&self) -> Marks {
        let mut current = self.clone();
        current.own.retain(|p| *p == self.device);
        let default = RouteMetrics::default().learned;
        let given = |m: &u32| self.metrics.learned.contains(m) || default.contains(m);
        current.learned.retain(given);
        current
    }

    /// Is it one of our numbers, besides Calico's?
    pub(super) fn is_own(&self, protocol: Protocol) -> bool {
        self.own.contains(&protocol)
    }

    /// Is it a metric of routes learned by BGP?
    pub(super) fn is_learned(&self, metric: u32) -> bool {
        self.learned.contains(&metric)
    }

    /// Is whatever leads to workloads' interfaces alone ours?
    pub(super) fn external(&self) -> bool {
        self.external
    }

    /// The metric of a route of this class; 0 where nothing else of ours is in the way.
    pub fn metric(&self, class: RouteClass, prefix: Prefix) -> u32 {
        let family = usize::from(!prefix.is_v4());
        match class {
            RouteClass::LocalWorkload => self.metrics.workloads[family],
            RouteClass::Bgp => self.metrics.learned[family],
            RouteClass::SameSubnet | RouteClass::VxlanTunnel | RouteClass::OwnBlock => 0,
        }
    }

    /// The number of the routes of this class.
    pub fn of(&self, class: RouteClass) -> Protocol {
        match class {
            RouteClass::LocalWorkload | RouteClass::VxlanTunnel => self.device,
            RouteClass::SameSubnet | RouteClass::OwnBlock if self.device == Protocol::BOOT => Protocol::CALICO,
            RouteClass::SameSubnet | RouteClass::OwnBlock => self.device,
            RouteClass::Bgp => Protocol::BIRD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(device: u8, learned: u32) -> Settings {
        let mut settings = Settings {
            device_route_protocol: device,
            ..Settings::default()
        };
        settings.metrics.learned = [learned; 2];
        settings
    }

    #[test]
    fn a_life_tells_the_next_what_routes_may_have() {
        let mut marks = Marks::default();
        assert_eq!(
            marks.to_remember(),
            Remembered::default(),
            "Calico's numbers need no memory"
        );
        assert!(marks.change(&told(77, 2000)));
        assert!(marks.change(&told(78, 3000)));
        let mut next = Marks::default();
        next.recall(&marks.to_remember());
        assert!([77, 78].iter().all(|p| next.is_own(Protocol(*p))) && !next.is_own(Protocol(79)));
        assert!([1024, 2000, 3000].iter().all(|m| next.is_learned(*m)) && !next.is_learned(32));
        next.change(&told(78, 3000));
        let current = next.current();
        assert_eq!(
            (current.is_own(Protocol(77)), current.is_own(Protocol(78))),
            (false, true)
        );
        assert_eq!((current.is_learned(2000), current.is_learned(3000)), (false, true));
        next.change(&told(3, 1024));
        assert_eq!(next.current().to_remember(), Remembered::default());
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_one_that_is_torn_is_named() {
        let dir = std::env::temp_dir().join(format!("felix-marks-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("marks.json");
        assert_eq!(Remembered::read(&file).unwrap(), Remembered::default());
        let mut marks = Marks::default();
        marks.change(&told(77, 2000));
        marks.to_remember().write(&file).unwrap();
        assert_eq!(Remembered::read(&file).unwrap(), marks.to_remember());
        std::fs::write(&file, r#"{"protocols":[7"#).unwrap();
        let error = Remembered::read(&file).unwrap_err().to_string();
        assert!(error.contains("marks.json: EOF"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
