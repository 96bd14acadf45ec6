//! Patterns of JSON schema to expressions for whole texts.

use super::super::schema::{CLASSES, DOT};

/// A pattern of JSON schema, which may match anywhere, as an expression for whole texts between slashes. `None` of a
/// pattern whose anchors stand anywhere but at its ends.
pub(super) fn whole(pattern: &str) -> Option<String> {
    let (begins, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let mut out = String::new();
    let (mut depth, mut in_class, mut ends) = (0_usize, false, false);
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'b' | 'B' => return None,
                '/' => out.push_str("\\/"),
                // As ECMAScript has them.
                other => match CLASSES.iter().find(|(letter, _)| *letter == other) {
                    Some((_, class)) => out.push_str(class),
                    None => out.extend(['\\', other]),
                },
            },
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '.' if !in_class => out.push_str(DOT),
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
            }
            // Classes within classes, which ECMAScript does not have.
            '[' => out.push_str("\\["),
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            _ if in_class => out.push(c),
            '(' => {
                depth += 1;
                out.push(c);
            }
            ')' => {
                depth = depth.saturating_sub(1);
                out.push(c);
            }
            '$' if chars.peek().is_none() => ends = true,
            '^' | '$' => return None,
            '|' if depth == 0 && (begins || pattern.ends_with('$')) => return None,
            _ => out.push(c),
        }
    }
    let any = |anchored: bool| if anchored { "" } else { "(?s:.*)" };
    Some(format!("{}({out}){}", any(begins), any(ends)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_whole() {
        for (pattern, whole_text) in [
            ("^a+$", Some("(a+)")),
            ("a", Some("(?s:.*)(a)(?s:.*)")),
            ("^\\d{2}/x", Some("([0-9]{2}\\/x)(?s:.*)")),
            ("^(a|b)$", Some("((a|b))")),
            ("[$^\\w]$", Some("(?s:.*)([$^[0-9A-Za-z_]])")),
            ("^a|b$", None),
            ("a^b", None),
            ("\\bx", None),
            ("a\\", None),
        ] {
            assert_eq!(whole(pattern).as_deref(), whole_text, "{pattern}");
        }
    }
}
