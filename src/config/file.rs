//! The configuration file as a fragment: flat TOML, one option on a line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::fragment::{Field, Fragment, Origin};

/// The largest configuration file that is read, bytes. The shipped one has a few thousand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the file at `path`.
pub fn from_file(path: &Path) -> Result<Fragment, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let n_read = std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_FILE_BYTES + 1), &mut text)
        .map_err(unreadable)?;
    if n_read as u64 > MAX_FILE_BYTES {
        let message = format!("more than {MAX_FILE_BYTES} bytes, which no configuration has");
        return Err(unreadable(std::io::Error::other(message)));
    }
    from_text(path, &text)
}

fn from_text(path: &Path, text: &str) -> Result<Fragment, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let mut fragment = Fragment::default();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let Some(field) = Field::from_name(key.get_ref()) else {
            let key = key.get_ref().to_string();
            return Err(ConfigError::UnknownKey { path: path.to_owned(), line, advice: advise(&key), key });
        };
        let values = texts(path, text, field, value)?;
        fragment.set(field, Origin::File { path: path.to_owned(), line }, values);
    }
    Ok(fragment)
}

/// The value's text as the other sources would give it.
fn texts(
    path: &Path,
    text: &str,
    field: Field,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<String>, ConfigError> {
    match value.get_ref() {
        DeValue::Array(items) if field.is_list() => {
            items.iter().map(|item| plain_text(path, text, field, item)).collect()
        }
        _ => Ok(vec![plain_text(path, text, field, value)?]),
    }
}

fn plain_text(
    path: &Path,
    text: &str,
    field: Field,
    value: &Spanned<DeValue<'_>>,
) -> Result<String, ConfigError> {
    let kind = |found, advice| ConfigError::Kind {
        path: path.to_owned(),
        line: line_of(text, value.span().start),
        field,
        found,
        advice,
    };
    match value.get_ref() {
        DeValue::String(value) => Ok(value.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        // As written but for TOML's digit separators, which the parser has taken out.
        DeValue::Integer(value) if value.radix() == 10 => Ok(value.as_str().to_owned()),
        DeValue::Integer(_) => Err(kind("a hexadecimal, octal or binary number", "write it in decimal")),
        DeValue::Float(value) => Ok(value.as_str().to_owned()),
        DeValue::Datetime(_) => Err(kind("a date or time", "write a text in quotes, a number or true/false")),
        DeValue::Array(_) => Err(kind("an array", "write one value")),
        DeValue::Table(_) => Err(kind("a table", "write one value; the file has no sections")),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

/// Names the option that was probably meant.
fn advise(key: &str) -> String {
    let plain = key.trim_start_matches('-').to_ascii_lowercase().replace(['-', ' '], "_");
    let nearest = Field::ALL.into_iter().map(|field| (edit_distance(&plain, field.name()), field)).min();
    match nearest {
        // Up to a third of the letters wrong is a slip; more is another word.
        Some((distance, field)) if distance * 3 <= field.name().len() => format!("did you mean {field}?"),
        _ => {
            let names: Vec<&str> = Field::ALL.into_iter().map(Field::name).collect();
            format!("the options are {}", names.join(", "))
        }
    }
}

/// Levenshtein distance in bytes, one row of the table at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_byte) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b_byte) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(a_byte != b_byte);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT_N_CTX, Settings};
    use super::*;

    fn parse(text: &str) -> Result<Fragment, ConfigError> {
        from_text(Path::new("/etc/pled/pled.toml"), text)
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_plain_kind_of_value_is_taken_with_its_line() {
        let fragment = parse(
            "# a comment\nmodel = \"/m.gguf\"\nthreads = 4\nple_cache_bytes = 64_000_000\nmlock = true\n\
             listen = [\n  \"127.0.0.1:1\",\n  \"[::1]:2\",\n]\n",
        )
        .unwrap();
        assert_eq!(fragment.get(Field::Model).unwrap().values, ["/m.gguf"]);
        assert_eq!(fragment.get(Field::Threads).unwrap().values, ["4"]);
        assert_eq!(fragment.get(Field::PleCacheBytes).unwrap().values, ["64000000"]);
        assert_eq!(fragment.get(Field::Mlock).unwrap().values, ["true"]);
        assert_eq!(fragment.get(Field::Listen).unwrap().values, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(fragment.get(Field::Mlock).unwrap().origin.to_string(), "/etc/pled/pled.toml:5");
        let single = parse("listen = \"127.0.0.1:1\"").unwrap();
        assert_eq!(single.get(Field::Listen).unwrap().values, ["127.0.0.1:1"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_option() {
        assert_eq!(
            message("\nplemode = \"auto\"\n"),
            "/etc/pled/pled.toml:2: unknown option \"plemode\"; did you mean ple_mode?"
        );
        assert!(message("ple-mode = \"auto\"").ends_with("did you mean ple_mode?"));
        assert!(message("thread = 4").ends_with("did you mean threads?"));
        assert!(
            message("[server]\nlisten = \"x\"").contains("unknown option \"server\"; the options are model,")
        );
    }

    #[test]
    fn what_is_no_plain_value_is_refused() {
        assert_eq!(
            message("threads = [1, 2]"),
            "/etc/pled/pled.toml:1: threads cannot be an array; write one value"
        );
        assert!(message("log = { level = 1 }").contains("log cannot be a table"));
        assert!(message("n_ctx = 0x200").contains("write it in decimal"));
        assert!(message("log = 2024-01-01").contains("log cannot be a date or time"));
        assert!(message("listen = [[\"a\"]]").contains("listen cannot be an array"));
    }

    #[test]
    fn a_fault_of_syntax_names_its_line_in_one_line() {
        for text in ["model = \"a\"\nthreads = \n", "model = \"a\"\nthreads 4", "x = 1\nx = 2"] {
            let message = message(text);
            assert!(message.starts_with("/etc/pled/pled.toml:2: "), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = from_file(Path::new("/nonexistent/pled.toml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the configuration file /nonexistent/pled.toml: "), "{error}");
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let error = from_file(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }

    #[test]
    fn the_shipped_file_and_the_readme_name_every_option_and_the_file_its_default() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let shipped = root.join("deploy/pled.toml");
        from_file(&shipped).unwrap();
        // Options that are commented out follow their # at once, words follow a space.
        let text = std::fs::read_to_string(&shipped).unwrap();
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(option) if !option.starts_with(' ') => format!("{option}\n"),
            _ => format!("{line}\n"),
        };
        let all = from_text(&shipped, &text.lines().map(uncomment).collect::<String>()).unwrap();
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        for field in Field::ALL {
            assert!(all.get(field).is_some(), "deploy/pled.toml does not name {field}");
            assert!(readme.contains(&format!("| `{field}` |")), "README.md does not name {field}");
        }
        let shown = Settings::resolve(all).unwrap();
        let defaults = Settings::resolve(Fragment::default()).unwrap();
        assert_eq!((&shown.listen, shown.n_ctx), (&defaults.listen, Some(DEFAULT_N_CTX)));
        assert_eq!((shown.ple_mode, shown.ple_cache_bytes), (defaults.ple_mode, defaults.ple_cache_bytes));
        assert_eq!((shown.max_sessions, shown.queue_depth), (defaults.max_sessions, defaults.queue_depth));
        assert_eq!((shown.mlock, shown.coarse_head), (defaults.mlock, defaults.coarse_head));
        assert_eq!(shown.allow_unauthenticated_loopback, defaults.allow_unauthenticated_loopback);
        assert_eq!(shown.allow_unauthenticated_lan, defaults.allow_unauthenticated_lan);
        assert_eq!(shown.mdns, defaults.mdns);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, distance) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
