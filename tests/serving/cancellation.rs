//! Who waits, who is refused, and how requests end before their time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pled::engine::{Draft, Ended, EngineOptions, Failure, FinishReason, Stopping, SubmitError};

use super::scripted::*;

fn held(options: EngineOptions) -> (std::sync::Arc<Gate>, Fixture) {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    (gate, f)
}

#[test]
fn what_does_not_fit_the_queue_is_refused_at_once() {
    let (gate, f) = held(OPTIONS);
    let accepted: Vec<_> = (0..5).map(|_| f.submit(draft(&[BOS, 320], 4))).collect();
    let places: Vec<_> = accepted.iter().map(|g| g.queue_position()).collect();
    assert_eq!(places, [0, 0, 0, 1, 2]);
    for _ in 0..3 {
        let e = f.engine.submit(f.request(draft(&[BOS, 320], 4))).unwrap_err();
        let SubmitError::QueueFull { retry_after } = e else { panic!("{e:?}") };
        assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(60));
    }
    gate.open();
    for generation in accepted {
        assert_eq!(hear_all(generation).token_ids, answer(&[BOS, 320], 4));
    }
    // Who has read the last event finds a free place.
    hear_all(f.submit(draft(&[BOS, 320], 1)));
    let stats = f.engine.stats();
    assert_eq!((stats.accepted, stats.finished, stats.refused_queue_full), (6, 6, 3));
    f.await_nothing_left();
}

#[test]
fn dropping_a_running_generation_frees_its_memory() {
    let f = start(Script { step_time: Duration::from_millis(20), ..Script::default() }, OPTIONS);
    let mut generation = f.submit(Draft { stopping: Stopping::default(), ..draft(&[BOS, 320], 1) });
    hear_tokens(&mut generation, 2);
    assert_eq!(f.n_live.load(Ordering::SeqCst), 1);
    assert_eq!(f.engine.stats().kv_bytes_in_use, 64 * KV_BYTES_PER_TOKEN);
    drop(generation);
    f.await_nothing_left();
    assert_eq!(f.engine.stats().cancelled, 1);
}

#[test]
fn dropping_a_prompt_ends_within_a_chunk() {
    let (gate, f) = held(OPTIONS);
    let generation = f.submit(draft(&[BOS; 40], 4));
    gate.allow(2);
    gate.await_step();
    drop(generation);
    gate.open();
    f.await_nothing_left();
    assert_eq!(*f.log.lock().unwrap(), [[4], [4], [4]], "the chunk under way was the last");
}

#[test]
fn dropping_a_waiting_request_makes_room_while_others_run() {
    let (gate, f) = held(EngineOptions { max_sessions: 1, queue_depth: 1, ..OPTIONS });
    let running = f.submit(draft(&[BOS, 320], 8));
    let waiting = f.submit(draft(&[BOS, 330], 8));
    let full = || f.engine.submit(f.request(draft(&[BOS, 340], 2)));
    assert!(matches!(full(), Err(SubmitError::QueueFull { .. })));
    drop(waiting);
    gate.allow(1);
    await_that("the place is free", || f.engine.stats().cancelled == 1);
    let next = full().unwrap();
    gate.open();
    assert_eq!(hear_all(running).token_ids, answer(&[BOS, 320], 8));
    assert_eq!(hear_all(next).token_ids, answer(&[BOS, 340], 2));
}

/// Waits until the engine's thread sleeps. An engine that polls instead never gets there.
fn await_standstill(f: &Fixture) {
    await_that("the engine stands still", || {
        let before = f.engine.heartbeat();
        std::thread::sleep(Duration::from_millis(50));
        before.idle && f.engine.heartbeat() == before
    });
}

#[test]
fn a_slow_reader_parks_its_own_sequence_only() {
    let f = start(Script::default(), OPTIONS);
    let slow = f.submit(draft(&[BOS, 311], 40));
    let begin = Instant::now();
    // The slow one comes to stand when its room is used up; the other runs from begin to end.
    assert_eq!(hear_all(f.submit(draft(&[BOS, 320], 50))).token_ids, answer(&[BOS, 320], 50));
    await_standstill(&f);
    let n_run: usize = f.log.lock().unwrap().iter().flatten().sum();
    assert!(n_run < 51 + 2 + 12, "the parked sequence stopped after its room: {n_run}");
    // It loses nothing by that.
    let heard = hear_all(slow);
    assert_eq!(heard.token_ids, answer(&[BOS, 311], 40));
    assert!(begin.elapsed() < PATIENCE);
    f.await_nothing_left();
}

#[test]
fn a_reader_that_stalls_for_too_long_is_taken_for_gone() {
    let f = start(Script::default(), EngineOptions { stall_limit: Duration::from_millis(40), ..OPTIONS });
    let stalled = f.submit(draft(&[BOS, 311], 40));
    f.await_nothing_left();
    assert_eq!(f.engine.stats().cancelled, 1);
    let heard = hear_all(stalled);
    assert_eq!(heard.failure, Some(Failure::ReaderStalled));
    assert!(!heard.token_ids.is_empty(), "what was sent before can be read");
}

#[test]
fn deadlines_end_requests_that_run_wait_or_are_parked() {
    let soon = |prompt: &[u32]| Draft {
        deadline: Some(Instant::now() + Duration::from_millis(300)),
        ..draft(prompt, 60)
    };
    let options = EngineOptions { max_sessions: 1, queue_depth: 1, ..OPTIONS };
    // Running, and another waiting behind it.
    let f = start(Script { step_time: Duration::from_millis(20), ..Script::default() }, options);
    let both = [f.submit(soon(&[BOS, 320])), f.submit(soon(&[BOS, 330]))].map(hear_all);
    assert!(both.iter().all(|heard| heard.failure == Some(Failure::DeadlineExceeded)), "{both:?}");
    assert!(both[1].token_ids.is_empty());
    f.await_nothing_left();
    assert_eq!(f.engine.stats().deadline_exceeded, 2);
    // Parked: the engine wakes by itself.
    let f = start(Script::default(), options);
    let parked = f.submit(soon(&[BOS, 320]));
    f.await_nothing_left();
    assert_eq!(hear_all(parked).failure, Some(Failure::DeadlineExceeded));
    assert_eq!(f.engine.stats().deadline_exceeded, 1);
}

#[test]
fn a_time_limit_ends_a_waiting_request_with_an_empty_answer() {
    let f = start(
        Script { step_time: Duration::from_millis(5), ..Script::default() },
        EngineOptions { max_sessions: 1, ..OPTIONS },
    );
    let mut running = f.submit(draft(&[BOS, 320], 60));
    hear_tokens(&mut running, 1);
    let stopping = Stopping { time_limit: Some(Duration::from_millis(30)), ..Stopping::default() };
    let heard = hear_all(f.submit(Draft { stopping, ..draft(&[BOS, 330], 1) }));
    let done = heard.done();
    assert_eq!(done.finish_reason, FinishReason::TimeLimit);
    assert_eq!((done.usage.prompt_tokens, done.usage.completion_tokens), (2, 0));
    assert!(done.timings.queue_ms >= 30.0, "{done:?}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn draining_finishes_what_there_is() {
    let f = start(Script { step_time: Duration::from_millis(1), ..Script::default() }, OPTIONS);
    let accepted: Vec<_> = (0..5).map(|_| f.submit(draft(&[BOS, 320], 5))).collect();
    let engine = f.engine.clone();
    let drained = std::thread::spawn(move || block_on(engine.drain(Instant::now() + PATIENCE)));
    await_that("nobody is let in", || {
        f.engine.submit(f.request(draft(&[BOS], 1))).is_err_and(|e| e == SubmitError::Draining)
    });
    for generation in accepted {
        assert_eq!(hear_all(generation).token_ids, answer(&[BOS, 320], 5));
    }
    assert_eq!(drained.join().unwrap(), Ended::Drained);
    assert_eq!(f.engine.submit(f.request(draft(&[BOS], 1))).unwrap_err(), SubmitError::Ended);
    assert!(f.engine.stats().refused_draining > 0);
}

#[test]
fn draining_is_bounded() {
    let options = EngineOptions { max_sessions: 1, queue_depth: 2, ..OPTIONS };
    let f = start(Script { step_time: Duration::from_millis(5), ..Script::default() }, options);
    let mut running = f.submit(draft(&[BOS, 320], 60));
    hear_tokens(&mut running, 1);
    let waiting = f.submit(draft(&[BOS, 320], 60));
    let begin = Instant::now();
    assert_eq!(block_on(f.engine.drain(begin + Duration::from_millis(50))), Ended::Drained);
    assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    let heard = hear_all(running);
    assert_eq!(heard.done().finish_reason, FinishReason::Cancelled);
    assert!(heard.done().usage.completion_tokens > 1, "the answer so far was given");
    assert_eq!(hear_all(waiting).failure, Some(Failure::Draining));
    assert_eq!(f.engine.stats().cancelled, 2);
    f.await_nothing_left();
}

#[test]
fn draining_does_not_wait_for_a_parked_reader_beyond_its_bound() {
    let f = start(Script::default(), OPTIONS);
    let parked = f.submit(draft(&[BOS, 320], 60));
    await_that("it is parked", || f.engine.heartbeat().idle && f.engine.stats().completion_tokens > 5);
    assert_eq!(block_on(f.engine.drain(Instant::now() + Duration::from_millis(30))), Ended::Drained);
    let heard = hear_all(parked);
    assert_eq!(heard.done().finish_reason, FinishReason::Cancelled);
}

#[test]
fn a_panic_of_the_engine_is_seen_by_all() {
    let f = start(Script { panic_at: Some(333), ..Script::default() }, OPTIONS);
    let doomed = f.submit(draft(&[BOS, 330], 20));
    let heard = hear_all(doomed);
    assert_eq!(heard.failure, Some(Failure::EngineEnded));
    let Ended::Panicked(message) = block_on(f.engine.ended()) else { panic!("it ended in peace") };
    assert!(message.contains("as the script says"), "{message}");
    assert_eq!(f.engine.submit(f.request(draft(&[BOS], 1))).unwrap_err(), SubmitError::Ended);
    assert_eq!(f.n_live.load(Ordering::SeqCst), 0);
}

#[test]
fn without_handles_the_engine_finishes_and_ends() {
    let Fixture { engine, n_live, log } = start(Script::default(), OPTIONS);
    let request = pled::engine::Request::new(draft(&[BOS, 320], 30), engine.limits()).unwrap();
    let generation = engine.submit(request).unwrap();
    drop(engine);
    assert_eq!(hear_all(generation).token_ids, answer(&[BOS, 320], 30));
    await_that("the backend is gone", || std::sync::Arc::strong_count(&log) == 1);
    assert_eq!(n_live.load(Ordering::SeqCst), 0);
}

#[test]
fn an_idle_engine_stands_still() {
    let f = start(Script::default(), OPTIONS);
    hear_all(f.submit(draft(&[BOS, 320], 3)));
    await_standstill(&f);
}
