//! The tree alone. What is kept of a range of tokens is the range itself, at a price for each token.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const LOOKBACK: usize = 40;
/// What a token weighs, in full layers and in sliding ones. Unit: bytes.
const FULL_BYTES: u64 = 3;
const SLIDING_BYTES: u64 = 10;
const BLOCK_BYTES: u64 = BLOCK_TOKENS as u64 * (FULL_BYTES + SLIDING_BYTES);
const UNBOUNDED: u64 = u64::MAX;

type Cache = PrefixCache<(Range<usize>, LayerKind)>;

fn keep(positions: Range<usize>, kind: LayerKind) -> Option<Kept<(Range<usize>, LayerKind)>> {
    let token_bytes = if kind == LayerKind::Full { FULL_BYTES } else { SLIDING_BYTES };
    let n_bytes = positions.len() as u64 * token_bytes;
    Some(Kept { what: (positions, kind), n_bytes })
}

/// Keeps all of `tokens` for a sequence that holds all of them.
fn store(cache: &mut Cache, tokens: &[u32], bound: u64) {
    cache.store(tokens, 0, 0, bound, keep);
}

/// `n` tokens that nobody else begins with.
fn prompt(of: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 1000 * of + i).collect()
}

/// What the counters should be, by walking the tree.
fn weigh(cache: &Cache) -> u64 {
    let window = |block: &Block<_>| block.window.as_ref().map_or(0, |window| window.kept.n_bytes);
    cache.blocks.values().map(|block| block.full.n_bytes + window(block)).sum()
}

#[test]
fn what_prompts_share_is_kept_and_counted_once() {
    let mut cache = Cache::new(LOOKBACK);
    let shared = prompt(1, 3 * BLOCK_TOKENS);
    store(&mut cache, &shared, UNBOUNDED);
    assert_eq!((cache.n_tokens(), cache.n_bytes()), (3 * BLOCK_TOKENS, 3 * BLOCK_BYTES));
    for of in 2..5 {
        store(&mut cache, &[&shared[..], &prompt(of, BLOCK_TOKENS)].concat(), UNBOUNDED);
    }
    // The same again, and what is a beginning of it.
    store(&mut cache, &shared, UNBOUNDED);
    store(&mut cache, &shared[..BLOCK_TOKENS + 5], UNBOUNDED);
    assert_eq!((cache.n_tokens(), cache.n_bytes()), (6 * BLOCK_TOKENS, 6 * BLOCK_BYTES));
    assert_eq!(weigh(&cache), cache.n_bytes());
}

#[test]
fn a_block_that_grows_takes_the_place_of_its_beginning() {
    let mut cache = Cache::new(LOOKBACK);
    let tokens = prompt(1, 2 * BLOCK_TOKENS);
    for n in [BLOCK_TOKENS + 1, BLOCK_TOKENS + 9, 2 * BLOCK_TOKENS] {
        store(&mut cache, &tokens[..n], UNBOUNDED);
        assert_eq!((cache.n_tokens(), weigh(&cache)), (n, cache.n_bytes()));
        assert_eq!(cache.n_known(&tokens), n);
    }
}

#[test]
fn a_prefix_comes_with_what_the_next_token_sees_and_no_more() {
    let mut cache = Cache::new(LOOKBACK);
    let tokens = prompt(1, 4 * BLOCK_TOKENS);
    store(&mut cache, &tokens, UNBOUNDED);
    let (n, kept) = cache.find(&tokens[..100]);
    assert_eq!(n, 100);
    let of = |wanted| kept.iter().filter(move |(_, kind)| *kind == wanted).map(|(range, _)| range.clone());
    assert_eq!(of(LayerKind::Full).collect::<Vec<_>>(), [0..32, 32..64, 64..96, 96..128]);
    // Token 100 sees 60 to 99.
    assert_eq!(of(LayerKind::Sliding).collect::<Vec<_>>(), [32..64, 64..96, 96..128]);
    assert_eq!(cache.find(&prompt(2, 50)), (0, Vec::new()));
}

#[test]
fn the_least_recently_used_goes_first_and_the_bound_holds() {
    let mut cache = Cache::new(LOOKBACK);
    let bound = 6 * BLOCK_BYTES;
    let prompts: Vec<_> = (0..3).map(|of| prompt(of + 1, 2 * BLOCK_TOKENS)).collect();
    for tokens in &prompts {
        store(&mut cache, tokens, bound);
    }
    assert_eq!(cache.n_bytes(), bound);
    // The first is used, so the second is the oldest now.
    cache.find(&prompts[0]);
    store(&mut cache, &prompt(9, 2 * BLOCK_TOKENS), bound);
    assert_eq!(cache.n_known(&prompts[0]), 2 * BLOCK_TOKENS);
    assert_eq!(cache.n_known(&prompts[1]), 0);
    assert_eq!(cache.n_known(&prompts[2]), 2 * BLOCK_TOKENS);
    assert_eq!((cache.n_bytes(), weigh(&cache)), (bound, bound));
    cache.shrink_to(2 * BLOCK_BYTES);
    assert_eq!(cache.n_known(&prompt(9, 2 * BLOCK_TOKENS)), 2 * BLOCK_TOKENS);
    assert_eq!((cache.n_tokens(), cache.n_bytes()), (2 * BLOCK_TOKENS, 2 * BLOCK_BYTES));
    cache.shrink_to(0);
    assert_eq!((cache.n_tokens(), cache.n_bytes()), (0, 0));
}

/// Windows where nobody resumes go before any token is forgotten.
#[test]
fn old_windows_go_before_what_is_above_them() {
    let mut cache = Cache::new(LOOKBACK);
    let tokens = prompt(1, 8 * BLOCK_TOKENS);
    store(&mut cache, &tokens, UNBOUNDED);
    let window = BLOCK_TOKENS as u64 * SLIDING_BYTES;
    // Resuming at the end looks at the last two windows.
    cache.find(&tokens);
    cache.shrink_to(8 * BLOCK_BYTES - 6 * window);
    assert_eq!(cache.n_known(&tokens), tokens.len());
    assert_eq!(cache.n_known(&tokens[..5 * BLOCK_TOKENS]), 0, "nobody can resume without windows");
}

#[test]
fn what_does_not_fit_beside_what_was_just_used_is_not_kept() {
    let mut cache = Cache::new(LOOKBACK);
    let tokens = prompt(1, 4 * BLOCK_TOKENS);
    store(&mut cache, &tokens, 2 * BLOCK_BYTES + 1);
    assert_eq!(cache.n_known(&tokens), 2 * BLOCK_TOKENS);
    assert!(cache.n_bytes() <= 2 * BLOCK_BYTES + 1);
    assert_eq!(weigh(&cache), cache.n_bytes());
}

/// Whatever is kept and forgotten: the bound holds, the counters are right, and what is found is what was said.
#[test]
fn random_conversations_keep_to_the_bound() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut below = |n: u64| random.random_range(0..n);
    let mut cache = Cache::new(LOOKBACK);
    let bound = 20 * BLOCK_BYTES;
    let mut said: Vec<Vec<u32>> = vec![Vec::new()];
    for _ in 0..2000 {
        let mut tokens = said[below(said.len() as u64) as usize].clone();
        tokens.truncate(below(300) as usize);
        // Few different tokens, so that branches meet again.
        tokens.extend((0..1 + below(80)).map(|_| below(3) as u32));
        let (n_known, kept) = cache.find(&tokens);
        assert!(n_known <= tokens.len());
        let end = |kind| kept.iter().filter(|(_, k)| *k == kind).map(|(range, _)| range.end).max();
        assert!(
            n_known == 0 || end(LayerKind::Full) >= Some(n_known) && end(LayerKind::Sliding) >= Some(n_known)
        );
        let n_kept = n_known;
        let sliding_from = n_known.saturating_sub(LOOKBACK);
        cache.store(&tokens, n_kept, sliding_from, bound, keep);
        assert!(cache.n_bytes() <= bound, "{} bytes", cache.n_bytes());
        assert_eq!(weigh(&cache), cache.n_bytes());
        assert_eq!(cache.n_tokens(), cache.blocks.values().map(|block| block.tokens.len()).sum::<usize>());
        said.push(tokens);
        if said.len() > 8 {
            said.swap_remove(below(8) as usize);
        }
    }
}

#[test]
fn what_is_pinned_stays_until_it_is_not() {
    let mut cache = Cache::new(LOOKBACK);
    let bound = 6 * BLOCK_BYTES;
    let pinned = prompt(1, 3 * BLOCK_TOKENS);
    store(&mut cache, &pinned, bound);
    let pin = cache.pin(&pinned, bound);
    for of in 2..20 {
        store(&mut cache, &prompt(of, 3 * BLOCK_TOKENS), bound);
        assert!(cache.n_bytes() <= bound);
    }
    assert_eq!(cache.n_known(&pinned), pinned.len());
    cache.shrink_to(0);
    // Of the windows only those that resuming at the end needs.
    let n_bytes = 3 * BLOCK_BYTES - BLOCK_TOKENS as u64 * SLIDING_BYTES;
    assert_eq!((cache.n_known(&pinned), cache.n_bytes()), (pinned.len(), n_bytes));
    assert_eq!(cache.pinned_bytes, n_bytes);
    cache.unpin(pin);
    assert_eq!(cache.pinned_bytes, 0);
    cache.shrink_to(0);
    assert_eq!((cache.n_known(&pinned), cache.n_bytes()), (0, 0));
}

#[test]
fn pins_share_and_no_more_is_pinned_than_may_be() {
    let mut cache = Cache::new(LOOKBACK);
    let shared = prompt(1, 2 * BLOCK_TOKENS);
    let long = [&shared[..], &prompt(2, 4 * BLOCK_TOKENS)].concat();
    store(&mut cache, &shared, UNBOUNDED);
    store(&mut cache, &long, UNBOUNDED);
    let bound = 2 * BLOCK_BYTES;
    let pins = [cache.pin(&shared, bound), cache.pin(&shared, bound)];
    assert_eq!(cache.pinned_bytes, bound, "what two pin is counted once");
    let none = cache.pin(&long, bound);
    assert_eq!((none.n_tokens(), cache.pinned_bytes), (0, bound));
    let [first, second] = pins;
    cache.unpin(first);
    assert_eq!(cache.pinned_bytes, bound);
    cache.shrink_to(bound);
    assert_eq!(cache.n_known(&shared), shared.len());
    cache.unpin(second);
    assert_eq!(cache.pinned_bytes, 0);
}

#[test]
fn a_pinned_end_is_not_outgrown_and_pins_of_what_is_gone_say_nothing() {
    let mut cache = Cache::new(LOOKBACK);
    let tokens = prompt(1, 2 * BLOCK_TOKENS);
    let short = &tokens[..BLOCK_TOKENS + 7];
    store(&mut cache, short, UNBOUNDED);
    let pin = cache.pin(short, UNBOUNDED);
    store(&mut cache, &tokens, UNBOUNDED);
    assert_eq!((cache.n_known(short), cache.n_known(&tokens)), (short.len(), tokens.len()));
    let longer = cache.pin(&tokens, UNBOUNDED);
    cache.unpin(pin);
    cache.shrink_to(0);
    assert_eq!(cache.n_known(&tokens), tokens.len());
    cache.clear();
    store(&mut cache, &tokens, UNBOUNDED);
    cache.unpin(longer);
    cache.shrink_to(0);
    assert_eq!((cache.n_tokens(), cache.pinned_bytes), (0, 0));
}
