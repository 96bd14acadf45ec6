//! The dialect of OpenAI over a scripted answer.

use pled::engine::EngineOptions;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::scripted::*;
use super::server::{Server, await_nothing_held};
use super::web::{Answer, events, get, post, raw, request};

const CHAT: &str = "/v1/chat/completions";
const ONE_CALL: &str = "<|tool_call>call:light{on:true,room:<|\"|>Bad<|\"|>}<tool_call|><|tool_response>";

fn chat(text: &str) -> Value {
    json!({ "model": "scripted", "messages": [{ "role": "user", "content": text }] })
}

fn light() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": { "on": { "type": "boolean" }, "room": { "type": "string" } },
        "required": ["on"],
    });
    json!({ "type": "function", "function": { "name": "light", "parameters": parameters } })
}

/// `value` with the fields of `more`.
fn with(mut value: Value, more: Value) -> Value {
    for (key, field) in more.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

/// What a streamed answer adds up to: text, thoughts, calls, reason. Holds the rules that clients rely on.
fn added_up(chunks: &[Value]) -> (String, String, Vec<Value>, String) {
    let (mut text, mut thoughts, mut calls, mut reason) = (String::new(), String::new(), Vec::new(), None);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    for chunk in &chunks[1..] {
        assert_eq!((&chunk["object"], &chunk["id"]), (&json!("chat.completion.chunk"), &chunks[0]["id"]));
        assert!(reason.is_none(), "{chunk} after the end");
        let choice = &chunk["choices"][0];
        let delta = choice["delta"].as_object().unwrap();
        if let Some(why) = choice["finish_reason"].as_str() {
            assert!(
                delta.is_empty(),
                "the last chunk of an answer says why it ended and nothing else: {chunk}"
            );
            reason = Some(why.to_owned());
            continue;
        }
        assert_eq!(delta.len(), 1, "{chunk}");
        text.push_str(delta.get("content").map_or("", |t| t.as_str().unwrap()));
        thoughts.push_str(delta.get("reasoning_content").map_or("", |t| t.as_str().unwrap()));
        if let Some(some) = delta.get("tool_calls") {
            assert_eq!((some.as_array().unwrap().len(), &some[0]["index"]), (1, &json!(calls.len())));
            calls.push(some[0].clone());
        }
    }
    (text, thoughts, calls, reason.expect("a reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_and_comes_whole() {
    let f = answering(&format!("<|channel>thought\nhm é<channel|>I see. {ONE_CALL}"));
    let server = Server::over(f.engine.clone()).await;
    let asked = with(chat("light!"), json!({ "tools": [light()], "temperature": 0 }));
    let whole = post(server.addr, CHAT, &asked).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/json")));
    assert!(whole.header("x-request-id").is_some());
    let whole = whole.json().await;
    let choice = &whole["choices"][0];
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("scripted")));
    assert_eq!(choice["finish_reason"], "tool_calls");
    let message = &choice["message"];
    assert_eq!((&message["role"], &message["content"]), (&json!("assistant"), &json!("I see. ")));
    assert_eq!(message["reasoning_content"], "hm é");
    let call = &message["tool_calls"][0];
    let function = json!({ "name": "light", "arguments": r#"{"on":true,"room":"Bad"}"# });
    assert_eq!((&call["type"], &call["function"]), (&json!("function"), &function));
    let usage = &whole["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);

    let streamed =
        with(asked.clone(), json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let streamed = post(server.addr, CHAT, &streamed).await;
    assert_eq!((streamed.status, streamed.header("content-type")), (200, Some("text/event-stream")));
    let mut chunks = events(&streamed.text().await);
    let last = chunks.pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &usage["total_tokens"]));
    assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].is_u64(), "{last}");
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    let (text, thoughts, calls, reason) = added_up(&chunks);
    assert_eq!((text.as_str(), thoughts.as_str(), reason.as_str()), ("I see. ", "hm é", "tool_calls"));
    assert_eq!((calls.len(), &calls[0]["function"]), (1, &function));
    assert_ne!(calls[0]["id"], call["id"], "ids of calls are unique");

    // The answer and the tool's result fit into the next request.
    let result = json!({ "role": "tool", "tool_call_id": call["id"], "content": "{\"ok\": true}" });
    let next = with(asked, json!({ "messages": [{ "role": "user", "content": "light!" }, message, result] }));
    let next = post(server.addr, CHAT, &next).await.json().await;
    assert!(next["usage"]["prompt_tokens"].as_u64() > usage["prompt_tokens"].as_u64(), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_many_shapes() {
    let f = answering("hello");
    let server = Server::over(f.engine.clone()).await;
    let n_prompt = async |messages: Value| {
        let asked = json!({ "messages": messages, "unknown": [1, { "a": null }], "user": "me", "n": 1 });
        let answer = post(server.addr, CHAT, &asked).await.json().await;
        answer["usage"]["prompt_tokens"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let user = json!({ "role": "user", "content": "ab", "name": "me" });
    let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    let of_parts = json!({ "role": "user", "content": parts });
    assert_eq!(n_prompt(json!([user])).await, n_prompt(json!([of_parts])).await);
    let said = |role: &str, text: &str| json!({ "role": role, "content": text });
    let one = n_prompt(json!([said("system", "a\n\nb"), user])).await;
    assert_eq!(n_prompt(json!([said("system", "a"), said("developer", "b"), user])).await, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_limits_and_logprobs() {
    let f = answering("hello the world");
    let server = Server::over(f.engine.clone()).await;
    let choice = async |more: Value| {
        let answer = post(server.addr, CHAT, &with(chat("x"), more)).await.json().await;
        (answer["choices"][0].clone(), answer["usage"]["completion_tokens"].clone())
    };
    let (stopped, _) = choice(json!({ "stop": ["wor"] })).await;
    assert_eq!(
        (&stopped["message"]["content"], &stopped["finish_reason"]),
        (&json!("hello the "), &json!("stop"))
    );
    let (stopped, _) = choice(json!({ "stop": "the" })).await;
    assert_eq!(stopped["message"]["content"], "hello ");
    for field in ["max_tokens", "max_completion_tokens"] {
        let (short, n) = choice(json!({ field: 2 })).await;
        assert_eq!((&short["finish_reason"], n), (&json!("length"), json!(2)), "{field}");
        assert_eq!(short["logprobs"], Value::Null);
    }
    let (told, n) = choice(json!({ "logprobs": true, "top_logprobs": 2 })).await;
    let tokens = told["logprobs"]["content"].as_array().unwrap();
    // The token that ends the turn is no text.
    assert_eq!(json!(tokens.len() + 1), n);
    let text: String = tokens.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!(told["message"]["content"], text);
    assert!(tokens.iter().all(|t| t["logprob"].as_f64().unwrap() <= 0.0 && t["top_logprobs"][1].is_object()));
    let (banned, _) = choice(json!({ "logit_bias": { "400": 1 } })).await;
    assert_eq!(banned, Value::Null, "token 400 does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_continue_a_text() {
    let f = answering("hello the world");
    let server = Server::over(f.engine.clone()).await;
    let asked = |more: Value| with(json!({ "prompt": "say", "temperature": 0 }), more);
    for prompt in [json!("say"), json!(["say"]), json!([2, 320]), json!([[2, 320]])] {
        let answer =
            post(server.addr, "/v1/completions", &asked(json!({ "prompt": prompt }))).await.json().await;
        assert_eq!(
            (&answer["object"], &answer["choices"][0]["text"]),
            (&json!("text_completion"), &json!("hello the world"))
        );
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let streamed = asked(json!({ "stream": true, "logprobs": 1, "max_tokens": 3 }));
    let chunks = events(&post(server.addr, "/v1/completions", &streamed).await.text().await);
    let mut text = String::new();
    for chunk in &chunks {
        let choice = &chunk["choices"][0];
        if let Some(offsets) = choice["logprobs"]["text_offset"].as_array().filter(|o| !o.is_empty()) {
            assert_eq!(offsets[0], text.chars().count());
            assert_eq!(choice["logprobs"]["top_logprobs"][0].as_object().unwrap().len(), 1);
        }
        text.push_str(choice["text"].as_str().unwrap());
    }
    assert!("hello the world".starts_with(&text) && !text.is_empty(), "{text}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    let refused = post(server.addr, "/v1/completions", &asked(json!({ "prompt": ["a", "b"] }))).await;
    assert_eq!((refused.status, refused.json().await["error"]["param"].clone()), (400, json!("prompt")));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_told_while_a_generation_runs() {
    let gate = Gate::closed();
    let options = EngineOptions { n_ctx: 2000, ..OPTIONS };
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    let server = Server::over(f.engine.clone()).await;
    let asked = with(chat("x"), json!({ "stream": true, "max_tokens": 3 }));
    let running = post(server.addr, CHAT, &asked).await;
    gate.await_step();
    let models = get(server.addr, "/v1/models").await.json().await;
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("scripted")));
    let one = get(server.addr, "/v1/models/scripted").await.json().await;
    assert_eq!(one, models["data"][0]);
    let none = get(server.addr, "/v1/models/other").await;
    assert_eq!((none.status, none.json().await["error"]["code"].clone()), (404, json!("model_not_found")));
    gate.open();
    events(&running.text().await);
}

/// Status, field and code of a refusal.
async fn refusal(answer: Answer) -> (u16, Value, Value) {
    let status = answer.status;
    let error = answer.json().await["error"].clone();
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
    assert!(error["type"].is_string(), "{error}");
    (status, error["param"].clone(), error["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_by_field() {
    let f = answering("a");
    let server = Server::over(f.engine.clone()).await;
    let user = || json!({ "role": "user", "content": "u" });
    let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": "[1]" } });
    let called = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
    let image = json!([{ "type": "image_url", "image_url": { "url": "x" } }]);
    let system = || json!({ "role": "system", "content": "s" });
    let part = json!({ "properties": { "on": { "oneOf": [true] } } });
    let unkept = json!({ "type": "function", "function": { "name": "f", "parameters": part } });
    let astray = json!({ "properties": { "on": { "$ref": "#/$defs/none" } } });
    let astray = json!({ "type": "function", "function": { "name": "f", "parameters": astray } });
    for (more, field) in [
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": "x" }), "messages"),
        (json!({ "messages": [{ "role": "robot", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user", "content": 3 }] }), "messages[0].content"),
        (json!({ "messages": [{ "role": "user", "content": image }] }), "messages[0].content[0]"),
        (json!({ "messages": [user(), called] }), "messages[1].tool_calls[0].function.arguments"),
        (json!({ "messages": [system(), system(), user(), system(), user()] }), "messages[3].role"),
        (json!({ "tools": [{ "type": "web" }] }), "tools[0].type"),
        (
            json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }),
            "tools[0].function.name",
        ),
        (json!({ "temperature": -1 }), "temperature"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "top_p": 2 }), "top_p"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_completion_tokens": 0 }), "max_completion_tokens"),
        (json!({ "max_tokens": -1 }), "max_tokens"),
        (json!({ "stop": [""] }), "stop"),
        (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "9999": 1 } }), "logit_bias"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "n": 2 }), "n"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "tool_choice": "often" }), "tool_choice"),
        (json!({ "tool_choice": { "type": "web" } }), "tool_choice.type"),
        (
            json!({ "tool_choice": { "type": "function", "function": { "name": "f" } } }),
            "tool_choice.function.name",
        ),
        (json!({ "tools": [unkept], "tool_choice": "required" }), "tools[0].function.parameters"),
        (json!({ "tools": [light(), astray] }), "tools[1].function.parameters"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema.schema"),
        (
            json!({ "response_format": schema(json!({ "uniqueItems": true })) }),
            "response_format.json_schema.schema",
        ),
        (
            json!({ "response_format": schema(json!({ "type": "integer", "maxmum": 3 })) }),
            "response_format.json_schema.schema",
        ),
        (json!({ "functions": [] }), "functions"),
        (json!({ "reasoning_effort": "extreme" }), "reasoning_effort"),
        (json!({ "messages": [{ "role": "user", "content": "x ".repeat(3000) }] }), "messages"),
    ] {
        let answer = post(server.addr, CHAT, &with(chat("x"), more.clone())).await;
        let (status, param, _) = refusal(answer).await;
        assert_eq!((status, param), (400, json!(field)), "{more}");
    }
    let long = with(chat("x"), json!({ "messages": [{ "role": "user", "content": "x".repeat(1 << 20) }] }));
    let (status, _, code) = refusal(post(server.addr, CHAT, &long).await).await;
    assert_eq!((status, code), (400, json!("context_length_exceeded")));
    let other = with(chat("x"), json!({ "model": "other" }));
    let (status, param, code) = refusal(post(server.addr, CHAT, &other).await).await;
    assert_eq!((status, param, code), (404, json!("model"), json!("model_not_found")));
    for body in ["", "{", "[]", "nonsense", "{} {}"] {
        let (status, _, _) = refusal(raw(server.addr, request(CHAT, body).as_bytes()).await).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(refusal(get(server.addr, "/v1/nothing").await).await.0, 404);
    assert_eq!(refusal(get(server.addr, CHAT).await).await.0, 405);
}

fn schema(schema: Value) -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": schema } })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_an_answer_can_be_demanded() {
    // What the model would say is no JSON.
    let f = answering(&"hello ".repeat(40));
    let server = Server::over(f.engine.clone()).await;
    let wanted = json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"],
        "additionalProperties": false });
    for format in [schema(wanted), json!({ "type": "json_object" })] {
        let asked = json!({ "response_format": format, "max_tokens": 60, "temperature": 0 });
        let whole = post(server.addr, CHAT, &with(chat("x"), asked.clone())).await.json().await;
        let choice = &whole["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        match choice["finish_reason"].as_str() {
            Some("stop") => assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}"),
            reason => assert!(reason == Some("length") && text.starts_with('{'), "{choice}"),
        }
        if format["type"] == "json_schema" {
            assert_eq!(choice["finish_reason"], "stop");
        }
        let streamed =
            post(server.addr, CHAT, &with(chat("x"), with(asked, json!({ "stream": true })))).await;
        let (streamed_text, _, _, reason) = added_up(&events(&streamed.text().await));
        assert_eq!((streamed_text.as_str(), json!(reason)), (text, choice["finish_reason"].clone()));
    }
    let text = json!({ "prompt": "ab", "max_tokens": 9, "response_format": { "type": "json_object" } });
    let answer = post(server.addr, "/v1/completions", &text).await.json().await;
    assert!(answer["choices"][0]["text"].as_str().unwrap().starts_with('{'), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_can_be_demanded_and_bounded() {
    let f = answering(&"hello ".repeat(40));
    let server = Server::over(f.engine.clone()).await;
    let on = json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"] });
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": on } });
    for (choice, names) in [
        (json!("required"), &["light", "door"][..]),
        (json!({ "type": "function", "function": { "name": "door" } }), &["door"]),
    ] {
        let asked = json!({ "tools": [tool("light"), tool("door")], "tool_choice": choice,
            "parallel_tool_calls": false, "temperature": 0, "max_tokens": 200 });
        let answer = post(server.addr, CHAT, &with(chat("x"), asked)).await.json().await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1, "{answer}");
        assert!(names.contains(&calls[0]["function"]["name"].as_str().unwrap()), "{answer}");
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(arguments).unwrap()["on"].is_boolean(), "{answer}");
    }
    // One call where the model would make two.
    let two = ONE_CALL.replace("<|tool_response>", "").repeat(2);
    let f = answering(&two);
    let server = Server::over(f.engine.clone()).await;
    for (parallel, n) in [(true, 2), (false, 1)] {
        let asked = json!({ "tools": [light()], "parallel_tool_calls": parallel, "temperature": 0 });
        let answer = post(server.addr, CHAT, &with(chat("x"), asked)).await.json().await;
        let calls = &answer["choices"][0]["message"]["tool_calls"];
        assert_eq!(calls.as_array().map(Vec::len), Some(n), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_model_that_is_not_there_ask_to_come_again() {
    let server = Server::loading().await;
    let loading = post(server.addr, CHAT, &chat("x")).await;
    assert_eq!(loading.header("retry-after"), Some("10"));
    assert_eq!(refusal(loading).await.0, 503);
    assert_eq!(refusal(get(server.addr, "/v1/models").await).await.0, 503);

    let gate = Gate::closed();
    let options = EngineOptions { n_ctx: 2000, max_sessions: 1, queue_depth: 1, ..OPTIONS };
    let f = start(Script { gate: Some(gate.clone()), ..Script::default() }, options);
    server.control.ready(f.engine.clone()).await;
    let asked = with(chat("x"), json!({ "stream": true, "max_tokens": 2 }));
    let (first, second) = (post(server.addr, CHAT, &asked).await, post(server.addr, CHAT, &asked).await);
    let third = post(server.addr, CHAT, &asked).await;
    assert!(third.header("retry-after").is_some_and(|s| s.parse::<u64>().unwrap() > 0));
    assert_eq!(refusal(third).await.0, 429);
    gate.open();
    events(&first.text().await);
    events(&second.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_of_a_stream_is_told() {
    let prompt = tokenizer().encode_prompt("ab", pled::tokenizer::Specials::Parse);
    let nan_after = answer(&prompt, 2).pop();
    let f = start(Script { nan_after, ..Script::default() }, OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let asked = json!({ "prompt": "ab", "temperature": 0 });
    assert_eq!(refusal(post(server.addr, "/v1/completions", &asked).await).await.0, 500);
    let text =
        post(server.addr, "/v1/completions", &with(asked, json!({ "stream": true }))).await.text().await;
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["type"], "server_error", "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_frees_the_place() {
    for stream in [true, false] {
        // Nobody waits for the end of this.
        let script = Script { step_time: std::time::Duration::from_millis(5), ..Script::default() };
        let f = start(script, EngineOptions { n_ctx: 4000, ..OPTIONS });
        let server = Server::over(f.engine.clone()).await;
        let asked = with(chat("x"), json!({ "stream": stream, "temperature": 0 }));
        if stream {
            let mut answer = post(server.addr, CHAT, &asked).await;
            answer.piece().await.expect("the role");
            answer.piece().await.expect("some text");
        } else {
            let mut peer = TcpStream::connect(server.addr).await.unwrap();
            peer.write_all(request(CHAT, &asked.to_string()).as_bytes()).await.unwrap();
            while f.engine.stats().completion_tokens == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
        let stats = await_nothing_held(&server).await;
        assert_eq!(stats.requests.unwrap().cancelled, 1, "streamed: {stream}");
    }
}
