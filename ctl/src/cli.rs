//! The command line.

mod resources;

pub(crate) use resources::*;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tortie_kit::address::{ServiceAddr, ServiceAddrs};
use tortie_kit::telemetry::LogArgs;
use tortie_kit::tls::TlsArgs;

/// Show, apply and delete what the cluster is told; show what a node's BGP daemon does
#[derive(Debug, Parser)]
#[command(
    name = "tortiectl",
    version,
    after_help = "Exit status: 0 done; 1 something was refused or failed; 64 wrong command line. diff: 0 no difference, 1 differences, 2 trouble."
)]
pub(crate) struct Cli {
    /// Where typha is: unix:/path or tcp:host:port, or several separated by commas
    #[arg(long, env = "TORTIE_TYPHA", global = true, value_name = "ADDR")]
    pub(crate) typha: Option<ServiceAddrs>,
    /// For a typha on tcp: who we are to it, and whom it must be
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or change resources until they are as the files say
    ///
    /// Every document of every file is checked first, against the others and against the cluster: when one is refused,
    /// nothing is written.
    Apply(WriteArgs),
    /// Create resources that must not exist yet
    Create(WriteArgs),
    /// Replace resources that must exist
    Replace(WriteArgs),
    /// Change some fields of a resource
    Patch(PatchArgs),
    /// Delete resources, by kind and name or by files
    ///
    /// With a Node goes what is its own: its blocks, tunnel addresses, BGPPeers and settings. While workloads run there it is
    /// refused, unless --force, which deletes them too; --orphan deletes the Node alone, workloads or not, and what it leaves
    /// is collected later. With an IPPool go its empty blocks; addresses in use keep a pool from being deleted, unless --force.
    Delete(DeleteArgs),
    /// Show resources
    Get(GetArgs),
    /// Give resources labels, or take labels away
    Label(LabelArgs),
    /// Check files without asking any cluster
    Validate(ValidateArgs),
    /// What applying files would do: to objects, sessions, announced prefixes, pools and workloads
    ///
    /// Exit status as diff(1): 0 nothing would change, 1 something would, 2 it could not be found out.
    Diff(DiffArgs),
    /// What runs on a node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Who has which address, what does not agree, and giving back what was lost
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Save the whole state, or move it to another datastore
    #[command(subcommand)]
    Datastore(DatastoreCommand),
    /// Make certificates for Tortie's programs, for those who have no authority of their own
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Operate and watch a node's bird-rs
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Why an address, a prefix or a pod is, or is not, reached from a node
    Explain(Box<crate::explain::ExplainArgs>),
    /// The versions of this program, the cluster, typha, and the daemons that are named
    Version(VersionArgs),
    /// A script for shells that completes command lines
    Completion(CompletionArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Show how full pools and blocks are, or what an address is used for
    Show(IpamShowArgs),
    /// Compare what is allocated with what is in use
    Check(IpamCheckArgs),
    /// Give back an address, or all of a handle, that nobody uses
    Release(IpamReleaseArgs),
    /// Put several pools of equal size in the place of one; the datastore must be locked
    Split(IpamSplitArgs),
    /// Change how addresses are given in the whole cluster
    Configure(IpamConfigureArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IpamShowArgs {
    #[command(flatten)]
    pub(crate) what: IpamShown,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct IpamShown {
    /// What this address is used for
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// Each block too
    #[arg(long)]
    pub(crate) show_blocks: bool,
    /// Addresses that nodes have of others' blocks
    #[arg(long)]
    pub(crate) show_borrowed: bool,
    /// How addresses are given
    #[arg(long)]
    pub(crate) show_configuration: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IpamCheckArgs {
    /// List every address that is allocated, and its use
    #[arg(long)]
    pub(crate) show_all_ips: bool,
    /// List what is wrong
    #[arg(long)]
    pub(crate) show_problem_ips: bool,
    /// Write what was found to this file, for `ipam release --from-report`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IpamReleaseArgs {
    /// This address
    #[arg(long, value_name = "IP", conflicts_with_all = ["handle", "from_report"])]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// Every address of this handle, and the handle
    #[arg(long, value_name = "ID")]
    pub(crate) handle: Option<String>,
    /// Everything that this report of `ipam check -o` found lost; of several reports, what all of them found lost
    #[arg(long, value_name = "FILE", conflicts_with = "handle")]
    pub(crate) from_report: Vec<std::path::PathBuf>,
    /// Also when a workload or a node's tunnel uses it, or the datastore is not locked
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IpamSplitArgs {
    /// Into so many: a power of two
    #[arg(value_name = "N")]
    pub(crate) count: u32,
    /// The pool with this CIDR
    #[arg(long, value_name = "CIDR", required_unless_present = "name", conflicts_with = "name")]
    pub(crate) cidr: Option<tortie_net::Prefix>,
    /// The pool of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct IpamConfigureArgs {
    /// Never take addresses of another node's block
    #[arg(long = "strictaffinity", alias = "strict-affinity", value_name = "true|false")]
    pub(crate) strict_affinity: Option<bool>,
    /// So many blocks for a node at most; 0: as many as Calico's default
    #[arg(long, value_name = "N")]
    pub(crate) max_blocks_per_host: Option<u32>,
    /// How long a released address is not given out again
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ip_cooldown_seconds: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatastoreCommand {
    /// Write every document to a file, as it is stored
    Export(ExportArgs),
    /// Store the documents of such a file, as they are, in an empty datastore of whatever kind
    Import(ImportArgs),
    /// Take the datastore as it is, and lead every client there, after a backup was restored or it was made anew
    ///
    /// typha leads nobody to a state that is older than, or other than, what was there before, until it is told to.
    Accept,
    /// What typha serves, and whether it may be old because the datastore does not answer
    Status(DatastoreStatusArgs),
    /// No pod gets an address until the datastore is unlocked
    Lock,
    /// Pods get addresses again
    Unlock,
}

#[derive(Debug, Args)]
pub(crate) struct DatastoreStatusArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, or "-" for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) file: String,
    /// Change and delete what is there, so that the datastore holds what the file does and nothing else
    #[arg(long)]
    pub(crate) replace: bool,
    /// Say what would be done, but do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority: ca.pem, which every program is told, and ca.key, which none is
    Init(CertsInitArgs),
    /// Make a certificate that this authority signs: NAME.pem and NAME.key
    Issue(CertsIssueArgs),
    /// Show whose certificates are in these files, and until when they are good
    Show(CertsShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CertsInitArgs {
    /// Where the authority is kept, and what it signs is written
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: std::path::PathBuf,
    /// How long it is good
    #[arg(long, default_value_t = 3650, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CertsIssueArgs {
    /// In which capacity its owner comes
    #[arg(value_enum)]
    pub(crate) capacity: Capacity,
    /// Who it is: the node's name, the person's, typha's
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A host name or address that clients find this typha under; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Where the authority is
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: std::path::PathBuf,
    /// How long it is good
    #[arg(long, default_value_t = 365, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CertsShowArgs {
    /// Files with certificates, PEM
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<std::path::PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Capacity {
    /// typha, which clients connect to
    Typha,
    /// felix and confd of one node: they write what is the node's own
    Node,
    /// A person who may do everything
    Admin,
    /// A person who configures: pools, peers, filters, ...
    Operator,
    /// Whoever only looks
    Reader,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Register this host as a node: addresses, first pools, tunnel addresses; run before the daemons
    Init(Box<crate::node_init::NodeInitArgs>),
    /// How every node is, and its BGP sessions; with --bird, the sessions of one as its bird-rs tells them
    Status(NodeStatusArgs),
    /// Collect what tells a fault of this host in an archive
    Diags(crate::node_diags::NodeDiagsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeStatusArgs {
    /// Only these nodes
    #[arg(value_name = "NODE", conflicts_with = "bird")]
    pub(crate) nodes: Vec<String>,
    /// Ask one node's bird-rs instead of typha: unix:/path or tcp:host:port
    #[arg(long, value_name = "ADDR")]
    pub(crate) bird: Option<ServiceAddr>,
    /// Only nodes that are not ready, sessions that are not established, objects that fail
    #[arg(long, conflicts_with = "bird")]
    pub(crate) down: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Table)]
    pub(crate) output: StatusFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// What a node's BGP speaker should do, computed from the cluster's state, as confd renders it
    View(BgpViewArgs),
    /// The sessions that the cluster's state asks for, of every node
    Peers(BgpComputedArgs),
    /// The BGPFilters in use: on which sessions, as which functions
    Filters(BgpComputedArgs),
    /// What each node announces of its own, to whom
    Announced(BgpComputedArgs),
    /// Bring protocols up
    Enable(OperateArgs),
    /// Take protocols down until they are enabled, or until the configuration says otherwise
    Disable(OperateArgs),
    /// Take protocols down and up again
    Restart(OperateArgs),
    /// Apply filters anew, without touching sessions
    Reload(ReloadArgs),
    /// Show routes
    Routes(BgpRoutesArgs),
    /// Keep the configuration that is on trial
    Confirm(BirdArgs),
    /// Go back to the configuration before
    Undo(BirdArgs),
    /// Follow what changes, until interrupted
    ///
    /// What there is comes first, then "= in sync", then changes: "+" is there now, "-" is gone.
    #[command(subcommand)]
    Watch(BgpWatchCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BgpWatchCommand {
    /// BGP sessions
    Peers(WatchPeersArgs),
    /// The best route of each prefix. Of QUERY only tables, prefixes and filters count
    Routes(BgpRoutesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BirdArgs {
    /// Where the node's bird-rs is: unix:/path or tcp:host:port
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR")]
    pub(crate) bird: ServiceAddr,
}

#[derive(Debug, Args)]
pub(crate) struct OperateArgs {
    /// Names of protocols, or patterns with * and ?
    #[arg(value_name = "NAME", required = true)]
    pub(crate) protocols: Vec<String>,
    /// Told to the peer when its session ends by this (RFC 9003)
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) bird: BirdArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
    /// Only what is received
    #[arg(long = "in", conflicts_with = "export")]
    pub(crate) import: bool,
    /// Only what is announced
    #[arg(long = "out")]
    pub(crate) export: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BgpRoutesArgs {
    /// As behind birdc's `show route`: 10.0.0.0/8, for 10.1.2.3, in 10.0.0.0/8, where bgp_path ~ [= * 65001 =], table t, ..
    #[arg(value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = LineFormat::Text)]
    pub(crate) output: LineFormat,
    #[command(flatten)]
    pub(crate) bird: BirdArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WatchPeersArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = LineFormat::Text)]
    pub(crate) output: LineFormat,
    #[command(flatten)]
    pub(crate) bird: BirdArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// A line each
    Text,
    /// A JSON object on a line each
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// A table for each address family
    Table,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Only this program's version; ask nobody
    #[arg(long)]
    pub(crate) client: bool,
    /// Ask the node's bird-rs too: unix:/path
    #[arg(long, value_name = "ADDR")]
    pub(crate) bird: Option<ServiceAddr>,
    /// Ask the node's felix too: unix:/path
    #[arg(long, value_name = "ADDR")]
    pub(crate) felix: Option<ServiceAddr>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Whose
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// A command line that parses and still says nothing we can do.
#[derive(Debug, thiserror::Error)]
#[error("{0} (see tortiectl --help)")]
pub(crate) struct Usage(pub(crate) String);

impl Usage {
    pub(crate) fn error(text: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Usage(text.into()))
    }
}
