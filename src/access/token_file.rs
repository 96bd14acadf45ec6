//! The file of tokens: on each line a name, a token, and what it may.
//!
//! ```text
//! # comment
//! kitchen  Yq3vTtM0lA5cXW1zJrKd8w
//! kiosk    u8T1sQw7Zb2NfKp0LxV4eg  requests_per_minute=10 at_a_time=1
//! grafana  p5Rj9HcD3yGmB6oSaEiUtA  figures_only
//! ```

use std::io::Read;
use std::path::Path;

use super::AccessError;
use super::usage::Limits;

/// The largest file that is read. Unit: bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// What can be tried out is no secret: 16 characters of base64 are 96 bits.
const MIN_TOKEN_BYTES: usize = 16;
const MAX_NAME_BYTES: usize = 64;

/// A line of the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) token: String,
    pub(super) limits: Limits,
    pub(super) figures_only: bool,
}

/// Reads the file at `path`: at least one token, names and tokens once each.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, AccessError> {
    let unreadable = |source| AccessError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    let wrong = |problem: String| AccessError::File { path: path.to_owned(), problem };
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("has more than {MAX_FILE_BYTES} bytes, which no file of tokens has")));
    }
    let lines =
        parse(&text).map_err(|(line, problem)| AccessError::Line { path: path.to_owned(), line, problem })?;
    if lines.is_empty() {
        return Err(wrong("has no tokens; write lines of a name and a token".to_owned()));
    }
    Ok(lines)
}

/// The error is a line, counted from 1, and what is wrong with it.
fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines: Vec<Line> = Vec::new();
    for (i, text) in text.lines().enumerate() {
        if text.trim().is_empty() || text.trim_start().starts_with('#') {
            continue;
        }
        let line = parse_line(text).map_err(|problem| (i + 1, problem))?;
        if lines.iter().any(|earlier| earlier.name == line.name) {
            return Err((i + 1, format!("\"{}\" has a token already; give each its own name", line.name)));
        }
        if let Some(earlier) = lines.iter().find(|earlier| earlier.token == line.token) {
            return Err((i + 1, format!("the token is that of \"{}\"; give each its own", earlier.name)));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn parse_line(text: &str) -> Result<Line, String> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        // What stands in the first place may be a token by mistake: it is not shown.
        return Err(format!(
            "a name is at most {MAX_NAME_BYTES} letters, digits, hyphens, underscores, dots"
        ));
    }
    let Some(token) = words.next() else {
        return Err("the name has no token; write a name, a space and a token".to_owned());
    };
    // Those that RFC 6750 lets a header carry.
    let carried = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !token.bytes().all(carried) {
        return Err("a token has letters, digits and -._~+/= only".to_owned());
    }
    if token.len() < MIN_TOKEN_BYTES {
        return Err(format!(
            "the token of \"{name}\" has {} characters, which can be tried out; give it {MIN_TOKEN_BYTES} or \
             more, as of: head -c 24 /dev/urandom | base64",
            token.len()
        ));
    }
    let mut line = Line { name, token: token.to_owned(), limits: Limits::default(), figures_only: false };
    for word in words {
        match word.split_once('=') {
            Some(("requests_per_minute", n)) => line.limits.per_minute = Some(count(word, n)?),
            Some(("at_a_time", n)) => line.limits.at_a_time = Some(count(word, n)?),
            None if word == "figures_only" => line.figures_only = true,
            _ => {
                return Err(format!(
                    "after the token of \"{}\" stands what is none of requests_per_minute=N, at_a_time=N, \
                     figures_only",
                    line.name
                ));
            }
        }
    }
    Ok(line)
}

fn count(word: &str, n: &str) -> Result<u32, String> {
    let n = n.parse().ok().filter(|n| (1..=1_000_000).contains(n));
    n.ok_or_else(|| format!("{word}: give a number from 1 to 1000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (usize, String) {
        parse(text).err().unwrap_or_else(|| panic!("taken: {text}"))
    }

    #[test]
    fn lines_have_names_tokens_and_limits() {
        let text = "# tokens\n\n kitchen\tYq3vTtM0lA5cXW1z==\n\
                    kiosk u8T1sQw7Zb2NfKp0  requests_per_minute=10 at_a_time=1 figures_only\r\n";
        let lines = parse(text).ok().unwrap();
        assert_eq!((lines.len(), lines[0].name.as_str()), (2, "kitchen"));
        assert_eq!(lines[0].token, "Yq3vTtM0lA5cXW1z==");
        assert!(lines[0].limits == Limits::default() && !lines[0].figures_only);
        assert_eq!(lines[1].limits, Limits { per_minute: Some(10), at_a_time: Some(1) });
        assert!(lines[1].figures_only);
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_never_shows_a_token() {
        let token = "Yq3vTtM0lA5cXW1z";
        for (text, line, part) in [
            ("kitchen", 1, "has no token"),
            ("\nkitchen short", 2, "5 characters"),
            (&format!("küche {token}"), 1, "a name is"),
            (&format!("kitchen {token}\""), 1, "-._~+/="),
            (&format!("a {token}\n\nb {token}"), 3, "that of \"a\""),
            (&format!("a {token}\na {token}1"), 2, "a token already"),
            (&format!("a {token} at_a_time=0"), 1, "from 1 to"),
            (&format!("a {token} at_a_time=x"), 1, "from 1 to"),
            (&format!("a {token} {token}1"), 1, "none of requests_per_minute"),
            // The name was forgotten.
            (&format!("{}= 10", token.repeat(3)), 1, "a name is"),
        ] {
            let (at, problem) = problem(text);
            assert_eq!(at, line, "{text}: {problem}");
            assert!(problem.contains(part) && !problem.contains(token), "{text}: {problem}");
        }
    }

    #[test]
    fn a_file_is_read_to_its_bound_and_needs_a_token() {
        let read = |path: &str| read(Path::new(path)).err().unwrap().to_string();
        assert!(read("/nowhere/tokens").starts_with("/nowhere/tokens: cannot be read: "));
        assert!(read("/dev/null").starts_with("/dev/null: has no tokens"));
        assert!(read("/dev/zero").contains("more than 65536 bytes"));
    }
}
