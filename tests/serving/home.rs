//! The built-in model: its prompts are those that it was trained on, and what it answers over gRPC is right.

use std::collections::BTreeMap;

use pled::config::{Fragment, Settings};
use pled::daemon::LoadedModel;
use pled::engine::EngineOptions;
use pled::rpc::pb;
use pled::tokenizer::chat::{Conversation, Family, Message, Role, Tool, ToolCall};
use serde_json::{Value, json};

use super::server::*;
use super::support::fixture;

fn embedded() -> LoadedModel {
    let settings = Settings::resolve(Fragment::default()).unwrap();
    LoadedModel::load(&settings, 4).unwrap()
}

/// Cases of `models/home-mini/cases.py`.
fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("home-mini/cases.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn conversation(case: &Value) -> Conversation {
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::Tool,
    };
    let call = |c: &Value| ToolCall {
        id: text(&c["id"]),
        name: text(&c["function"]["name"]),
        arguments: c["function"]["arguments"].as_object().unwrap().clone(),
    };
    let messages = list(case, "messages").iter().map(|m| Message {
        role: role(m["role"].as_str().unwrap()),
        text: text(&m["content"]),
        tool_calls: list(m, "tool_calls").iter().map(call).collect(),
        tool_call_id: text(&m["tool_call_id"]),
    });
    let tools = list(case, "tools").iter().map(|t| Tool {
        name: text(&t["function"]["name"]),
        description: text(&t["function"]["description"]),
        parameters: Some(t["function"]["parameters"].clone()),
    });
    Conversation::new(messages.collect(), tools.collect(), false, Family::Gemma4).unwrap()
}

#[test]
fn prompts_are_those_that_the_model_was_trained_on() {
    let loaded = embedded();
    let chat = loaded.chat.as_ref().unwrap();
    assert_eq!(chat.built_in(), None, "the file's own template is used");
    for (i, case) in cases().iter().enumerate() {
        let expected: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        let found = chat.prompt(&loaded.tokenizer, &conversation(case)).unwrap();
        let said = |ids: &[u32]| loaded.tokenizer.decode(ids);
        assert_eq!(found, expected, "line {}: {:?}\nexpected {:?}", i + 1, said(&found), said(&expected));
    }
}

fn request(case: &Value) -> pb::ChatRequest {
    let role = |name: &str| match name {
        "system" => pb::ChatRole::System,
        "user" => pb::ChatRole::User,
        "assistant" => pb::ChatRole::Assistant,
        _ => pb::ChatRole::Tool,
    };
    let call = |c: &Value| pb::ToolCall {
        id: text(&c["id"]),
        name: text(&c["function"]["name"]),
        arguments_json: c["function"]["arguments"].to_string(),
    };
    let message = |m: &Value| pb::ChatMessage {
        role: role(m["role"].as_str().unwrap()).into(),
        parts: vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(text(&m["content"]))) }],
        tool_calls: list(m, "tool_calls").iter().map(call).collect(),
        tool_call_id: text(&m["tool_call_id"]),
    };
    let tool = |t: &Value| pb::ChatTool {
        name: text(&t["function"]["name"]),
        description: text(&t["function"]["description"]),
        parameters_json_schema: t["function"]["parameters"].to_string(),
    };
    pb::ChatRequest {
        messages: list(case, "messages").iter().map(message).collect(),
        tools: list(case, "tools").iter().map(tool).collect(),
        stopping: Some(pb::StoppingCriteria { max_tokens: Some(128), ..Default::default() }),
        ..Default::default()
    }
}

fn said(answer: &pb::ChatMessage) -> String {
    let part = |part: &pb::ChatPart| match &part.part {
        Some(pb::chat_part::Part::Text(text)) => text.clone(),
        None => String::new(),
    };
    answer.parts.iter().map(part).collect()
}

/// Houses and sentences of the kind that training has, from another seed. The model card says how much less often
/// it is right where the words are new. Sampling is left to the file, which recommends none: the answers are
/// the same on every run and processor.
#[tokio::test(flavor = "multi_thread")]
async fn commands_become_the_right_calls_over_grpc() {
    let engine = embedded().start(EngineOptions::default()).unwrap();
    let server = Server::over(engine).await;
    let mut client = server.generation().await;
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let (mut n, mut n_calls) = (0, 0);
    let cases = cases();
    // Emulated processors are slow.
    let step = if cfg!(target_arch = "aarch64") { 6 } else { 1 };
    for case in
        cases.iter().filter(|case| case["category"].as_str().unwrap().starts_with("fresh")).step_by(step)
    {
        let answer = client.chat(request(case)).await.unwrap().into_inner();
        let message = answer.message.unwrap();
        let call = |c: &pb::ToolCall| {
            let arguments: Value = serde_json::from_str(&c.arguments_json).unwrap();
            json!({ "name": c.name, "arguments": arguments })
        };
        let calls: Vec<Value> = message.tool_calls.iter().map(call).collect();
        n += 1;
        n_calls += calls.len();
        if calls != list(case, "calls") || said(&message) != text(&case["text"]) {
            let asked = text(&list(case, "messages").last().unwrap()["content"]);
            wrong.insert(asked, format!("{calls:?} {}", said(&message)));
        }
    }
    assert!(n * step >= 30 && n_calls * step >= 6, "{n} cases, {n_calls} calls");
    assert!(wrong.len() * 10 <= n, "{} of {n} are wrong: {wrong:#?}", wrong.len());
}
