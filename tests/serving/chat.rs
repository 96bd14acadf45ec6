//! Chat and ChatStream over a scripted answer.

use std::time::Duration;

use pled::engine::{Engine, EngineOptions};
use pled::rpc::pb::{self, chat_stream_response::Event as ChatEvent};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::scripted::*;
use super::server::*;

const ONE_CALL: &str = "<|tool_call>call:light{on:true,room:<|\"|>Bad<|\"|>}<tool_call|><|tool_response>";

pub(crate) fn message(role: pb::ChatRole, text: &str) -> pb::ChatMessage {
    let parts = vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(text.to_owned())) }];
    pb::ChatMessage { role: role.into(), parts, ..Default::default() }
}

pub(crate) fn light() -> pb::ChatTool {
    pb::ChatTool {
        name: "light".to_owned(),
        description: "Switches the light".to_owned(),
        parameters_json_schema: r#"{"type":"object","properties":{"on":{"type":"boolean"},"room":{"type":"string"}},"required":["on"]}"#.to_owned(),
    }
}

pub(crate) fn chat(text: &str) -> pb::ChatRequest {
    pb::ChatRequest {
        messages: vec![message(pb::ChatRole::User, text)],
        tools: vec![light()],
        ..Default::default()
    }
}

/// Every event of an answer.
pub(crate) async fn events(server: &Server, request: pb::ChatRequest) -> Result<Vec<ChatEvent>, Status> {
    let mut stream = server.generation().await.chat_stream(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(message) =
        tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event or the end")?
    {
        all.push(message.event.expect("every message has an event"));
    }
    Ok(all)
}

/// Texts by channel, calls, and the end.
pub(crate) fn sorted(events: &[ChatEvent]) -> (String, String, Vec<pb::ToolCall>, pb::ChatDone) {
    let (mut text, mut thinking, mut calls, mut end) = (String::new(), String::new(), Vec::new(), None);
    for event in events {
        assert!(end.is_none(), "{event:?} after the end");
        match event {
            ChatEvent::Delta(d) if d.channel() == pb::ChatChannel::Thinking => thinking.push_str(&d.text),
            ChatEvent::Delta(d) => text.push_str(&d.text),
            ChatEvent::ToolCall(call) => calls.push(call.clone()),
            ChatEvent::Done(done) => end = Some(done.clone()),
            ChatEvent::Started(_) | ChatEvent::Prefill(_) => {}
        }
    }
    (text, thinking, calls, end.expect("done"))
}

#[tokio::test(flavor = "multi_thread")]
async fn thoughts_text_and_calls_come_apart() {
    let f = answering(&format!("<|channel>thought\nhm é<channel|>I see. {ONE_CALL}"));
    let server = Server::over(f.engine.clone()).await;
    let events = events(&server, chat("turn on the light")).await.unwrap();
    assert!(
        matches!(events[0], ChatEvent::Started(_)) && matches!(events[1], ChatEvent::Prefill(_)),
        "{events:?}"
    );
    let (text, thinking, calls, done) = sorted(&events);
    assert_eq!((text.as_str(), thinking.as_str()), ("I see. ", "hm é"));
    assert_eq!(
        (calls[0].name.as_str(), calls[0].arguments_json.as_str()),
        ("light", r#"{"on":true,"room":"Bad"}"#)
    );
    assert_eq!((calls.len(), done.finish_reason()), (1, pb::FinishReason::ToolCalls));
    let whole = server.generation().await.chat(chat("turn on the light")).await.unwrap().into_inner();
    let said = whole.message.clone().unwrap();
    assert_eq!(
        (said.role(), whole.thinking.as_str(), whole.finish_reason()),
        (pb::ChatRole::Assistant, "hm é", pb::FinishReason::ToolCalls)
    );
    assert_eq!(said.parts, message(pb::ChatRole::User, "I see. ").parts);
    assert_ne!(said.tool_calls[0].id, calls[0].id, "ids of calls are unique");
    assert_eq!(whole.usage, done.usage);

    // The answer and the tool's result fit into the next request.
    let id = said.tool_calls[0].id.clone();
    let result = pb::ChatMessage { tool_call_id: id, ..message(pb::ChatRole::Tool, r#"{"ok":true}"#) };
    let mut next = chat("turn on the light");
    next.messages.extend([said, result]);
    let count = |chat| async {
        let input = Some(pb::count_tokens_request::Input::Chat(chat));
        let request = pb::CountTokensRequest { input, ..Default::default() };
        server.tokenizer().await.count_tokens(request).await.unwrap().into_inner().n_tokens
    };
    let n_prompt = count(next.clone()).await;
    assert!(n_prompt > count(chat("turn on the light")).await);
    let whole = server.generation().await.chat(next).await.unwrap().into_inner();
    assert_eq!(whole.usage.unwrap().prompt_tokens, n_prompt);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_valid_call_is_text() {
    // The grammar of calls leaves free what it does not know.
    let schema = r#"{"properties":{"on":{"type":"boolean","allOf":[]}}}"#;
    let tools = vec![pb::ChatTool { parameters_json_schema: schema.to_owned(), ..light() }];
    let loose = pb::ChatRequest { tools, ..chat("x") };
    let f = answering("<|tool_call>call:light{on:1}<tool_call|><turn|>");
    let server = Server::over(f.engine.clone()).await;
    let (text, _, calls, done) = sorted(&events(&server, loose.clone()).await.unwrap());
    let expected = ("call:light{on:1}", 0, pb::FinishReason::Stop);
    assert_eq!((text.as_str(), calls.len(), done.finish_reason()), expected);
    // A call that the limit of tokens cuts off.
    let few = pb::StoppingCriteria { max_tokens: Some(5), ..Default::default() };
    let request = pb::ChatRequest { stopping: Some(few), ..chat("x") };
    let (text, _, calls, done) = sorted(&events(&server, request).await.unwrap());
    assert!("call:light{on:".starts_with(&text), "{text:?}");
    assert_eq!((calls.len(), done.finish_reason()), (0, pb::FinishReason::MaxTokens));
    // Without tools there are no calls at all.
    let none = pb::ToolChoice { mode: pb::ToolChoiceMode::None.into(), ..Default::default() };
    let request = pb::ChatRequest { tool_choice: Some(none), ..loose };
    let (_, _, calls, _) = sorted(&events(&server, request).await.unwrap());
    assert!(calls.is_empty());
}

/// What no grammar of calls keeps is kept by whoever reads them.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_valid_against_all_of_its_schema_or_text() {
    let odd = r#"{"type":"integer","multipleOf":2}"#;
    let one = r#"{"oneOf":[{"type":"integer"},{"type":"number","minimum":5}]}"#;
    let not = r#"{"type":"integer","not":{"const":3}}"#;
    let branch = r#"{"if":{"type":"integer"},"then":{"maximum":5}}"#;
    let beside = r##"{"$ref":"#/$defs/n","maximum":5}"##;
    let any = r#"{"type":"integer","anyOf":[{"maximum":2},{"minimum":5}]}"#;
    let exact = r#"{"type":"string","minLength":1000,"nullable":true}"#;
    let unique = r#"{"type":"array","uniqueItems":true}"#;
    for (schema, value, is_valid) in [
        (odd, "3", false),
        (odd, "4", true),
        (one, "7", false),
        (one, "3", true),
        (not, "3", false),
        (not, "4", true),
        (branch, "7", false),
        (branch, "3", true),
        (beside, "7", false),
        (beside, "3", true),
        (any, "3", false),
        (any, "7", true),
        (exact, "<|\"|>hello<|\"|>", false),
        (unique, "[1,1]", false),
        (unique, "[1,2]", true),
    ] {
        let schema = format!(
            r#"{{"type":"object","properties":{{"on":{schema}}},"$defs":{{"n":{{"type":"integer"}}}},"required":["on"]}}"#
        );
        let tools = vec![pb::ChatTool { parameters_json_schema: schema.clone(), ..light() }];
        let f = answering(&format!("<|tool_call>call:light{{on:{value}}}<tool_call|><turn|>"));
        let server = Server::over(f.engine.clone()).await;
        let request = pb::ChatRequest { tools, ..chat("x") };
        let (text, _, calls, done) = sorted(&events(&server, request).await.unwrap());
        if is_valid {
            assert_eq!((calls.len(), text.as_str()), (1, ""), "{schema} {value}");
            assert_eq!(calls[0].arguments_json, format!(r#"{{"on":{value}}}"#));
        } else {
            let shown = format!("call:light{{on:{}}}", value.replace("<|\"|>", "\""));
            assert_eq!((calls.len(), text), (0, shown), "{schema} {value}");
            assert_eq!(done.finish_reason(), pb::FinishReason::Stop);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_cannot_be_kept_is_refused_under_every_choice() {
    let server = Server::over(answering("hello").engine).await;
    for (part, named) in [
        (r#"{"unevaluatedItems":false}"#, "properties.on.unevaluatedItems is not supported"),
        (r##"{"$ref":"#/$defs/nothing"}"##, "properties.on.$ref"),
        (r#"{"$ref":"https://example.org/a"}"#, "properties.on.$ref"),
        (r##"{"$ref":"#/properties/on"}"##, "comes back to itself"),
        (r#"{"items":{"pattern":"("}}"#, "properties.on.items.pattern"),
    ] {
        for mode in [pb::ToolChoiceMode::Auto, pb::ToolChoiceMode::Required, pb::ToolChoiceMode::None] {
            let schema = format!(r#"{{"properties":{{"on":{part}}}}}"#);
            let tools = vec![
                light(),
                pb::ChatTool { name: "b".to_owned(), parameters_json_schema: schema, ..light() },
            ];
            let choice = pb::ToolChoice { mode: mode.into(), ..Default::default() };
            let request = pb::ChatRequest { tools, tool_choice: Some(choice), ..chat("x") };
            let refused = server.generation().await.chat(request).await;
            // Without calls the tools are not looked at.
            let Err(status) = refused else {
                assert_eq!(mode, pb::ToolChoiceMode::None, "{part}");
                continue;
            };
            assert_eq!(status.code(), Code::InvalidArgument);
            let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
            assert_eq!(violation.field, "tools[1].parameters_json_schema");
            assert!(violation.description.contains(named), "{violation:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_strings_and_limits_hold_in_conversations_too() {
    let f = answering(&format!("hello the world, {ONE_CALL}"));
    let server = Server::over(f.engine.clone()).await;
    let with = |stopping| pb::ChatRequest { stopping: Some(stopping), ..chat("x") };
    let stop = |text: &str| pb::StoppingCriteria { stop: vec![text.to_owned()], ..Default::default() };
    let (text, _, calls, done) = sorted(&events(&server, with(stop("wor"))).await.unwrap());
    assert_eq!((text.as_str(), calls.len(), done.finish_reason()), ("hello the ", 0, pb::FinishReason::Stop));
    assert_eq!(done.matched_stop.as_deref(), Some("wor"));
    // The beginning of a stop string that does not come is given after all.
    let (text, _, calls, done) = sorted(&events(&server, with(stop(", the end"))).await.unwrap());
    assert_eq!((text.as_str(), calls.len(), done.matched_stop), ("hello the world, ", 1, None));
    let few = pb::StoppingCriteria { max_tokens: Some(2), ..Default::default() };
    let (_, _, calls, done) = sorted(&events(&server, with(few)).await.unwrap());
    assert_eq!((calls.len(), done.finish_reason()), (0, pb::FinishReason::MaxTokens));
    assert_eq!(done.usage.unwrap().completion_tokens, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_by_field() {
    let f = answering("a");
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let mut refused = async |request: pb::ChatRequest| {
        let status = client.chat(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = status.get_details_bad_request().unwrap();
        details.field_violations.into_iter().map(|v| v.field).collect::<Vec<_>>()
    };
    let user = || message(pb::ChatRole::User, "u");
    let of = |messages| pb::ChatRequest { messages, ..Default::default() };
    assert_eq!(refused(of(vec![])).await, ["messages"]);
    assert_eq!(refused(of(vec![pb::ChatMessage { role: 0, ..user() }])).await, ["messages[0].role"]);
    assert_eq!(refused(of(vec![pb::ChatMessage { role: 77, ..user() }])).await, ["messages[0].role"]);
    assert_eq!(
        refused(of(vec![user(), message(pb::ChatRole::System, "s"), user()])).await,
        ["messages[1].role"]
    );
    let empty = pb::ChatMessage { parts: vec![pb::ChatPart { part: None }], ..user() };
    assert_eq!(refused(of(vec![empty])).await, ["messages[0].parts[0]"]);
    let call = pb::ToolCall { id: "1".into(), name: "light".into(), arguments_json: "[1]".into() };
    let called = pb::ChatMessage { tool_calls: vec![call], ..message(pb::ChatRole::Assistant, "") };
    assert_eq!(refused(of(vec![user(), called])).await, ["messages[1].tool_calls[0].arguments_json"]);
    for (schema, of) in [("{", "tools[0].parameters_json_schema"), ("3", "tools[0].parameters_json_schema")] {
        let tools = vec![pb::ChatTool { parameters_json_schema: schema.into(), ..light() }];
        assert_eq!(refused(pb::ChatRequest { tools, ..chat("x") }).await, [of]);
    }
    let required = pb::ToolChoice { mode: pb::ToolChoiceMode::Required.into(), ..Default::default() };
    assert_eq!(
        refused(pb::ChatRequest { tool_choice: Some(required), tools: vec![], ..chat("x") }).await,
        ["tool_choice.mode"]
    );
    let named = pb::ToolChoice { name: "door".into(), ..Default::default() };
    assert_eq!(
        refused(pb::ChatRequest { tool_choice: Some(named), ..chat("x") }).await,
        ["tool_choice.name"]
    );
    let stopping = pb::StoppingCriteria { max_tokens: Some(0), ..Default::default() };
    assert_eq!(
        refused(pb::ChatRequest { stopping: Some(stopping), ..chat("x") }).await,
        ["stopping.max_tokens"]
    );
    assert_eq!(refused(chat(&"x ".repeat(3000))).await, ["messages"]);
    assert_eq!(refused(chat(&"x".repeat(1 << 20))).await, ["messages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_an_answer_cancels_it() {
    // Ten seconds of letters: on the busiest machine the drop is heard before their end.
    let script = Script { step_time: Duration::from_millis(5), ..Script::default() };
    let f = start(script, EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let mut stream = server.generation().await.chat_stream(chat("x")).await.unwrap().into_inner();
    while !matches!(stream.message().await.unwrap().unwrap().event, Some(ChatEvent::Delta(_))) {}
    drop(stream);
    let stats = await_nothing_held(&server).await;
    assert_eq!(stats.requests.unwrap().cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_marks_for_turns_knows_no_conversations() {
    let backend = Scripted::new(Script::default());
    let engine = Engine {
        backend,
        tokenizer: tokenizer(),
        chat: None,
        model: model_info(),
        options: OPTIONS,
        store: None,
    };
    let server = Server::over(engine.start().unwrap()).await;
    let status = server.generation().await.chat(chat("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}
