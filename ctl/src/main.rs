//! `tortiectl`: shows, applies and deletes what the cluster is told, registers nodes, shows what a node's BGP daemon does,
//! and operates it.
//!
//! Exit status: 0 when everything asked for was done; 1 when something was refused or failed (what, is on standard
//! error); 64 when the command line is wrong. That of `diff` is diff(1)'s: 0 no difference, 1 differences, 2 trouble.

mod apply;
mod bgp;
mod certs;
mod cli;
mod cluster_status;
mod columns;
mod completion;
mod computed;
mod datastore;
mod delete;
mod diff;
mod edit;
mod explain;
mod foretell;
mod get;
mod ipam;
mod node_diags;
mod node_init;
mod node_status;
mod output;
mod source;
mod store;
mod table;
mod template;
mod validate;
mod version;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tortie_kit::address::Target;

use cli::{Cli, Command, NodeCommand};

/// A wrong command line, as sysexits.h has it.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let status = match e.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ => EX_USAGE,
            };
            // A closed pipe is no reason to say more.
            let _unwritable = e.print();
            return ExitCode::from(status);
        }
    };
    if let Err(e) = tortie_kit::telemetry::init(&cli.log) {
        eprintln!("tortiectl: {e}");
        return ExitCode::from(EX_USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("tortiectl: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    // diff(1) says with 1 that there are differences.
    let failed = if matches!(cli.command, Command::Diff(_)) {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<output::Silent>() => ExitCode::FAILURE,
        Err(e) if e.is::<cli::Usage>() => {
            eprintln!("tortiectl: {e:#}");
            ExitCode::from(EX_USAGE)
        }
        Err(e) if e.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(e) if e.is::<explain::Ending>() => e.downcast().map_or(ExitCode::FAILURE, explain::Ending::code),
        Err(e) => {
            eprintln!("tortiectl: {e:#}");
            failed
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli {
        typha, tls, command, ..
    } = cli;
    let typha = typha.map(|addr| Target::new(addr, tls.files()));
    match command {
        Command::Apply(args) => apply::write(typha, apply::Verb::Apply, &args).await,
        Command::Create(args) => apply::write(typha, apply::Verb::Create, &args).await,
        Command::Replace(args) => apply::write(typha, apply::Verb::Replace, &args).await,
        Command::Delete(args) => delete::delete(typha, &args).await,
        Command::Patch(args) => edit::patch(typha, &args).await,
        Command::Label(args) => edit::label(typha, &args).await,
        Command::Validate(args) => validate::validate(&args),
        Command::Diff(args) => diff::diff(typha, &args).await,
        Command::Get(args) => get::get(typha, &args).await,
        Command::Ipam(command) => ipam::run(typha, &command).await,
        Command::Datastore(command) => datastore::run(typha, &command).await,
        Command::Certs(command) => certs::run(&command),
        Command::Bgp(command) => bgp::run(typha, &command).await,
        Command::Node(NodeCommand::Init(args)) => node_init::init(typha, &args).await,
        Command::Explain(args) => explain::run(typha, &args).await,
        Command::Node(NodeCommand::Diags(args)) => node_diags::collect(typha, &args).await,
        Command::Completion(args) => completion::print(args.shell),
        Command::Node(NodeCommand::Status(args)) => match &args.bird {
            Some(bird) => node_status::show(bird, args.output).await,
            None => cluster_status::show(typha, &args).await,
        },
        Command::Version(args) => version::show(typha, &args).await,
    }
}
