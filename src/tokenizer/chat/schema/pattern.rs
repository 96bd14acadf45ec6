//! Patterns of ECMAScript, which JSON Schema has, as the regex crate reads them: matched in linear time, whatever they are.
//! Look-around and backreferences, for which that is impossible, are refused by that crate's own words.

use regex::{Regex, RegexBuilder};

use super::Patterns;

/// The most patterns of a request.
const MAX_PATTERNS: usize = 64;
/// The longest pattern. Unit: bytes.
const MAX_PATTERN_BYTES: usize = 4096;
/// What a compiled pattern may take, tried from the least, and all of a request together. Unit: bytes.
const SIZES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
const MAX_COMPILED_BYTES: usize = 8 << 20;
/// Memory of a compiled pattern that makes a byte of text cost one step more: a byte is held against all of it at worst.
const BYTES_PER_STEP: usize = 8 << 10;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(in super::super) struct Pattern {
    regex: Regex,
    /// The size that it fits into. Unit: bytes.
    n_bytes: usize,
}

impl Pattern {
    /// Whether it matches somewhere in a text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Steps that this takes.
    pub(super) fn n_steps(&self, text: &str) -> usize {
        1 + text.len() * (1 + self.n_bytes / BYTES_PER_STEP)
    }
}

/// What a dot stands for.
pub(in super::super) const DOT: &str = r"[^\n\r\u{2028}\u{2029}]";
/// What letters behind a backslash stand for, within classes too.
pub(in super::super) const CLASSES: [(char, &str); 6] = [
    ('d', "[0-9]"),
    ('D', "[^0-9]"),
    ('w', "[0-9A-Za-z_]"),
    ('W', "[^0-9A-Za-z_]"),
    ('s', r"[\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]"),
    ('S', r"[^\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]"),
];

/// Compiles a pattern, unless it is there.
pub(super) fn join(text: &str, patterns: &mut Patterns) -> Result<(), String> {
    if patterns.contains_key(text) {
        return Ok(());
    }
    if patterns.len() >= MAX_PATTERNS {
        return Err(format!("is one pattern too many: the tools of a request have at most {MAX_PATTERNS}"));
    }
    if text.len() > MAX_PATTERN_BYTES {
        return Err(format!("has {} bytes, a pattern at most {MAX_PATTERN_BYTES}", text.len()));
    }
    let translated = translated(text);
    let n_taken: usize = patterns.values().map(|pattern| pattern.n_bytes).sum();
    for n_bytes in SIZES.into_iter().filter(|n_bytes| n_taken + n_bytes <= MAX_COMPILED_BYTES) {
        match RegexBuilder::new(&translated).size_limit(n_bytes).build() {
            Ok(regex) => {
                patterns.insert(text.to_owned(), Pattern { regex, n_bytes });
                return Ok(());
            }
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(e) => return Err(refusal(text, &e)),
        }
    }
    Err(format!("is {:?}, which takes too much memory", shown(text)))
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The last line of the crate's message: the ones before draw the pattern.
fn refusal(text: &str, e: &regex::Error) -> String {
    let said = e.to_string();
    let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let shown = shown(text);
    format!("is {shown:?}, which cannot be kept: {reason}")
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some('b') if in_class => out.push_str(r"\x08"),
                // Of ASCII letters alone.
                Some('b') => out.push_str(r"(?-u:\b)"),
                Some(c) => match CLASSES.iter().find(|(letter, _)| *letter == c) {
                    Some((_, class)) => out.push_str(class),
                    None => out.extend(['\\', c]),
                },
            },
            '.' if !in_class => out.push_str(DOT),
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                // Everything, or nothing. The crate would take the bracket for a member.
                if chars.peek() == Some(&']') {
                    chars.next();
                    in_class = false;
                    let all = out.pop() == Some('^');
                    if all {
                        out.pop();
                    }
                    out.push_str(if all { "(?s:.)" } else { r"[^\s\S]" });
                }
            }
            ']' => {
                in_class = false;
                out.push(c);
            }
            // Classes within classes and their operators, which ECMAScript does not have.
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_ecmascript() {
        for (pattern, matched, others) in [
            ("^a+$", &["a", "aaa"][..], &["b", "ab", "a\n"][..]),
            ("b", &["abc"], &["ac"]),
            (r"^\d$", &["7"], &["٣", "x"]),
            (r"^\w$", &["a", "_"], &["é"]),
            (r"^\s$", &[" ", "\u{feff}"], &["\u{85}", "a"]),
            (r"^[\d\-x]$", &["1", "-", "x"], &["\\", "y"]),
            (r"^.$", &["x", "é"], &["\n", "\r", "\u{2028}"]),
            (r"^[.]$", &["."], &["x"]),
            (r"^[a&&b]$", &["a", "&", "b"], &["c"]),
            (r"^[[a]$", &["[", "a"], &["b"]),
            (r"^[^]$", &["]", "\n"], &[""]),
            ("[]", &[], &["]", "", "a"]),
            (r"\bcat\b", &["a cat", "écat"], &["cats"]),
            (r"^a\/b$", &["a/b"], &["a\\/b"]),
            (r"^\u00e9$", &["é"], &["e"]),
        ] {
            let mut patterns = Patterns::new();
            join(pattern, &mut patterns).unwrap();
            let regex = &patterns[pattern];
            assert!(matched.iter().all(|text| regex.is_match(text)), "{pattern}");
            assert!(!others.iter().any(|text| regex.is_match(text)), "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_kept_in_bounds_is_refused() {
        for (pattern, named) in [
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(", "unclosed"),
            ("a\\", "escape"),
            (r"(((\p{L}{99}){99}){99})", "too much memory"),
            (&"a".repeat(5000), "4096"),
        ] {
            let said = join(pattern, &mut Patterns::new()).unwrap_err();
            assert!(said.contains(named) && said.chars().count() < 400 && !said.contains('\n'), "{said}");
        }
        let mut patterns = Patterns::new();
        for i in 0..MAX_PATTERNS {
            join(&i.to_string(), &mut patterns).unwrap();
        }
        join("1", &mut patterns).unwrap();
        assert!(join("more", &mut patterns).unwrap_err().contains("64"));
        // What people write fits; many that are large do not.
        let mut patterns = Patterns::new();
        join(r"^.{1,500}$", &mut patterns).unwrap();
        join(r"^\S{1,255}$", &mut patterns).unwrap();
        let large = |i: usize| join(&format!(r"^.{{1,500}}{i}$"), &mut patterns);
        assert!((0..MAX_PATTERNS - 2).map(large).any(|joined| joined.is_err_and(|e| e.contains("memory"))));
    }
}
