//! Who may call on which address, and reading that again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::Services;
use crate::access::Keys;
use crate::config::Settings;

/// What clients have to bring.
#[derive(Clone, Debug)]
pub(super) struct Access {
    keys: Option<Arc<Keys>>,
    /// Programs on this machine need not bring it.
    open_on_loopback: bool,
}

impl Access {
    /// Reads the files that the settings name.
    pub(super) fn load(settings: &Settings) -> anyhow::Result<Self> {
        let keys = settings.token_file.as_deref().map(Keys::load).transpose();
        let keys = keys.context("cannot use the file of tokens")?.map(Arc::new);
        Ok(Self { keys, open_on_loopback: settings.allow_unauthenticated_loopback })
    }

    /// The services as those find them who come to `address`.
    pub(super) fn services_at(&self, address: SocketAddr, services: &Services) -> Services {
        let services = services.clone();
        match &self.keys {
            Some(keys) if !(self.open_on_loopback && is_loopback(address)) => {
                services.kept_by(Arc::clone(keys))
            }
            _ => services,
        }
    }

    /// Logs who may call.
    pub(super) fn tell(&self, addresses: &[SocketAddr]) {
        if let Some(keys) = &self.keys {
            log::info!(tokens = keys.names().join(", ").as_str(); "clients need a token");
        }
        for address in addresses.iter().filter(|address| !is_loopback(**address)) {
            match self.keys {
                None => {
                    log::warn!(listen:% = address; "anybody who can reach this address may use the model")
                }
                Some(_) => log::warn!(
                    listen:% = address;
                    "tokens and texts are not encrypted: whoever is between can read them"
                ),
            }
        }
    }

    /// Reads the files again at every SIGHUP, until dropped.
    pub(super) fn reload_on_hangup(&self) -> io::Result<Reloading> {
        let Some(keys) = self.keys.clone() else { return Ok(Reloading(None)) };
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(Reloading(Some(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                // A small file, rarely.
                match keys.reload() {
                    Ok(()) => log::info!(tokens = keys.names().join(", ").as_str(); "tokens read again"),
                    Err(error) => log::error!(error:display; "the tokens stay as they were"),
                }
            }
        }))))
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Listens for the signal to read files again, until dropped.
#[derive(Debug)]
pub(super) struct Reloading(Option<JoinHandle<()>>);

impl Drop for Reloading {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
