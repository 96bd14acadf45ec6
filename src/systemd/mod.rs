//! Room `systemd`.
