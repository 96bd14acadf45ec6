//! The forward pass against logits that transformers computed, and against itself cut differently.

mod support;

use pled::model::{ForwardError, KvType, Model, ModelError, ModelFile, Probe, Span, Want, forward};
use pled::ops::{Compute, Kernels, Pool};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{Loaded, argmax, fixture, read_npy, runs};

/// Every folder with `expected.json`: the shapes, each in its base and other variants.
fn folders() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixture(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model-f32.gguf").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 3, "fixtures are missing: {found:?}");
    found
}

#[test]
fn f32_logits_agree_with_transformers_at_every_position() {
    for folder in folders() {
        for kernels in Kernels::available() {
            let name = kernels.name();
            let loaded = Loaded::open(&folder.join("model-f32.gguf"), kernels, 1);
            for run in runs(&folder, "f32") {
                let (_, want) = read_npy(&folder.join(&run.logits));
                let got = loaded.logits(&run.prompt, 128);
                assert_eq!(got.len(), want.len());
                let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-3, "{} on {name}: logits differ by {worst}", folder.display());
            }
        }
    }
}

#[test]
fn bytes_of_the_program_compute_what_the_file_does() {
    static BYTES: &[u8] = include_bytes!("fixtures/gemma4-ple/model-q8_0.gguf");
    let kernels = Kernels::detect();
    let file = Loaded::open(&fixture("gemma4-ple/model-q8_0.gguf"), kernels, 1);
    let bytes = Loaded::new(ModelFile::of_constant("built in", BYTES).unwrap(), kernels, 1);
    let prompt: Vec<u32> = (0..40).map(|i| i * 9 % 384).collect();
    let bits =
        |loaded: &Loaded| -> Vec<u32> { loaded.logits(&prompt, 16).into_iter().map(f32::to_bits).collect() };
    assert!(bits(&file) == bits(&bytes));

    let cut = ModelFile::of_constant("built in", &BYTES[..BYTES.len() - 1000]).unwrap_err();
    assert!(cut.to_string().starts_with("built in: tensor "), "{cut}");
}

/// The built-in model has rows enough in its head that a search leaves most of them out.
#[test]
fn the_greatest_logits_are_those_of_all() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/home-mini/home-mini.gguf");
    for kernels in Kernels::available() {
        let loaded = Loaded::open(&path, kernels, 2);
        let n_vocab = loaded.model.hparams().n_vocab as u32;
        let head = loaded.model.coarse_head();
        assert_eq!(head.bytes_per_token(), None);
        let (mut all, mut few, mut scratch) = (loaded.kv(), loaded.kv(), loaded.scratch());
        let prompt: Vec<u32> = (0..40).map(|i| i * 77 % n_vocab).collect();
        for (i, tokens) in prompt.chunks(8).enumerate() {
            if i == 1 {
                assert!(head.build(&[3]).unwrap());
            }
            let mut want = loaded.run(&mut all, &mut scratch, tokens, Want::All);
            let mut rows = loaded.rows(tokens);
            let mut spans = [Span { tokens, kv: &mut few, want: Want::All, greatest: Some(3) }];
            let got = forward(&loaded.model, &mut spans, &mut *rows, &mut scratch).unwrap();
            for (t, want) in want.chunks_exact_mut(n_vocab as usize).enumerate() {
                let order = |logits: &[f32]| {
                    let mut order: Vec<usize> = (0..logits.len()).collect();
                    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
                    order[..3].iter().map(|&id| (id, logits[id].to_bits())).collect::<Vec<_>>()
                };
                if i > 0 {
                    want[3] = f32::NEG_INFINITY;
                }
                assert_eq!(order(got.row(t)), order(want), "{}: token {t} of {tokens:?}", kernels.name());
            }
        }
        assert!(head.bytes_per_token().is_some_and(|n| n > 0));
    }
}

#[test]
fn greedy_tokens_agree_where_the_two_best_are_apart() {
    for folder in folders() {
        for (tag, tolerated_gap) in [("f32", 0.0), ("q8_0", 0.5), ("q4_0", 0.5)] {
            for kernels in Kernels::available() {
                let isa = kernels.name();
                let loaded = Loaded::open(&folder.join(format!("model-{tag}.gguf")), kernels, 1);
                for run in runs(&folder, tag) {
                    let (mut kv, mut scratch) = (loaded.kv(), loaded.scratch());
                    let mut logits = loaded.run(&mut kv, &mut scratch, &run.prompt, Want::Last);
                    for (step, (&token, &gap)) in run.greedy.iter().zip(&run.top2_gap).enumerate() {
                        let got = argmax(&logits);
                        let place = format!("{} {tag} {isa} step {step}", folder.display());
                        assert!(
                            got == token || gap < tolerated_gap,
                            "{place}: {got}, not {token}, gap {gap}"
                        );
                        logits = loaded.run(&mut kv, &mut scratch, &[token], Want::Last);
                    }
                }
            }
        }
    }
}

#[test]
fn chunks_token_by_token_and_whole_agree() {
    for folder in folders() {
        for tag in ["f32", "q4_0"] {
            for kernels in Kernels::available() {
                let loaded = Loaded::open(&folder.join(format!("model-{tag}.gguf")), kernels, 1);
                for run in runs(&folder, tag) {
                    let whole = loaded.logits(&run.prompt, 128);
                    for chunk in [1, 7, 64] {
                        let cut = loaded.logits(&run.prompt, chunk);
                        let place = || format!("{} {tag} chunks of {chunk}", folder.display());
                        assert!(whole == cut, "{} differ in their bits", place());
                    }
                }
            }
        }
    }
}

#[test]
fn keys_and_values_as_bytes_stay_near_and_do_not_depend_on_chunks() {
    // With F32 weights nothing else is rounded to bytes, so that what is seen comes from keys and values.
    let mut n_folders = 0;
    for folder in folders() {
        let mut loaded = Loaded::open(&folder.join("model-f32.gguf"), Kernels::detect(), 2);
        let fits = loaded.model.hparams().layers.iter().all(|layer| layer.head_dim.is_multiple_of(32));
        let in_floats: Vec<_> =
            runs(&folder, "f32").iter().map(|run| loaded.logits(&run.prompt, 128)).collect();
        let float_bytes = loaded.kv().n_bytes();
        assert_eq!(loaded.model.set_kv_type(KvType::Q8_0).is_ok(), fits, "{}", folder.display());
        if !fits {
            continue;
        }
        n_folders += 1;
        assert_eq!(loaded.kv().n_bytes() * 64, float_bytes * 17);
        for (run, floats) in runs(&folder, "f32").iter().zip(in_floats) {
            let bytes = loaded.logits(&run.prompt, 128);
            assert!(bytes == loaded.logits(&run.prompt, 7), "{}", folder.display());
            let n = floats.len() as f32;
            let rms = |x: &mut dyn Iterator<Item = f32>| (x.map(|v| v * v).sum::<f32>() / n).sqrt();
            let mean = floats.iter().sum::<f32>() / n;
            let spread = rms(&mut floats.iter().map(|v| v - mean));
            let moved = rms(&mut floats.iter().zip(&bytes).map(|(a, b)| a - b)) / spread;
            assert!(0.0 < moved && moved < 0.05, "{}: {moved} of the spread", folder.display());
        }
    }
    assert!(n_folders >= 2);
}

#[test]
fn threads_change_nothing() {
    for folder in folders() {
        let path = folder.join("model-q4_0.gguf");
        let (one, three) =
            (Loaded::open(&path, Kernels::detect(), 1), Loaded::open(&path, Kernels::detect(), 3));
        for run in runs(&folder, "q4_0") {
            assert!(one.logits(&run.prompt, 128) == three.logits(&run.prompt, 128), "{}", folder.display());
        }
    }
}

#[test]
fn threads_that_share_long_contexts_change_nothing() {
    // Contexts of several parts: few tokens at a time share them, chunks share heads.
    const LONG: usize = 1100;
    const SHORT: usize = 600;
    for name in ["gemma4-ple", "gemma4-keqv", "gemma3"] {
        let path = fixture(name).join("model-q4_0.gguf");
        let ids: Vec<u32> = (0..LONG as u32 + 8).map(|i| i * 7 % 384).collect();
        let logits = |n_threads: usize, few: usize| {
            let loaded = Loaded::open(&path, Kernels::detect(), n_threads);
            let mut scratch = loaded.scratch();
            let mut kvs = [LONG, SHORT].map(|n| {
                let mut kv = loaded.model.new_kv(LONG + 8, 128).unwrap();
                for chunk in ids[..n].chunks(128) {
                    loaded.run(&mut kv, &mut scratch, chunk, Want::Nothing);
                }
                kv
            });
            let mut found = Vec::new();
            for tokens in ids[LONG..].chunks(few) {
                let [long, short] = &mut kvs;
                let mut spans = [(long, tokens), (short, tokens)].map(|(kv, tokens)| Span {
                    tokens,
                    kv,
                    want: Want::All,
                    greatest: None,
                });
                let mut rows = loaded.rows(&[tokens, tokens].concat());
                let logits = forward(&loaded.model, &mut spans, &mut *rows, &mut scratch).unwrap();
                found.push((0..logits.n_rows()).map(|i| logits.row(i).to_vec()).collect::<Vec<_>>());
            }
            // All of the first sequence's, then all of the other's.
            let of_sequence =
                |i: usize| found.iter().flat_map(move |rows| rows.chunks(rows.len() / 2).nth(i).unwrap());
            [0, 1].map(|i| of_sequence(i).flatten().map(|logit| logit.to_bits()).collect::<Vec<u32>>())
        };
        let want = logits(1, 8);
        for (n_threads, few) in [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 8), (4, 8)] {
            assert!(logits(n_threads, few) == want, "{name}: {n_threads} threads, {few} tokens at a time");
        }
    }
}

#[test]
fn skipping_the_upper_layers_changes_nothing() {
    for folder in folders() {
        for tag in ["f32", "q8_0"] {
            let loaded = Loaded::open(&folder.join(format!("model-{tag}.gguf")), Kernels::detect(), 1);
            for run in runs(&folder, tag) {
                let all = loaded.logits(&run.prompt, 128);
                let last_of_all = &all[all.len() - loaded.model.hparams().n_vocab..];
                let (mut kv, mut scratch) = (loaded.kv(), loaded.scratch());
                let (body, tail) = run.prompt.split_at(run.prompt.len() - 2);
                assert!(loaded.run(&mut kv, &mut scratch, body, Want::Nothing).is_empty());
                let last = loaded.run(&mut kv, &mut scratch, tail, Want::Last);
                assert!(last == last_of_all, "{} {tag}", folder.display());
            }
        }
    }
}

#[test]
fn a_prompt_token_takes_the_products_that_are_told() {
    for folder in folders() {
        let loaded = Loaded::open(&folder.join("model-q4_0.gguf"), Kernels::detect(), 1);
        let (mut kv, mut scratch) = (loaded.kv(), loaded.scratch());
        let made = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&made);
        scratch.set_probe(Probe::new(move |work| {
            if work.weight_bytes > 0 {
                sum.fetch_add(work.multiply_adds, Ordering::Relaxed);
            }
        }));
        loaded.run(&mut kv, &mut scratch, &[5, 6, 7, 8, 9], Want::Nothing);
        let told = 5 * loaded.model.prompt_token_products();
        assert_eq!(made.load(Ordering::Relaxed), told, "{}", folder.display());
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    for folder in folders() {
        let loaded = Loaded::open(&folder.join("model-q8_0.gguf"), Kernels::detect(), 1);
        let prompts: Vec<Vec<u32>> = runs(&folder, "q8_0").into_iter().map(|r| r.prompt).collect();
        let alone: Vec<Vec<f32>> = prompts.iter().map(|p| loaded.logits(p, 128)).collect();
        let (mut a, mut b, mut scratch) = (loaded.kv(), loaded.kv(), loaded.scratch());
        let ids: Vec<u32> = prompts.concat();
        let mut rows = loaded.rows(&ids);
        let mut spans = [
            Span { tokens: &prompts[0], kv: &mut a, want: Want::Last, greatest: None },
            Span { tokens: &prompts[1], kv: &mut b, want: Want::All, greatest: None },
        ];
        let logits = forward(&loaded.model, &mut spans, &mut *rows, &mut scratch).unwrap();
        let n_vocab = loaded.model.hparams().n_vocab;
        assert_eq!(logits.n_rows(), 1 + prompts[1].len());
        assert!(logits.row(0) == &alone[0][alone[0].len() - n_vocab..]);
        for i in 0..prompts[1].len() {
            assert!(logits.row(1 + i) == &alone[1][i * n_vocab..(i + 1) * n_vocab], "position {i}");
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_nothing_advances() {
    let loaded = Loaded::open(&fixture("gemma4-ple/model-q4_0.gguf"), Kernels::detect(), 1);
    let mut kv = loaded.model.new_kv(8, 4).unwrap();
    let mut scratch = loaded.scratch();
    let mut run = |tokens: &[u32]| {
        let mut rows = loaded.rows(tokens);
        let mut spans = [Span { tokens, kv: &mut kv, want: Want::Last, greatest: None }];
        forward(&loaded.model, &mut spans, &mut *rows, &mut scratch).map(|l| l.n_rows())
    };
    assert!(matches!(run(&[1, 2, 3, 4, 5]), Err(ForwardError::TooLarge { found: 5, limit: 4, .. })));
    assert!(matches!(run(&[2, 384]), Err(ForwardError::TokenOutOfRange { id: 384, n_vocab: 384, .. })));
    assert_eq!(run(&[2, 3, 4, 5]).unwrap(), 1);
    assert_eq!(run(&[2, 3, 4]).unwrap(), 1);
    assert!(matches!(run(&[2, 3]), Err(ForwardError::ContextFull { n_tokens: 9, n_ctx: 8, .. })));
    assert_eq!(run(&[7]).unwrap(), 1);
}

#[test]
fn a_mixture_of_experts_is_refused_by_name() {
    let file = ModelFile::open(&fixture("gemma4-moe/model-q4_0.gguf")).unwrap();
    let compute = Arc::new(Compute { pool: Pool::new(1).unwrap(), kernels: Kernels::scalar() });
    let error = Model::load(&file, compute).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { .. }));
    assert!(error.to_string().contains("mixture of experts"), "{error}");
}
