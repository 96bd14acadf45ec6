//! The environment as a fragment.

use std::ffi::OsString;

use super::error::ConfigError;
use super::fragment::{Field, Fragment, Origin};

/// Reads every option's variable through `lookup`, which is `std::env::var_os` outside of tests.
/// A list is separated by commas. An empty variable counts as unset.
pub fn from_environment(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Fragment, ConfigError> {
    let mut fragment = Fragment::default();
    for field in Field::ALL {
        let variable = field.variable();
        let Some(value) = lookup(&variable).filter(|value| !value.is_empty()) else { continue };
        let value = value.into_string().map_err(|_| ConfigError::NotText { variable })?;
        let values = if field.is_list() {
            value.split(',').map(|part| part.trim().to_owned()).collect()
        } else {
            vec![value]
        };
        fragment.set(field, Origin::Environment(field), values);
    }
    Ok(fragment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_and_lists_and_takes_empty_as_unset() {
        let fragment = from_environment(|name| match name {
            "PLED_LISTEN" => Some("127.0.0.1:1, [::1]:2".into()),
            "PLED_N_CTX" => Some("512".into()),
            "PLED_LOG" => Some("".into()),
            _ => None,
        })
        .unwrap();
        assert_eq!(fragment.get(Field::Listen).unwrap().values, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(fragment.get(Field::NCtx).unwrap().origin.to_string(), "PLED_N_CTX");
        assert_eq!(fragment.get(Field::Log), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        use std::os::unix::ffi::OsStringExt;
        let error =
            from_environment(|name| (name == "PLED_MODEL").then(|| OsString::from_vec(vec![b'/', 0xff])))
                .unwrap_err();
        assert!(error.to_string().starts_with("PLED_MODEL: the value is not UTF-8"), "{error}");
    }
}
