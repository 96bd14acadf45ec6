//! SIGHUP: the configuration is read again, and what can change while the daemon runs is changed.
//!
//! That is the log level. All else is part of the model, the engine or the sockets: what was changed of it is named, and
//! takes a restart. A configuration that is wrong changes nothing. In a terminal SIGHUP means that it is gone, and ends
//! the process as it ends others.
//!
//! Deliberately absent: tokens and certificates, which `access` reads again.

use std::io::{self, IsTerminal};

use log::LevelFilter;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ConfigError, Field, Settings};
use crate::systemd::set_log_level;

/// The daemon's log level if nobody says otherwise.
pub const DEFAULT_LOG: LevelFilter = LevelFilter::Info;

/// Calls `reread` at each SIGHUP, as long as the runtime lives. `running` is what the daemon was started with.
pub(super) fn on_hangup(
    running: &Settings,
    reread: impl Fn() -> Result<Settings, ConfigError> + Send + 'static,
) -> io::Result<()> {
    if io::stderr().is_terminal() {
        return Ok(());
    }
    let mut hangup = signal(SignalKind::hangup())?;
    let running = running.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match reread() {
                Ok(wanted) => take_up(&running, &wanted),
                Err(error) => log::error!("the configuration stays as it was: {error}"),
            }
        }
    });
    Ok(())
}

fn take_up(running: &Settings, wanted: &Settings) {
    for field in running.changed(wanted) {
        if field != Field::Log {
            log::warn!(option = field.name(); "{field} was changed, which takes a restart");
        }
    }
    let level = wanted.log.unwrap_or(DEFAULT_LOG);
    set_log_level(level);
    log::info!(log:% = level; "the configuration was read again");
}
