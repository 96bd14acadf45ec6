//! The dialect of Ollama over a scripted answer.

use serde_json::{Value, json};

use super::scripted::*;
use super::server::Server;
use super::web::{get, lines, post};

const ONE_CALL: &str = "<|tool_call>call:light{on:true,room:<|\"|>Bad<|\"|>}<tool_call|><|tool_response>";

fn chat(text: &str) -> Value {
    json!({ "model": "scripted:latest", "messages": [{ "role": "user", "content": text }] })
}

fn light() -> Value {
    let properties = json!({ "on": { "type": "boolean" }, "room": { "type": "string" } });
    let parameters = json!({ "type": "object", "properties": properties });
    json!({ "type": "function", "function": { "name": "light", "description": "d", "parameters": parameters } })
}

/// `value` with the fields of `more`.
fn with(mut value: Value, more: Value) -> Value {
    for (key, field) in more.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

fn assert_ended(last: &Value) {
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")), "{last}");
    for field in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ] {
        assert!(last[field].is_u64(), "{field}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_streams_and_comes_whole() {
    let f = answering(&format!("<|channel>thought\nhm é<channel|>I see. {ONE_CALL}"));
    let server = Server::over(f.engine.clone()).await;
    let asked = with(
        chat("light!"),
        json!({ "tools": [light()], "keep_alive": "5m", "options": { "num_ctx": 8192 } }),
    );
    let streamed = post(server.addr, "/api/chat", &asked).await;
    assert_eq!((streamed.status, streamed.header("content-type")), (200, Some("application/x-ndjson")));
    let pieces = lines(&streamed.text().await);
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in &pieces {
        assert_eq!(
            (&piece["model"], &piece["message"]["role"]),
            (&json!("scripted:latest"), &json!("assistant"))
        );
        assert!(piece["created_at"].as_str().unwrap().ends_with('Z'));
        text.push_str(piece["message"]["content"].as_str().unwrap());
        thoughts.push_str(piece["message"]["thinking"].as_str().unwrap_or_default());
        calls.extend(piece["message"]["tool_calls"].as_array().cloned().unwrap_or_default());
    }
    let (last, before) = pieces.split_last().unwrap();
    assert_ended(last);
    assert!(before.iter().all(|piece| piece["done"] == json!(false)));
    assert_eq!((text.as_str(), thoughts.as_str(), calls.len()), ("I see. ", "hm é", 1));
    let function = json!({ "name": "light", "arguments": { "on": true, "room": "Bad" } });
    assert_eq!(calls[0]["function"], function);

    let whole =
        post(server.addr, "/api/chat", &with(asked.clone(), json!({ "stream": false }))).await.json().await;
    assert_ended(&whole);
    let message = &whole["message"];
    assert_eq!((&message["content"], &message["thinking"]), (&json!("I see. "), &json!("hm é")));
    assert_eq!(message["tool_calls"][0]["function"], function);

    // Home Assistant sends calls and results without names or ids.
    let calls = json!({ "role": "assistant", "content": "", "tool_calls": [{ "function": function }, { "function": function }] });
    let result = json!({ "role": "tool", "content": "{\"ok\": true}" });
    let user = json!({ "role": "user", "content": "light!" });
    let system = json!({ "role": "system", "content": "s" });
    let messages = json!([system, user, calls, result, result]);
    let next = with(asked, json!({ "messages": messages, "stream": false }));
    assert_ended(&post(server.addr, "/api/chat", &next).await.json().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_answered_or_continued() {
    let f = answering("hello the world");
    let server = Server::over(f.engine.clone()).await;
    let asked = json!({ "model": "scripted", "prompt": "say", "system": "be brief" });
    let pieces = lines(&post(server.addr, "/api/generate", &asked).await.text().await);
    let text: String = pieces.iter().map(|piece| piece["response"].as_str().unwrap()).collect();
    assert_eq!(text, "hello the world");
    assert_ended(pieces.last().unwrap());
    let whole = async |more: Value| {
        let asked = with(json!({ "prompt": "say", "stream": false }), more);
        post(server.addr, "/api/generate", &asked).await.json().await
    };
    let answered = whole(json!({})).await;
    let continued = whole(json!({ "raw": true })).await;
    assert_eq!(
        (&answered["response"], &continued["response"]),
        (&json!("hello the world"), &json!("hello the world"))
    );
    assert!(continued["prompt_eval_count"].as_u64() < answered["prompt_eval_count"].as_u64());
    let short = whole(json!({ "options": { "num_predict": 2, "stop": "wor" } })).await;
    assert_eq!(short["done_reason"], "length");
    let stopped = whole(json!({ "options": { "num_predict": -1, "stop": ["wor"], "seed": -1 } })).await;
    assert_eq!((&stopped["response"], &stopped["done_reason"]), (&json!("hello the "), &json!("stop")));
    // How clients load a model.
    let loaded = post(server.addr, "/api/generate", &json!({ "model": "scripted" })).await.json().await;
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    let loaded = post(server.addr, "/api/chat", &json!({ "messages": [] })).await.json().await;
    assert_eq!(loaded["done_reason"], "load");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_what_there_is() {
    let f = answering("a");
    let server = Server::over(f.engine.clone()).await;
    let version = get(server.addr, "/api/version").await.json().await;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    for path in ["/api/tags", "/api/ps"] {
        let model = &get(server.addr, path).await.json().await["models"][0];
        assert_eq!((&model["name"], &model["model"]), (&json!("scripted:latest"), &json!("scripted:latest")));
        assert_eq!((&model["size"], &model["details"]["family"]), (&json!(3), &json!("script")));
    }
    for asked in [json!({ "model": "scripted" }), json!({ "name": "scripted:latest" })] {
        let shown = post(server.addr, "/api/show", &asked).await.json().await;
        assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking"]));
        assert_eq!(shown["model_info"]["script.context_length"], 128);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_an_answer_can_be_demanded() {
    // What the model would say is no JSON.
    let f = answering(&"hello ".repeat(40));
    let server = Server::over(f.engine.clone()).await;
    let schema = json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"],
        "additionalProperties": false });
    let asked = json!({ "stream": false, "prompt": "x", "options": { "temperature": 0, "num_predict": 60 } });
    for more in [json!({}), json!({ "raw": true })] {
        let asked = with(with(asked.clone(), json!({ "format": schema })), more);
        let answer = post(server.addr, "/api/generate", &asked).await.json().await;
        let value: Value = serde_json::from_str(answer["response"].as_str().unwrap()).unwrap();
        assert!(value["on"].is_boolean(), "{answer}");
        assert_ended(&answer);
    }
    let asked = with(with(asked, json!({ "format": "json" })), chat("x"));
    let answer = post(server.addr, "/api/chat", &asked).await.json().await;
    assert!(answer["message"]["content"].as_str().unwrap().starts_with('{'), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_by_field() {
    let f = answering("a");
    let server = Server::over(f.engine.clone()).await;
    let result = json!({ "role": "tool", "content": "x", "tool_name": "f" });
    for (path, more, field) in [
        ("chat", json!({ "format": "yaml" }), "format"),
        ("chat", json!({ "format": 3 }), "format"),
        ("chat", json!({ "format": { "type": "array", "uniqueItems": true } }), "format"),
        (
            "chat",
            json!({ "messages": [{ "role": "user", "content": "x", "images": ["aa"] }] }),
            "messages[0].images",
        ),
        ("chat", json!({ "messages": [{ "role": "robot" }] }), "messages[0].role"),
        ("chat", json!({ "messages": [result] }), "messages[0].tool_call_id"),
        ("chat", json!({ "tools": [{ "function": { "name": "" } }] }), "tools[0].function.name"),
        ("chat", json!({ "think": "much" }), "think"),
        ("chat", json!({ "options": { "temperature": -1 } }), "options.temperature"),
        ("chat", json!({ "options": { "temperature": "x" } }), "options.temperature"),
        ("chat", json!({ "options": { "repeat_penalty": 0 } }), "options.repeat_penalty"),
        (
            "chat",
            json!({ "options": { "repeat_penalty": 1.1, "repeat_last_n": 64 } }),
            "options.repeat_last_n",
        ),
        ("chat", json!({ "options": { "num_predict": 0 } }), "options.num_predict"),
        ("chat", json!({ "options": { "mirostat": 1 } }), "options.mirostat"),
        ("generate", json!({ "prompt": "a", "suffix": "b" }), "suffix"),
        ("generate", json!({ "prompt": "a", "context": [1] }), "context"),
        ("generate", json!({ "prompt": "a", "raw": true, "system": "b" }), "system"),
        ("generate", json!({ "prompt": "x ".repeat(3000) }), "prompt"),
    ] {
        let answer = post(server.addr, &format!("/api/{path}"), &with(chat("x"), more.clone())).await;
        let status = answer.status;
        let told = answer.json().await["error"].as_str().unwrap().to_owned();
        assert!(status == 400 && told.starts_with(&format!("{field}: ")), "{more}: {status} {told}");
    }
    let other = post(server.addr, "/api/chat", &json!({ "model": "other:latest", "messages": [] })).await;
    assert_eq!(other.status, 404);
    let nothing = get(server.addr, "/api/nothing").await;
    assert_eq!(nothing.status, 404);
    assert!(nothing.json().await["error"].is_string());
}
