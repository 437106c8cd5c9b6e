//! Protocols but BGP, and what all share: names, templates, the common options.

use std::sync::Arc;
use std::time::Duration;

use tortie_net::RouterId;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::{
    BfdConfig, Config, DeviceConfig, DirectConfig, FelixConfig, InterfacePattern, KernelConfig, Policy, Protocol,
    ProtocolKind,
};
use super::bgp::BgpDraft;
use super::bmp::BmpDraft;
use super::channel::{ChannelDraft, ChannelOf};
use super::monitor::{MRT_OPTIONS, MrtDraft};
use super::rpki::{RPKI_OPTIONS, RoaChannelDraft, RpkiDraft};
use super::static_route::StaticDraft;
use super::{Parser, Symbol};

/// BIRD's default for `scan time`.
const DEFAULT_SCAN_TIME: Duration = Duration::from_secs(60);
/// Linux' main routing table.
const MAIN_TABLE: u32 = 254;
/// BIRD's default metric of routes in the kernel.
const DEFAULT_METRIC: u32 = 32;

const PREFERENCE_DIRECT: u16 = 240;
const PREFERENCE_KERNEL: u16 = 10;

/// A protocol or template while its options may still change.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    description: Option<String>,
    disabled: bool,
    debug: bool,
    router_id: Option<RouterId>,
    channels: Vec<ChannelDraft>,
    roa_channels: Vec<RoaChannelDraft>,
    kind: DraftKind,
}

impl Draft {
    /// In place of one whose options nobody copies any more.
    pub(super) fn done() -> Self {
        Draft {
            description: None,
            disabled: false,
            debug: false,
            router_id: None,
            channels: Vec::new(),
            roa_channels: Vec::new(),
            kind: DraftKind::Felix,
        }
    }
}

#[derive(Debug, Clone)]
enum DraftKind {
    Device(DeviceConfig),
    Direct(Vec<Vec<InterfacePattern>>, bool),
    Static(StaticDraft),
    Kernel(KernelDraft),
    Felix,
    Bfd(BfdConfig),
    Bgp(Box<BgpDraft>),
    Mrt(MrtDraft),
    Bmp(BmpDraft),
    Rpki(RpkiDraft),
}

#[derive(Debug, Clone)]
struct KernelDraft {
    persist: bool,
    scan_time: Duration,
    learn: bool,
    kernel_table: u32,
    metric: u32,
    merge_paths: Option<u8>,
    graceful_restart: bool,
}

impl DraftKind {
    /// A new draft of the protocol with this keyword.
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "device" => DraftKind::Device(DeviceConfig {
                scan_time: DEFAULT_SCAN_TIME,
            }),
            "direct" => DraftKind::Direct(Vec::new(), false),
            "static" => DraftKind::Static(StaticDraft::default()),
            "kernel" => DraftKind::Kernel(KernelDraft {
                persist: false,
                scan_time: DEFAULT_SCAN_TIME,
                learn: false,
                kernel_table: MAIN_TABLE,
                metric: DEFAULT_METRIC,
                merge_paths: None,
                graceful_restart: false,
            }),
            "felix" => DraftKind::Felix,
            "bfd" => DraftKind::Bfd(BfdConfig::default()),
            "bgp" => DraftKind::Bgp(Box::default()),
            "mrt" => DraftKind::Mrt(MrtDraft::default()),
            "bmp" => DraftKind::Bmp(BmpDraft::default()),
            "rpki" => DraftKind::Rpki(RpkiDraft::default()),
            _ => return None,
        })
    }

    fn as_str(&self) -> &'static str {
        match self {
            DraftKind::Device(_) => "device",
            DraftKind::Direct(..) => "direct",
            DraftKind::Static(_) => "static",
            DraftKind::Kernel(_) => "kernel",
            DraftKind::Felix => "felix",
            DraftKind::Bfd(_) => "bfd",
            DraftKind::Bgp(_) => "bgp",
            DraftKind::Mrt(_) => "mrt",
            DraftKind::Bmp(_) => "bmp",
            DraftKind::Rpki(_) => "rpki",
        }
    }

    /// What may be said in its block, beside the common options.
    fn options(&self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            DraftKind::Device(_) => &["scan time"],
            DraftKind::Direct(..) => &["interface", "check link", "ipv4", "ipv6"],
            DraftKind::Static(_) => &["route", "check link", "igp table", "ipv4", "ipv6", "roa4", "roa6"],
            DraftKind::Kernel(_) => &[
                "persist",
                "scan time",
                "learn",
                "kernel table",
                "metric",
                "merge paths",
                "graceful restart",
                "ipv4",
                "ipv6",
            ],
            DraftKind::Felix => &["ipv4", "ipv6"],
            DraftKind::Bfd(_) => &super::bfd::OPTIONS,
            DraftKind::Bgp(_) => return super::bgp::options(),
            DraftKind::Mrt(_) => &MRT_OPTIONS,
            DraftKind::Bmp(_) => &super::bmp::OPTIONS,
            DraftKind::Rpki(_) => &RPKI_OPTIONS,
        };
        own.to_vec()
    }
}

const COMMON_OPTIONS: [&str; 4] = ["description", "disabled", "debug", "router id"];

impl Parser {
    /// `protocol|template KIND [NAME] [from NAME] { OPTIONS }`.
    pub(super) fn protocol(&mut self, template: bool) -> Checked<()> {
        let at = self.here();
        self.advance();
        let Some(word) = self.word() else {
            return Err(self.unexpected("a protocol"));
        };
        let Some(kind) = DraftKind::named(&word) else {
            let complaint = Complaint::new(self.here(), format!("protocol '{word}' is not supported"));
            let hint = match &*word {
                "pipe" => "routes do not pass from table to table: say in each channel which table it is for",
                _ => "expected one of: device, direct, static, kernel, felix, bfd, bgp, mrt, bmp, rpki",
            };
            return Err(complaint.with_hint(hint));
        };
        self.advance();
        let named = !self.is_sign("{") && !self.is_word("from");
        let (name, place) = if named {
            self.name("a name")?
        } else {
            (self.default_name(kind.as_str()), at)
        };
        let mut draft = Draft {
            description: None,
            disabled: false,
            debug: self.debug,
            router_id: None,
            channels: Vec::new(),
            roa_channels: Vec::new(),
            kind,
        };
        if self.eat_word("from") {
            draft = self.origin(&draft.kind)?;
        }
        let errors = self.complaints.len();
        self.options(&mut draft)?;
        let wrong = self.complaints.len() > errors;
        let shared = Arc::new(draft.clone());
        let symbol = if template {
            Symbol::Template(shared)
        } else {
            Symbol::Protocol(shared)
        };
        self.define(&name, place, symbol)?;
        // What is missing because its statement was wrong is not to be complained about too.
        if !template && !wrong {
            let bfd_at = match &draft.kind {
                DraftKind::Bgp(bgp) => bgp.bfd_at,
                _ => None,
            };
            let protocol = draft.finish(&name, at, &self.config)?;
            self.single_device(&protocol, at)?;
            self.bfd_users.extend(bfd_at.map(|bfd_at| (bfd_at, name)));
            self.config.protocols.push(Arc::new(protocol));
        }
        Ok(())
    }

    fn single_device(&self, protocol: &Protocol, at: Position) -> Checked<()> {
        let device = |p: &Protocol| matches!(p.kind, ProtocolKind::Device(_));
        if device(protocol) && self.config.protocols.iter().any(|p| device(p)) {
            return Err(Complaint::new(at, "there is a protocol device already"));
        }
        Ok(())
    }

    /// BIRD's names for protocols without one: `bgp1`, `bgp2`, ..
    fn default_name(&self, kind: &str) -> Arc<str> {
        let mut number: u32 = 1;
        loop {
            let name: Arc<str> = format!("{kind}{number}").into();
            if !self.symbols.contains_key(&name) {
                return name;
            }
            number += 1;
        }
    }

    /// The draft behind `from`.
    fn origin(&mut self, kind: &DraftKind) -> Checked<Draft> {
        let at = self.here();
        let (name, _) = self.name("the name of a template or protocol")?;
        let draft = match self.symbols.get(&name) {
            Some(Symbol::Template(draft) | Symbol::Protocol(draft)) => draft,
            Some(symbol) => {
                let message = format!("a template or protocol expected, but '{name}' is {}", symbol.as_str());
                return Err(Complaint::new(at, message));
            }
            None => return Err(Complaint::new(at, format!("unknown template '{name}'"))),
        };
        if draft.kind.as_str() != kind.as_str() {
            let message = format!("'{name}' is of protocol {}, not {}", draft.kind.as_str(), kind.as_str());
            return Err(Complaint::new(at, message));
        }
        let mut copy = draft.as_ref().clone();
        for channel in &mut copy.channels {
            channel.opened = false;
        }
        for channel in &mut copy.roa_channels {
            channel.opened = false;
        }
        Ok(copy)
    }

    /// `{ OPTIONS }`. An error in one option does not keep the others from being checked.
    fn options(&mut self, draft: &mut Draft) -> Checked<()> {
        self.sign("{")?;
        while !self.eat_sign("}") {
            let start = self.at;
            if let Err(complaint) = self.option(draft) {
                self.complain(complaint);
                self.recover(start, false);
                if self.at == start {
                    return Err(self.unexpected("a statement of a protocol or '}'"));
                }
            }
        }
        Ok(())
    }

    fn option(&mut self, draft: &mut Draft) -> Checked<()> {
        if self.eat_sign(";") {
            return Ok(());
        }
        if self.eat_word("description") {
            draft.description = Some(self.text("description")?.as_ref().to_owned());
            return self.end();
        }
        if self.eat_word("disabled") {
            draft.disabled = self.switch("disabled")?;
            return self.end();
        }
        if self.eat_word("debug") {
            draft.debug = self.debug_mask()?;
            return self.end();
        }
        if self.eat_phrase("router id") {
            draft.router_id = Some(self.router_id("router id")?);
            return self.end();
        }
        let has_roas = matches!(
            draft.kind,
            DraftKind::Static(_) | DraftKind::Bmp(_) | DraftKind::Rpki(_)
        );
        if has_roas && (self.is_word("roa4") || self.is_word("roa6")) {
            return self.roa_channel(&mut draft.roa_channels);
        }
        let has_channels = !matches!(
            draft.kind,
            DraftKind::Device(_) | DraftKind::Bfd(_) | DraftKind::Mrt(_) | DraftKind::Bmp(_) | DraftKind::Rpki(_)
        );
        if has_channels && (self.is_word("ipv4") || self.is_word("ipv6")) {
            let of = match draft.kind {
                DraftKind::Bgp(_) => ChannelOf::Bgp,
                DraftKind::Felix => ChannelOf::Felix,
                DraftKind::Device(_)
                | DraftKind::Bfd(_)
                | DraftKind::Direct(..)
                | DraftKind::Static(_)
                | DraftKind::Kernel(_)
                | DraftKind::Mrt(_)
                | DraftKind::Bmp(_)
                | DraftKind::Rpki(_) => ChannelOf::Another,
            };
            return self.channel(&mut draft.channels, of);
        }
        let done = match &mut draft.kind {
            DraftKind::Device(device) => self.device_option(device)?,
            DraftKind::Direct(interfaces, check_link) => self.direct_option(interfaces, check_link)?,
            DraftKind::Static(draft) => self.static_option(draft)?,
            DraftKind::Kernel(draft) => self.kernel_option(draft)?,
            DraftKind::Felix => false,
            DraftKind::Bfd(bfd) => self.bfd_option(bfd)?,
            DraftKind::Bgp(draft) => self.bgp_option(draft)?,
            DraftKind::Mrt(draft) => self.mrt_option(draft)?,
            DraftKind::Bmp(draft) => self.bmp_option(draft)?,
            DraftKind::Rpki(draft) => self.rpki_option(draft)?,
        };
        if !done {
            let known = draft.kind.options().into_iter().chain(COMMON_OPTIONS);
            return Err(self.unknown_option(&format!("protocol {}", draft.kind.as_str()), known));
        }
        Ok(())
    }

    fn device_option(&mut self, device: &mut DeviceConfig) -> Checked<bool> {
        if !self.eat_phrase("scan time") {
            return Ok(false);
        }
        device.scan_time = self.seconds("scan time", 1..=u32::MAX)?;
        self.end().map(|()| true)
    }

    fn direct_option(&mut self, interfaces: &mut Vec<Vec<InterfacePattern>>, check_link: &mut bool) -> Checked<bool> {
        if self.eat_phrase("check link") {
            *check_link = self.switch("check link")?;
        } else if self.eat_word("interface") {
            interfaces.push(self.interface_patterns()?);
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// `[-]["MASK"] [PREFIX|ADDRESS], ..`.
    pub(super) fn interface_patterns(&mut self) -> Checked<Vec<InterfacePattern>> {
        let mut patterns = vec![self.interface_pattern()?];
        while self.eat_sign(",") {
            patterns.push(self.interface_pattern()?);
        }
        Ok(patterns)
    }

    /// `[-]["MASK"] [PREFIX|ADDRESS]`.
    pub(super) fn interface_pattern(&mut self) -> Checked<InterfacePattern> {
        let positive = !self.eat_sign("-");
        let name = if self.text_next() {
            Some(self.text("interface")?.as_ref().to_owned())
        } else {
            None
        };
        let prefix = match self.literal_prefix()? {
            Some(prefix) => Some(prefix),
            None if self.address_next().is_some() => Some(tortie_net::Prefix::host(self.address("interface")?)),
            None if name.is_some() => None,
            None => return Err(self.unexpected("an interface's name in double quotes or a prefix")),
        };
        Ok(InterfacePattern { positive, name, prefix })
    }

    fn kernel_option(&mut self, draft: &mut KernelDraft) -> Checked<bool> {
        if self.eat_word("persist") {
            draft.persist = self.switch("persist")?;
        } else if self.eat_phrase("scan time") {
            draft.scan_time = self.seconds("scan time", 1..=u32::MAX)?;
        } else if self.eat_word("learn") {
            draft.learn = self.switch("learn")?;
        } else if self.eat_phrase("kernel table") {
            draft.kernel_table = self.number_in("kernel table", 1..=u32::MAX)?;
        } else if self.eat_word("metric") {
            draft.metric = self.number("metric")?;
        } else if self.eat_phrase("graceful restart") {
            draft.graceful_restart = self.switch("graceful restart")?;
        } else if self.eat_phrase("merge paths") {
            draft.merge_paths = self.merge_paths()?;
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }
}

impl Draft {
    /// The complete protocol.
    fn finish(self, name: &Arc<str>, at: Position, config: &Config) -> Checked<Protocol> {
        let kind = match self.kind {
            DraftKind::Device(device) => ProtocolKind::Device(device),
            DraftKind::Direct(interfaces, check_link) => ProtocolKind::Direct(DirectConfig {
                interfaces,
                check_link,
                channels: several(&self.channels, Policy::None, PREFERENCE_DIRECT),
            }),
            DraftKind::Static(draft) => draft.finish(&self.channels, &self.roa_channels, (at, config))?,
            DraftKind::Kernel(draft) => {
                let channel = single(&self.channels, "kernel", at)?;
                ProtocolKind::Kernel(KernelConfig {
                    persist: draft.persist,
                    scan_time: draft.scan_time,
                    learn: draft.learn,
                    kernel_table: draft.kernel_table,
                    metric: draft.metric,
                    merge_paths: draft.merge_paths,
                    graceful_restart: draft.graceful_restart,
                    channel: channel.finish(Policy::All, Policy::None, PREFERENCE_KERNEL),
                })
            }
            DraftKind::Felix => ProtocolKind::Felix(felix(&self.channels, at)?),
            DraftKind::Bfd(bfd) => ProtocolKind::Bfd(bfd),
            DraftKind::Bgp(draft) => ProtocolKind::Bgp(Box::new(draft.finish(&self.channels, at, config)?)),
            DraftKind::Mrt(draft) => ProtocolKind::Mrt(draft.finish(at)?),
            DraftKind::Bmp(draft) => ProtocolKind::Bmp(draft.finish(at)?),
            DraftKind::Rpki(draft) => ProtocolKind::Rpki(draft.finish(&self.roa_channels, (at, config))?),
        };
        Ok(Protocol {
            name: Arc::clone(name),
            description: self.description,
            disabled: self.disabled,
            debug: self.debug,
            router_id: self.router_id,
            kind,
        })
    }
}

fn several(channels: &[ChannelDraft], export: Policy, preference: u16) -> Vec<super::super::Channel> {
    channels
        .iter()
        .map(|c| c.finish(Policy::All, export.clone(), preference))
        .collect()
}

pub(super) fn single<'c>(channels: &'c [ChannelDraft], kind: &str, at: Position) -> Checked<&'c ChannelDraft> {
    match channels {
        [channel] => Ok(channel),
        [] => {
            let complaint = Complaint::new(at, format!("protocol {kind} has no channel"));
            Err(complaint.with_hint("write 'ipv4;' or 'ipv6;' in it"))
        }
        _ => {
            let complaint = Complaint::new(at, format!("protocol {kind} has more than one channel"));
            Err(complaint.with_hint("write one protocol for each family"))
        }
    }
}

fn felix(channels: &[ChannelDraft], at: Position) -> Checked<FelixConfig> {
    if channels.is_empty() {
        return Err(Complaint::new(at, "protocol felix has no channel"));
    }
    for channel in channels {
        if channel.import.as_ref().is_some_and(|import| *import != Policy::None) {
            let message = format!(
                "felix sends us no routes: channel '{}' cannot import",
                channel.family.as_str()
            );
            return Err(Complaint::new(at, message));
        }
    }
    Ok(FelixConfig {
        channels: channels
            .iter()
            .map(|c| c.finish(Policy::None, Policy::None, 0))
            .collect(),
    })
}
