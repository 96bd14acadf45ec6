//! The port: connections, what peers may do on them, and what all of them together can make the server hold.
//!
//! The rule of the room: every bound that a stranger can run into before anybody looks at what he says stands
//! here, once for all dialects. HTTP/1.1 and HTTP/2 are told apart by their first bytes, encrypted or not.
//!
//! | file | what it bounds |
//! |---|---|
//! | `seats` | how many connections, and which one goes when another comes |
//! | `connection` | how long they may be silent, how long they may not read |
//! | `calls` | what is known of the calls of a connection |
//! | `serve` | headers, calls at a time, bytes that nobody has looked at yet |
//! | `kept` | what lasts as long as an answer |
//! | `intake` | messages that arrive at a time and the time that they may take, large answers |
//!
//! Deliberately absent: what a message means.

mod calls;
mod connection;
mod intake;
mod kept;
mod seats;
mod serve;

pub use calls::{Peer, Unimportant};
pub use intake::{Held, Intake, Late, Place};
pub use kept::Kept;
pub use serve::serve;

/// The largest message that is read. Unit: bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
