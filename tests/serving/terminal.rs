//! `pled chat` as a program: lines from a pipe, and a terminal in which ctrl-C stops an answer.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pled::access::Keys;
use pled::engine::EngineOptions;
use pled::rpc::pb;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::scripted::*;
use super::server::*;
use super::support::program::pled;

fn chat_with(server: &str) -> Command {
    let mut command = pled();
    command.args(["chat", "--server", server]).env_remove("PLED_SERVER");
    command
}

/// What the program prints for these lines from a pipe.
fn piped(command: &mut Command, lines: &str) -> (String, String, bool) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends at once reads none of it.
    let _ = child.stdin.as_ref().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.success())
}

async fn n_prompt_tokens(server: &Server, messages: &[(pb::ChatRole, &str)]) -> u64 {
    let messages = messages.iter().map(|&(role, text)| pb::ChatMessage {
        role: role.into(),
        parts: vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(text.to_owned())) }],
        ..Default::default()
    });
    let chat = pb::ChatRequest { messages: messages.collect(), ..Default::default() };
    let input = Some(pb::count_tokens_request::Input::Chat(chat));
    let request = pb::CountTokensRequest { input, ..Default::default() };
    server.tokenizer().await.count_tokens(request).await.unwrap().into_inner().n_tokens.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_pipe_is_a_turn_of_one_conversation() {
    let f = answering("Well\u{1b}!");
    let server = Server::over(f.engine.clone()).await;
    let url = format!("http://{}", server.addr);
    let command = move || {
        let mut command = chat_with(&url);
        command.args(["--system", "Be brief"]);
        piped(&mut command, "one\n\n two \n/new\nthree")
    };
    let (out, err, ok) = tokio::task::spawn_blocking(command).await.unwrap();
    assert_eq!((out.as_str(), err.as_str(), ok), ("Well\u{fffd}!\nWell\u{fffd}!\nWell\u{fffd}!\n", "", true));

    use pb::ChatRole::{Assistant, System, User};
    let begun = [(System, "Be brief"), (User, "one")];
    let went_on = [begun[0], begun[1], (Assistant, "Well\u{1b}!"), (User, "two")];
    let anew = [(System, "Be brief"), (User, "three")];
    let mut expected = 0;
    for messages in [&begun[..], &went_on, &anew] {
        expected += n_prompt_tokens(&server, messages).await;
    }
    let stats = server.admin().await.get_stats(pb::GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.prompt_tokens, expected);
}

#[test]
fn without_a_daemon_it_says_where_it_looked() {
    let (out, err, ok) = piped(&mut chat_with("http://127.0.0.1:1"), "hello\n");
    assert!(out.is_empty() && !ok, "{out}");
    assert!(
        err.starts_with("pled: no daemon answers at http://127.0.0.1:1: ") && err.lines().count() == 1,
        "{err}"
    );
    for url in ["https://127.0.0.1:1", "kitchen", "http://"] {
        let (_, err, ok) = piped(&mut chat_with(url), "hello\n");
        assert!(err.starts_with(&format!("pled: --server {url}: give a URL")) && !ok, "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_from_its_file_and_sent() {
    const TOKEN: &str = "Yq3vTtM0lA5cXW1zJrKd8w";
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let keys = Keys::load(&file("keys", &format!("kitchen {TOKEN}"))).unwrap();
    let server = Server::kept_by(Arc::new(keys), answering("Well!").engine).await;
    let url = format!("http://{}", server.addr);
    let cases = [
        (None, "", "a token is needed"),
        (Some(file("wrong", "0000000000000000000000")), "", "the token is not known here"),
        (Some(file("empty", "\n")), "", "empty: has to hold one token and nothing else"),
        (Some(file("two", "kitchen token")), "", "two: has to hold one token and nothing else"),
        (Some(directory.path().join("none")), "", "none: No such file or directory"),
        (Some(file("right", &format!("{TOKEN}\n"))), "Well!\n", ""),
    ];
    let run = move || {
        for (file, said, refused) in cases {
            let mut command = chat_with(&url);
            if let Some(file) = file {
                command.arg("--token-file").arg(file);
            }
            let (out, err, ok) = piped(&mut command, "hello\n");
            assert_eq!((out.as_str(), ok), (said, refused.is_empty()), "{refused}: {err}");
            assert!(err.contains(refused) && !err.contains(TOKEN), "{refused}: {err}");
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// What the line editor sends last when it has a line: the end of bracketed paste. What the terminal itself shows of a
/// line that is typed too early comes before.
const LINE_IS_READ: &str = "\u{1b}[?2004l";

/// A program in a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
        let side = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, shown) = (keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 256];
            // The end of the program is an error here (EIO).
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Terminal { child, keyboard, screen }
    }

    fn write(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn await_shown(&self, text: &str) {
        await_that(text, || self.screen.lock().unwrap().contains(text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_the_answer_and_not_the_program() {
    // Slow enough to be under way still when it is stopped, on an emulated processor too.
    let script = Script { step_time: Duration::from_millis(40), ..Default::default() };
    let f = start(script, EngineOptions::default());
    let server = Server::over(f.engine.clone()).await;
    let url = format!("http://{}", server.addr);
    let talk = move || {
        let mut terminal = Terminal::open(chat_with(&url));
        terminal.await_shown("ctrl-C stops an answer");
        terminal.write("tell me everything\r");
        await_that("an answer", || {
            let screen = terminal.screen.lock().unwrap();
            screen.rsplit_once(LINE_IS_READ).is_some_and(|(_, after)| !after.trim().is_empty())
        });
        kill_process(Pid::from_child(&terminal.child), Signal::INT).unwrap();
        terminal.await_shown("[stopped]");
        f.await_nothing_left();
        terminal.write("/nonsense\r");
        terminal.await_shown("/nonsense is no command");
        terminal.write("/quit\r");
        assert!(terminal.child.wait().unwrap().success(), "{}", terminal.screen.lock().unwrap());
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}
