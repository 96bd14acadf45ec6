//! How urgent a call is, which all dialects say in the same header.

use super::Problem;
use crate::engine::Priority;

/// The header of HTTP, and the metadata of gRPC, that says it.
pub const PRIORITY: &str = "x-pled-priority";

/// The priority of a call that says this in [`PRIORITY`], or nothing.
///
/// # Errors
/// If that is no priority.
pub fn priority(said: Option<&[u8]>) -> Result<Priority, Problem> {
    match said {
        None | Some(b"interactive") => Ok(Priority::Interactive),
        Some(b"background") => Ok(Priority::Background),
        Some(other) => {
            let shown: String = String::from_utf8_lossy(other).chars().take(100).collect();
            let problem = format!("is {shown:?}; interactive and background are possible");
            Err(Problem::field(PRIORITY, problem))
        }
    }
}
