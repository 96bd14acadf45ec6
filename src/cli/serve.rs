//! `pled serve`: the daemon.

use std::path::PathBuf;

use log::LevelFilter;

use super::settings::settle;
use crate::config::{ModelFlags, ServerFlags};
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file (TOML); flags and PLED_* variables win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    server: ServerFlags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let flags = args.server.fragment().over(args.model.fragment());
    let settings = settle(flags, args.config.as_deref(), LevelFilter::Info)?;
    daemon::serve(&settings)
}
