//! Stop strings over text that arrives in pieces.

use super::SamplingError;

/// The most stop strings of a request.
pub const MAX_STOP_STRINGS: usize = 32;
/// The longest stop string in bytes.
pub const MAX_STOP_BYTES: usize = 1024;

/// Watches the text of one answer for stop strings.
///
/// The answer ends where a stop string is first complete; of several complete at the same place the
/// longest counts. What came before its beginning is the answer. Text that may be the beginning of a
/// stop string (the longest ending that is a proper beginning of one) is held back until it is decided.
/// How the text is cut into pieces makes no difference.
///
/// Each byte of the text steps one Knuth-Morris-Pratt automaton for each stop string. Stop strings and
/// pieces are whole UTF-8, and an occurrence begins with a stop string's first byte, so what is
/// released is always cut at a character.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that has arrived and not been released.
    held: String,
    matched: Option<usize>,
}

#[derive(Clone, Debug)]
struct Stop {
    text: String,
    /// For each length of a matched beginning, the length of its longest proper ending that is a
    /// beginning too.
    fallback: Vec<usize>,
    /// How many bytes of `text` the text so far ends with.
    n_matched: usize,
}

impl Stop {
    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut n = 0;
        for i in 1..bytes.len() {
            while n > 0 && bytes[i] != bytes[n] {
                n = fallback[n];
            }
            n += usize::from(bytes[i] == bytes[n]);
            fallback[i + 1] = n;
        }
        Self { text, fallback, n_matched: 0 }
    }

    /// Takes one byte; true when the stop string is complete.
    fn step(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.n_matched > 0 && bytes[self.n_matched] != byte {
            self.n_matched = self.fallback[self.n_matched];
        }
        self.n_matched += usize::from(bytes[self.n_matched] == byte);
        self.n_matched == bytes.len()
    }
}

impl StopMatcher {
    /// Errors: too many stop strings, an empty one or a too long one.
    pub fn new(stops: Vec<String>) -> Result<Self, SamplingError> {
        Self::check(&stops)?;
        Ok(Self { stops: stops.into_iter().map(Stop::new).collect(), held: String::new(), matched: None })
    }

    /// What [`new`](Self::new) would say, for a front end.
    pub fn check(stops: &[String]) -> Result<(), SamplingError> {
        if stops.len() > MAX_STOP_STRINGS {
            return Err(SamplingError::TooManyStops { count: stops.len(), max: MAX_STOP_STRINGS });
        }
        for (index, stop) in stops.iter().enumerate() {
            if stop.is_empty() {
                return Err(SamplingError::EmptyStop { index });
            }
            if stop.len() > MAX_STOP_BYTES {
                return Err(SamplingError::StopTooLong { index, bytes: stop.len(), max: MAX_STOP_BYTES });
            }
        }
        Ok(())
    }

    /// Takes the next piece of text and appends to `out` what is certain to belong to the answer.
    /// True when a stop string is complete: the answer has ended, later pieces are dropped.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.matched.is_some() {
            return true;
        }
        let old = self.held.len();
        self.held.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None;
            for (index, stop) in self.stops.iter_mut().enumerate() {
                if stop.step(byte) && longest.is_none_or(|(len, _)| stop.text.len() > len) {
                    longest = Some((stop.text.len(), index));
                }
            }
            if let Some((len, index)) = longest {
                // The beginning of an occurrence was a beginning of a stop string all along, so it is
                // still held.
                out.push_str(&self.held[..old + i + 1 - len]);
                self.held.clear();
                self.matched = Some(index);
                return true;
            }
        }
        let undecided = self.stops.iter().map(|stop| stop.n_matched).max().unwrap_or(0);
        let certain = self.held.len() - undecided;
        out.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        false
    }

    /// The text has ended without a stop string: appends what was held back.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        for stop in &mut self.stops {
            stop.n_matched = 0;
        }
    }

    /// The stop string that ended the answer.
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|index| self.stops[index].text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The whole text at once: the answer and the stop string.
    fn naive<'a>(text: &'a str, stops: &'a [String]) -> (&'a str, Option<&'a str>) {
        for end in 1..=text.len() {
            let mut found: Vec<&String> =
                stops.iter().filter(|s| text.as_bytes()[..end].ends_with(s.as_bytes())).collect();
            // Stable, so the first of equal stop strings.
            found.sort_by_key(|s| std::cmp::Reverse(s.len()));
            if let Some(stop) = found.first() {
                return (&text[..end - stop.len()], Some(stop));
            }
        }
        (text, None)
    }

    fn strings(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn any_cut_equals_the_whole() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let alphabets: [&[char]; 3] =
            [&['a', 'b'], &['a', 'b', 'c', '\n'], &['a', 'é', 'è', '日', '😀', '😁']];
        let mut matches = 0;
        for round in 0..20_000 {
            let alphabet = alphabets[round % 3];
            let word = |rng: &mut ChaCha8Rng, most: u32, least: u32| -> String {
                let n = least + rng.next_u32() % (most - least + 1);
                (0..n).map(|_| alphabet[rng.next_u32() as usize % alphabet.len()]).collect()
            };
            let n_stops = rng.next_u32() % 4;
            let stops: Vec<String> = (0..n_stops).map(|_| word(&mut rng, 6, 1)).collect();
            let text = word(&mut rng, 40, 0);
            let (want, want_stop) = naive(&text, &stops);
            matches += usize::from(want_stop.is_some());

            let mut matcher = StopMatcher::new(stops.clone()).unwrap();
            let mut got = String::new();
            let mut piece = String::new();
            for c in text.chars() {
                piece.push(c);
                if rng.next_u32().is_multiple_of(3) {
                    matcher.push(&piece, &mut got);
                    piece.clear();
                    if matcher.matched().is_none() {
                        // Nothing is held that is not a proper beginning of a stop string.
                        let held = &matcher.held;
                        assert!(held.is_empty() || stops.iter().any(|s| s.starts_with(held) && s != held));
                        assert!(want.starts_with(&got), "{text:?} {stops:?} {got:?}");
                    }
                }
            }
            matcher.push(&piece, &mut got);
            matcher.finish(&mut got);
            assert_eq!((got.as_str(), matcher.matched()), (want, want_stop), "{text:?} {stops:?}");
        }
        assert!(matches > 1000, "the test must see matches: {matches}");
    }

    #[test]
    fn held_text_is_released_when_decided() {
        let mut m = StopMatcher::new(strings(&["</end>", "STOP"])).unwrap();
        let mut out = String::new();
        assert!(!m.push("one </e", &mut out));
        assert_eq!((out.as_str(), m.held.len()), ("one ", 3));
        assert!(!m.push("m> two S", &mut out));
        assert_eq!(out, "one </em> two ");
        assert!(m.push("TOP three", &mut out));
        assert_eq!(out, "one </em> two ");
        assert_eq!(m.matched(), Some("STOP"));
        assert!(m.push("four", &mut out));
        m.finish(&mut out);
        assert_eq!(out, "one </em> two ");
    }

    #[test]
    fn the_first_complete_one_wins_and_the_longest_of_equals() {
        for (stops, text, want) in [
            (&["abcd", "bc"][..], "xabcd", ("xa", Some("bc"))),
            (&["bc", "abc"][..], "xabc", ("x", Some("abc"))),
            (&["aa"][..], "baaa", ("b", Some("aa"))),
            (&["\n\n", "\n"][..], "a\n\n", ("a", Some("\n"))),
        ] {
            let mut m = StopMatcher::new(strings(stops)).unwrap();
            let mut out = String::new();
            m.push(text, &mut out);
            assert_eq!((out.as_str(), m.matched()), want);
        }
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        let mut m = StopMatcher::new(Vec::new()).unwrap();
        let mut out = String::new();
        assert!(!m.push("日本", &mut out));
        assert_eq!(out, "日本");
    }

    #[test]
    fn bounds_are_named() {
        let err = |stops: Vec<String>| StopMatcher::new(stops).unwrap_err().to_string();
        assert_eq!(err(strings(&["a", ""])), "stop[1] is empty");
        assert_eq!(err(vec!["x".repeat(1025)]), "stop[0] has 1025 bytes, at most 1024 are allowed");
        assert_eq!(err(vec!["x".into(); 33]), "stop has 33 strings, at most 32 are allowed");
    }
}
