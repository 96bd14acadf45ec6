//! `pled serve`: the daemon.

use std::path::PathBuf;

use super::settings::{merge, settle};
use crate::config::{ModelFlags, ServerFlags};
use crate::daemon::{self, DEFAULT_LOG};

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
    let settings = settle(flags.clone(), args.config.as_deref(), DEFAULT_LOG)?;
    let file = args.config.clone();
    daemon::serve(&settings, move || merge(flags.clone(), file.as_deref()))
}
