//! Settings of a command: its flags over the environment over its file.

use std::path::Path;

use log::LevelFilter;

use crate::config::{ConfigError, Fragment, Settings, from_credentials, from_environment, from_file};
use crate::systemd::start_logging;

/// Merges the sources and starts logging at the level that they say, `level` if they say none.
pub(super) fn settle(flags: Fragment, file: Option<&Path>, level: LevelFilter) -> anyhow::Result<Settings> {
    let settings = merge(flags, file)?;
    start_logging(settings.log.unwrap_or(level))?;
    Ok(settings)
}

/// The settings that the sources give together.
pub(super) fn merge(flags: Fragment, file: Option<&Path>) -> Result<Settings, ConfigError> {
    let file = file.map(from_file).transpose()?.unwrap_or_default();
    let environment = from_environment(|name| std::env::var_os(name))?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let credentials = credentials.map(|folder| from_credentials(Path::new(&folder))).unwrap_or_default();
    Settings::resolve(flags.over(environment).over(file).over(credentials))
}
