//! The text of a tool call to a name and JSON arguments.
//!
//! `call:NAME{key:value,...}`; strings stand between quote tokens, which [`QUOTE`] stands for here, everything else
//! is bare. Models also write Python's words, quoted keys and bare strings; those are understood too. What is in
//! quotes is taken as it is: nothing in it needs or knows escapes.

use serde_json::{Map, Number, Value};

use super::conversation::MAX_DEPTH;

/// Stands for the quote token. Unicode reserves it for uses like this.
pub(super) const QUOTE: char = '\u{fdd1}';

/// The call, or `None` where the text is none.
pub(super) fn parse(text: &str) -> Option<(&str, Map<String, Value>)> {
    let rest = text.trim().strip_prefix("call:")?;
    let brace = rest.find('{')?;
    let (name, rest) = rest.split_at(brace);
    let mut parser = Parser { rest };
    let arguments = parser.object(MAX_DEPTH)?;
    parser.skip_space();
    parser.rest.is_empty().then_some((name.trim(), arguments))
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `c` and the white space before it.
    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything before the first of `ends`, which must come.
    fn until(&mut self, ends: &[char]) -> Option<&'t str> {
        let end = self.rest.find(ends)?;
        let (before, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(before)
    }

    fn object(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let depth = depth.checked_sub(1)?;
        let mut fields = Map::new();
        if !self.take('{') {
            return None;
        }
        if self.take('}') {
            return Some(fields);
        }
        loop {
            let key = self.key()?;
            if !self.take(':') {
                return None;
            }
            fields.insert(key, self.value(depth)?);
            if self.take('}') {
                return Some(fields);
            }
            if !self.take(',') {
                return None;
            }
        }
    }

    fn key(&mut self) -> Option<String> {
        if self.take(QUOTE) {
            return self.quoted();
        }
        let key = self.until(&[':', '}'])?.trim();
        (!key.is_empty()).then(|| key.to_owned())
    }

    /// The rest of a string whose first quote is taken.
    fn quoted(&mut self) -> Option<String> {
        let text = self.until(&[QUOTE])?;
        self.rest = &self.rest[QUOTE.len_utf8()..];
        Some(text.to_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_space();
        if self.take(QUOTE) {
            return self.quoted().map(Value::String);
        }
        match self.rest.chars().next()? {
            '{' => self.object(depth).map(Value::Object),
            '[' => self.array(depth).map(Value::Array),
            _ => {
                let word = self.until(&[',', '}', ']'])?.trim();
                (!word.is_empty()).then(|| bare(word))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Value>> {
        let depth = depth.checked_sub(1)?;
        let mut items = Vec::new();
        if !self.take('[') {
            return None;
        }
        if self.take(']') {
            return Some(items);
        }
        loop {
            items.push(self.value(depth)?);
            if self.take(']') {
                return Some(items);
            }
            if !self.take(',') {
                return None;
            }
        }
    }
}

/// A word without quotes: one that JSON or Python has a meaning for, a number, or a string after all.
fn bare(word: &str) -> Value {
    match word {
        "true" | "True" => Value::Bool(true),
        "false" | "False" => Value::Bool(false),
        "null" | "None" | "none" => Value::Null,
        _ => word.parse::<Number>().map_or_else(|_| Value::String(word.to_owned()), Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String)> {
        let text = text.replace('|', &QUOTE.to_string());
        parse(&text).map(|(name, arguments)| (name.to_owned(), Value::Object(arguments).to_string()))
    }

    #[test]
    fn calls_become_json() {
        let good = [
            ("call:f{}", "f", "{}"),
            ("call:f{x:1}", "f", r#"{"x":1}"#),
            (
                "call:a.b{city:|Paris, \"FR\" {x}|,days:2,f:-1.5e3,flag:true}",
                "a.b",
                r#"{"city":"Paris, \"FR\" {x}","days":2,"f":-1500.0,"flag":true}"#,
            ),
            (
                "call:f{ l : [ 1 , |a| , { |k| : |v:| } ] , n : None }",
                "f",
                r#"{"l":[1,"a",{"k":"v:"}],"n":null}"#,
            ),
            ("call:f{x:red wine,y:[]}", "f", r#"{"x":"red wine","y":[]}"#),
            ("call:f{x:1,x:2}", "f", r#"{"x":2}"#),
            ("call:f{x:|a\nb\\n|}", "f", r#"{"x":"a\nb\\n"}"#),
            ("call:f{x:1e999}", "f", r#"{"x":"1e999"}"#),
        ];
        for (text, name, arguments) in good {
            assert_eq!(parsed(text), Some((name.to_owned(), arguments.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in [
            "",
            "call:",
            "call:f",
            "call:f{",
            "call:f{x}",
            "call:f{x:}",
            "call:f{x:1",
            "call:f{x:|a}",
            "call:f{:1}",
            "f{x:1}",
            "call:f{x:1}y",
            "call:f{x:[1}",
            "call:f{x:1,}",
            "call:f{x:{}",
            "call:f{x:|a|b}",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
        let deep = |n: usize| format!("call:f{{x:{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(parsed(&deep(MAX_DEPTH - 1)).is_some());
        assert_eq!(parsed(&deep(MAX_DEPTH)), None);
        assert_eq!(parsed(&deep(1_000_000)), None);
    }
}
