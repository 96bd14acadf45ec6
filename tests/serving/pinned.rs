//! Prompts that the configuration names: known to the first request, kept whatever others compute, refused by name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pled::config::{ConfigError, Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::engine::{BLOCK_TOKENS, Draft, Failure, Purpose};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::reuse::KEEPING;
use super::scripted::*;
use super::web::{get, post};

fn settings(options: &[(Field, Vec<String>)]) -> Settings {
    let mut fragment = Fragment::default();
    let always = [(Field::Listen, vec!["127.0.0.1:0".to_owned()]), (Field::Threads, vec!["1".to_owned()])];
    for (field, values) in always.iter().chain(options) {
        fragment.set(*field, Origin::Flag(*field), values.clone());
    }
    Settings::resolve(fragment).unwrap()
}

fn paths(files: &[&Path]) -> Vec<String> {
    files.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// The daemon with the built-in model.
struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, addresses) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stop = async { stopped.await.unwrap_or_default() };
            daemon::run(&settings, stop, |all| bound.send(all[0]).unwrap()).await
        });
        let addr = addresses.await.unwrap();
        let ready = async { while get(addr, "/readyz").await.status != 200 {} };
        tokio::time::timeout(PATIENCE, ready).await.expect("the daemon is ready");
        Self { addr, stop, serving }
    }

    /// Tokens of prompts that were computed, and that were known.
    async fn counted(&self) -> (u64, u64) {
        let page = get(self.addr, "/metrics").await.text().await;
        let counter = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).expect("a counter")
        };
        (counter("pled_prompt_tokens_total "), counter("pled_cached_tokens_total "))
    }

    async fn known(&self, path: &str, request: &Value) -> u64 {
        let answer = post(self.addr, path, request).await;
        assert_eq!(answer.status, 200);
        answer.json().await["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    }

    async fn stop(self) {
        drop(self.stop);
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the daemon ends").unwrap().unwrap();
    }
}

/// Instructions of more tokens than it takes to be written to disk.
fn instructions(last: &str) -> String {
    let rooms =
        "kitchen bedroom hall garage attic bathroom office garden cellar pantry nursery studio porch library";
    let each = |room| format!("In the {room} there is a light that is called {room} ceiling lamp. ");
    format!("You are the voice of a house. {}{last}", rooms.split(' ').map(each).collect::<String>())
}

fn request(last: &str) -> Value {
    let parameters = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    let tool = json!({ "type": "function", "function": { "name": "HassTurnOn", "parameters": parameters } });
    json!({ "messages": [{ "role": "system", "content": instructions(last) }], "tools": [tool] })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_is_known_to_the_first_request_and_restored_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [house, diary] = ["house.json", "diary.txt"].map(|name| folder.path().join(name));
    std::fs::write(&house, request("").to_string()).unwrap();
    std::fs::write(&diary, "Dear diary, today the kitchen light was on\n").unwrap();
    let settings = settings(&[
        (Field::PinnedPrompts, paths(&[&house, &diary])),
        (Field::SessionDir, paths(&[&folder.path().join("sessions")])),
    ]);
    let mut chat = request("");
    let user = json!({ "role": "user", "content": "Turn on the attic ceiling lamp" });
    chat["messages"].as_array_mut().unwrap().push(user);
    chat["max_tokens"] = json!(2);
    let text =
        json!({ "prompt": "Dear diary, today the kitchen light was on all the time.", "max_tokens": 2 });

    let daemon = Running::start(settings.clone()).await;
    let (n_computed, n_shared) = daemon.counted().await;
    let n_chat = daemon.known("/v1/chat/completions", &chat).await;
    let n_text = daemon.known("/v1/completions", &text).await;
    assert!(n_chat > 256 && n_text > 5, "{n_chat}, {n_text}");
    assert_eq!(n_chat + n_text, n_computed + n_shared, "all that was pinned");
    daemon.stop().await;

    let daemon = Running::start(settings).await;
    let (n_again, _) = daemon.counted().await;
    // Of the conversation the last token, which is always run; the text is too short to be written.
    assert!(n_again <= n_text + 1, "{n_again}");
    // What was written is whole blocks. If the conversation came before the disk had its turn, it had filled the last one.
    let n_restored = daemon.known("/v1/chat/completions", &chat).await;
    assert!(
        (n_chat..=n_chat.next_multiple_of(BLOCK_TOKENS as u64)).contains(&n_restored),
        "{n_restored} of {n_chat}"
    );
    daemon.stop().await;
}

/// What `daemon::run` ends with.
async fn refused(options: &[(Field, Vec<String>)]) -> String {
    let settings = settings(options);
    let run = daemon::run(&settings, std::future::pending(), |_| {});
    let error = tokio::time::timeout(PATIENCE, run).await.expect("it does not start").unwrap_err();
    assert!(error.is::<ConfigError>(), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_told_with_its_name_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let role = json!({ "messages": [{ "role": "boss", "content": "Hello" }] }).to_string();
    let shape = json!({ "messages": [{ "role": "system", "content": "Hello" }], "tools": {} }).to_string();
    let mut tool = request("");
    tool["tools"][0]["function"]["name"] = json!("turn on");
    let mut model = request("");
    model["model"] = json!("another");
    let house = request("").to_string();
    for (path, n_ctx, problem) in [
        (folder.path().join("none.json"), 4096, "No such file"),
        (folder.path().to_owned(), 4096, "directory"),
        (write("torn.json", &house.as_bytes()[..100]), 4096, "no JSON"),
        (write("empty.json", b"{}"), 4096, "messages: is missing"),
        (write("role.json", role.as_bytes()), 4096, "messages[0].role: "),
        (write("shape.json", shape.as_bytes()), 4096, "tools: "),
        (write("tool.json", tool.to_string().as_bytes()), 4096, "tools[0].function.name: "),
        (write("model.json", model.to_string().as_bytes()), 4096, "model \"another\" is not loaded"),
        (write("bytes.txt", b"caf\xe9"), 4096, "no UTF-8"),
        (write("large.txt", &vec![b'a'; (4 << 20) + 1]), 4096, "more than 4194304 bytes"),
        (write("long.json", house.as_bytes()), 64, "tokens, the context has room for 64"),
    ] {
        let named = [(Field::PinnedPrompts, paths(&[&path])), (Field::NCtx, vec![n_ctx.to_string()])];
        let message = refused(&named).await;
        let place = format!("--pinned-prompts: pinned_prompts = \"{0}\": {0}: ", path.display());
        let rest = message.strip_prefix(&place);
        assert!(rest.is_some_and(|rest| rest.contains(problem)), "{problem}: {message}");
    }
    // Each fits the memory of a context, both do not.
    let pair = ["a", "b"].map(|name| {
        let mut request = request("");
        let said = format!("{name} {}", instructions(name));
        request["messages"][0]["content"] = json!(said);
        write(&format!("{name}.json"), request.to_string().as_bytes())
    });
    let both = [(Field::PinnedPrompts, paths(&[&pair[0], &pair[1]])), (Field::NCtx, vec!["512".to_owned()])];
    let message = refused(&both).await;
    assert!(message.contains("b.json: what is pinned would take up to "), "{message}");
}

#[test]
fn what_is_pinned_outlasts_others_and_comes_back_after_a_fault() {
    let f = start(Script { nan_after: Some(350), ..Script::default() }, KEEPING);
    let from =
        |first: u32, n: u32| -> Vec<u32> { [first].into_iter().chain((1..n).map(|i| 3 + i)).collect() };
    let pin = |prompt: &[u32]| f.submit(Draft { purpose: Purpose::Pin, ..draft(prompt, 1) });
    let crowd = || {
        for first in 100..120 {
            hear_all(f.submit(draft(&from(first, 200), 50)));
        }
    };
    let known = |prompt: &[u32]| {
        let longer = [prompt, &[320]].concat();
        hear_all(f.submit(draft(&longer, 1))).done().usage.cached_tokens
    };
    let (mine, other) = (from(200, 80), from(201, 250));
    for prompt in [&mine, &other] {
        assert_eq!(hear_all(pin(prompt)).done().usage.completion_tokens, 0);
    }
    crowd();
    assert_eq!((known(&mine), known(&other)), (80, 250));

    // There is no room for a third, and the others stay.
    let Some(Failure::Unpinnable { n_bytes, bound }) = hear_all(pin(&from(202, 250))).failure else {
        panic!("more than a context is pinned");
    };
    assert!(bound == 256 * KV_BYTES_PER_TOKEN && n_bytes > bound, "{n_bytes} of {bound}");
    crowd();
    assert_eq!((known(&mine), known(&other), known(&from(202, 250))), (80, 250, 0));

    // Unusable logits cost all that is kept. Who asks next computes it, and it stays.
    assert!(hear_all(f.submit(draft(&[BOS, 350], 3))).failure.is_some());
    assert_eq!(known(&mine), 0);
    crowd();
    assert_eq!(known(&mine), 80);
}
