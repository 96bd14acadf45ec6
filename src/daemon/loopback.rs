//! A daemon for one client in the same process, over a real socket.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::run;
use crate::config::Settings;

/// Runs the daemon on a free loopback port, wherever and for whomever the settings let it listen, for as long as `talk` takes.
/// `talk` begins when the model is loaded.
///
/// # Errors
/// As [`run`], or what `talk` says.
pub async fn serve_while<T>(
    mut settings: Settings,
    talk: impl AsyncFnOnce(SocketAddr, Channel) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // It leaves nothing behind, and takes nothing from a daemon that runs beside it.
    settings.session_dir = None;
    settings.pinned_prompts = Vec::new();
    settings.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    settings.token_file = None;
    settings.certificates = None;
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, address) = oneshot::channel();
    let mut serving = tokio::spawn(async move {
        // Whether told or dropped: there is no more to ask.
        let stop = async { stopped.await.unwrap_or_default() };
        let tell = |addresses: &[SocketAddr]| {
            // Who does not wait for it has failed, and says so.
            let _ = bound.send(addresses[0]);
        };
        run(&settings, stop, tell).await
    });
    let client = async {
        // A sender that is gone is a daemon that has ended, which the other branch below tells of.
        let Ok(address) = address.await else { return std::future::pending().await };
        let channel = connect(address).await?;
        talk(address, channel).await
    };
    let said = tokio::select! {
        said = client => said?,
        ended = &mut serving => {
            ended.context("the daemon panicked")??;
            bail!("the daemon ended before its client");
        }
    };
    drop(stop);
    serving.await.context("the daemon panicked")??;
    Ok(said)
}

/// A connection to a daemon whose model is loaded.
async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect().await.context("cannot reach the daemon")?;
    let whole = HealthCheckRequest { service: String::new() };
    let mut states = HealthClient::new(channel.clone()).watch(whole).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.status() == ServingStatus::Serving {
            return Ok(channel);
        }
    }
    // What ended it comes from the daemon itself.
    std::future::pending().await
}
