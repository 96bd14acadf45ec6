//! What can be wrong with a configuration. Every message is one line and says what to do.

use std::path::PathBuf;

use super::fragment::{Field, Origin};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An option was given a value that it cannot have.
    #[error("{origin}: {field} = \"{value}\": {problem}; {advice}")]
    Value {
        /// Where the value stood.
        origin: Origin,
        /// The option.
        field: Field,
        /// The text as given.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// An option without which the command cannot run was given nowhere.
    #[error(
        "no {field} given; use {}, set {}, or write {field} = ... in the configuration file",
        field.flag(),
        field.variable()
    )]
    Missing {
        /// The option.
        field: Field,
    },
    /// The file has a key that is no option.
    #[error("{}:{line}: unknown option \"{key}\"; {advice}", path.display())]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// Line of the key, counted from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The nearest option, or the list of them.
        advice: String,
    },
    /// The file gives an option something that is no plain value.
    #[error("{}:{line}: {field} cannot be {found}; {advice}", path.display())]
    Kind {
        /// The configuration file.
        path: PathBuf,
        /// Line of the value, counted from 1.
        line: usize,
        /// The option.
        field: Field,
        /// The kind of value found, with its article.
        found: &'static str,
        /// What to write instead.
        advice: &'static str,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {message}; the file must be TOML: one option = value on a line", path.display())]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Line of the fault, counted from 1.
        line: usize,
        /// What the parser says, on one line.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}; give another with --config", path.display())]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An environment variable is not text.
    #[error("{variable}: the value is not UTF-8 text; set it again or unset it")]
    NotText {
        /// Name of the variable.
        variable: String,
    },
}
