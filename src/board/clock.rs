//! The clock: certificates and the journal need the true time, and a Pi 4 has no battery for it.

use super::{Finding, Root, Verdict};

/// 1 January 2025: before that this program did not exist.
const FIRST_POSSIBLE_UNIX_S: u64 = 1_735_689_600;

/// `clock`: whether it was set from the network.
pub(super) fn clock(root: &Root, unix_s: u64) -> Finding {
    if unix_s < FIRST_POSSIBLE_UNIX_S {
        return Finding::with_advice(
            "clock",
            Verdict::Error,
            "the clock says a year before 2025",
            "certificates are refused and the journal is out of order: let the board reach a time server, \
             or sudo date -s",
        );
    }
    // Made by systemd-timesyncd when it has set the clock.
    if root.path("/run/systemd/timesync/synchronized").exists() {
        return Finding::ok("clock", "set from the network");
    }
    if let Some(pid) =
        ["/run/chrony/chronyd.pid", "/run/ntpd.pid"].into_iter().find(|path| root.path(path).exists())
    {
        return Finding::ok("clock", format!("kept by another service ({pid})"));
    }
    if root.path("/run/systemd/timesync").exists() {
        return Finding::with_advice(
            "clock",
            Verdict::Warning,
            "not yet set from the network",
            "certificates may be refused: timedatectl timesync-status says which server does not answer",
        );
    }
    Finding::untold("clock")
}
