//! The program under test as a command.

use pled::config::Field;
use std::process::{Command, Stdio};

/// The program, without options from this process's environment.
pub fn pled() -> Command {
    let program = env!("CARGO_BIN_EXE_pled");
    // A foreign program is run as cargo runs this one.
    let runner = std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").ok();
    let mut command = match runner.filter(|_| cfg!(target_arch = "aarch64")) {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
        None => Command::new(program),
    };
    for field in Field::ALL {
        command.env_remove(field.variable());
    }
    command.stdin(Stdio::null());
    command
}
