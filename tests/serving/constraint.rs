//! Answers of a given form, over sockets: raw completions, conversations, calls.

use pled::engine::EngineOptions;
use pled::rpc::pb::{self, chat_request, generate_request::Constraint};
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt;

use super::chat::{chat, events, light, message, sorted};
use super::scripted::*;
use super::server::*;

const SCHEMA: &str = r#"{"type":"object","properties":{"temperature":{"type":"integer","minimum":1,"maximum":9},
    "on":{"type":"boolean"}},"required":["temperature","on"],"additionalProperties":false}"#;

fn constrained(constraint: Constraint, max_tokens: u32) -> pb::GenerateRequest {
    pb::GenerateRequest { constraint: Some(constraint), ..request(&[BOS, 320], max_tokens) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_keeps_to_its_schema_and_what_is_certain_is_run_together() {
    let f = start(Script::default(), EngineOptions { prefill_chunk: 16, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let schema = || Constraint::JsonSchema(SCHEMA.to_owned());
    let whole = client.generate(constrained(schema(), 60)).await.unwrap().into_inner();
    let value: Value = serde_json::from_str(&whole.text).unwrap();
    assert!(value["on"].is_boolean() && (1..=9).contains(&value["temperature"].as_i64().unwrap()), "{value}");
    assert_eq!(whole.finish_reason(), pb::FinishReason::Stop);
    assert_eq!(whole.usage.unwrap().completion_tokens as usize, whole.token_ids.len());
    assert_eq!(tokenizer().decode(&whole.token_ids), whole.text);
    let steps = f.log.lock().unwrap().len();
    assert!(steps < whole.token_ids.len() / 2, "{steps} steps for {} tokens", whole.token_ids.len());

    // However few tokens are asked for, no more come, certain or not.
    for max_tokens in 1..whole.token_ids.len() as u32 {
        let part = client.generate(constrained(schema(), max_tokens)).await.unwrap().into_inner();
        assert_eq!(part.finish_reason(), pb::FinishReason::MaxTokens);
        assert_eq!(part.token_ids, whole.token_ids[..max_tokens as usize]);
    }
    // Probabilities need a step for each token.
    let asking = pb::GenerateRequest { top_logprobs: Some(1), ..constrained(schema(), 60) };
    let told = client.generate(asking).await.unwrap().into_inner();
    assert_eq!(told.logprobs.len(), told.token_ids.len());
    assert!(serde_json::from_str::<Value>(&told.text).is_ok(), "{}", told.text);
}

/// Annotations are no words to refuse, and `nullable` means in texts what it means in calls.
#[tokio::test(flavor = "multi_thread")]
async fn null_is_written_where_nullable_leaves_nothing_else() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let mut client = server.generation().await;
    let schema = r#"{"title":"t","x-order":1,"type":"object","properties":{"a":{"type":"string","enum":[],"nullable":true,
        "description":"d","default":null,"examples":["b"],"deprecated":true}},"required":["a"],"additionalProperties":false}"#;
    let answer = client.generate(constrained(Constraint::JsonSchema(schema.to_owned()), 40)).await.unwrap();
    assert_eq!(answer.into_inner().text, r#"{"a": null}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_kept() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let mut client = server.generation().await;
    let choice = |values: &[&str]| {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        Constraint::Choice(pb::ChoiceConstraint { values })
    };
    for (constraint, text) in [
        (Constraint::Regex("ab{3}c".to_owned()), "abbbc"),
        (Constraint::LarkGrammar("start: \"x\" y\ny: \"é\" | \"ü\" \"!\"".to_owned()), "xé"),
        (choice(&["kitchen", "bath"]), "bath"),
    ] {
        let answer = client.generate(constrained(constraint.clone(), 40)).await.unwrap().into_inner();
        assert_eq!(answer.finish_reason(), pb::FinishReason::Stop, "{constraint:?}");
        match constraint {
            Constraint::Regex(_) => assert_eq!(answer.text, text),
            _ => assert!([text, "xü!", "kitchen"].contains(&answer.text.as_str()), "{}", answer.text),
        }
    }
    // Not wanted after all.
    let free = client.generate(constrained(Constraint::JsonObject(false), 5)).await.unwrap().into_inner();
    assert_eq!(free.token_ids, answer(&[BOS, 320], 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_told_by_field() {
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = Server::over(f.engine).await;
    let mut client = server.generation().await;
    for (constraint, field, named) in [
        (Constraint::JsonSchema("{".to_owned()), "json_schema", "JSON"),
        (Constraint::JsonSchema(r#"{"uniqueItems":true}"#.to_owned()), "json_schema", "uniqueItems"),
        (
            Constraint::JsonSchema(r#"{"properties":{"n":{"type":"integer","minimun":3}}}"#.to_owned()),
            "json_schema",
            "properties.n.minimun",
        ),
        (Constraint::Regex("(".to_owned()), "regex", "regex"),
        (Constraint::LarkGrammar("x".to_owned()), "lark_grammar", ""),
        (Constraint::LarkGrammar("x".repeat(200_000)), "lark_grammar", "131072"),
        (Constraint::Choice(pb::ChoiceConstraint::default()), "choice", "no values"),
    ] {
        let status = client.generate(constrained(constraint, 5)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
        assert!(violations[0].description.contains(named), "{violations:?}");
    }
    let constraint = Some(chat_request::Constraint::Regex("(".to_owned()));
    let status = client.chat(pb::ChatRequest { constraint, ..chat("x") }).await.unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "regex");
    let schema = r#"{"properties":{"on":{"oneOf":[true]}}}"#.to_owned();
    let tools = vec![pb::ChatTool { parameters_json_schema: schema, ..light() }];
    let required = pb::ToolChoice { mode: pb::ToolChoiceMode::Required.into(), ..Default::default() };
    let request = pb::ChatRequest { tools, tool_choice: Some(required), ..chat("x") };
    let status = client.chat(request).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "tools[0].parameters_json_schema");
    assert!(violations[0].description.contains("on.oneOf"), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_holds_for_the_answer_and_not_for_its_thoughts() {
    let f = answering("<|channel>thought\nmaybe é<channel|>maybe");
    let server = Server::over(f.engine.clone()).await;
    let values = ["yes", "no"].map(str::to_owned).to_vec();
    let constraint = Some(chat_request::Constraint::Choice(pb::ChoiceConstraint { values }));
    let messages = vec![message(pb::ChatRole::User, "u")];
    let mut request = pb::ChatRequest { constraint, messages, thinking: true, ..Default::default() };
    let (text, thinking, _, done) = sorted(&events(&server, request.clone()).await.unwrap());
    assert!(["yes", "no"].contains(&text.as_str()), "{text:?}");
    assert_eq!((thinking.as_str(), done.finish_reason()), ("maybe é", pb::FinishReason::Stop));
    request.thinking = false;
    let (text, thinking, _, _) = sorted(&events(&server, request).await.unwrap());
    assert!(["yes", "no"].contains(&text.as_str()) && thinking.is_empty(), "{text:?} {thinking:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_comes_whatever_the_model_would_say() {
    let f = answering(&"hello ".repeat(40));
    let server = Server::over(f.engine.clone()).await;
    let door = pb::ChatTool { name: "door".to_owned(), parameters_json_schema: String::new(), ..light() };
    let required = pb::ToolChoice { mode: pb::ToolChoiceMode::Required.into(), ..Default::default() };
    let named = pb::ToolChoice { name: "door".to_owned(), ..Default::default() };
    for (choice, names) in [(required, &["light", "door"][..]), (named, &["door"])] {
        let stopping = Some(pb::StoppingCriteria { max_tokens: Some(400), ..Default::default() });
        let tools = vec![light(), door.clone()];
        let request = pb::ChatRequest { tools, tool_choice: Some(choice), stopping, ..chat("x") };
        let (text, _, calls, done) = sorted(&events(&server, request).await.unwrap());
        // The model's own words fill the strings of calls; a last one may be cut off.
        let whole = done.finish_reason() != pb::FinishReason::MaxTokens;
        assert!(text.is_empty() || !whole, "{text:?}");
        assert!(!calls.is_empty() || !whole);
        for call in calls {
            assert!(names.contains(&call.name.as_str()), "{call:?}");
            assert!(serde_json::from_str::<Value>(&call.arguments_json).unwrap().is_object());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_calls_have_as_many_items_as_their_schema_says() {
    for (least, most, right) in [
        (0, Some(0), &[0][..]),
        (0, Some(1), &[0, 1]),
        (1, Some(1), &[1]),
        (1, Some(2), &[1, 2]),
        (2, Some(2), &[2]),
        (3, Some(4), &[3, 4]),
        (3, None, &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ] {
        // The model would say more items than all but the last of these allow.
        let items = |n: usize| vec!["1"; n].join(",");
        let f = answering(&format!("<|tool_call>call:sort{{numbers:[{}]}}<tool_call|>", items(12)));
        let server = Server::over(f.engine.clone()).await;
        let mut numbers =
            serde_json::json!({"type": "array", "items": {"type": "integer"}, "minItems": least});
        if let Some(most) = most {
            numbers["maxItems"] = most.into();
        }
        let schema = serde_json::json!({"type": "object", "properties": {"numbers": numbers}, "required": ["numbers"]});
        let sort = pb::ChatTool {
            name: "sort".to_owned(),
            parameters_json_schema: schema.to_string(),
            ..Default::default()
        };
        let choice = pb::ToolChoice { name: "sort".to_owned(), single_call: true, ..Default::default() };
        let stopping = Some(pb::StoppingCriteria { max_tokens: Some(100), ..Default::default() });
        let request = pb::ChatRequest { tools: vec![sort], tool_choice: Some(choice), stopping, ..chat("x") };
        let (_, _, calls, done) = sorted(&events(&server, request).await.unwrap());
        if let Some(call) = calls.first() {
            let arguments: Value = serde_json::from_str(&call.arguments_json).unwrap();
            let n = arguments["numbers"].as_array().unwrap().len();
            assert!(right.contains(&n), "{least} {most:?}: {n}");
        }
        assert!(!calls.is_empty() || done.finish_reason() == pb::FinishReason::MaxTokens, "{least} {most:?}");
        assert!(most.is_none() || calls.len() == 1, "{least} {most:?}");
    }
}
