//! What of a file is there already: the note beside the part.

use std::fmt::Write as _;
use std::str::FromStr;

use super::digest::Sha256Sum;

/// First line of the note; a later layout has another number and is not read.
const HEAD: &str = "pled-part 1";

/// A contiguous piece of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Next byte that is missing.
    pub(super) at: u64,
    /// First byte that belongs to another piece.
    pub(super) end: u64,
}

/// What a part belongs to, and which bytes of it are still missing. What lies before, between and behind the
/// missing ranges is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) length: u64,
    /// A strong one only.
    pub(super) etag: Option<String>,
    pub(super) sum: Option<Sha256Sum>,
    pub(super) pieces: Vec<Piece>,
}

impl State {
    pub(super) fn missing(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.end - piece.at).sum()
    }

    /// Whether bytes that this tells of may be joined with bytes of a file of that length, ETag and checksum.
    pub(super) fn belongs_to(&self, length: u64, etag: Option<&str>, sum: Option<Sha256Sum>) -> bool {
        let same_etag = self.etag.is_some() && self.etag.as_deref() == etag;
        let same_sum = self.sum.is_some() && self.sum == sum;
        // A checksum of the whole finds out later if this is wrong; an ETag that differs finds out now.
        let other_etag = self.etag.is_some() && etag.is_some() && !same_etag;
        self.length == length && !other_etag && (same_etag || same_sum)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\nlength {}\n", self.length);
        if let Some(etag) = &self.etag {
            writeln!(text, "etag {etag}").expect("writing to a string");
        }
        if let Some(sum) = &self.sum {
            writeln!(text, "sha256 {sum}").expect("writing to a string");
        }
        for piece in self.pieces.iter().filter(|piece| piece.at < piece.end) {
            writeln!(text, "missing {} {}", piece.at, piece.end).expect("writing to a string");
        }
        text.push_str("end\n");
        text
    }
}

/// A note that is not whole and right in every line is none: the download then begins anew.
impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<State, ()> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) || !text.ends_with("\nend\n") {
            return Err(());
        }
        let mut state = State { length: 0, etag: None, sum: None, pieces: Vec::new() };
        for line in lines {
            match line.split_once(' ') {
                Some(("length", number)) => state.length = number.parse().map_err(drop)?,
                Some(("etag", etag)) => state.etag = Some(etag.to_owned()),
                Some(("sha256", sum)) => state.sum = Some(sum.parse().map_err(drop)?),
                Some(("missing", range)) => {
                    let (at, end) = range.split_once(' ').ok_or(())?;
                    let piece = Piece { at: at.parse().map_err(drop)?, end: end.parse().map_err(drop)? };
                    let in_order = state.pieces.last().is_none_or(|last| last.end <= piece.at);
                    if !in_order || piece.at >= piece.end || piece.end > state.length {
                        return Err(());
                    }
                    state.pieces.push(piece);
                }
                None if line == "end" => {}
                _ => return Err(()),
            }
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            length: 100,
            etag: Some("\"a b\"".to_owned()),
            sum: Some("ab".repeat(32).parse().unwrap()),
            pieces: vec![Piece { at: 10, end: 50 }, Piece { at: 60, end: 100 }],
        }
    }

    #[test]
    fn a_note_reads_back_and_a_damaged_one_does_not() {
        let text = state().to_text();
        assert_eq!(text.parse(), Ok(state()));
        for cut in 0..text.len() {
            assert_eq!(text[..cut].parse::<State>(), Err(()), "{cut}");
        }
        for (from, to) in
            [("length 100", "length 99"), ("10 50", "50 10"), ("60 100", "40 100"), ("end", "x y")]
        {
            assert_eq!(text.replace(from, to).parse::<State>(), Err(()), "{to}");
        }
    }

    #[test]
    fn bytes_are_joined_only_where_something_proves_them_one() {
        let sum = state().sum;
        let (same, other) = (Some("\"a b\""), Some("\"c\""));
        assert!(state().belongs_to(100, same, None) && state().belongs_to(100, None, sum));
        for (length, etag, sum) in [(99, same, sum), (100, other, sum), (100, None, None), (100, other, None)]
        {
            assert!(!state().belongs_to(length, etag, sum), "{length} {etag:?}");
        }
        let unproven = State { etag: None, sum: None, ..state() };
        assert!(!unproven.belongs_to(100, None, None));
    }
}
