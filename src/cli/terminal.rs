//! What may go to a terminal: nothing that steers it.

use std::borrow::Cow;

/// Text that a model wrote, for a terminal: control characters (C0 and C1) but line breaks and tabs give way to
/// U+FFFD, so that an answer can neither colour nor move nor retitle anything.
pub(super) fn tame(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(steers) {
        true => text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_and_tabs_pass() {
        assert_eq!(tame("a\tb\nc é 灯"), "a\tb\nc é 灯");
        assert_eq!(tame("\u{1b}[2J\r\u{7f}\u{9b}31m\0"), "\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}");
    }
}
