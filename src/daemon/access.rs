//! Who may call on which address, and reading that again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::Services;
use crate::access::{Certificates, Keys};
use crate::config::Settings;

/// What clients have to bring.
#[derive(Clone, Debug)]
pub(super) struct Access {
    keys: Option<Arc<Keys>>,
    certificates: Option<Arc<Certificates>>,
    /// Clients need a certificate of their own.
    wants_certificates: bool,
    /// Programs on this machine need not bring anything.
    open_on_loopback: bool,
}

impl Access {
    /// Reads the files that the settings name.
    pub(super) fn load(settings: &Settings) -> anyhow::Result<Self> {
        let keys = settings.token_file.as_deref().map(Keys::load).transpose();
        let keys = keys.context("cannot use the file of tokens")?;
        let certificates = settings.certificates.clone().map(Certificates::load).transpose();
        let certificates = certificates.context("cannot use the certificates")?;
        Ok(Self {
            keys: keys.map(Arc::new),
            certificates: certificates.map(Arc::new),
            wants_certificates: settings.certificates.as_ref().is_some_and(|files| files.client_ca.is_some()),
            open_on_loopback: settings.allow_unauthenticated_loopback,
        })
    }

    fn is_open(&self, address: SocketAddr) -> bool {
        self.open_on_loopback && is_loopback(address)
    }

    /// The services as those find them who come to `address`.
    pub(super) fn services_at(&self, address: SocketAddr, services: &Services) -> Services {
        let services = services.clone();
        match &self.keys {
            Some(keys) if !self.is_open(address) => services.kept_by(Arc::clone(keys)),
            _ => services,
        }
    }

    /// With what connections to `address` are encrypted.
    pub(super) fn certificates_at(&self, address: SocketAddr) -> Option<Arc<Certificates>> {
        self.certificates.clone().filter(|_| !self.is_open(address))
    }

    /// Logs who may call.
    pub(super) fn tell(&self, addresses: &[SocketAddr]) {
        if let Some(keys) = &self.keys {
            log::info!(tokens = keys.names().join(", ").as_str(); "clients need a token");
        }
        if self.wants_certificates {
            log::info!("clients need a certificate");
        }
        for address in addresses.iter().filter(|address| !is_loopback(**address)) {
            if self.keys.is_none() && !self.wants_certificates {
                log::warn!(listen:% = address; "anybody who can reach this address may use the model");
            } else if self.certificates.is_none() {
                log::warn!(
                    listen:% = address;
                    "tokens and texts are not encrypted: whoever is between can read them"
                );
            }
        }
    }

    /// Reads the files again at every SIGHUP, until dropped.
    pub(super) fn reload_on_hangup(&self) -> io::Result<Reloading> {
        if self.keys.is_none() && self.certificates.is_none() {
            return Ok(Reloading(None));
        }
        let mut hangup = signal(SignalKind::hangup())?;
        let access = self.clone();
        Ok(Reloading(Some(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                access.reload();
            }
        }))))
    }

    /// Small files, rarely: they are read where sockets are served. Each that is wrong leaves what it says as it was.
    fn reload(&self) {
        match self.keys.as_ref().map(|keys| (keys, keys.reload())) {
            None => {}
            Some((keys, Ok(()))) => {
                log::info!(tokens = keys.names().join(", ").as_str(); "tokens read again");
            }
            Some((_, Err(error))) => log::error!(error:display; "the tokens stay as they were"),
        }
        match self.certificates.as_ref().map(|certificates| certificates.reload()) {
            None => {}
            Some(Ok(())) => log::info!("certificates read again"),
            Some(Err(error)) => log::error!(error:display; "the certificates stay as they were"),
        }
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
