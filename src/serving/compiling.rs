//! Places for grammars that are being compiled: few, apart from those of the tokenizer, and each call's for a bounded time.
//!
//! What compiles cannot be stopped from outside. A grammar that takes too long is refused, and so is one whose call waited too
//! long for a place; the computation that is left behind keeps its place until it ends. So whatever grammars come, no more
//! cores than there are places work on them, and texts are tokenised meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task;
use tokio::time::timeout;

use super::Problem;

/// Grammars that are compiled at a time.
const PLACES: usize = 2;
/// How long a grammar may take, and before that wait for a place. The bounds of sizes and steps end nearly all sooner; this one
/// is for what they do not foresee.
const LIMIT: Duration = Duration::from_secs(10);

/// Where grammars are compiled.
#[derive(Debug)]
pub(super) struct Compiling {
    places: Arc<Semaphore>,
    limit: Duration,
}

impl Default for Compiling {
    fn default() -> Self {
        Self::new(PLACES, LIMIT)
    }
}

impl Compiling {
    fn new(n_places: usize, limit: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(n_places)), limit }
    }

    /// Runs `prepare`, which may take its time, and then `compile`; `field` is where the grammar came from.
    ///
    /// Errors: there was no place, or `compile` took too long.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        field: &str,
        prepare: impl FnOnce() + Send + 'static,
        compile: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = timeout(self.limit, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| Problem::CompilersBusy)?;
        let place = place.map_err(|e| Problem::Internal(e.to_string()))?;
        let failed =
            |e: task::JoinError| Problem::Internal(format!("the grammar could not be compiled: {e}"));
        let place = task::spawn_blocking(move || {
            prepare();
            place
        });
        let place = place.await.map_err(failed)?;
        let compiled = task::spawn_blocking(move || {
            let _place = place;
            compile()
        });
        match timeout(self.limit, compiled).await {
            Ok(compiled) => compiled.map_err(failed),
            Err(_) => {
                let problem = format!("takes more than {} s to compile", self.limit.as_secs_f64());
                Err(Problem::field(field, problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_takes_too_long_is_refused_and_keeps_its_place_until_it_ends() {
        let compiling = Compiling::new(1, SHORT);
        let (end, ended) = mpsc::channel::<()>();
        let slow = compiling.run("regex", || {}, move || ended.recv().is_ok()).await;
        assert_eq!(slow, Err(Problem::field("regex", "takes more than 0.02 s to compile")));
        assert_eq!(compiling.run("regex", || {}, || ()).await, Err(Problem::CompilersBusy));
        end.send(()).unwrap();
        // Now there is a place again: who waits for it gets it.
        drop(compiling.places.acquire().await.unwrap());
        let patient = Compiling { limit: LIMIT, places: compiling.places };
        assert_eq!(patient.run("regex", || {}, || 7).await, Ok(7));
    }
}
