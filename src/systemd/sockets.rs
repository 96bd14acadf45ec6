//! Sockets that the service manager opened before the daemon and keeps while it restarts: socket activation.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// The listening sockets that were handed to this process; none outside of socket activation. To be asked for once:
/// whoever asks owns them.
///
/// # Errors
/// If one of them is no listening TCP socket.
pub fn passed_listeners() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..passed.len() {
        if let Some(listener) = passed.take_tcp_listener(i)? {
            // As an executor wants it.
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
    }
    Ok(listeners)
}
