//! Content stays text.
//!
//! A prompt is rendered as one text, in which the template's own marks and what people wrote stand side by side. To
//! tell them apart, a mark is put into every special token's text that occurs in content, behind its first
//! character, so that it is not found when the whole is cut at special tokens; before the rest is
//! encoded, the marks are taken out again. So no seam is left where content meets template: the ids are those of
//! the whole text, with the forged tokens spelled out.
//!
//! The mark is U+FDD0, one of the code points that Unicode reserves for a program's own use and that
//! text is not to hold. Where content has it all the same it becomes U+FFFD.

use std::borrow::Cow;

use super::super::Tokenizer;

/// The mark.
pub(super) const MARK: char = '\u{fdd0}';

/// `text` with a mark inside every text of a special token.
pub(super) fn shielded<'t>(tokenizer: &Tokenizer, text: &'t str) -> Cow<'t, str> {
    let text: Cow<'t, str> = match text.contains(MARK) {
        true => Cow::Owned(text.replace(MARK, "\u{fffd}")),
        false => Cow::Borrowed(text),
    };
    let places = tokenizer.forgeries(&text);
    if places.is_empty() {
        return text;
    }
    let mut out = String::with_capacity(text.len() + places.len() * MARK.len_utf8());
    let mut done = 0;
    for place in places {
        let first = text[place..].chars().next().map_or(0, char::len_utf8);
        out.push_str(&text[done..place + first]);
        out.push(MARK);
        done = place + first;
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The text without marks.
pub(super) fn bare(text: &str) -> Cow<'_, str> {
    match text.contains(MARK) {
        true => Cow::Owned(text.replace(MARK, "")),
        false => Cow::Borrowed(text),
    }
}
