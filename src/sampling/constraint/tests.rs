//! Grammars over a vocabulary of bytes and a few words.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// Bytes are their own ids; then words; then tokens that are no text.
const WORDS: [&str; 8] = ["\"name\": ", "true", "false", ", ", "hello", "wor", "{\"", "\": "];
const FIRST_WORD: u32 = 256;
const EOS: u32 = 264;
const EOT: u32 = 265;
const OPEN_THOUGHT: u32 = 266;
const CLOSE_THOUGHT: u32 = 267;
const OPEN_CALL: u32 = 268;
const CLOSE_CALL: u32 = 269;
const N_VOCAB: usize = 270;

struct Toy;

impl Vocabulary for Toy {
    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn text(&self, id: u32) -> Option<Vec<u8>> {
        match id {
            0..FIRST_WORD => Some(vec![id as u8]),
            FIRST_WORD..EOS => Some(WORDS[(id - FIRST_WORD) as usize].as_bytes().to_vec()),
            _ => None,
        }
    }

    fn name(&self, id: u32) -> Option<&[u8]> {
        ["<eos>", "<eot>", "<thought>", "</thought>", "<call>", "</call>"]
            .get(id.checked_sub(EOS)? as usize)
            .map(|name| name.as_bytes())
    }

    fn eog_ids(&self) -> &[u32] {
        &[EOS, EOT]
    }

    /// The longest word first, as a tokenizer of such a vocabulary would.
    fn encode(&self, mut text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        while let Some(&byte) = text.first() {
            let words = WORDS.iter().enumerate().filter(|(_, word)| text.starts_with(word.as_bytes()));
            let (id, n_bytes) = match words.max_by_key(|(_, word)| word.len()) {
                Some((i, word)) => (FIRST_WORD + i as u32, word.len()),
                None => (u32::from(byte), 1),
            };
            ids.push(id);
            text = &text[n_bytes..];
        }
        ids
    }
}

fn compile(outline: Outline) -> Result<Constraint, GrammarError> {
    Grammars::new(Arc::new(Toy)).compile(outline).map(|compiled| compiled.constraint)
}

fn of(grammar: Grammar) -> Constraint {
    compile(Outline { text: Some(grammar), ..Outline::default() }).unwrap()
}

fn refusal(grammar: Grammar) -> String {
    compile(Outline { text: Some(grammar), ..Outline::default() }).expect_err("must be refused").problem
}

fn decode(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().filter_map(|&id| Toy.text(id)).flatten().collect();
    String::from_utf8(bytes).unwrap()
}

fn accept_text(constraint: &mut Constraint, text: &str) {
    for id in Toy.encode(text.as_bytes()) {
        let allowed = constraint.allowed().unwrap();
        assert!(allowed.is_none_or(|set| set.contains(id)), "{} of {text:?} is not allowed", decode(&[id]));
        constraint.accept(id).unwrap();
    }
}

fn allows(constraint: &mut Constraint, id: u32) -> bool {
    constraint.allowed().unwrap().is_none_or(|set| set.contains(id))
}

/// Chooses at random among what is allowed, up to `n_most` tokens; whether the answer ended.
fn wander(
    constraint: &mut Constraint,
    random: &mut impl FnMut(usize) -> usize,
    n_most: usize,
) -> (Vec<u32>, bool) {
    let mut ids = Vec::new();
    while ids.len() < n_most {
        ids.extend(constraint.forced(n_most - ids.len()).unwrap());
        if constraint.is_complete() {
            return (ids, true);
        }
        if ids.len() == n_most {
            break;
        }
        let set = constraint.allowed().unwrap().expect("bound");
        let members: Vec<u32> = (0..N_VOCAB as u32).filter(|&id| set.contains(id)).collect();
        assert!(!members.is_empty(), "after {:?}", decode(&ids));
        let id = members[random(members.len())];
        if Toy.eog_ids().contains(&id) {
            return (ids, true);
        }
        constraint.accept(id).unwrap();
        ids.push(id);
        if constraint.is_complete() {
            return (ids, true);
        }
    }
    (ids, false)
}

fn xorshift(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    }
}

/// Whether a text is what a grammar asks for.
type IsRight<'a> = &'a dyn Fn(&str) -> bool;

#[test]
fn each_kind_of_grammar_is_kept() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5},
        "on": {"type": "boolean"}}, "required": ["name", "on"], "additionalProperties": false});
    let is_json = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        value["on"].is_boolean() && value["name"].as_str().is_some_and(|name| name.chars().count() <= 5)
    };
    let is_object = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
    let is_word = |text: &str| text.len() > 1 && text.bytes().all(|b| b.is_ascii_lowercase());
    let is_choice = |text: &str| ["yes", "yesterday", "\"no\"\u{7f}", "é"].contains(&text);
    let kinds: [(Grammar, IsRight<'_>); 5] = [
        (Grammar::JsonSchema(schema), &is_json),
        (Grammar::JsonObject, &is_object),
        (Grammar::Regex("[a-z]{2,}".to_owned()), &is_word),
        (Grammar::Lark("start: \"[\" NAME \"]\"\nNAME: /[a-z]+/".to_owned()), &|text| {
            text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).is_some_and(|t| !t.is_empty())
        }),
        (Grammar::Choice(["yes", "yesterday", "\"no\"\u{7f}", "é"].map(str::to_owned).to_vec()), &is_choice),
    ];
    for (grammar, is_right) in kinds {
        let compiled = of(grammar.clone());
        let mut n_ended = 0;
        for seed in 0..40 {
            let (ids, ended) = wander(&mut compiled.clone(), &mut xorshift(seed + 1), 200);
            assert!(ids.len() <= 200);
            if ended {
                n_ended += 1;
                let text = decode(&ids);
                assert!(is_right(&text), "{grammar:?}: {text:?}");
            }
        }
        assert!(n_ended > 3, "{grammar:?} came to an end {n_ended} times");
    }
}

#[test]
fn what_leaves_one_way_only_is_forced_and_ends_the_answer() {
    let schema = json!({"type": "object", "properties": {"name": {"const": "hello"}}, "required": ["name"],
        "additionalProperties": false});
    let mut constraint = of(Grammar::JsonSchema(schema));
    let mut ids = constraint.forced(3).unwrap();
    assert_eq!(ids.len(), 3);
    assert!(!constraint.is_complete());
    ids.extend(constraint.forced(usize::MAX).unwrap());
    while !constraint.is_complete() {
        let set = constraint.allowed().unwrap().unwrap();
        let id = (0..N_VOCAB as u32).find(|&id| set.contains(id)).unwrap();
        constraint.accept(id).unwrap();
        ids.push(id);
    }
    assert_eq!(decode(&ids), r#"{"name": "hello"}"#);
}

#[test]
fn tokens_that_are_no_text_are_in_no_text_but_end_it() {
    let mut constraint = of(Grammar::Regex("(?s:.*)".to_owned()));
    accept_text(&mut constraint, "hello <call>");
    for id in [OPEN_THOUGHT, CLOSE_THOUGHT, OPEN_CALL, CLOSE_CALL] {
        assert!(!allows(&mut constraint, id), "{id}");
    }
    assert!(allows(&mut constraint, EOS) && allows(&mut constraint, EOT));
    let mut constraint = of(Grammar::Regex("hello world".to_owned()));
    accept_text(&mut constraint, "hello wor");
    assert!(!allows(&mut constraint, EOS), "before its end");
    // Bytes that are part of no character are no text either.
    assert!(!allows(&mut constraint, 0xff));
}

#[test]
fn a_thought_is_free_and_does_not_end_the_answer() {
    let outline = Outline {
        text: Some(Grammar::Choice(vec!["yes".to_owned(), "no".to_owned()])),
        thought: Some((OPEN_THOUGHT, CLOSE_THOUGHT)),
        calls: None,
    };
    let mut constraint = compile(outline).unwrap();
    assert!(allows(&mut constraint, OPEN_THOUGHT) && allows(&mut constraint, u32::from(b'y')));
    assert!(!allows(&mut constraint, u32::from(b'x')) && !allows(&mut constraint, EOS));
    constraint.accept(OPEN_THOUGHT).unwrap();
    assert!(constraint.forced(usize::MAX).unwrap().is_empty());
    accept_text(&mut constraint, "hm, x?");
    assert_eq!((constraint.allowed().unwrap().is_none(), constraint.excluded()), (true, &[EOS, EOT][..]));
    assert!(constraint.is_free());
    constraint.accept(CLOSE_THOUGHT).unwrap();
    assert!(constraint.excluded().is_empty());
    assert!(!allows(&mut constraint, u32::from(b'x')) && !allows(&mut constraint, OPEN_THOUGHT));
    constraint.accept(u32::from(b'n')).unwrap();
    assert!(!allows(&mut constraint, OPEN_THOUGHT), "an answer has begun");
    assert_eq!(constraint.forced(usize::MAX).unwrap(), [u32::from(b'o')]);
    assert!(constraint.is_complete());
}

fn calls(required: bool) -> Option<Calls> {
    let grammar = Grammar::Lark(format!("start: \"f(\" /[0-9]/ \")\" <[{CLOSE_CALL}]>"));
    Some(Calls { open: OPEN_CALL, grammar, required, single: false })
}

#[test]
fn calls_are_kept_to_their_form_and_what_is_around_them_is_free() {
    let mut constraint = compile(Outline { calls: calls(false), ..Outline::default() }).unwrap();
    for _ in 0..2 {
        assert!(constraint.allowed().unwrap().is_none() && constraint.excluded().is_empty());
        accept_text(&mut constraint, "so ");
        constraint.accept(OPEN_CALL).unwrap();
        assert_eq!(decode(&constraint.forced(usize::MAX).unwrap()), "f(");
        assert!(!allows(&mut constraint, u32::from(b'x')) && !allows(&mut constraint, EOS));
        constraint.accept(u32::from(b'7')).unwrap();
        assert_eq!(constraint.forced(usize::MAX).unwrap(), [u32::from(b')'), CLOSE_CALL]);
        assert!(!constraint.is_complete(), "the model may go on");
    }
}

#[test]
fn a_required_call_comes_first_and_only_calls_follow() {
    let mut constraint = compile(Outline { calls: calls(true), ..Outline::default() }).unwrap();
    let opening = constraint.forced(usize::MAX).unwrap();
    assert_eq!((opening[0], decode(&opening[1..])), (OPEN_CALL, "f(".to_owned()));
    constraint.accept(u32::from(b'1')).unwrap();
    constraint.forced(usize::MAX).unwrap();
    let set = constraint.allowed().unwrap().unwrap();
    assert_eq!(set.n_tokens(), 3);
    assert!(set.contains(OPEN_CALL) && set.contains(EOS) && set.contains(EOT));
}

#[test]
fn an_answer_with_a_single_call_ends_behind_it() {
    for required in [false, true] {
        let calls = calls(required).map(|calls| Calls { single: true, ..calls });
        let mut constraint = compile(Outline { calls, ..Outline::default() }).unwrap();
        match required {
            true => drop(constraint.forced(usize::MAX).unwrap()),
            false => constraint.accept(OPEN_CALL).unwrap(),
        }
        constraint.forced(usize::MAX).unwrap();
        constraint.accept(u32::from(b'1')).unwrap();
        assert!(!constraint.is_complete());
        constraint.forced(usize::MAX).unwrap();
        assert!(constraint.is_complete());
    }
}

#[test]
fn calls_whose_grammar_cannot_be_kept_are_free_unless_something_is_asked_of_them() {
    let broken = |required, single| Calls {
        open: OPEN_CALL,
        grammar: Grammar::Lark("start: nowhere".to_owned()),
        required,
        single,
    };
    let compiled = |calls, text| compile(Outline { calls: Some(calls), text, thought: None });
    let outline = Outline { calls: Some(broken(false, false)), ..Outline::default() };
    let told = Grammars::new(Arc::new(Toy)).compile(outline).unwrap().calls_left_free.unwrap();
    assert!(told.contains("nowhere"), "{told}");
    let mut free = compiled(broken(false, false), None).unwrap();
    free.accept(OPEN_CALL).unwrap();
    assert!(free.allowed().unwrap().is_none());
    for (calls, text) in [
        (broken(true, false), None),
        (broken(false, true), None),
        (broken(false, false), Some(Grammar::JsonObject)),
    ] {
        assert_eq!(compiled(calls, text).unwrap_err().part, Part::Calls);
    }
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    for (grammar, named) in [
        (Grammar::JsonSchema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (Grammar::JsonSchema(json!({"if": {}})), "if"),
        (Grammar::JsonSchema(json!({"properties": {"a": {"minimun": 3}}})), "properties.a.minimun"),
        (Grammar::JsonSchema(json!({"oneOf": [{"type": "string"}], "nullable": true})), "nullable"),
        (Grammar::JsonSchema(json!({"x-guidance": {"lenient": true}})), "x-guidance"),
        (Grammar::JsonSchema(json!({"type": "integer", "minimum": 3, "maximum": 2})), "minimum"),
        (Grammar::JsonSchema(json!({"type": "wish"})), "wish"),
        (Grammar::JsonSchema(json!([])), "object"),
        (Grammar::Regex("a(?=b)".to_owned()), "look-around"),
        (Grammar::Regex("(a".to_owned()), "regex"),
        (Grammar::Regex(String::new()), "empty"),
        (Grammar::Regex("a\\".to_owned()), "backslash"),
        (Grammar::Lark("start: x".to_owned()), "x"),
        (Grammar::Lark(String::new()), "start"),
        (Grammar::Choice(vec![]), "no values"),
        (Grammar::Choice(vec!["a".to_owned(), String::new()]), "values[1]"),
        (Grammar::Choice(vec!["a".to_owned(); MAX_CHOICES + 1]), "1025"),
    ] {
        let said = refusal(grammar.clone());
        assert!(said.contains(named), "{grammar:?}: {said}");
        assert!(said.chars().count() < 400 && !said.contains('\n'), "{said}");
    }
}

/// What strangers send: each is refused, or taken and followed, within bounds, and nothing falls over.
#[test]
fn attacks_are_refused_or_borne() {
    let deep_schema =
        (0..60).fold(json!({"type": "string"}), |inner, _| json!({"items": inner, "type": "array"}));
    let wide: serde_json::Map<String, Value> =
        (0..3000).map(|i| (format!("k{i}"), json!({"type": "string"}))).collect();
    let chain: String = (0..6000).map(|i| format!("a{i}: a{}\n", i + 1)).collect();
    let attacks = [
        Grammar::JsonSchema(deep_schema),
        Grammar::JsonSchema(json!({"type": "object", "properties": wide})),
        Grammar::JsonSchema(json!({"$ref": "#"})),
        Grammar::JsonSchema(json!({"$ref": "https://example.com/schema"})),
        Grammar::JsonSchema(json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "null"}})),
        Grammar::JsonSchema(json!({"type": "string", "minLength": 1_000_000_000})),
        Grammar::JsonSchema(json!({"type": "string", "pattern": "^(a+)+$"})),
        Grammar::JsonSchema(json!({"type": "number", "minimum": 1e308, "exclusiveMaximum": -1e308})),
        Grammar::Regex("(a|aa)+b".to_owned()),
        Grammar::Regex("(x+x+)+y".to_owned()),
        Grammar::Regex("((a{1,100}){1,100}){1,100}".to_owned()),
        Grammar::Regex("(.*a.{40})|(.*b.{41})".to_owned()),
        Grammar::Regex("(".repeat(10_000)),
        Grammar::Regex("a?".repeat(20_000)),
        Grammar::Lark("(".repeat(100_000)),
        Grammar::Lark(format!("start: a0\n{chain}a6000: \"x\"")),
        Grammar::Lark("start: start start | \"a\"".to_owned()),
        Grammar::Lark("start: start".to_owned()),
        Grammar::Lark("start: \"x\"".repeat(10_000)),
    ];
    let grammars = Grammars::new(Arc::new(Toy));
    for grammar in attacks {
        let shown: String = format!("{grammar:?}").chars().take(100).collect();
        match grammars.compile(Outline { text: Some(grammar), ..Outline::default() }) {
            Err(e) => assert!(e.problem.chars().count() < 400, "{shown}: {e}"),
            Ok(Compiled { mut constraint, .. }) => {
                // Followed for a while, or given up with an error; never with a token that is not allowed.
                let mut random = xorshift(7);
                for _ in 0..100 {
                    let Ok(Some(set)) = constraint.allowed() else { break };
                    let members: Vec<u32> = (0..N_VOCAB as u32).filter(|&id| set.contains(id)).collect();
                    let Some(&id) = members.get(random(members.len().max(1))) else { break };
                    if Toy.eog_ids().contains(&id)
                        || constraint.accept(id).is_err()
                        || constraint.is_complete()
                    {
                        break;
                    }
                }
            }
        }
    }
}
