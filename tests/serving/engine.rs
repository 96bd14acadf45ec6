//! What the engine answers: order of events, ends, turns, failures.

use std::time::Duration;

use pled::engine::{
    Draft, Engine, EngineOptions, Event, Failure, FinishReason, Request, RequestError, Stopping,
};
use pled::sampling::{SamplingError, SamplingParams};

use super::scripted::*;

#[test]
fn a_prompt_is_computed_in_chunks_and_answered_token_by_token() {
    let f = start(Script::default(), OPTIONS);
    let prompt = [BOS, 320, 330, 340, 311, 312, 313, 314, 315, 316];
    let mut generation = f.submit(draft(&prompt, 5));
    assert_eq!(generation.queue_position(), 0);
    let mut order = String::new();
    let mut heard = Heard::default();
    while let Some(event) = generation.blocking_next() {
        order.push(match &event {
            Event::Prefill { .. } => 'p',
            Event::Delta(_) => 'd',
            Event::Done(_) => 'e',
            Event::Failed(_) => 'f',
        });
        heard.hear(event);
    }
    assert_eq!(order, "pppddddde");
    assert_eq!(heard.prefills, [(4, 10), (8, 10), (10, 10)]);
    assert_eq!(heard.token_ids, answer(&prompt, 5));
    assert_eq!(heard.text, tokenizer().decode(&heard.token_ids));
    let done = heard.done();
    assert_eq!(done.finish_reason, FinishReason::MaxTokens);
    assert_eq!((done.usage.prompt_tokens, done.usage.completion_tokens), (10, 5));
    assert_eq!(done.matched_stop, None);
    // The token chosen last is not run.
    assert_eq!(done.timings.ple_rows, 14);
    assert_eq!(*f.log.lock().unwrap(), [vec![4], vec![4], vec![2], vec![1], vec![1], vec![1], vec![1]]);
    f.await_nothing_left();
    let stats = f.engine.stats();
    assert_eq!((stats.prompt_tokens, stats.completion_tokens), (10, 5));
    assert_eq!((stats.accepted, stats.finished), (1, 1));
    assert_eq!(stats.kv_bytes_bound, 3 * 64 * KV_BYTES_PER_TOKEN);
}

#[test]
fn timings_tell_where_the_time_went() {
    let f = start(Script { step_time: Duration::from_millis(20), ..Script::default() }, OPTIONS);
    let done = hear_all(f.submit(draft(&[BOS, 320, 330, 340, 311], 4))).done.unwrap();
    let t = done.timings;
    assert!(t.queue_ms >= 0.0, "{t:?}");
    assert!(t.prefill_ms >= 40.0, "two chunks of 20 ms: {t:?}");
    assert!(t.decode_ms >= 60.0, "three more tokens of 20 ms: {t:?}");
}

fn ends(script: Script, draft: Draft) -> Heard {
    let f = start(script, OPTIONS);
    let heard = hear_all(f.submit(draft));
    f.await_nothing_left();
    heard
}

fn with(prompt: &[u32], stopping: Stopping) -> Draft {
    Draft { stopping, ..draft(prompt, 1) }
}

#[test]
fn the_model_ends_its_answer() {
    let script = Script { eos_after: Some(323), ..Script::default() };
    let heard = ends(script, with(&[BOS, 320], Stopping::default()));
    // The ending token is counted and listed, and has no text.
    assert_eq!(heard.token_ids, [321, 322, 323, EOS]);
    assert_eq!(heard.text, "luc");
    assert_eq!(heard.done().finish_reason, FinishReason::Stop);
    assert_eq!(heard.done().usage.completion_tokens, 4);
}

#[test]
fn ignore_eos_goes_on() {
    let script = Script { eos_after: Some(323), ..Script::default() };
    let stopping = Stopping { ignore_eos: true, max_tokens: Some(6), ..Stopping::default() };
    let heard = ends(script, with(&[BOS, 320], stopping));
    assert_eq!(heard.token_ids, [321, 322, 323, EOS, 311, 312]);
    assert_eq!(heard.done().finish_reason, FinishReason::MaxTokens);
}

#[test]
fn before_min_tokens_no_ending_token_is_chosen() {
    let script = Script { eos_after: Some(323), ..Script::default() };
    let stopping = Stopping { min_tokens: 4, max_tokens: Some(6), ..Stopping::default() };
    let heard = ends(script.clone(), with(&[BOS, 320], stopping.clone()));
    assert_eq!(heard.token_ids, [321, 322, 323, 324, 325, 326]);
    // One fewer, and the end stands.
    let heard = ends(script, with(&[BOS, 320], Stopping { min_tokens: 3, ..stopping }));
    assert_eq!(heard.token_ids, [321, 322, 323, EOS]);
}

#[test]
fn stop_tokens_and_stop_strings_end_the_answer() {
    let stopping = Stopping { stop_token_ids: vec![324], ..Stopping::default() };
    let heard = ends(Script::default(), with(&[BOS, 320], stopping));
    assert_eq!((heard.text.as_str(), &heard.token_ids[..]), ("luc", &[321, 322, 323, 324][..]));
    assert_eq!(heard.done().matched_stop.as_deref(), Some("m"));

    // "luc" + "m" + "f" ..: the stop string spans tokens, and its beginning is never shown.
    let stopping = Stopping { stop: vec!["zz".to_owned(), "cm".to_owned()], ..Stopping::default() };
    let heard = ends(Script::default(), with(&[BOS, 320], stopping));
    assert_eq!((heard.text.as_str(), &heard.token_ids[..]), ("lu", &[321, 322, 323, 324][..]));
    assert_eq!(heard.done().finish_reason, FinishReason::Stop);
    assert_eq!(heard.done().matched_stop.as_deref(), Some("cm"));
}

#[test]
fn text_held_back_for_a_stop_string_is_given_at_the_end() {
    let stopping = Stopping { stop: vec!["ucX".to_owned()], max_tokens: Some(3), ..Stopping::default() };
    let heard = ends(Script::default(), with(&[BOS, 320], stopping));
    assert_eq!(heard.text, "luc");
    assert_eq!(heard.done().finish_reason, FinishReason::MaxTokens);
}

#[test]
fn the_context_fills_to_its_last_place() {
    let heard = ends(Script::default(), with(&[BOS; 60], Stopping::default()));
    // 60 of 64 places; the fifth token is chosen and never run.
    assert_eq!(heard.token_ids.len(), 5);
    assert_eq!(heard.done().finish_reason, FinishReason::ContextFull);
    let heard = ends(Script::default(), with(&[BOS; 64], Stopping::default()));
    assert_eq!(heard.token_ids.len(), 1);
    let f = start(Script::default(), OPTIONS);
    let e = Request::new(with(&[BOS; 65], Stopping::default()), f.engine.limits()).unwrap_err();
    assert_eq!(e, RequestError::PromptTooLong { n_prompt: 65, n_ctx: 64 });
}

#[test]
fn a_time_limit_gives_what_there_is() {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, OPTIONS);
    // Long enough for two tokens on a slow machine.
    let limit = Duration::from_secs(2);
    let stopping =
        Stopping { time_limit: Some(limit), stop: vec!["lucmX".to_owned()], ..Stopping::default() };
    let mut generation = f.submit(with(&[BOS, 320], stopping));
    gate.allow(2);
    let first = hear_tokens(&mut generation, 2);
    // The engine's time began some while ago, when it took the request in.
    std::thread::sleep(limit);
    gate.open();
    let heard = hear_all(generation);
    assert_eq!(heard.done().finish_reason, FinishReason::TimeLimit);
    assert_eq!(heard.done().usage.completion_tokens, 3, "the step under way was the last");
    assert_eq!([first, heard.token_ids].concat(), [321, 322, 323]);
    assert_eq!(heard.text, "luc", "text that was held back is given too");
    assert_eq!(f.engine.stats().finished, 1);
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let f = start(Script::default(), OPTIONS);
    let mut generation = f.submit(Draft { top_logprobs: Some(2), ..draft(&[BOS, 320], 2) });
    let mut n = 0;
    while let Some(event) = generation.blocking_next() {
        let Event::Delta(delta) = event else { continue };
        let [logprobs] = &delta.logprobs[..] else { panic!("{delta:?}") };
        assert_eq!(logprobs.chosen.id, delta.token_ids[0]);
        assert_eq!(logprobs.top[0], logprobs.chosen);
        assert_eq!(logprobs.top.len(), 2);
        // One logit of 20 among 383 of 0.
        let expected = 20.0 - (20f64.exp() + 383.0).ln();
        assert!((f64::from(logprobs.chosen.logprob) - expected).abs() < 1e-6);
        n += 1;
    }
    assert_eq!(n, 2);
}

#[test]
fn sequences_share_decode_steps_and_answer_as_if_alone() {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, OPTIONS);
    let prompts: [&[u32]; 3] = [&[BOS, 320], &[BOS, 330, 331, 332, 333, 334], &[BOS, 340]];
    // Long enough to be there still when the others have begun, in the smallest of chunks too.
    let mut first = f.submit(draft(prompts[0], 40));
    gate.allow(1);
    hear_tokens(&mut first, 1);
    let others = [f.submit(draft(prompts[1], 40)), f.submit(draft(prompts[2], 12))];
    gate.open();
    let rest: Vec<Heard> = [hear_all(first)].into_iter().chain(others.map(hear_all)).collect();
    assert_eq!(rest[0].token_ids, answer(prompts[0], 40)[1..]);
    assert_eq!(rest[1].token_ids, answer(prompts[1], 40));
    assert_eq!(rest[2].token_ids, answer(prompts[2], 12));
    let log = f.log.lock().unwrap();
    assert!(log.contains(&vec![1, 1, 1]), "three sequences in one step: {log:?}");
    // The running answer moves in every step in which another's prompt does.
    let mut with_chunk = log.iter().filter(|step| step.iter().any(|&n| n > 1)).skip(1).peekable();
    assert!(with_chunk.peek().is_some() && with_chunk.all(|step| step.len() > 1), "{log:?}");
}

#[test]
fn failed_rows_end_only_the_sequences_that_need_them() {
    let gate = Gate::closed();
    let script = Script { gate: Some(gate.clone()), bad_rows: vec![335], ..Script::default() };
    let f = start(script, OPTIONS);
    // The second comes upon the bad row in its third decode step, together with the others.
    let prompts: [&[u32]; 3] = [&[BOS, 311], &[BOS, 332], &[BOS, 322]];
    let generations = prompts.map(|p| f.submit(draft(p, 10)));
    gate.open();
    let [a, b, c] = generations.map(hear_all);
    assert_eq!(a.token_ids, answer(prompts[0], 10));
    assert_eq!(c.token_ids, answer(prompts[2], 10));
    assert_eq!(b.token_ids, [333, 334, 335]);
    let Some(Failure::Rows(fault)) = b.failure else { panic!("{b:?}") };
    assert_eq!((fault.errno, fault.offset), (Some(5), 335 * 4096));
    // A prompt that needs it fails too, and the engine goes on.
    let heard = hear_all(f.submit(draft(&[BOS, 335], 3)));
    assert!(matches!(heard.failure, Some(Failure::Rows(_))), "{heard:?}");
    assert_eq!(hear_all(f.submit(draft(&[BOS, 320], 3))).token_ids.len(), 3);
    f.await_nothing_left();
    assert_eq!(f.engine.stats().failed, 2);
}

#[test]
fn unusable_logits_are_an_error_of_their_sequence() {
    let f = start(Script { nan_after: Some(331), ..Script::default() }, OPTIONS);
    let heard = hear_all(f.submit(draft(&[BOS, 329], 9)));
    assert_eq!(heard.token_ids, [330, 331]);
    assert_eq!(heard.failure, Some(Failure::Logits(SamplingError::NanLogit { id: 0 })));
    assert_eq!(hear_all(f.submit(draft(&[BOS, 340], 3))).token_ids.len(), 3);
    f.await_nothing_left();
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let f = start(Script::default(), EngineOptions { max_sessions: 2, ..OPTIONS });
    let sampling = SamplingParams { seed: Some(7), temperature: 8.0, top_k: 0, ..SamplingParams::default() };
    let draft = Draft { sampling, ..draft(&[BOS, 320], 30) };
    let both = [f.submit(draft.clone()), f.submit(draft)].map(hear_all);
    assert_eq!(both[0].token_ids, both[1].token_ids);
    assert_ne!(both[0].token_ids, answer(&[BOS, 320], 30), "the temperature has an effect");
}

#[test]
fn requests_are_checked_field_by_field() {
    let limits = start(Script::default(), OPTIONS).engine.limits();
    let fields = |draft: Draft| match Request::new(draft, limits) {
        Err(RequestError::Fields(all)) => all.into_iter().map(|v| v.field).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let stop = |stopping| with(&[BOS], stopping);
    assert_eq!(fields(Draft::default()), ["prompt"]);
    assert_eq!(fields(draft(&[BOS, 384, 999], 1)), ["prompt[1]"]);
    assert_eq!(fields(draft(&[BOS], 0)), ["stopping.max_tokens"]);
    let few = Stopping { max_tokens: Some(3), min_tokens: 4, ..Stopping::default() };
    assert_eq!(fields(stop(few)), ["stopping.min_tokens"]);
    let empty = Stopping { stop: vec![String::new()], ..Stopping::default() };
    assert_eq!(fields(stop(empty)), ["stopping.stop"]);
    let unknown = Stopping { stop_token_ids: vec![1, 384], ..Stopping::default() };
    assert_eq!(fields(stop(unknown)), ["stopping.stop_token_ids[1]"]);
    let many = Stopping { stop_token_ids: vec![1; 65], ..Stopping::default() };
    assert_eq!(fields(stop(many)), ["stopping.stop_token_ids"]);
    let never = Stopping { time_limit: Some(Duration::ZERO), ..Stopping::default() };
    assert_eq!(fields(stop(never)), ["stopping.time_limit"]);
    assert_eq!(fields(Draft { top_logprobs: Some(21), ..draft(&[BOS], 1) }), ["top_logprobs"]);
    for id in ["a b", "ü", "\n", &"x".repeat(129)] {
        assert_eq!(fields(Draft { request_id: id.to_owned(), ..draft(&[BOS], 1) }), ["request_id"]);
    }
    let sampling = SamplingParams { top_p: 0.0, ..SamplingParams::default() };
    let all = fields(Draft { sampling, request_id: " ".to_owned(), ..draft(&[], 0) });
    assert_eq!(all, ["prompt", "sampling.top_p", "stopping.max_tokens", "request_id"]);
    let logit_bias = vec![(1, 0.0); 1025];
    let sampling = SamplingParams { logit_bias, ..SamplingParams::default() };
    assert_eq!(fields(Draft { sampling, ..draft(&[BOS], 1) }), ["sampling.logit_bias"]);
}

#[test]
fn a_sequence_without_memory_fails_alone() {
    let gate = Gate::closed();
    let script = Script { gate: Some(gate.clone()), room: Some(1), ..Script::default() };
    let f = start(script, OPTIONS);
    let first = f.submit(draft(&[BOS, 320], 3));
    gate.await_step();
    let second = f.submit(draft(&[BOS, 321], 3));
    gate.open();
    let failure = hear_all(second).failure.unwrap();
    assert!(matches!(failure, Failure::OutOfMemory(_)), "{failure}");
    assert_eq!(hear_all(first).token_ids, answer(&[BOS, 320], 3));
    f.await_nothing_left();
    assert_eq!(hear_all(f.submit(draft(&[BOS, 321], 3))).token_ids, answer(&[BOS, 321], 3));

    let none = Scripted::new(Script { room: Some(0), ..Script::default() });
    let engine = Engine {
        backend: none,
        tokenizer: tokenizer(),
        chat: chat(),
        model: model_info(),
        options: OPTIONS,
        store: None,
    };
    let error = engine.start().unwrap_err().to_string();
    assert!(error.contains("64000 bytes") && error.contains("n_ctx"), "{error}");
}
