//! Holds the order of the rooms: a room uses only lower ones, crates stay where they belong,
//! intrinsics live in `simd`, and unsafe code on its islands.
//!
//! The sources are read as text: comments and literals are taken out, the rest becomes tokens, and
//! every path (`use` trees, `crate::`, `super::`, crate names) is resolved to the room or crate that
//! it names. The checker itself is tested below on sources that break each rule.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rooms with their levels, lowest first. This list stands only here.
const ROOMS: &[(&str, u32)] = &[
    ("quant", 0),
    ("simd", 1),
    ("ops", 2),
    ("gguf", 2),
    ("storage", 2),
    ("board", 2),
    ("fetch", 2),
    ("ple", 3),
    ("model", 3),
    ("tokenizer", 3),
    ("sampling", 3),
    ("access", 3),
    ("prefix_store", 3),
    ("engine", 4),
    ("port", 4),
    ("serving", 5),
    ("rpc", 6),
    ("http", 6),
    ("config", 7),
    ("systemd", 7),
    ("daemon", 8),
    ("cli", 9),
    ("main", 10),
];

/// Every dependency of `Cargo.toml` and the rooms that may use it.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["daemon", "cli"]),
    ("axum", &["port", "rpc", "http", "daemon"]),
    ("clap", &["config", "cli"]),
    ("crc32c", &["ple", "model", "prefix_store", "daemon"]),
    ("env_logger", &["systemd"]),
    ("half", &["quant", "simd", "ops", "model"]),
    ("hashbrown", &["tokenizer"]),
    ("http_body", &["port"]),
    ("http_body_util", &["fetch", "rpc", "http"]),
    // In `daemon` for the type of a message's bytes.
    ("hyper", &["fetch", "port", "daemon"]),
    ("hyper_util", &["fetch", "port"]),
    ("if_addrs", &["daemon"]),
    ("jiff", &["http"]),
    ("listenfd", &["systemd"]),
    ("llguidance", &["sampling"]),
    ("log", &["prefix_store", "engine", "port", "serving", "config", "systemd", "daemon", "cli"]),
    ("memmap2", &["storage"]),
    ("minijinja", &["tokenizer"]),
    ("minijinja_contrib", &["tokenizer"]),
    ("prost", &["rpc"]),
    ("prost_types", &["rpc"]),
    // In `ops`, `tokenizer`, `prefix_store` and `engine` for tests.
    ("rand", &["sampling", "ops", "tokenizer", "prefix_store", "engine"]),
    ("rand_chacha", &["sampling", "ops", "tokenizer", "prefix_store", "engine"]),
    ("rayon", &["ops"]),
    ("regex", &["tokenizer"]),
    // In `daemon` to lock the whole process in memory.
    ("rustix", &["storage", "fetch", "port", "daemon"]),
    ("rustyline", &["cli"]),
    ("sd_notify", &["systemd"]),
    ("serde", &["http", "cli"]),
    ("serde_json", &["fetch", "tokenizer", "sampling", "serving", "rpc", "http", "cli"]),
    ("serde_path_to_error", &["http"]),
    ("sha2", &["fetch"]),
    ("simple_dns", &["daemon"]),
    ("socket2", &["daemon"]),
    ("subtle", &["access"]),
    ("systemd_journal_logger", &["systemd"]),
    (
        "thiserror",
        &[
            "ops",
            "gguf",
            "storage",
            "fetch",
            "ple",
            "prefix_store",
            "model",
            "tokenizer",
            "sampling",
            "access",
            "engine",
            "port",
            "serving",
            "config",
            "systemd",
            "cli",
        ],
    ),
    ("tokio", &["fetch", "engine", "port", "serving", "rpc", "http", "daemon", "cli"]),
    ("tokio_rustls", &["access", "fetch", "port"]),
    ("tokio_stream", &["rpc", "http"]),
    ("toml", &["config"]),
    ("tonic", &["rpc", "daemon", "cli"]),
    ("tonic_health", &["rpc", "daemon"]),
    ("tonic_prost", &["rpc"]),
    ("tonic_reflection", &["rpc"]),
    ("tonic_types", &["rpc"]),
    ("tower_service", &["port", "daemon"]),
    ("webpki_roots", &["fetch"]),
];

/// The only room with intrinsics and inline assembly.
const INTRINSICS_ROOM: &str = "simd";

/// The files that may hold unsafe code.
const UNSAFE_ISLANDS: &[&str] = &[
    "ops/outputs.rs",
    "ops/team.rs",
    "simd/avx2/mod.rs",
    "simd/avx512/mod.rs",
    "simd/neon/mod.rs",
    "simd/panel/mod.rs",
    "storage/mapping.rs",
];

// ---------------------------------------------------------------------------------------------
// The checker.

/// A word or a sign of the source, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits source text into words, `::` and single signs. Comments and literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            i = end_of_line(&chars, i);
        } else if c == '/' && at(i + 1) == '*' {
            i = end_of_block_comment(&chars, i);
        } else if let Some(end) = end_of_raw_string(&chars, i) {
            i = end;
        } else if c == '"' || (matches!(c, 'b' | 'c') && at(i + 1) == '"') {
            i = end_of_quoted(&chars, if c == '"' { i + 1 } else { i + 2 }, '"');
        } else if c == 'b' && at(i + 1) == '\'' {
            i = end_of_quoted(&chars, i + 2, '\'');
        } else if c == '\'' {
            // A lifetime is a quote and a word without a closing quote.
            let is_char = at(i + 1) == '\\' || at(i + 2) == '\'';
            i = if is_char { end_of_quoted(&chars, i + 1, '\'') } else { end_of_word(&chars, i + 1) };
        } else if c.is_alphanumeric() || c == '_' {
            i = end_of_word(&chars, i);
            if c == 'r' && i == start + 1 && at(i) == '#' {
                i = end_of_word(&chars, i + 1);
            }
            let text: String = chars[start..i].iter().collect();
            tokens.push(Token { text: text.trim_start_matches("r#").to_owned(), line });
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
            tokens.push(Token { text: "::".to_owned(), line });
        } else {
            i += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.to_string(), line });
            }
        }
        line += chars[start..i].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| from + n)
}

fn end_of_word(chars: &[char], from: usize) -> usize {
    let n = chars[from..].iter().take_while(|&&c| c.is_alphanumeric() || c == '_').count();
    from + n
}

/// Block comments nest.
fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn end_of_quoted(chars: &[char], from: usize, quote: char) -> usize {
    let mut i = from;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// `r"…"`, `r#"…"#` and their byte and C forms.
fn end_of_raw_string(chars: &[char], from: usize) -> Option<usize> {
    let prefix = usize::from(matches!(chars[from], 'b' | 'c'));
    if chars.get(from + prefix) != Some(&'r') {
        return None;
    }
    let hashes = chars[from + prefix + 1..].iter().take_while(|&&c| c == '#').count();
    let body = from + prefix + 1 + hashes;
    if chars.get(body) != Some(&'"') {
        return None;
    }
    let is_end = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((body + 1..chars.len()).find(|&i| is_end(i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// A path as written, with the module in which it stands.
#[derive(Debug)]
struct PathUse {
    module: Vec<String>,
    segments: Vec<String>,
    line: usize,
}

/// All paths of a source that stands in `module`.
fn paths(module: &[String], tokens: &[Token]) -> Vec<PathUse> {
    let mut found = Vec::new();
    let mut inline_modules: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let text = tokens[i].text.as_str();
        let next = tokens.get(i + 1).map_or("", |token| token.text.as_str());
        let here = || {
            module
                .iter()
                .cloned()
                .chain(inline_modules.iter().map(|(name, _)| name.clone()))
                .collect::<Vec<_>>()
        };
        match text {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline_modules.pop_if(|(_, opened_at)| *opened_at == depth);
            }
            "mod" if tokens.get(i + 2).is_some_and(|token| token.text == "{") => {
                inline_modules.push((next.to_owned(), depth));
            }
            // `use<'a>` bounds what an opaque type captures.
            "use" if next != "<" => {
                let mut leaves = Vec::new();
                i = use_tree(tokens, i + 1, &mut Vec::new(), &mut leaves);
                let module = here();
                found.extend(leaves.into_iter().map(|(segments, line)| PathUse {
                    module: module.clone(),
                    segments,
                    line,
                }));
                continue;
            }
            _ if tokens[i].is_word() && starts_path(tokens, i) => {
                let line = tokens[i].line;
                let mut segments = vec![text.to_owned()];
                while tokens.get(i + 1).is_some_and(|token| token.text == "::")
                    && tokens.get(i + 2).is_some_and(Token::is_word)
                {
                    segments.push(tokens[i + 2].text.clone());
                    i += 2;
                }
                if segments.len() > 1 {
                    found.push(PathUse { module: here(), segments, line });
                }
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// A word begins a path unless it follows the `::` of a longer one, which follows a word or the `>`
/// of type arguments (the `>` of an arrow ends nothing).
fn starts_path(tokens: &[Token], i: usize) -> bool {
    let text = |back: usize| i.checked_sub(back).map_or("", |j| tokens[j].text.as_str());
    let continues = || match text(2) {
        ">" => !matches!(text(3), "-" | "="),
        _ => i >= 2 && tokens[i - 2].is_word(),
    };
    text(1) != "::" || !continues()
}

/// Collects the leaves of a use tree from `i`; returns the index after it.
fn use_tree(
    tokens: &[Token],
    mut i: usize,
    prefix: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let n_prefix = prefix.len();
    let line = tokens.get(i).map_or(0, |token| token.line);
    let mut is_group = false;
    while let Some(token) = tokens.get(i) {
        match token.text.as_str() {
            "::" => i += 1,
            "as" => i += 2,
            "{" => {
                is_group = true;
                i += 1;
                while tokens.get(i).is_some_and(|token| token.text != "}") {
                    i = use_tree(tokens, i, prefix, leaves);
                    i += usize::from(tokens.get(i).is_some_and(|token| token.text == ","));
                }
                i += 1;
            }
            "," | ";" | "}" => break,
            text => {
                prefix.push(text.to_owned());
                i += 1;
            }
        }
    }
    if !is_group {
        leaves.push((prefix.clone(), line));
    }
    prefix.truncate(n_prefix);
    i
}

/// What a path names first, seen from the crate's root.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Room(String),
    Outside(String),
}

/// `None` for what stays inside of the module or names nothing that is checked.
fn target(path: &PathUse) -> Option<Target> {
    let first = path.segments[0].as_str();
    let n_supers =
        path.segments.iter().take_while(|segment| *segment == "super" || *segment == "self").count();
    if n_supers > 0 {
        let up = path.segments.iter().filter(|segment| *segment == "super").count();
        let resolved: Vec<&String> = path.module[..path.module.len().saturating_sub(up)]
            .iter()
            .chain(&path.segments[n_supers..])
            .collect();
        return resolved.first().map(|room| Target::Room((*room).clone()));
    }
    match first {
        "crate" | "pled" => Some(Target::Room(path.segments.get(1).cloned().unwrap_or_default())),
        _ => Some(Target::Outside(first.to_owned())),
    }
}

fn level(room: &str) -> Option<u32> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

/// The module path of a source file given relative to `src`.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.pop_if(|part| part == "mod");
    parts
}

/// Every broken rule in one source file, one line each.
fn check_source(file: &Path, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let module = module_of(file);
    let place = |line: usize| format!("src/{}:{line}", file.display());
    let mut broken = Vec::new();
    if module == ["lib"] {
        return broken;
    }
    let room = module[0].as_str();
    let Some(own_level) = level(room) else {
        return vec![format!("src/{}: \"{room}\" is not in the list of rooms", file.display())];
    };
    for path in paths(&module, &tokens) {
        let written = path.segments.join("::");
        match target(&path) {
            Some(Target::Room(name)) if name != room => match level(&name) {
                Some(level) if level < own_level => {}
                Some(level) => {
                    let way = if level == own_level { "sideways" } else { "up" };
                    broken.push(format!("{}: {room} looks {way} to {name} ({written})", place(path.line)));
                }
                None => broken.push(format!("{}: {written} names no room", place(path.line))),
            },
            Some(Target::Outside(name)) => {
                let intrinsic = matches!(name.as_str(), "core" | "std")
                    && path.segments.get(1).is_some_and(|segment| segment == "arch");
                if intrinsic && room != INTRINSICS_ROOM {
                    broken.push(format!(
                        "{}: intrinsics outside of {INTRINSICS_ROOM} ({written})",
                        place(path.line)
                    ));
                }
                if let Some((_, rooms)) = CRATES.iter().find(|(crate_name, _)| *crate_name == name)
                    && !rooms.contains(&room)
                {
                    broken.push(format!(
                        "{}: {room} may not use the crate {name} ({written})",
                        place(path.line)
                    ));
                }
            }
            _ => {}
        }
    }
    for pair in tokens.windows(2) {
        let is_asm =
            matches!(pair[0].text.as_str(), "asm" | "global_asm" | "naked_asm") && pair[1].text == "!";
        if is_asm && room != INTRINSICS_ROOM {
            broken.push(format!("{}: inline assembly outside of {INTRINSICS_ROOM}", place(pair[0].line)));
        }
    }
    broken
}

/// Whether the file takes back the crate's ban on unsafe code, for itself or for an item.
fn allows_unsafe(source: &str) -> bool {
    tokens(source).windows(3).any(|w| {
        matches!(w[0].text.as_str(), "allow" | "expect") && w[1].text == "(" && w[2].text == "unsafe_code"
    })
}

// ---------------------------------------------------------------------------------------------
// The checks.

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All sources as (path relative to `src`, text), sorted.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = source_root();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn arrows_point_down_and_crates_stay_in_their_rooms() {
    let sources = sources();
    assert!(sources.len() > ROOMS.len(), "only {} files under {}", sources.len(), source_root().display());
    let mut report = String::new();
    for broken in sources.iter().flat_map(|(file, source)| check_source(file, source)) {
        writeln!(report, "{broken}").unwrap();
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_room_of_the_list_exists() {
    let modules: BTreeSet<String> = sources().iter().map(|(file, _)| module_of(file)[0].clone()).collect();
    for (room, _) in ROOMS {
        assert!(modules.contains(*room), "{room} is in the list of rooms and not in src");
    }
}

#[test]
fn every_dependency_has_its_rooms() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let declared: BTreeSet<String> =
        manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect();
    let listed: BTreeSet<String> = CRATES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(declared, listed, "Cargo.toml (left) and the table of crates (right) differ");
    for room in CRATES.iter().flat_map(|(_, rooms)| *rooms) {
        assert!(level(room).is_some(), "{room} is in the table of crates and not in the list of rooms");
    }
}

#[test]
fn unsafe_code_lives_on_the_known_islands() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|(_, source)| allows_unsafe(source))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert_eq!(found, UNSAFE_ISLANDS, "files that allow unsafe code (left) and the known islands (right)");
}

// ---------------------------------------------------------------------------------------------
// The checker reports what it must and nothing else.

fn broken(file: &str, source: &str) -> Vec<String> {
    check_source(Path::new(file), source)
}

#[test]
fn a_turned_arrow_is_reported() {
    for (source, report) in [
        ("use crate::rpc::Server;", "src/engine/mod.rs:1: engine looks up to rpc (crate::rpc::Server)"),
        ("\n\nuse crate::{model, cli};", "src/engine/mod.rs:3: engine looks up to cli (crate::cli)"),
        ("use crate::{model::{Model, NoRows}, daemon::{self as d}};", "engine looks up to daemon"),
        ("fn f() { crate::rpc::serve() }", "engine looks up to rpc (crate::rpc::serve)"),
        ("type T = Vec<crate::config::Settings>;", "engine looks up to config"),
        ("use super::rpc::x;", "engine looks up to rpc (super::rpc::x)"),
        ("mod tests { use super::super::rpc; }", "engine looks up to rpc"),
        ("fn f() -> impl Fn() + use<'static> { crate::rpc::x }", "engine looks up to rpc"),
        ("fn f<'a>(x: &'a str) -> char { crate::cli::f('\\''); '\"' }", "engine looks up to cli"),
        ("macro_rules! m { () => { $crate::rpc::x } }", "engine looks up to rpc"),
        ("use crate::nowhere;", "crate::nowhere names no room"),
        ("use crate::*;", "crate::* names no room"),
    ] {
        let broken = broken("engine/mod.rs", source);
        assert_eq!(broken.len(), 1, "{source}: {broken:?}");
        assert!(broken[0].contains(report), "{source}: {broken:?}");
    }
    let sideways = broken("model/forward.rs", "use crate::ple::RowStore;");
    assert_eq!(sideways, ["src/model/forward.rs:1: model looks sideways to ple (crate::ple::RowStore)"]);
    assert_eq!(broken("newcomer.rs", ""), ["src/newcomer.rs: \"newcomer\" is not in the list of rooms"]);
}

#[test]
fn a_crate_or_an_intrinsic_in_the_wrong_room_is_reported() {
    for (file, source, report) in [
        ("engine/mod.rs", "use tonic::Status;", "engine may not use the crate tonic"),
        ("engine/mod.rs", "use ::tonic::Status;", "engine may not use the crate tonic"),
        ("engine/mod.rs", "fn f() -> ::tonic::Status {}", "engine may not use the crate tonic"),
        ("model/mod.rs", "use {memmap2::Mmap, std::io};", "model may not use the crate memmap2"),
        ("model/mod.rs", "use memmap2;", "model may not use the crate memmap2"),
        ("ops/mod.rs", "fn f() { log::info!(\"x\") }", "ops may not use the crate log"),
        ("ops/mod.rs", "use std::arch::x86_64::*;", "intrinsics outside of simd"),
        ("ops/mod.rs", "use core::{arch::aarch64::vld1q_f32, mem};", "intrinsics outside of simd"),
        ("ops/mod.rs", "fn f() { unsafe { asm!(\"nop\") } }", "inline assembly outside of simd"),
    ] {
        let broken = broken(file, source);
        assert_eq!(broken.len(), 1, "{source}: {broken:?}");
        assert!(broken[0].contains(report), "{source}: {broken:?}");
    }
}

#[test]
fn what_is_no_use_is_not_reported() {
    for (file, source) in [
        (
            "engine/mod.rs",
            "//! See [`crate::rpc`].\n/// [x](crate::rpc::x)\n// use crate::rpc;\n/* crate::rpc /* x */ crate::cli */",
        ),
        ("engine/mod.rs", "const A: &str = \"crate::rpc::x \\\" crate::cli::x\";"),
        (
            "engine/mod.rs",
            "const A: &str = r#\"\" use crate::rpc; \"#; const B: &[u8] = br\"crate::cli::x\";",
        ),
        ("engine/mod.rs", "use crate::engine::queue; use crate::{model, ple::{RowStore, Mode as M}};"),
        ("engine/mod.rs", "pub(crate) fn f() { self::g(); other::rpc::h() }"),
        (
            "engine/queue.rs",
            "use super::rpc; mod inner { mod deep { use super::super::rpc; } use super::x; }",
        ),
        ("cli/mod.rs", "use crate::{daemon, config, systemd, engine, quant}; use std::memmap2;"),
        ("simd/avx2.rs", "use std::arch::x86_64::*; fn f() { asm!(\"nop\") }"),
        ("main.rs", "use pled::cli; fn main() { pled::cli::main() }"),
    ] {
        assert_eq!(broken(file, source), [""; 0], "{source}");
    }
}

#[test]
fn an_island_is_seen_and_its_mention_is_not() {
    assert!(allows_unsafe("//! Head.\n#![allow(unsafe_code)]"));
    assert!(allows_unsafe("#[allow(unsafe_code)]\nfn f() {}"));
    assert!(!allows_unsafe("// #![allow(unsafe_code)]\nconst S: &str = \"allow(unsafe_code)\";"));
}
