//! How a command ends: the exit code and the one line on stderr.

use std::fmt::Write as _;
use std::io;

use super::pull;
use crate::access::AccessError;
use crate::config::ConfigError;
use crate::fetch::FetchError;
use crate::gguf::GgufError;
use crate::model::ModelError;
use crate::ple::PleError;
use crate::storage::StorageError;
use crate::tokenizer::TokenizerError;

/// Something went wrong that none of the others names.
pub(super) const FAILURE: u8 = 1;
/// The configuration or the command line is wrong (`EX_USAGE`).
pub(super) const BAD_CONFIGURATION: u8 = 64;
/// The model file is malformed or of a kind that pled does not run (`EX_DATAERR`).
pub(super) const MALFORMED_MODEL: u8 = 65;
/// The model file cannot be opened or read (`EX_NOINPUT`).
pub(super) const UNREADABLE_MODEL: u8 = 66;

/// A fault of the command line that only the command itself can see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// The exit code for an error.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<AccessError>() || cause.is::<UsageError>() {
            return BAD_CONFIGURATION;
        }
        if cause.downcast_ref::<FetchError>().is_some_and(pull::is_usage) {
            return BAD_CONFIGURATION;
        }
        if let Some(error) = cause.downcast_ref::<ModelError>() {
            return if error.is_unreadable() { UNREADABLE_MODEL } else { MALFORMED_MODEL };
        }
        if cause.is::<StorageError>() {
            return UNREADABLE_MODEL;
        }
        if matches!(
            cause.downcast_ref::<PleError>(),
            Some(PleError::Checksums { .. } | PleError::Rotten { .. })
        ) {
            return MALFORMED_MODEL;
        }
        if cause.is::<GgufError>() || cause.is::<TokenizerError>() {
            return MALFORMED_MODEL;
        }
    }
    FAILURE
}

/// Whether the reader of our output has gone, which is its right and no error.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The error and its causes on one line, without what a cause only says again.
pub(super) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            write!(line, ": {cause}").expect("writing to a string");
        }
    }
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // Names in it may come from a file, and it goes to a terminal.
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What to do about an error that does not say so itself, as the end of its line.
pub(super) fn advice_on(error: &anyhow::Error) -> &'static str {
    let is_absent_model = error.chain().any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(ModelError::Storage(StorageError::Open { source, .. }))
                if source.kind() == io::ErrorKind::NotFound
        )
    });
    match is_absent_model {
        true => "; `pled pull` downloads models, and without a file home-mini is used",
        false => "",
    }
}

/// clap's message on one line: what is wrong and its tip, without the usage.
pub(super) fn usage_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\nUsage:").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = text.split("\n\nFor more information").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{}; see --help", lines.join("; ").replace(":; ", ": "))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_that_the_error_quotes_is_not_said_twice() {
        let error = Err::<(), _>(io::Error::other("disk on fire")).context("cannot read x: disk on fire");
        assert_eq!(one_line(&error.unwrap_err()), "cannot read x: disk on fire");
        let error = Err::<(), _>(io::Error::other("disk\non fire")).context("cannot read x");
        assert_eq!(one_line(&error.unwrap_err()), "cannot read x: disk on fire");
        assert_eq!(one_line(&anyhow::anyhow!("tensor \x1b[31mred")), "tensor \u{fffd}[31mred");
    }

    #[test]
    fn an_absent_model_is_told_apart_from_one_that_cannot_be_opened() {
        let open = |kind: io::ErrorKind| {
            let source = io::Error::from(kind);
            anyhow::Error::from(ModelError::Storage(StorageError::Open { path: "x.gguf".into(), source }))
        };
        assert!(advice_on(&open(io::ErrorKind::NotFound).context("y")).contains("`pled pull`"));
        assert_eq!(advice_on(&open(io::ErrorKind::PermissionDenied)), "");
        assert_eq!(advice_on(&anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound))), "");
    }

    #[test]
    fn codes_are_found_below_contexts() {
        let error = anyhow::Error::from(UsageError("x".to_owned())).context("y");
        assert_eq!(code_of(&error), BAD_CONFIGURATION);
        assert_eq!(code_of(&anyhow::anyhow!("x")), FAILURE);
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_broken_pipe(&error) && !is_broken_pipe(&anyhow::anyhow!("x")));
    }
}
