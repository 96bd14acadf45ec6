//! The program from outside: commands, exit codes, signals, what systemd hears, what a client receives;
//! and the daemon in this process, where a test must hold it at a certain point.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pb::generate_request::Prompt;
use pb::generate_stream_response::Event;
use pb::generation_service_client::GenerationServiceClient;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use pled::rpc::pb;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::program::pled;
use support::{fixture, read_npy, runs};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// Nothing here takes long but on a loaded machine under emulation.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(arguments: &[&str]) -> Output {
    pled().args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed without a word on stderr.
fn stdout_of(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{arguments:?}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout_of(arguments)).unwrap()
}

/// `tests/fixtures/NAME` as an argument.
fn model(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

fn ids_text(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A model file in which the tensor `name` has another type.
fn with_type(file: &[u8], name: &str, type_id: u32) -> Vec<u8> {
    let entry = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let at = file.windows(entry.len()).position(|bytes| bytes == entry).unwrap() + entry.len();
    let n_dims = u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let at = at + 4 + 8 * n_dims;
    [&file[..at], &type_id.to_le_bytes(), &file[at + 4..]].concat()
}

#[test]
fn faults_end_with_their_code_and_one_line_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let tiny = model("gemma4-ple/model-q4_0.gguf");
    let experts = model("gemma4-moe/model-q4_0.gguf");
    let text = at("text.gguf", b"this is no model");
    let whole = std::fs::read(&tiny).unwrap();
    let cut = at("cut.gguf", &whole[..whole.len() - 1000]);
    let q2_k = at("q2_k.gguf", &with_type(&whole, "blk.0.attn_q.weight", 10));
    let half = at("half.gguf", &with_type(&whole, "output_norm.weight", 1));
    let words = at("words.txt", b"hello world");
    let config = at("pled.toml", b"model = \"x\"\nthread = 2\n");
    let cases: &[(i32, &[&str], &str)] = &[
        (64, &["speak"], "unrecognized subcommand 'speak'"),
        (64, &["generate", "--model", &tiny], "--prompt"),
        (
            64,
            &["generate", "--model", &tiny, "--prompt", "x", "--threads", "0"],
            "--threads: threads = \"0\"",
        ),
        (64, &["generate", "--model", &tiny, "--prompt", "x", "--kv-type", "q4_0"], "give f16 or q8_0"),
        (65, &["generate", "--model", &tiny, "--prompt", "x", "--kv-type", "q8_0"], "heads of 16 elements"),
        (64, &["generate", "--model", &tiny, "--prompt", "x", "--n-ctx", "1000"], "give at most 256"),
        (64, &["generate", "--model", &tiny, "--prompt-ids", "2,x"], "give ids as in 2,17,42"),
        (64, &["generate", "--model", &tiny, "--prompt-ids", "2,384"], "384"),
        (64, &["generate", "--model", &tiny, "--prompt", "x", "--max-tokens", "0"], "max_tokens"),
        (64, &["generate", "--model", &tiny, "--prompt", "x", "--temperature", "-1"], "temperature"),
        (64, &["bench", "--model", &tiny, "-p", "1000"], "--n-ctx"),
        (64, &["bench", "--model", &tiny, "-n", "0"], "-n is 0"),
        (64, &["bench", "--model", &tiny, "--depth", "9", "--batch", "2"], "leave out --batch"),
        (64, &["bench", "--model", &tiny, "--depth", "1000"], "--n-ctx"),
        (64, &["perplexity", "--model", &tiny, "--file", &words, "--ctx", "7"], "--ctx is 7"),
        (64, &["perplexity", "--model", &tiny, "--file", &words, "--ctx", "300"], "has 256 tokens"),
        (
            64,
            &["perplexity", "--model", &tiny, "--file", &words, "--ctx", "20"],
            "words.txt: 4 tokens, a window has 20",
        ),
        (64, &["serve", "--model", ""], "give the path of a GGUF file"),
        (
            64,
            &["serve", "--config", &config],
            "pled.toml:2: unknown option \"thread\"; did you mean threads?",
        ),
        (64, &["serve", "--config", "/nowhere/pled.toml"], "/nowhere/pled.toml"),
        (64, &["serve", "--model", &tiny, "--listen", "0.0.0.0:0"], "--allow-unauthenticated-lan"),
        (
            64,
            &["serve", "--model", &tiny, "--token-file", "/nowhere/tokens"],
            "/nowhere/tokens: cannot be read",
        ),
        (64, &["serve", "--model", &tiny, "--token-file", &config], "pled.toml:1: the token of \"model\""),
        (64, &["serve", "--model", &tiny, "--tls-cert-file", &config], "no tls_key_file given"),
        (
            64,
            &["serve", "--model", &tiny, "--tls-cert-file", &config, "--tls-key-file", &config],
            "pled.toml: has no certificate in PEM",
        ),
        (65, &["generate", "--model", &text, "--prompt", "x"], "not a GGUF file"),
        (65, &["generate", "--model", &cut, "--prompt", "x"], "cut.gguf"),
        (65, &["generate", "--model", &experts, "--prompt", "x"], "mixture of experts"),
        (
            65,
            &["generate", "--model", &q2_k, "--prompt", "x"],
            "tensor blk.0.attn_q.weight has type Q2_K, expected F32, F16, ",
        ),
        (
            65,
            &["generate", "--model", &half, "--prompt", "x"],
            "tensor output_norm.weight has type F16, expected F32",
        ),
        (65, &["inspect", &text], "not a GGUF file"),
        (65, &["tokenize", "--model", &text, "x"], "not a GGUF file"),
        (65, &["serve", "--listen", "127.0.0.1:0", "--log", "off", "--model", &text], "not a GGUF file"),
        (66, &["generate", "--model", "/nowhere/m.gguf", "--prompt", "x"], "/nowhere/m.gguf"),
        (66, &["inspect", "/nowhere/m.gguf"], "/nowhere/m.gguf"),
        (66, &["inspect", "/"], "/"),
        (66, &["serve", "--listen", "127.0.0.1:0", "--log", "off", "--model", "/nowhere/m.gguf"], "/nowhere"),
        (1, &["perplexity", "--model", &tiny, "--file", "/nowhere/text"], "/nowhere/text"),
        (1, &["perplexity", "--model", &tiny, "--file", &tiny, "--ctx", "20"], "model-q4_0.gguf"),
        (1, &["generate", "--model", &tiny, "--prompt", "x", "--logits", "/nowhere/x.npy"], "/nowhere/x.npy"),
    ];
    for (code, arguments, part) in cases {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("pled: ") && stderr.contains(part), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_names_the_commands_that_there_are() {
    let help = stdout_of(&["--help"]);
    for command in
        ["demo", "serve", "generate", "tokenize", "inspect", "bench", "perplexity", "pull", "doctor"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        assert!(stdout_of(&[command, "--help"]).contains("Usage: pled"));
    }
    assert!(stdout_of(&["--version"]).starts_with("pled 0."));
    // Without a command: the help again, but as a complaint.
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: pled"));
}

#[test]
fn generate_continues_as_the_reference_does() {
    for name in ["gemma4-ple", "gemma4-keqv", "gemma3"] {
        let path = model(&format!("{name}/model-f32.gguf"));
        for run in runs(&fixture(name), "f32") {
            let n = run.greedy.len().to_string();
            let ids = ids_text(&run.prompt);
            let answer = json_of(&[
                "generate",
                "--model",
                &path,
                "--prompt-ids",
                &ids,
                "--max-tokens",
                &n,
                "--temperature",
                "0",
                "--ignore-eos",
                "--json",
            ]);
            let chosen: Vec<u32> = serde_json::from_value(answer["token_ids"].clone()).unwrap();
            assert_eq!(chosen, run.greedy, "{name}");
            assert_eq!(answer["prompt_tokens"], run.prompt.len());
            assert_eq!(answer["completion_tokens"], run.greedy.len());
            assert_eq!(answer["finish_reason"], "max_tokens");
            assert!(answer["timings"]["prefill_ms"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn generate_writes_the_logits_of_every_prompt_position() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.npy");
    for name in ["gemma4-ple", "gemma3"] {
        let path = model(&format!("{name}/model-f32.gguf"));
        for run in runs(&fixture(name), "f32") {
            let ids = ids_text(&run.prompt);
            stdout_of(&[
                "generate",
                "--model",
                &path,
                "--prompt-ids",
                &ids,
                "--max-tokens",
                "1",
                "--logits",
                out.to_str().unwrap(),
            ]);
            let (shape, logits) = read_npy(&out);
            let (expected_shape, expected) = read_npy(&fixture(name).join(&run.logits));
            assert_eq!(shape, expected_shape);
            let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{name}: {worst}");
        }
    }
}

#[test]
fn perplexity_is_what_the_logits_give_by_hand() {
    const WINDOW: usize = 24;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (text, logits_file) = (at("text"), at("logits.npy"));
    let words = "The lamp in the hall is on.\nWho turned it on? Nobody knows; the door was closed at 10:45. ";
    std::fs::write(&text, words.repeat(2)).unwrap();
    for name in ["gemma4-ple", "gemma3"] {
        let path = model(&format!("{name}/model-q8_0.gguf"));
        let ids = stdout_of(&["tokenize", "--model", &path, "--ids", "--bos", &words.repeat(2)]);
        let ids: Vec<u32> = ids.trim().split(',').map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() > 2 * WINDOW && !ids.len().is_multiple_of(WINDOW), "{}", ids.len());
        let mut nll = Vec::new();
        for window in ids.chunks_exact(WINDOW) {
            let window = [&ids[..1], &window[1..]].concat();
            stdout_of(&[
                "generate",
                "--model",
                &path,
                "--prompt-ids",
                &ids_text(&window),
                "--max-tokens",
                "1",
                "--logits",
                &logits_file,
            ]);
            let ([_, n_vocab], logits) = read_npy(Path::new(&logits_file));
            for i in WINDOW / 2..WINDOW - 1 {
                let row = &logits[i * n_vocab..(i + 1) * n_vocab];
                let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                nll.push(sum.ln() - f64::from(row[window[i + 1] as usize]));
            }
        }
        let n = nll.len() as f64;
        let mean = nll.iter().sum::<f64>() / n;
        let variance = nll.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let expected = [mean.exp(), mean.exp() * (variance / (n - 1.0)).sqrt()];

        let arguments = ["perplexity", "--model", &path, "--file", &text, "--ctx", &WINDOW.to_string()];
        let report = json_of(&[&arguments[..], &["--json"]].concat());
        for (key, expected) in ["perplexity", "stderr"].into_iter().zip(expected) {
            let found = report[key].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-5, "{name}: {key} {found}, expected {expected}");
        }
        assert_eq!(report["tokens"], nll.len(), "{name}");
        let line = stdout_of(&arguments);
        let same = format!("perplexity {:.4} +/- ", report["perplexity"].as_f64().unwrap());
        assert!(line.starts_with(&same), "{line}");
    }
}

#[test]
fn special_tokens_of_a_scored_text_are_text_unless_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "<bos>".repeat(12)).unwrap();
    let (path, text) = (model("gemma4-ple/model-q4_0.gguf"), text.to_str().unwrap());
    let tokens = |more: &[&str]| {
        let arguments = ["perplexity", "--model", &path, "--file", text, "--ctx", "13", "--json"];
        json_of(&[&arguments[..], more].concat())["tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens(&["--parse-special"]), 6);
    assert!(tokens(&[]) > 6);
}

#[test]
fn text_and_json_say_the_same_and_a_seed_fixes_the_text() {
    let path = model("gemma4-ple/model-q8_0.gguf");
    let common =
        ["generate", "--model", &path, "--prompt", "hello world", "--max-tokens", "24", "--seed", "7"];
    let text = stdout_of(&common);
    let answer = json_of(&[&common[..], &["--json"]].concat());
    assert_eq!(answer["text"], text);
    assert_eq!(text, stdout_of(&[&common[..], &["--threads", "1", "--ple-mode", "direct"]].concat()));

    let ids = stdout_of(&["tokenize", "--model", &path, "--ids", "--bos", "hello world"]);
    let by_ids =
        ["generate", "--model", &path, "--prompt-ids", ids.trim(), "--max-tokens", "24", "--seed", "7"];
    assert_eq!(text, stdout_of(&by_ids));
    let pieces = stdout_of(&["tokenize", "--model", &path, "hello world"]);
    assert_eq!(pieces.lines().next().unwrap().trim(), "303  \"hello\"");
}

#[test]
fn inspect_accounts_for_every_byte() {
    let path = model("gemma4-ple/model-q4_0.gguf");
    let report = json_of(&["inspect", "--json", &path]);
    assert_eq!(report["architecture"], "gemma4");
    assert_eq!((&report["n_layers"], &report["prompt_token_layers"]), (&7.into(), &4.into()));
    let sum = |list: &str| -> u64 {
        report[list].as_array().unwrap().iter().map(|entry| entry["bytes"].as_u64().unwrap()).sum()
    };
    let places: u64 = ["resident_bytes", "storage_bytes", "unread_bytes"]
        .iter()
        .map(|key| report[key].as_u64().unwrap())
        .sum();
    assert_eq!(sum("tensors_by_type"), places);
    assert_eq!(sum("tensors_by_group"), places);
    let rows = &report["rows"];
    let table = rows["n_rows"].as_u64().unwrap() * rows["row_bytes"].as_u64().unwrap();
    assert_eq!(report["storage_bytes"], table);
    assert!(stdout_of(&["inspect", &path]).contains("a token whose logits nobody wants runs 4 of 7 layers"));
}

#[test]
fn inspect_shows_a_name_that_would_steer_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("named.gguf");
    let mut file = std::fs::read(tiny()).unwrap();
    // The key, its type, the length of the name.
    let key = b"general.name";
    let at = file.windows(key.len()).position(|bytes| bytes == key).unwrap() + key.len() + 4 + 8;
    file[at..at + 4].copy_from_slice(b"\x1b[2J");
    std::fs::write(&path, &file).unwrap();
    let shown = stdout_of(&["inspect", path.to_str().unwrap()]);
    assert!(shown.contains("gemma4 \"\\u{1b}[2J"), "{shown}");
    assert!(!shown.contains('\x1b'));
}

#[test]
fn bench_measures_what_it_names() {
    let path = model("gemma4-ple/model-q4_0.gguf");
    let report = json_of(&[
        "bench",
        "--model",
        &path,
        "-p",
        "20",
        "-n",
        "5",
        "-t",
        "2",
        "--batch",
        "2",
        "-r",
        "3",
        "--json",
        "--ple-mode",
        "direct",
    ]);
    for rate in ["prefill_tok_s", "decode_tok_s"] {
        let [min, median, max] = ["min", "median", "max"].map(|key| report[rate][key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{report}");
    }
    for positive in [
        "load_s",
        "rss_mb",
        "read_bandwidth_gb_s",
        "weights_bytes_per_token",
        "peak_products_g_s",
        "prompt_token_products",
        "prefill_share_of_peak",
    ] {
        assert!(report[positive].as_f64().unwrap() > 0.0, "{positive}: {report}");
    }
    // Three times two prompts of 20 tokens, and two of one token with five decoded.
    assert_eq!(report["ple"]["rows"], 3 * 2 * (20 + 6), "{report}");
    assert_eq!(report["ple"]["mode"], "direct");
    for key in [
        "distinct_rows",
        "cache_hits",
        "reads",
        "bytes_read",
        "wait_ms",
        "wait_p50_us",
        "wait_p99_us",
        "read_p50_us",
        "read_p99_us",
    ] {
        assert!(report["ple"][key].is_number(), "{key}: {report}");
    }
    assert_eq!(report["threads"], 2);
    assert!(report["isa"].is_string());
    assert!(
        stdout_of(&["bench", "--model", &path, "-p", "4", "-n", "2", "-r", "1"]).contains("4 of 7 layers")
    );
}

#[test]
fn bench_behind_a_context_shows_where_the_time_goes() {
    let path = model("gemma4-ple/model-q4_0.gguf");
    let common = ["bench", "--model", &path, "-p", "9", "-n", "3", "-r", "1", "--depth", "20", "-t", "2"];
    let report = json_of(&[&common[..], &["--profile", "--json"]].concat());
    assert_eq!(report["depth"], 20);
    let share = report["decode_share_of_bandwidth"].as_f64().unwrap();
    assert!(share > 0.0, "{report}");
    for phase in ["prefill", "decode"] {
        let steps = report["profile"].as_array().unwrap().iter().filter(|step| step["phase"] == phase);
        let steps: Vec<_> = steps.collect();
        let sum: f64 = steps.iter().map(|step| step["share"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{phase}: {report}");
        for name in ["keys_values", "queries", "attention", "gate_up", "down", "head", "rows"] {
            let step = steps.iter().find(|step| step["step"] == name).unwrap();
            assert!(step["ms_per_token"].as_f64().unwrap() > 0.0, "{phase} {name}: {report}");
        }
    }
    let table = stdout_of(&[&common[..], &["--profile"]].concat());
    assert!(table.contains("decoded behind 20 tokens") && table.contains("gate_up"), "{table}");

    let csv = stdout_of(&[&common[..], &["--csv"]].concat());
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert_eq!(lines[0].len(), lines[1].len(), "{csv}");
    let at = lines[0].iter().position(|name| *name == "decode_tok_s.median").unwrap();
    assert!(lines[1][at].parse::<f64>().unwrap() > 0.0, "{csv}");
}

#[test]
fn keys_and_values_can_be_bytes() {
    let fits = model("gemma4-ple-alt/model-q8_0.gguf");
    let arguments = ["--prompt", "a b c", "--max-tokens", "4", "--ignore-eos", "--kv-type", "q8_0", "--json"];
    let generated = json_of(&[&["generate", "--model", &fits][..], &arguments].concat());
    assert_eq!(generated["completion_tokens"], 4);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let path = model("gemma4-ple/model-q4_0.gguf");
    for arguments in
        [&["inspect", &path][..], &["generate", "--model", &path, "--prompt", "x", "--ignore-eos"]]
    {
        let mut child = pled().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(child.wait().unwrap().success(), "{stderr}");
        assert_eq!(stderr, "");
    }
}

/// A running `pled serve`, killed when a test ends early.
struct Daemon {
    child: Child,
    log: Receiver<String>,
    address: String,
}

impl Daemon {
    /// Starts the program; returns when it says where it listens, which is before the model is loaded.
    fn start(model: &Path, prepare: impl FnOnce(&mut Command)) -> Daemon {
        Daemon::start_as_it_comes(|command| {
            command.arg("--model").arg(model);
            prepare(command);
        })
    }

    /// As [`Daemon::start`], without a model.
    fn start_as_it_comes(prepare: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = pled();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let mut daemon = Daemon { child, log, address: String::new() };
        let line = daemon.wait_for_log("listening");
        let listen = line.split("listen=").nth(1).unwrap_or_else(|| panic!("no address in {line}"));
        daemon.address = listen.split_whitespace().next().unwrap().to_owned();
        daemon
    }

    fn wait_for_log(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(part) {
                return line;
            }
            seen.push(line);
        }
        panic!("the log never said \"{part}\": {seen:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread of their own so that the writer never waits.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn tiny() -> PathBuf {
    fixture("gemma4-ple/model-q4_0.gguf")
}

fn request(max_tokens: u32) -> pb::GenerateRequest {
    pb::GenerateRequest {
        prompt: Some(Prompt::Text("hello world".to_owned())),
        sampling: Some(pb::SamplingParams { temperature: Some(0.0), ..Default::default() }),
        stopping: Some(pb::StoppingCriteria {
            max_tokens: Some(max_tokens),
            ignore_eos: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn health(channel: &Channel) -> ServingStatus {
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
    answer.into_inner().status()
}

/// Text and number of tokens of a stream that must end well.
async fn read_stream(mut stream: tonic::Streaming<pb::GenerateStreamResponse>) -> (String, usize) {
    let (mut text, mut n_tokens, mut is_done) = (String::new(), 0, false);
    while let Some(response) = stream.message().await.unwrap() {
        match response.event.unwrap() {
            Event::Delta(delta) => {
                text.push_str(&delta.text);
                n_tokens += delta.token_ids.len();
            }
            Event::Done(done) => {
                is_done = true;
                assert_eq!(done.finish_reason(), pb::FinishReason::MaxTokens);
            }
            Event::Started(_) | Event::Prefill(_) => {}
        }
    }
    assert!(is_done);
    (text, n_tokens)
}

#[tokio::test]
async fn serve_streams_what_generate_prints_and_tells_systemd() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut message = [0; 4096];
        let n = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..n]).into_owned()
    };
    let hear_until = |part: &str| while !hear().contains(part) {};

    let mut daemon = Daemon::start(&tiny(), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    });
    hear_until("READY=1");
    hear_until("WATCHDOG=1");
    // Idle, and fed all the same.
    hear_until("WATCHDOG=1");

    let channel = daemon.channel();
    assert_eq!(health(&channel).await, ServingStatus::Serving);
    let stream = GenerationServiceClient::new(channel).generate_stream(request(24)).await.unwrap();
    let (text, n_tokens) = read_stream(stream.into_inner()).await;
    assert_eq!(n_tokens, 24);
    let model = tiny();
    let printed = stdout_of(&[
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "hello world",
        "--max-tokens",
        "24",
        "--temperature",
        "0",
        "--ignore-eos",
    ]);
    assert_eq!(text, printed);

    daemon.signal(Signal::TERM);
    hear_until("STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Runs the program with a socket as a service manager hands it over, which is file descriptor 3.
fn with_socket(socket: TcpListener, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;
    let program = pled();
    command.args(["-c", script, "sh"]).arg(program.get_program()).args(program.get_args()).args(arguments);
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_socket_of_the_service_manager_is_taken_if_listen_names_it() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    // Who connects before the daemon lives waits for it.
    let mut early = TcpStream::connect(&address).unwrap();
    early.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut child = with_socket(socket, &["serve", "--listen", &address]).spawn().unwrap();
    let log = lines(child.stderr.take().unwrap());
    let mut daemon = Daemon { child, log, address };
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    daemon.wait_for_log("ready");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let output = with_socket(socket, &["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("a socket at {address}, which listen does not name")), "{stderr}");
}

/// One token after `prompt`, over HTTP.
fn ask(address: &str, prompt: &str) {
    post(address, "/v1/completions", &format!(r#"{{"prompt": "{prompt}", "max_tokens": 1}}"#));
}

/// A call that is called "the-kettle's" and is answered.
fn post(address: &str, path: &str, body: &str) {
    let length = body.len();
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: the-kettle's");
    write!(socket, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn each_call_that_ends_has_one_line_with_its_name() {
    let mut daemon = Daemon::start_as_it_comes(|_| {});
    daemon.wait_for_log("ready");
    post(&daemon.address, "/v1/completions", r#"{"prompt": "a", "max_tokens": 1}"#);
    // Nothing that the engine is asked for.
    post(&daemon.address, "/api/show", "{}");
    let line = daemon.wait_for_log("request ");
    assert!(line.contains("request finished") && line.contains("the-kettle"), "{line}");
    let line = daemon.wait_for_log("request ");
    assert!(line.contains("request answered") && line.contains("the-kettle"), "{line}");
    assert!(line.contains("path=/api/show") && line.contains("status=200"), "{line}");
    // The message's own name is told where there is one, however the call ends.
    let url = format!("http://{}", daemon.address);
    let mut client = pb::generation_service_client::GenerationServiceClient::connect(url).await.unwrap();
    let nothing = pb::GenerateRequest { request_id: "the-toaster".to_owned(), ..Default::default() };
    client.generate(nothing).await.unwrap_err();
    let line = daemon.wait_for_log("request ");
    assert!(line.contains("request refused") && line.contains("the-toaster"), "{line}");
}

#[test]
fn sighup_takes_up_the_log_level_and_names_what_takes_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pled.toml");
    std::fs::write(&config, "n_ctx = 1024\n").unwrap();
    let mut daemon = Daemon::start_as_it_comes(|command| {
        command.arg("--config").arg(&config);
    });
    daemon.wait_for_log("ready");
    std::fs::write(&config, "n_ctx = 512\nlog = \"debug\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("n_ctx was changed, which takes a restart");
    daemon.wait_for_log("the configuration was read again");
    // Nonsense on a connection is worth a line of this level only.
    let mut socket = TcpStream::connect(&daemon.address).unwrap();
    socket.write_all(b"\0\x01 nonsense\r\n\r\n").unwrap();
    daemon.wait_for_log("a connection ended: ");
    // What people ask is told at the next level alone.
    ask(&daemon.address, "the safe behind the stairs");
    while let Ok(line) = daemon.log.recv_timeout(PATIENCE) {
        assert!(!line.contains("the safe"), "{line}");
        if line.contains("request finished") {
            break;
        }
    }
    std::fs::write(&config, "n_ctx = 512\nlog = \"trace\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the configuration was read again");
    ask(&daemon.address, "the safe behind the stairs");
    let line = daemon.wait_for_log("the safe behind the stairs");
    assert!(line.contains("request_id="), "{line}");
    // A file that is wrong changes nothing, and the daemon goes on.
    std::fs::write(&config, "n_ctx = 512\nlog = \"loud\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the configuration stays as it was: ");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopped");
    assert!(daemon.child.wait().unwrap().success());
}

#[tokio::test]
async fn serve_without_a_model_uses_the_built_in_one_and_says_so() {
    let mut daemon = Daemon::start_as_it_comes(|_| {});
    daemon.wait_for_log("no model is given: home-mini (built in) is used");
    daemon.wait_for_log("ready");
    let message = |role: pb::ChatRole, text: &str| pb::ChatMessage {
        role: role.into(),
        parts: vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(text.to_owned())) }],
        ..Default::default()
    };
    let parameters = r#"{"type":"object","properties":{"name":{"type":"string"},"area":{"type":"string"}}}"#;
    let tool = |name: &str, description: &str| pb::ChatTool {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters_json_schema: parameters.to_owned(),
    };
    let request = pb::ChatRequest {
        messages: vec![
            message(pb::ChatRole::System, "Devices:\nKitchen: Kitchen Light (light), Kettle (switch)"),
            message(pb::ChatRole::User, "turn on the kettle"),
        ],
        tools: vec![
            tool("HassTurnOn", "Turns on or opens a device or entity. For locks, this locks."),
            tool("HassTurnOff", "Turns off or closes a device or entity. For locks, this unlocks."),
        ],
        ..Default::default()
    };
    let answer = GenerationServiceClient::new(daemon.channel()).chat(request).await.unwrap().into_inner();
    assert_eq!(answer.finish_reason(), pb::FinishReason::ToolCalls);
    let calls = answer.message.unwrap().tool_calls;
    let calls: Vec<_> = calls.iter().map(|c| (c.name.as_str(), c.arguments_json.as_str())).collect();
    assert_eq!(calls, [("HassTurnOn", r#"{"name":"Kettle"}"#)]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn demo_makes_the_calls_carries_them_out_and_speaks_of_them() {
    let shown = stdout_of(&["demo", "turn on the kitchen light and set the bedroom to 19 degrees"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("home-mini, 3.1 million parameters, serves gRPC on http://127.0.0.1:"),
        "{shown}"
    );
    assert_eq!(
        &lines[2..8],
        [
            "> turn on the kitchen light and set the bedroom to 19 degrees",
            r#"  call  HassTurnOn {"name":"Kitchen Light"}"#,
            r#"  call  HassClimateSetTemperature {"area":"Bedroom","temperature":19}"#,
            "  home  Kitchen Light is on",
            "  home  Bedroom Thermostat is heat, 19 °C",
            "  Done.",
        ],
        "{shown}"
    );
    assert!(lines[8].contains(" tokens read (") && lines[8].ends_with("2 requests]"), "{shown}");

    // The context of this model is too short for the tools.
    let tiny = tiny();
    let output = run(&["demo", "hello", "--model", tiny.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("n_ctx") || stderr.contains("256"), "{stderr}");
}

#[test]
fn demo_talks_to_a_daemon_that_runs_already() {
    let mut daemon = Daemon::start_as_it_comes(|_| {});
    daemon.wait_for_log("ready");
    let url = format!("http://{}", daemon.address);
    let shown = stdout_of(&["demo", "--server", &url, "turn on the kitchen light"]);
    assert!(shown.starts_with("home-mini") && shown.contains(&url), "{shown}");
    assert!(
        shown.contains("  call  HassTurnOn {") && shown.contains("  home  Kitchen Light is on"),
        "{shown}"
    );
    drop(daemon);
    let output = run(&["demo", "--server", &url, "turn on the kitchen light"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && stderr.contains(&format!("nobody answers at {url}")),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_running_answer_is_finished_after_sigterm() {
    let mut daemon = Daemon::start(&tiny(), |_| {});
    daemon.wait_for_log("ready");
    let mut client = GenerationServiceClient::new(daemon.channel());
    let mut stream = client.generate_stream(request(240)).await.unwrap().into_inner();
    let first = stream.message().await.unwrap();
    assert!(matches!(first.unwrap().event, Some(Event::Started(_))));
    daemon.signal(Signal::TERM);
    let (_, n_tokens) = read_stream(stream).await;
    assert_eq!(n_tokens, 240);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_answers_before_during_and_after_serving() {
    let mut given = Fragment::default();
    for (field, value) in
        [(Field::Model, tiny().display().to_string()), (Field::Listen, "127.0.0.1:0".into())]
    {
        given.set(field, Origin::Flag(field), vec![value]);
    }
    let settings = Settings::resolve(given).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (bound, address) = tokio::sync::oneshot::channel();
    // The daemon goes on to load the model when this is sent.
    let (go_on, wait) = channel::<()>();
    let daemon = tokio::spawn(async move {
        let stop = async { stopped.await.unwrap() };
        let hold = move |addresses: &[SocketAddr]| {
            bound.send(addresses[0]).unwrap();
            tokio::task::block_in_place(|| wait.recv().unwrap());
        };
        daemon::run(&settings, stop, hold).await
    });
    let channel = Channel::from_shared(format!("http://{}", address.await.unwrap())).unwrap().connect_lazy();
    let whole = HealthCheckRequest { service: String::new() };
    let mut states = HealthClient::new(channel.clone()).watch(whole).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let refused = GenerationServiceClient::new(channel).generate(request(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().is_some());

    go_on.send(()).unwrap();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    stop.send(()).unwrap();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    daemon.await.unwrap().unwrap();
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let mut daemon = Daemon::start(&tiny(), |_| {});
    daemon.wait_for_log("ready");
    // A call whose message does not come is under way to the end of the drain.
    let mut peer = TcpStream::connect(&daemon.address).unwrap();
    let head = "POST /pled.v1.GenerationService/Generate HTTP/1.1\r\nHost: pled\r\nContent-Length: 5\r\n\
        Content-Type: application/grpc\r\nExpect: 100-continue\r\n\r\n";
    peer.write_all(head.as_bytes()).unwrap();
    let mut expected = [0; 12];
    peer.read_exact(&mut expected).unwrap();
    assert_eq!(&expected, b"HTTP/1.1 100");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1));
}

#[test]
fn an_address_in_use_is_named() {
    let daemon = Daemon::start(&tiny(), |_| {});
    let model = tiny();
    let output = run(&["serve", "--model", model.to_str().unwrap(), "--listen", &daemon.address]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last = stderr.lines().last().unwrap();
    assert!(last.contains(&daemon.address) && last.contains("--listen"), "{stderr}");
}

/// The status of a question with this token.
fn status_with(daemon: &Daemon, token: &str) -> String {
    let mut peer = TcpStream::connect(&daemon.address).unwrap();
    let head = format!("GET /metrics HTTP/1.1\r\nHost: pled\r\nAuthorization: Bearer {token}\r\n\r\n");
    peer.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    peer.read_exact(&mut status).unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

#[test]
fn tokens_come_from_a_credential_and_are_read_again_at_a_hangup() {
    let (old, new) = ("aaaabbbbccccdddd", "eeeeffffgggghhhh");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("kitchen {old}\n")).unwrap();
    let mut daemon = Daemon::start(&tiny(), |command| {
        command.env("CREDENTIALS_DIRECTORY", folder.path());
    });
    daemon.wait_for_log("clients need a token");
    assert_eq!(status_with(&daemon, old), "HTTP/1.1 200");
    assert_eq!(status_with(&daemon, new), "HTTP/1.1 401");
    std::fs::write(&file, "kitchen short\n").unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log("the tokens stay as they were");
    assert!(line.contains("tokens:1: the token of"), "{line}");
    assert_eq!(status_with(&daemon, old), "HTTP/1.1 200");
    std::fs::write(&file, format!("kitchen {new}\n")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("tokens read again");
    assert_eq!(status_with(&daemon, old), "HTTP/1.1 401");
    assert_eq!(status_with(&daemon, new), "HTTP/1.1 200");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}

#[test]
fn certificates_are_read_again_at_a_hangup() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let write = || {
        let pair = rcgen::generate_simple_self_signed(["pled".to_owned()]).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    };
    write();
    let mut daemon = Daemon::start(&tiny(), |command| {
        command.arg("--tls-cert-file").arg(&cert).arg("--tls-key-file").arg(&key);
    });
    daemon.wait_for_log("ready");
    std::fs::write(&key, "nonsense").unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log("the certificates stay as they were");
    assert!(line.contains("key.pem: has no private key in PEM"), "{line}");
    write();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("certificates read again");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}
