//! One line of log: to the journal with its fields if stderr is the journal, else to stderr.

use log::LevelFilter;
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The journal's socket cannot be used.
    #[error("cannot log to the systemd journal: {0}")]
    Journal(#[from] std::io::Error),
    /// Something in this process logs already.
    #[error("cannot start logging: {0}")]
    Twice(#[from] log::SetLoggerError),
}

/// Starts logging for this process, once. Key-value pairs of a line become fields of the journal; on stderr
/// they follow the message.
///
/// The journal is used when stderr is connected to it (`JOURNAL_STREAM` names stderr's own device and
/// inode), so a daemon started by hand below a terminal inside a service still logs to the terminal.
pub fn start_logging(level: LevelFilter) -> Result<(), LoggingError> {
    if connected_to_journal() {
        JournalLog::new()?.with_extra_fields([("VERSION", env!("CARGO_PKG_VERSION"))]).install()?;
    } else {
        // What comes is decided by the level of the process, which may change.
        env_logger::Builder::new().filter_level(LevelFilter::Trace).format_timestamp_millis().try_init()?;
    }
    set_log_level(level);
    Ok(())
}

/// Changes the level of the log that was started.
pub fn set_log_level(level: LevelFilter) {
    log::set_max_level(level);
}
