//! Sets of tokens.

use llguidance::toktrie::SimpleVob;

/// Tokens that may come next.
#[derive(Clone, Debug)]
pub struct TokenSet(SimpleVob);

impl TokenSet {
    pub(super) fn empty(n_vocab: usize) -> Self {
        Self(SimpleVob::alloc(n_vocab))
    }

    pub(super) fn of(allowed: SimpleVob) -> Self {
        Self(allowed)
    }

    pub(super) fn add(&mut self, ids: &[u32]) {
        for &id in ids {
            self.0.allow_token(id);
        }
    }

    /// Whether the token is in the set.
    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }

    /// Number of tokens in the set.
    pub fn n_tokens(&self) -> usize {
        self.0.num_set()
    }

    /// Writes minus infinity over the logits of all other tokens.
    pub(in crate::sampling) fn mask(&self, logits: &mut [f32]) {
        let words = self.0.as_slice();
        // What the set does not know it does not hold.
        let known = logits.len().min(self.0.len());
        logits[known..].fill(f32::NEG_INFINITY);
        for (word, logits) in words.iter().zip(logits[..known].chunks_mut(32)) {
            match *word {
                u32::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                some => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if some >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_the_tokens_of_the_set_and_no_others() {
        for n_vocab in [1, 31, 32, 33, 100] {
            let mut set = TokenSet::empty(n_vocab);
            let members: Vec<u32> =
                (0..n_vocab as u32).filter(|id| id % 7 == 0 || (32..64).contains(id)).collect();
            set.add(&members);
            // A model may have more logits than its vocabulary has tokens.
            let mut logits = vec![1.0; n_vocab + 5];
            set.mask(&mut logits);
            for (id, logit) in logits.into_iter().enumerate() {
                let is_member = members.contains(&(id as u32));
                assert_eq!(logit == 1.0, is_member, "{id} of {n_vocab}");
                assert_eq!(set.contains(id as u32), is_member, "{id} of {n_vocab}");
            }
            assert_eq!(set.n_tokens(), members.len());
        }
    }
}
