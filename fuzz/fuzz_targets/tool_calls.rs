//! Any tokens: the reader of answers returns, without a panic, and what it calls a call is one of a declared tool with
//! arguments of the declared types.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pled::config::{Fragment, Settings};
use pled::daemon::LoadedModel;
use pled::tokenizer::Specials;
use pled::tokenizer::chat::{Answer, Conversation, Family, Message, Role, Tool};
use serde_json::json;

/// What bytes below 8 stand for; all others are text.
const MARKS: [&str; 8] = [
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|channel>",
    "<channel|>",
    "<turn|>",
    "<|tool_response>",
    "<|tool_call>call:light{on:",
];

/// The built-in model, for its vocabulary and its format.
static MODEL: LazyLock<LoadedModel> = LazyLock::new(|| {
    let settings = Settings::resolve(Fragment::default()).expect("the defaults are valid");
    LoadedModel::load(&settings, 1).expect("the built-in model is valid")
});

fn conversation() -> Conversation {
    let message = Message {
        role: Role::User,
        text: "x".to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
    };
    let parameters = json!({
        "properties": { "on": { "type": "boolean" }, "rooms": { "type": "array", "items": { "type": "string" } } },
        "required": ["on"],
        "additionalProperties": false,
    });
    let tool = Tool { name: "light".to_owned(), description: String::new(), parameters: Some(parameters) };
    Conversation::new(vec![message], vec![tool], true, Family::Gemma4).expect("a valid conversation")
}

fuzz_target!(|data: &[u8]| {
    let tokenizer = &MODEL.tokenizer;
    let format = MODEL.chat.as_ref().expect("the built-in model has a format");
    let mut parser = format.parser(&conversation());
    let mut out = Vec::new();
    for piece in data.chunk_by(|a, b| *a >= 8 && *b >= 8) {
        let ids = match piece {
            [mark @ 0..8] => tokenizer.encode(MARKS[usize::from(*mark)], Specials::Parse),
            text => tokenizer.encode(&String::from_utf8_lossy(text), Specials::None),
        };
        for id in ids {
            parser.push(tokenizer, id, &mut out);
        }
    }
    parser.finish(&mut out);
    for piece in out {
        match piece {
            Answer::Text(_, text) => assert!(!text.is_empty()),
            Answer::Call { name, arguments } => {
                assert!(name == "light" && arguments["on"].is_boolean(), "{name} {arguments:?}");
                assert!(arguments.keys().all(|key| key == "on" || key == "rooms"), "{arguments:?}");
            }
        }
    }
});
