//! Grammars to constraints, within bounds.

use std::sync::{Arc, OnceLock};
use std::thread;

use llguidance::api::{GrammarInit, GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{JsonCompileOptions, Logger, Matcher, ParserFactory};
use serde_json::{Map, Value, json};

use super::course::{CallRule, Constraint};
use super::keywords::settle;
use super::numbers::bound_numbers;
use super::vocabulary::{Vocabulary, environment};

/// The longest grammar. Unit: bytes.
pub const MAX_GRAMMAR_BYTES: usize = 128 << 10;
/// The most values of a [`Grammar::Choice`].
pub const MAX_CHOICES: usize = 1024;
/// How deep brackets may be nested in a grammar's text.
const MAX_DEPTH: usize = 64;
/// Rules that name each other are followed by recursion. Only what is used of this takes memory. Unit: bytes.
const STACK_BYTES: usize = 256 << 20;
/// The longest reason given for a refusal. Unit: characters.
const MAX_REASON: usize = 300;
/// Which texts are common enough that the tokens within them are known beforehand: the inside of a JSON string.
/// More of these make masks cheaper by little and take some 15 MB each.
const SLICES: [&str; 1] = [r#"[^"\\\x00-\x1F\x7F]{1,30}"#];

/// What a text has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// JSON valid against this schema.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// The whole text matches this regular expression, in the syntax of Rust's regex crate.
    Regex(String),
    /// Derived from the rule `start` of this grammar, in llguidance's variant of the syntax of Lark.
    Lark(String),
    /// One of these.
    Choice(Vec<String>),
}

/// The form of a whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// What the answer's text has to be; `None` leaves it free.
    pub text: Option<Grammar>,
    /// The tokens that begin and end a thought, which may precede the answer and is free.
    pub thought: Option<(u32, u32)>,
    /// What calls have to be.
    pub calls: Option<Calls>,
}

/// The form of calls in an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// The token that begins a call.
    pub open: u32,
    /// What follows it to the end of the call.
    pub grammar: Grammar,
    /// There has to be a call, and nothing besides calls.
    pub required: bool,
    /// The answer ends behind the first call.
    pub single: bool,
}

/// A constraint, and what of the outline is not in it.
#[derive(Debug)]
pub struct Compiled {
    /// What the answer is kept to.
    pub constraint: Constraint,
    /// Why calls are not kept to their grammar: nothing was asked of them, and it cannot be compiled.
    pub calls_left_free: Option<String>,
}

/// Why a grammar cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct GrammarError {
    /// Whose grammar it is.
    pub part: Part,
    /// What is wrong with it.
    pub problem: String,
}

/// Parts of an answer with grammars of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its text.
    Text,
    /// Its calls.
    Calls,
}

/// Compiles grammars for one vocabulary.
pub struct Grammars {
    vocabulary: Arc<dyn Vocabulary>,
    /// Built when the first grammar comes: many servers never see one.
    factory: OnceLock<Result<ParserFactory, String>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").field("is_built", &self.factory.get().is_some()).finish_non_exhaustive()
    }
}

impl Grammars {
    /// For this vocabulary. Takes neither time nor memory before the first grammar comes.
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Self {
        Self { vocabulary, factory: OnceLock::new() }
    }

    /// Builds what all grammars need of the vocabulary, unless it is there. Takes time. That it cannot be built is told to whoever
    /// compiles.
    pub fn prepare(&self) {
        let _ = self.factory.get_or_init(|| self.build());
    }

    /// Compiles the grammars of an answer. Takes time: not for threads that serve others.
    ///
    /// Errors: a grammar that is malformed, too large, or asks for what cannot be kept.
    pub fn compile(&self, outline: Outline) -> Result<Compiled, GrammarError> {
        // Bounded memory is put aside for the recursion over rules; of it only what is used becomes real.
        thread::scope(|scope| {
            let build = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
            let work = build.spawn_scoped(scope, || self.compile_here(outline));
            let text = |problem| GrammarError { part: Part::Text, problem };
            let work = work.map_err(|e| text(format!("no thread to compile the grammar: {e}")))?;
            work.join().unwrap_or_else(|_| Err(text("the grammar could not be compiled".to_owned())))
        })
    }

    fn compile_here(&self, outline: Outline) -> Result<Compiled, GrammarError> {
        let of = |part, grammar| self.matcher(grammar).map_err(|problem| GrammarError { part, problem });
        let text = outline.text.map(|grammar| of(Part::Text, grammar)).transpose()?;
        let mut calls_left_free = None;
        let calls = match outline.calls {
            None => None,
            Some(Calls { open, grammar, required, single }) => {
                let grammar = of(Part::Calls, grammar);
                // Where nothing is asked of calls they are free if need be: whoever reads them checks them anyway.
                let is_asked = required || single || text.is_some();
                let grammar = match grammar {
                    Err(e) if !is_asked => {
                        calls_left_free = Some(e.problem);
                        None
                    }
                    grammar => Some(grammar?),
                };
                grammar.map(|grammar| CallRule { open, required, single, grammar })
            }
        };
        let (n_vocab, eog) = (self.vocabulary.n_vocab(), self.vocabulary.eog_ids());
        let constraint = Constraint::new(n_vocab, eog, text, outline.thought, calls);
        Ok(Compiled { constraint, calls_left_free })
    }

    fn matcher(&self, grammar: Grammar) -> Result<Matcher, String> {
        let grammar = source(grammar)?;
        let factory = self.factory.get_or_init(|| self.build()).as_ref().map_err(Clone::clone)?;
        let parser = factory.create_parser_from_init_ext(
            GrammarInit::Serialized(grammar),
            Logger::new(0, 0),
            InferenceCapabilities::default(),
            limits(),
        );
        let parser = parser.map_err(|e| refusal(&e))?;
        Ok(Matcher::new(Ok(parser)))
    }

    fn build(&self) -> Result<ParserFactory, String> {
        let environment = environment(Arc::clone(&self.vocabulary));
        let slices = SLICES.map(str::to_owned);
        let factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices);
        factory.map_err(|e| refusal(&e))
    }
}

/// A tenth of llguidance's own where these would cost a Pi hundreds of megabytes or seconds.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2000,
        max_lexer_states: 25_000,
        max_grammar_size: 50_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// The grammar as llguidance takes it.
fn source(grammar: Grammar) -> Result<TopLevelGrammar, String> {
    let grammar = match grammar {
        Grammar::JsonSchema(schema) => json_schema(schema)?,
        Grammar::JsonObject => json_schema(any_object())?,
        Grammar::Regex(regex) => {
            check_text(&regex)?;
            if regex.is_empty() {
                return Err("is empty".to_owned());
            }
            let n_backslashes = regex.bytes().rev().take_while(|&b| b == b'\\').count();
            if n_backslashes % 2 == 1 {
                return Err("ends with a backslash that escapes nothing".to_owned());
            }
            GrammarWithLexer::from_regex(&regex)
        }
        Grammar::Lark(text) => {
            check_text(&text)?;
            GrammarWithLexer::from_lark(text)
        }
        Grammar::Choice(values) => choice(&values)?,
    };
    Ok(TopLevelGrammar::from_grammar(grammar))
}

/// A schema of all objects, which says of numbers that they are numbers, so that they can be kept to a size.
fn any_object() -> Value {
    json!({
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/any"},
        "$defs": {"any": {"anyOf": [
            {"type": ["string", "boolean", "null"]},
            {"type": "number"},
            {"type": "array", "items": {"$ref": "#/$defs/any"}},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/any"}},
        ]}},
    })
}

fn json_schema(schema: Value) -> Result<GrammarWithLexer, String> {
    let schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => Map::new(),
        _ => return Err("is no JSON object".to_owned()),
    };
    let n_bytes = Value::Object(schema.clone()).to_string().len();
    if n_bytes > MAX_GRAMMAR_BYTES {
        return Err(too_long(n_bytes));
    }
    // One way to write what is between values: with more, models wander off in white space, and the next key
    // would not be certain. This one is what Python's json module writes.
    let options = JsonCompileOptions {
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    let mut options = serde_json::to_value(options).map_err(|e| e.to_string())?;
    if let Some(options) = options.as_object_mut() {
        options.retain(|_, value| !value.is_null());
    }
    let mut schema = Value::Object(schema);
    settle(&mut schema)?;
    bound_numbers(&mut schema);
    schema["x-guidance"] = options;
    Ok(GrammarWithLexer::from_json_schema(schema))
}

fn choice(values: &[String]) -> Result<GrammarWithLexer, String> {
    if values.is_empty() {
        return Err("has no values, at least one is needed".to_owned());
    }
    if values.len() > MAX_CHOICES {
        return Err(format!("has {} values, at most {MAX_CHOICES}", values.len()));
    }
    if let Some(i) = values.iter().position(String::is_empty) {
        return Err(format!("values[{i}] is empty"));
    }
    let n_bytes = values.iter().map(String::len).sum();
    if n_bytes > MAX_GRAMMAR_BYTES {
        return Err(too_long(n_bytes));
    }
    let quote = |v: &String| Value::from(v.as_str()).to_string().replace('\u{7f}', "\\u007f");
    let quoted: Vec<String> = values.iter().map(quote).collect();
    Ok(GrammarWithLexer::from_lark(format!("start: {}", quoted.join(" | "))))
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_GRAMMAR_BYTES {
        return Err(too_long(text.len()));
    }
    let mut depth: usize = 0;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("has brackets nested deeper than {MAX_DEPTH}"));
        }
    }
    Ok(())
}

fn too_long(n_bytes: usize) -> String {
    format!("has {n_bytes} bytes, at most {MAX_GRAMMAR_BYTES}")
}

/// llguidance's reason, on one line of bounded length.
fn refusal(e: &dyn std::fmt::Display) -> String {
    reason(&format!("{e:#}"))
}

/// Shortens what llguidance says.
pub(super) fn reason(text: &str) -> String {
    // It tells of its own panics together with the stack.
    let text = text.split("<backtrace>").next().unwrap_or_default().replace("<non-verbose/>", "");
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_REASON) {
        None => line,
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}
