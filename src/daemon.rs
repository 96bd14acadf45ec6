//! The daemon: wiring, signals, a drain that ends.
//!
//! The port is bound before the model is read, so that a client that comes early hears NOT_SERVING and
//! UNAVAILABLE and not a refused connection. READY follows when the weights are resident and the pinned prompts
//! computed. What stops the daemon is a signal, the engine's death, or a listener's; each way ends within a bound.
//!
//! Deliberately absent: what a request means (`rpc`, `http`), what is computed (`engine`).

mod access;
mod announcement;
mod embedded;
mod fingerprint;
mod guard;
mod load;
mod loopback;
mod memory_plan;
mod pinned;
mod reload;
mod row_mode;
mod services;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use embedded::{EMBEDDED_NAME, open_model};
pub use fingerprint::Fingerprint;
pub use load::LoadedModel;
pub use loopback::serve_while;
pub use memory_plan::{MemoryPlan, Place, place_of};
pub use reload::DEFAULT_LOG;
pub use services::{Control, Services, services};

use access::Access;
use announcement::Announcement;

use crate::board::{self, Root, Surroundings, Verdict};
use crate::config::{ConfigError, Field, Settings};
use crate::engine::{BLOCK_TOKENS, Ended, EngineHandle, EngineOptions};
use crate::ops::Kernels;
use crate::port;
use crate::prefix_store::{self, PrefixStore};
use crate::storage::page_size;
use crate::systemd::{Notifier, Pulse, Watchdog, passed_listeners};

/// How long running answers may take after the daemon was asked to stop.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long the engine may take beyond that to notice, and connections to deliver what they hold.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
/// Threads that serve sockets; the cores belong to the model.
const IO_THREADS: usize = 2;

/// Runs the daemon until SIGTERM or SIGINT, then drains. A second signal ends the process at once. At SIGHUP `reread`
/// gives the settings as they are now.
///
/// # Errors
/// If an address cannot be bound, the model cannot be loaded, or the engine dies.
pub fn serve(
    settings: &Settings,
    reread: impl Fn() -> Result<Settings, ConfigError> + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?;
    tell_of_the_board();
    let result = runtime.block_on(async {
        let stop = stop_requested().context("cannot listen for signals")?;
        reload::on_hangup(settings, reread).context("cannot listen for signals")?;
        run(settings, stop, |_| {}).await
    });
    // A model that is being read cannot be interrupted; the process ends without it.
    runtime.shutdown_background();
    result
}

/// The daemon without signals and logs: serves until `stop`, then drains. `bound` hears the addresses
/// that clients can connect to, before the model is loaded.
///
/// # Errors
/// As [`serve`].
pub async fn run(
    settings: &Settings,
    stop: impl Future<Output = ()>,
    bound: impl FnOnce(&[SocketAddr]),
) -> anyhow::Result<()> {
    let notifier = Notifier;
    let access = Access::load(settings)?;
    let prompts = pinned::read(settings)?;
    let mut listeners = Listeners::bind(&settings.listen).await?;
    log::info!(listen = list(&listeners.addresses).as_str(); "listening");
    access.tell(&listeners.addresses);
    let _reloading = access.reload_on_hangup().context("cannot listen for signals")?;
    let (services, control) = services().await;
    listeners.serve(&access, &services);
    bound(&listeners.addresses);
    notifier.status("loading the model");

    let mut stop = std::pin::pin!(stop);
    let loading = async {
        let of_thread = settings.clone();
        let started = tokio::task::spawn_blocking(move || start_engine(&of_thread)).await;
        let engine = started.context("loading the model panicked")??;
        pinned::pin(settings, &engine, prompts, notifier).await?;
        anyhow::Ok(engine)
    };
    let engine = tokio::select! {
        loaded = loading => loaded?,
        error = listeners.failed() => return Err(error),
        () = &mut stop => {
            log::info!("stopped before the model was ready");
            return Ok(());
        }
    };
    control.ready(engine.clone()).await;
    let status = format!("serving {} on {}", engine.model().id, list(&listeners.addresses));
    log::info!(model = engine.model().id.as_str(); "ready");
    notifier.ready(&status);
    let encrypted = settings.certificates.is_some();
    let announcement = settings.mdns.then(|| Announcement::start(&listeners.addresses, encrypted)).flatten();
    let watched = engine.clone();
    let watchdog = Watchdog::start(notifier, move || {
        let heartbeat = watched.heartbeat();
        Pulse { steps: heartbeat.beats, idle: heartbeat.idle }
    })
    .context("cannot start the watchdog's thread")?;

    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        how = engine.ended() => Err(death(how)),
        error = listeners.failed() => Err(error),
    };
    if outcome.is_ok() {
        log::info!(limit_s = DRAIN_LIMIT.as_secs(); "stopping: running answers may finish");
        notifier.stopping("finishing running answers");
        control.draining().await;
    }
    // However it ends: nobody is to be sent to a port at which nobody answers.
    if let Some(announcement) = announcement {
        announcement.withdraw().await;
    }
    outcome?;
    let drained = timeout(DRAIN_LIMIT + LAST_WORDS_LIMIT, engine.drain(Instant::now() + DRAIN_LIMIT)).await;
    drop(watchdog);
    listeners.close(LAST_WORDS_LIMIT).await;
    match drained {
        Ok(Ended::Drained) => log::info!("stopped"),
        Ok(how @ Ended::Panicked(_)) => return Err(death(how)),
        Err(_) => log::warn!("stopped in the middle of a step that did not end"),
    }
    Ok(())
}

fn start_engine(settings: &Settings) -> anyhow::Result<EngineHandle> {
    let options = EngineOptions {
        max_sessions: settings.max_sessions,
        queue_depth: settings.queue_depth,
        ..EngineOptions::default()
    };
    let model = LoadedModel::load(settings, options.n_contexts())?;
    let store = open_store(settings, &model)?;
    let coarse_head = model.coarse_head();
    let engine = model.start_with(options, None, store)?;
    if let Some(build) = coarse_head {
        // Requests are answered meanwhile, and without it if the thread cannot be had.
        let thread = thread::Builder::new().name("coarse-head".to_owned()).spawn(build);
        thread.map_or_else(|error| log::warn!("no thread for the coarse output head: {error}"), drop);
    }
    Ok(engine)
}

/// The folder where prefixes outlast the process, if the settings name one.
fn open_store(settings: &Settings, model: &LoadedModel) -> anyhow::Result<Option<PrefixStore>> {
    let Some(folder) = &settings.session_dir else { return Ok(None) };
    let fingerprint = model.fingerprint.compute()?;
    let options = prefix_store::Options {
        disk_bytes: settings.session_disk_bytes,
        daily_bytes: settings.session_daily_bytes,
        block_tokens: BLOCK_TOKENS,
        fingerprint,
    };
    match PrefixStore::open(folder, options) {
        Ok(store) => {
            let stats = store.stats();
            log::info!(
                session_dir:% = folder.display(), pieces = stats.pieces, bytes = stats.bytes, damaged = stats.damaged,
                foreign = stats.foreign;
                "prefixes outlast the daemon"
            );
            Ok(Some(store))
        }
        Err(e) => {
            let advice = "give a folder of its own that the daemon may write to, or leave it out";
            Err(settings.reject(Field::SessionDir, e.to_string(), advice).into())
        }
    }
}

fn death(how: Ended) -> anyhow::Error {
    match how {
        Ended::Panicked(message) => anyhow!("the engine died: {message}"),
        Ended::Drained => anyhow!("the engine ended although nobody asked it to"),
    }
}

/// Bound sockets and the tasks that serve them.
struct Listeners {
    addresses: Vec<SocketAddr>,
    sockets: Vec<TcpListener>,
    tasks: JoinSet<()>,
    close: watch::Sender<bool>,
}

impl Listeners {
    async fn bind(wanted: &[SocketAddr]) -> anyhow::Result<Listeners> {
        let mut addresses = Vec::new();
        let mut sockets = Vec::new();
        let mut passed = Passed::take()?;
        for address in wanted {
            let cannot = || format!("cannot listen on {address}; choose another address with --listen");
            let socket = match passed.at(*address) {
                Some(socket) => TcpListener::from_std(socket),
                None => TcpListener::bind(address).await,
            };
            let socket = socket.with_context(cannot)?;
            addresses.push(socket.local_addr().with_context(cannot)?);
            sockets.push(socket);
        }
        passed.none_left()?;
        Ok(Listeners { addresses, sockets, tasks: JoinSet::new(), close: watch::channel(false).0 })
    }

    fn serve(&mut self, access: &Access, services: &Services) {
        for (socket, address) in self.sockets.drain(..).zip(&self.addresses) {
            let mut close = self.close.subscribe();
            let services = access.services_at(*address, services);
            let certificates = access.certificates_at(*address);
            self.tasks.spawn(async move {
                let closed = async move {
                    // An error means that the sender is gone, and with it whoever listens.
                    let _ = close.wait_for(|close| *close).await;
                };
                port::serve(socket, certificates, services, closed).await
            });
        }
    }

    /// Ends with what was wrong when one of the tasks ends, which none does by itself.
    async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow::Error::from(error).context("a listener panicked"),
            Some(Ok(())) | None => anyhow!("a listener ended by itself"),
        }
    }

    /// Takes no more connections and gives those there are `limit` to deliver what they hold.
    async fn close(mut self, limit: Duration) {
        self.close.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            log::info!("connections that stayed open were cut");
        }
    }
}

/// Sockets that the service manager holds for the daemon. `listen` names their addresses too: it is what decides who may
/// come, and it is checked.
struct Passed(Vec<(SocketAddr, std::net::TcpListener)>);

impl Passed {
    fn take() -> anyhow::Result<Passed> {
        let with_addresses = || -> io::Result<Vec<_>> {
            passed_listeners()?.into_iter().map(|socket| Ok((socket.local_addr()?, socket))).collect()
        };
        Ok(Passed(with_addresses().context("the service manager hands over what is no listening socket")?))
    }

    fn at(&mut self, address: SocketAddr) -> Option<std::net::TcpListener> {
        let i = self.0.iter().position(|(at, _)| *at == address)?;
        Some(self.0.swap_remove(i).1)
    }

    fn none_left(&self) -> anyhow::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => bail!(
                "the service manager hands over a socket at {address}, which listen does not name; let both say the same"
            ),
        }
    }
}

/// Ends at the first SIGTERM or SIGINT. The second ends the process.
fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (requested, first) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} };
        next().await;
        // If nobody waits, the daemon is ending for another reason.
        let _ = requested.send(());
        next().await;
        log::warn!("asked to stop twice: ending at once");
        std::process::exit(1);
    });
    Ok(async move {
        // The task that holds the sender runs as long as the process.
        let _ = first.await;
    })
}

/// Logs what the board lacks; `pled doctor` tells the same and measures.
fn tell_of_the_board() {
    let seen = Surroundings {
        root: Root::system(),
        kernels: Kernels::detect().name(),
        page_bytes: page_size(),
        unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    for finding in board::findings(&seen) {
        let level = match finding.verdict {
            Verdict::Ok => continue,
            Verdict::Notice => log::Level::Info,
            Verdict::Warning | Verdict::Error => log::Level::Warn,
        };
        let advice = finding.advice.unwrap_or_default();
        log::log!(level, finding = finding.id, advice = advice.as_str(); "{}: {}", finding.id, finding.found);
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
