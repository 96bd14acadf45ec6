//! The sampler against a slow one that sorts everything, and its promises one by one.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Sampler, SamplingError, SamplingParams, exp::exp};

const NONE: &[u32] = &[];

fn sampler(params: SamplingParams, n_vocab: usize) -> Sampler {
    Sampler::new(params, n_vocab, NONE).unwrap()
}

/// Normal-like logits, some of them equal.
fn random_logits(rng: &mut ChaCha8Rng, n: usize, spread: f32) -> Vec<f32> {
    (0..n)
        .map(|_| {
            let sum: u32 = (0..4).map(|_| rng.next_u32() % 1000).sum();
            (sum as f32 - 1998.0) / 500.0 * spread
        })
        .collect()
}

/// The tokens that may be drawn, with their probabilities, by the letter of the room's order.
fn distribution(params: &SamplingParams, logits: &[f32]) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f32)> = logits.iter().enumerate().map(|(i, &l)| (i as u32, l)).collect();
    all.retain(|(_, l)| *l > f32::NEG_INFINITY);
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    if params.temperature == 0.0 {
        return vec![(all[0].0, 1.0)];
    }
    if params.top_k > 0 {
        all.truncate(params.top_k as usize);
    }
    let scaled = |l: f32| (f64::from(l) - f64::from(all[0].1)) / f64::from(params.temperature);
    let mut p: Vec<(u32, f64)> = all.iter().map(|&(id, l)| (id, exp(scaled(l)))).collect();
    let total: f64 = p.iter().map(|x| x.1).sum();
    p.iter_mut().for_each(|x| x.1 /= total);
    if params.top_p < 1.0 {
        let mut sum = 0.0;
        let n = p.iter().position(|x| {
            sum += x.1;
            sum >= f64::from(params.top_p)
        });
        p.truncate(n.map_or(p.len(), |n| n + 1));
    }
    let least = f64::from(params.min_p) * p[0].1;
    p.retain(|x| x.1 >= least);
    let total: f64 = p.iter().map(|x| x.1).sum();
    p.iter_mut().for_each(|x| x.1 /= total);
    p
}

/// With all others masked the same tokens are chosen, or all are asked for.
#[test]
fn the_greatest_logits_that_a_sampler_asks_for_are_enough() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let sampled = |top_k| SamplingParams { top_k, seed: Some(5), ..SamplingParams::default() };
    let biased = SamplingParams { logit_bias: vec![(3, 1.0)], ..sampled(4) };
    let penalised = SamplingParams { presence_penalty: 0.5, ..sampled(4) };
    for (params, before, after) in [
        (SamplingParams::greedy(), Some(1), Some(1)),
        (sampled(1), Some(1), Some(1)),
        (sampled(7), Some(7), Some(7)),
        (sampled(0), None, None),
        (sampled(50), None, None),
        (biased, None, None),
        (penalised, Some(4), None),
    ] {
        let (mut of_all, mut of_greatest) = (sampler(params.clone(), 50), sampler(params.clone(), 50));
        assert_eq!(of_all.n_greatest(), before, "{params:?}");
        for _ in 0..50 {
            let mut all = random_logits(&mut rng, 50, 2.0);
            let mut greatest = all.clone();
            if let Some(n) = of_greatest.n_greatest() {
                let mut ordered = all.clone();
                ordered.sort_by(|a, b| b.total_cmp(a));
                greatest.iter_mut().filter(|l| **l < ordered[n - 1]).for_each(|l| *l = f32::NEG_INFINITY);
            }
            let id = of_all.sample(&mut all).unwrap();
            assert_eq!(of_greatest.sample(&mut greatest).unwrap(), id, "{params:?}");
            of_all.accept(id);
            of_greatest.accept(id);
        }
        assert_eq!(of_all.n_greatest(), after, "{params:?}");
    }
}

#[test]
fn only_tokens_of_the_oracle_are_drawn_and_as_often() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let sets = [
        SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, ..SamplingParams::default() },
        SamplingParams { temperature: 0.7, top_k: 5, top_p: 1.0, ..SamplingParams::default() },
        SamplingParams { temperature: 1.3, top_k: 0, top_p: 0.6, ..SamplingParams::default() },
        SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.2, ..SamplingParams::default() },
        SamplingParams { temperature: 2.0, top_k: 20, top_p: 0.8, min_p: 0.1, ..SamplingParams::default() },
        SamplingParams { temperature: 1.0, top_k: 3, top_p: 1e-9, ..SamplingParams::default() },
        SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 1.0, ..SamplingParams::default() },
        SamplingParams::greedy(),
    ];
    const DRAWS: usize = 20_000;
    for params in sets {
        let logits = random_logits(&mut rng, 50, 1.5);
        let want = distribution(&params, &logits);
        let params = SamplingParams { seed: Some(11), ..params };
        let mut sampler = sampler(params.clone(), logits.len());
        let mut counts = vec![0usize; logits.len()];
        let mut row = logits.clone();
        for _ in 0..DRAWS {
            counts[sampler.sample(&mut row).unwrap() as usize] += 1;
        }
        assert_eq!(row, logits);
        let drawn: usize = want.iter().map(|x| counts[x.0 as usize]).sum();
        assert_eq!(drawn, DRAWS, "a token outside the filters was drawn: {params:?}");
        for (id, p) in want {
            let expected = p * DRAWS as f64;
            let deviation = (counts[id as usize] as f64 - expected).abs();
            assert!(deviation <= 5.0 * (expected * (1.0 - p)).sqrt() + 1.0, "{params:?} {id} {p}");
        }
    }
}

/// Flat rows put many tokens into one bucket, steep ones few into many.
#[test]
fn top_p_reaches_far_into_a_flat_row() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for spread in [0.0, 0.01, 0.5, 2.0, 50.0] {
        let logits = random_logits(&mut rng, 20_000, spread);
        for (top_p, min_p) in [(0.5, 0.0), (0.999, 0.0), (1.0, 0.001), (0.9, 0.3)] {
            let params =
                SamplingParams { top_k: 0, top_p, min_p, seed: Some(5), ..SamplingParams::default() };
            let mut want: Vec<u32> = distribution(&params, &logits).iter().map(|x| x.0).collect();
            want.sort_unstable();
            let mut sampler = sampler(params, logits.len());
            let mut row = logits.clone();
            for _ in 0..20 {
                let id = sampler.sample(&mut row).unwrap();
                assert!(want.binary_search(&id).is_ok(), "spread {spread} top_p {top_p} id {id}");
            }
        }
    }
}

#[test]
fn a_seed_repeats_and_these_ids_hold_on_every_platform() {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let logits = random_logits(&mut rng, 1000, 3.0);
    let run = |seed, top_k| {
        let params = SamplingParams { seed: Some(seed), top_k, ..SamplingParams::default() };
        let mut sampler = sampler(params, logits.len());
        let mut row = logits.clone();
        (0..8).map(|_| sampler.sample(&mut row).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(1, 64), run(1, 64));
    assert_ne!(run(1, 64), run(2, 64));
    assert_eq!(run(42, 64), [410, 780, 449, 547, 383, 32, 830, 779]);
    assert_eq!(run(42, 0), [617, 834, 375, 542, 229, 174, 229, 791]);
}

#[test]
fn without_a_seed_two_requests_differ() {
    let a = sampler(SamplingParams::default(), 10);
    let b = sampler(SamplingParams::default(), 10);
    assert_ne!(a.seed(), b.seed());
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let mut greedy = sampler(SamplingParams::greedy(), 5);
    assert_eq!(greedy.sample(&mut [1.0, 3.0, 2.0, 3.0, -1.0]), Ok(1));
    assert_eq!(greedy.sample(&mut [f32::NEG_INFINITY, -5.0, -5.0, -9.0, -9.0]), Ok(1));
    assert_eq!(greedy.sample(&mut [-0.0, 0.0, -1.0, -1.0, -1.0]), Ok(0));
}

#[test]
fn penalties_follow_their_formulas() {
    let greedy = |f: fn(&mut SamplingParams)| {
        let mut params = SamplingParams::greedy();
        f(&mut params);
        params
    };
    // Repetition: prompt and completion, once, divided above zero and multiplied below.
    let mut s = sampler(greedy(|p| p.repetition_penalty = 2.0), 3);
    s.accept_prompt(&[0, 0, 0]);
    assert_eq!(s.sample(&mut [3.0, 1.6, 0.0]), Ok(1));
    assert_eq!(s.sample(&mut [3.0, 1.4, 0.0]), Ok(0));
    s.accept(1);
    s.accept(1);
    assert_eq!(s.sample(&mut [3.0, 1.6, 0.0]), Ok(0));
    assert_eq!(s.sample(&mut [-3.0, -1.0, -1.9]), Ok(2));
    // Presence: completion only, once.
    let mut s = sampler(greedy(|p| p.presence_penalty = 1.0), 2);
    s.accept_prompt(&[0]);
    assert_eq!(s.sample(&mut [1.5, 1.0]), Ok(0));
    s.accept(0);
    assert_eq!(s.sample(&mut [1.5, 1.0]), Ok(1));
    s.accept(0);
    assert_eq!(s.sample(&mut [2.5, 1.0]), Ok(0));
    // Frequency: for each occurrence.
    let mut s = sampler(greedy(|p| p.frequency_penalty = 1.0), 2);
    s.accept(0);
    assert_eq!(s.sample(&mut [2.5, 1.0]), Ok(0));
    s.accept(0);
    assert_eq!(s.sample(&mut [2.5, 1.0]), Ok(1));
}

#[test]
fn bias_and_suppression() {
    let params = SamplingParams { logit_bias: vec![(2, 5.0), (2, 5.0)], ..SamplingParams::greedy() };
    let mut s = Sampler::new(params, 4, &[3, 1000][..]).unwrap();
    let mut row = [9.0, 1.0, 0.5, 100.0];
    assert_eq!(s.sample(&mut row), Ok(2));
    assert_eq!(s.sample_excluding(&mut row, &[2]), Ok(0));
    assert_eq!(s.sample_excluding(&mut row, &[2, 0, 1]), Err(SamplingError::NothingLeft));
    assert_eq!(row, [9.0, 1.0, 0.5, 100.0]);
    // A bias does not bring a masked token back.
    row[2] = f32::NEG_INFINITY;
    assert_eq!(s.sample(&mut row), Ok(0));
}

#[test]
fn huge_finite_parameters_do_no_harm() {
    for (temperature, value) in
        [(1.0, f32::MAX), (1.0, -f32::MAX), (f32::MIN_POSITIVE, f32::MAX), (f32::MAX, 1.0)]
    {
        let params = SamplingParams {
            temperature,
            repetition_penalty: f32::MIN_POSITIVE,
            presence_penalty: value,
            frequency_penalty: value,
            logit_bias: vec![(1, value), (0, -value)],
            seed: Some(0),
            ..SamplingParams::default()
        };
        let mut s = sampler(params, 4);
        s.accept_prompt(&[0, 1, 2]);
        let mut row = [30.0, -30.0, 0.0, f32::NEG_INFINITY];
        for _ in 0..20 {
            let id = s.sample(&mut row).unwrap();
            assert!(id < 3);
            s.accept(id);
        }
    }
}

#[test]
fn faults_in_logits_are_errors_and_leave_the_row() {
    let mut s = Sampler::new(SamplingParams::default(), 600, NONE).unwrap();
    let mut row = vec![0.0; 600];
    row[577] = f32::NAN;
    row[599] = f32::INFINITY;
    assert_eq!(s.sample(&mut row), Err(SamplingError::NanLogit { id: 577 }));
    row[577] = 0.0;
    assert_eq!(s.sample(&mut row), Err(SamplingError::InfiniteLogit { id: 599 }));
    assert_eq!(s.sample(&mut [0.0; 3]), Err(SamplingError::WrongLength { got: 3, n_vocab: 600 }));
    row.fill(f32::NEG_INFINITY);
    assert_eq!(s.sample(&mut row), Err(SamplingError::NothingLeft));
}

/// After the first tokens no buffer grows any more.
#[test]
fn buffers_are_kept() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let params = SamplingParams { repetition_penalty: 1.1, seed: Some(1), ..SamplingParams::default() };
    let mut s = sampler(params, 5000);
    let mut row = random_logits(&mut rng, 5000, 3.0);
    let id = s.sample(&mut row).unwrap();
    s.accept(id);
    s.sample(&mut row).unwrap();
    let before = s.buffer_capacities();
    for _ in 0..50 {
        s.sample(&mut row).unwrap();
    }
    assert_eq!(s.buffer_capacities(), before);
}
