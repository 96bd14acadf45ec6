//! Rules as they are written, and those that all grammars share.

use std::fmt::Write;

use serde_json::Value;

use super::super::call::QUOTE;

/// How deep values may be nested of which nothing is known.
const FREE_DEPTH: usize = 3;

/// Any string.
pub(super) const STRING: &str = "string";

/// A grammar under construction.
pub(super) struct Rules {
    pub(super) text: String,
    n_rules: usize,
    /// The token that stands before and behind a string.
    pub(super) quote: String,
    /// What cannot be kept is refused.
    pub(super) strict: bool,
}

impl Rules {
    pub(super) fn new(quote: u32, strict: bool) -> Self {
        let mut rules = Self { text: String::new(), n_rules: 0, quote: format!("<[{quote}]>"), strict };
        let quote = &rules.quote;
        let _ = writeln!(rules.text, "STRING: /[^{QUOTE}]+/\nKEY: /[A-Za-z0-9_.-]+/");
        let _ = writeln!(rules.text, "NUMBER: /-?(0|[1-9][0-9]{{0,14}})(\\.[0-9]{{1,15}})?/");
        let _ = writeln!(rules.text, "INTEGER: /-?(0|[1-9][0-9]{{0,14}})/");
        let _ = writeln!(rules.text, "{STRING}: {quote} STRING? {quote}");
        let _ = writeln!(rules.text, "free0: {STRING} | NUMBER | \"true\" | \"false\" | \"null\"");
        for depth in 1..=FREE_DEPTH {
            let inner = format!("free{}", depth - 1);
            let _ = writeln!(
                rules.text,
                "free{depth}: free0 | list{depth} | dict{depth}\n\
                 list{depth}: \"[\" ({inner} (\",\" {inner})*)? \"]\"\n\
                 dict{depth}: \"{{\" (KEY \":\" {inner} (\",\" KEY \":\" {inner})*)? \"}}\""
            );
        }
        rules
    }

    /// Writes a rule; its name.
    pub(super) fn rule(&mut self, body: &str) -> String {
        let name = self.name();
        self.define(&name, body);
        name
    }

    /// The name of a rule that is written later.
    pub(super) fn name(&mut self) -> String {
        self.n_rules += 1;
        format!("r{}", self.n_rules)
    }

    /// Writes the rule of this name.
    pub(super) fn define(&mut self, name: &str, body: &str) {
        let _ = writeln!(self.text, "{name}: {body}");
    }

    /// Writes a terminal; its name.
    pub(super) fn terminal(&mut self, body: &str) -> String {
        self.n_rules += 1;
        let name = format!("T{}", self.n_rules);
        self.define(&name, body);
        name
    }
}

/// Any value.
pub(super) fn any() -> String {
    format!("free{FREE_DEPTH}")
}

/// Any value within another one.
pub(super) fn any_within() -> String {
    format!("free{}", FREE_DEPTH - 1)
}

/// Any array.
pub(super) fn any_array() -> String {
    format!("list{FREE_DEPTH}")
}

/// Any object.
pub(super) fn any_object() -> String {
    format!("dict{FREE_DEPTH}")
}

/// A text as Lark quotes it.
pub(super) fn literal(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
