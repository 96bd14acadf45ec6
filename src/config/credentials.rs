//! Credentials of the service manager as a fragment: files of fixed names in the folder that it gives the service
//! (`LoadCredential=` in a unit, `$CREDENTIALS_DIRECTORY` in its environment).

use std::path::Path;

use super::fragment::{Field, Fragment, Origin};

/// Options that name files, and what their credentials are called.
const NAMES: [(Field, &str); 4] = [
    (Field::TokenFile, "tokens"),
    (Field::TlsCertFile, "tls-cert"),
    (Field::TlsKeyFile, "tls-key"),
    (Field::TlsClientCaFile, "tls-client-ca"),
];

/// The credentials that there are in `folder`, each as the path of its file.
pub fn from_credentials(folder: &Path) -> Fragment {
    let mut fragment = Fragment::default();
    for (field, name) in NAMES {
        let path = folder.join(name);
        let Some(text) = path.to_str().filter(|_| path.exists()) else { continue };
        fragment.set(field, Origin::Credential(name), vec![text.to_owned()]);
    }
    fragment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_is_there_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(from_credentials(folder.path()), Fragment::default());
        std::fs::write(folder.path().join("tokens"), "").unwrap();
        let fragment = from_credentials(folder.path());
        let given = fragment.get(Field::TokenFile).unwrap();
        assert_eq!(given.values, [folder.path().join("tokens").to_str().unwrap()]);
        assert_eq!(given.origin.to_string(), "the credential tokens");
    }
}
