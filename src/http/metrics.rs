//! `/metrics`: counters, gauges and histograms in the text format of Prometheus.
//!
//! Names by its conventions: a unit in its base form at the end, `_total` behind what only grows.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::board::{self, Root};
use crate::engine::{EngineHandle, Histogram, RowStats, Stats};
use crate::ple::Times;
use crate::prefix_store::StoreStats;
use crate::serving::{Life, Refusals, State};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let mut page = Page::default();
    page.gauge("pled_uptime_seconds", "Time since the start.", state.uptime().as_secs_f64());
    let ready = state.life() == Life::Serving;
    page.gauge("pled_ready", "Whether requests are taken in.", u8::from(ready));
    if let Ok(ready) = state.model("") {
        of_engine(&ready.engine, state.refusals(), &mut page);
    }
    of_board(&Root::system(), &mut page);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response()
}

fn of_engine(engine: &EngineHandle, refusals: Refusals, page: &mut Page) {
    let Stats {
        accepted,
        finished,
        cancelled,
        deadline_exceeded,
        failed,
        refused_queue_full,
        refused_draining,
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        queue_wait,
        first_token,
        next_token,
        queue_length,
        active_sequences,
        kv_bytes_in_use,
        prefix_bytes,
        kv_bytes_bound,
        store,
        rows,
        ..
    } = engine.stats();
    page.head("pled_info", "gauge", "What is running.");
    let (version, model, isa) = (env!("CARGO_PKG_VERSION"), &engine.model().id, &engine.backend().isa);
    page.sample("pled_info", &[("version", version), ("model", model), ("isa", isa)], 1);
    page.counter("pled_requests_accepted_total", "Requests taken in.", accepted);
    page.head(
        "pled_requests_total",
        "counter",
        "Requests that ended, by how; refused ones were never taken in.",
    );
    for (outcome, n) in [
        ("finished", finished),
        ("cancelled", cancelled),
        ("deadline_exceeded", deadline_exceeded),
        ("failed", failed),
        ("refused_queue_full", refused_queue_full),
        ("refused_draining", refused_draining),
        ("refused_invalid", refusals.invalid),
        ("refused_unauthenticated", refusals.unauthenticated),
        ("refused_forbidden", refusals.forbidden),
        ("refused_rate_limited", refusals.rate_limited),
    ] {
        page.sample("pled_requests_total", &[("outcome", outcome)], n);
    }
    page.counter("pled_prompt_tokens_total", "Tokens of prompts that were computed.", prompt_tokens);
    page.counter("pled_cached_tokens_total", "Tokens of prompts that were known already.", cached_tokens);
    page.counter("pled_completion_tokens_total", "Tokens that were chosen.", completion_tokens);
    page.histogram(
        "pled_queue_wait_seconds",
        "From the acceptance of a request to its place among those in computation.",
        &queue_wait,
    );
    page.histogram(
        "pled_time_to_first_token_seconds",
        "From the acceptance of a request to the first token of its answer.",
        &first_token,
    );
    page.histogram(
        "pled_time_per_token_seconds",
        "From a token to the next of the same answer, while its reader was not behind.",
        &next_token,
    );
    page.gauge("pled_queue_length", "Requests that wait.", queue_length);
    page.gauge("pled_active_sequences", "Sequences in computation.", active_sequences);
    page.gauge("pled_kv_bytes", "Keys and values held by sequences.", kv_bytes_in_use);
    page.gauge("pled_prefix_bytes", "Keys and values kept for later requests.", prefix_bytes);
    page.gauge("pled_kv_bound_bytes", "The most that both together can be.", kv_bytes_bound);
    page.gauge("pled_resident_weights_bytes", "Weights in memory.", engine.model().resident_bytes);
    if let Some(store) = store {
        of_store(store, page);
    }
    if let Some(rows) = rows {
        of_rows(rows, page);
    }
}

fn of_store(store: StoreStats, page: &mut Page) {
    let StoreStats {
        pieces,
        bytes,
        written_bytes,
        restored_tokens,
        damaged,
        foreign,
        refused,
        failed_writes,
    } = store;
    page.gauge("pled_store_pieces", "Pieces of prefixes on disk that can be used.", pieces);
    page.gauge("pled_store_bytes", "Their files, and those of other models.", bytes);
    page.counter(
        "pled_store_written_bytes_total",
        "Bytes spent on writing prefixes and sessions.",
        written_bytes,
    );
    page.counter("pled_store_restored_tokens_total", "Tokens restored from disk.", restored_tokens);
    page.counter("pled_store_damaged_total", "Files found damaged; none was used.", damaged);
    page.gauge("pled_store_foreign", "Files found at the start that are not of this model.", foreign);
    page.counter(
        "pled_store_refused_total",
        "Pieces and lists not written for want of budget or room.",
        refused,
    );
    page.counter("pled_store_failed_writes_total", "Writes that failed.", failed_writes);
}

/// What the board tells, which only some do.
fn of_board(root: &Root, page: &mut Page) {
    if let Some(held_down) = board::held_down(root) {
        page.head("pled_board_held_down", "gauge", "Whether the firmware slows the board down, by why.");
        for (why, now) in held_down {
            page.sample("pled_board_held_down", &[("why", why)], u8::from(now));
        }
    }
    if let Some(celsius) = board::celsius(root) {
        page.gauge("pled_board_temperature_celsius", "The hottest place that is measured.", celsius);
    }
}

fn of_rows(rows: RowStats, page: &mut Page) {
    let RowStats { counters, failed_reads, retries, waits, reads } = rows;
    page.counter("pled_ple_rows_total", "Rows of the per-layer embedding table asked for.", counters.rows);
    page.counter("pled_ple_cache_hits_total", "Rows answered from memory.", counters.cache_hits);
    page.counter("pled_ple_distinct_rows_total", "Different rows of each run of tokens.", counters.distinct);
    page.counter("pled_ple_reads_total", "Reads of storage.", reads.count);
    page.counter("pled_ple_failed_reads_total", "Reads of storage that failed.", failed_reads);
    page.counter("pled_ple_retried_reads_total", "Failed reads that were tried again.", retries);
    page.counter("pled_ple_read_bytes_total", "Bytes read from storage for rows.", counters.bytes_read);
    let waits_help = "Time that a chunk of a prompt or a decoded token stood still for its rows.";
    page.times("pled_ple_wait_seconds", waits_help, &waits);
    page.times("pled_ple_read_seconds", "Time of a read from storage.", &reads);
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Histogram) {
        self.classes(name, help, times.cumulative(), times.count(), times.sum_s());
    }

    fn times(&mut self, name: &str, help: &str, times: &Times) {
        self.classes(name, help, times.cumulative(), times.count, times.sum.as_secs_f64());
    }

    /// `cumulative`: ascending bounds with the number that is not above them.
    fn classes(
        &mut self,
        name: &str,
        help: &str,
        cumulative: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum_s: f64,
    ) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, n) in cumulative {
            self.sample(&bucket, &[("le", &bound.to_string())], n);
        }
        self.sample(&bucket, &[("le", "+Inf")], count);
        self.sample(&format!("{name}_sum"), &[], sum_s);
        self.sample(&format!("{name}_count"), &[], count);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}\n")),
            false => self.line(format_args!("{name}{{{}}} {value}\n", labels.join(","))),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("a string takes whatever is written");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_documented() {
        let mut page = Page::default();
        of_rows(RowStats::default(), &mut page);
        of_store(StoreStats::default(), &mut page);
        page.gauge("pled_board_held_down", "", 0);
        page.gauge("pled_board_temperature_celsius", "", 0);
        let names = page.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 15, "{names:?}");
        // Those of the engine are looked for by the tests over sockets.
        for name in names {
            assert!(include_str!("../../docs/metrics.md").contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn reads_are_a_histogram() {
        let mut page = Page::default();
        let sum = std::time::Duration::from_millis(1500);
        let reads = Times { count: 4, sum, ..Times::default() };
        of_rows(RowStats { reads, ..RowStats::default() }, &mut page);
        for line in [
            "# TYPE pled_ple_read_seconds histogram",
            "pled_ple_read_seconds_bucket{le=\"0.000008192\"} 0",
            "pled_ple_read_seconds_bucket{le=\"8.589934592\"} 0",
            "pled_ple_read_seconds_bucket{le=\"+Inf\"} 4",
            "pled_ple_read_seconds_sum 1.5",
            "pled_ple_read_seconds_count 4",
        ] {
            assert!(page.0.lines().any(|l| l == line), "no {line} in {}", page.0);
        }
    }

    #[test]
    fn a_board_that_tells_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let root = Root::folder(folder.path());
        let mut page = Page::default();
        of_board(&root, &mut page);
        assert_eq!(page.0, "");
        write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        write("sys/class/thermal/thermal_zone0/temp", "81234\n");
        of_board(&root, &mut page);
        for line in [
            "pled_board_held_down{why=\"undervoltage\"} 1",
            "pled_board_held_down{why=\"frequency capped\"} 0",
            "pled_board_held_down{why=\"throttled\"} 1",
            "pled_board_temperature_celsius 81.234",
        ] {
            assert!(page.0.lines().any(|l| l == line), "no {line} in {}", page.0);
        }
    }
}
