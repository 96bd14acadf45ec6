//! Hugging Face's layout: repositories, their files, and names that are shorter.

use std::str::FromStr;

use serde_json::Value;

use super::Options;
use super::client::{Client, Failure};
use super::digest::Sha256Sum;
use super::error::FetchError;
use super::url::Url;

/// Where repositories are if nobody says otherwise.
pub const HUB: &str = "https://huggingface.co";
/// Longest listing that is read, bytes.
const MAX_LISTING_BYTES: usize = 4 << 20;

/// A model file with a short name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The short name.
    pub name: &'static str,
    /// The repository.
    pub repository: &'static str,
    /// The file in it.
    pub file: &'static str,
    /// About how long it is, GB (10^9 bytes). Its owner may publish it anew.
    pub gb: f64,
}

/// The official Gemma 4 files with weights of four bits.
pub const KNOWN: [Known; 2] = [
    Known {
        name: "gemma4-e2b",
        repository: "google/gemma-4-E2B-it-qat-q4_0-gguf",
        file: "gemma-4-E2B_q4_0-it.gguf",
        gb: 3.35,
    },
    Known {
        name: "gemma4-e4b",
        repository: "google/gemma-4-E4B-it-qat-q4_0-gguf",
        file: "gemma-4-E4B_q4_0-it.gguf",
        gb: 5.15,
    },
];

/// A repository, and perhaps a file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
    /// The file, with folders.
    pub file: Option<String>,
}

impl FromStr for Repository {
    type Err = FetchError;

    /// `OWNER/NAME`, `OWNER/NAME/FILE`, or a short name.
    fn from_str(text: &str) -> Result<Self, FetchError> {
        if let Some(known) = KNOWN.iter().find(|known| known.name == text) {
            return format!("{}/{}", known.repository, known.file).parse();
        }
        let wrong = || FetchError::Repository {
            text: text.to_owned(),
            known: KNOWN.map(|known| known.name).join(", "),
        };
        let mut parts = text.splitn(3, '/');
        let (owner, name, file) = (parts.next(), parts.next(), parts.next());
        let (Some(owner), Some(name)) = (owner, name) else { return Err(wrong()) };
        let is_name = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.chars().all(plain) && !part.starts_with('.')
        };
        let is_file = |file: &str| {
            file.split('/')
                .all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control))
        };
        if !is_name(owner) || !is_name(name) || file.is_some_and(|file| !is_file(file)) {
            return Err(wrong());
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), file: file.map(str::to_owned) })
    }
}

impl Repository {
    /// Where `file` of this repository is.
    pub fn url_of(&self, endpoint: &Url, file: &str) -> Url {
        let folders = [self.owner.as_str(), &self.name, "resolve", "main"];
        endpoint.with_path(folders.into_iter().chain(file.split('/')))
    }

    fn listing(&self, endpoint: &Url) -> Url {
        let path = ["api", "models", &self.owner, &self.name, "tree", "main"];
        endpoint.with_path(path).with_query("recursive=true")
    }
}

/// A model file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Its path in the repository.
    pub path: String,
    /// Length, bytes.
    pub bytes: u64,
    /// Its checksum, if the hub tells it.
    pub sha256: Option<Sha256Sum>,
}

/// The GGUF files of a repository, sorted by path.
///
/// # Errors
/// If the listing cannot be had or makes no sense.
pub async fn list_files(
    endpoint: &Url,
    repository: &Repository,
    token: Option<String>,
    options: &Options,
) -> Result<Vec<HubFile>, FetchError> {
    let client = Client::new(repository.listing(endpoint), token, options.patience);
    let url = client.url().to_string();
    let mut answer = client.get(None, None).await.map_err(|failure| match failure {
        Failure::Connection(problem) => FetchError::Connection { url: url.clone(), problem },
        Failure::Final(error) => error,
    })?;
    let status = answer.status.as_u16();
    match status {
        200 => {}
        401 | 403 => return Err(FetchError::Forbidden { url, status }),
        404 => return Err(FetchError::NotFound { url, status }),
        _ => {
            return Err(FetchError::Protocol { url, problem: format!("it answers {status} to the listing") });
        }
    }
    let mut text = Vec::new();
    loop {
        match answer.next().await {
            Ok(None) => break,
            Ok(Some(bytes)) if text.len() + bytes.len() <= MAX_LISTING_BYTES => {
                text.extend_from_slice(&bytes)
            }
            Ok(Some(_)) => {
                return Err(FetchError::Protocol { url, problem: "its listing does not end".to_owned() });
            }
            Err(problem) => return Err(FetchError::Connection { url, problem }),
        }
    }
    parse_listing(&text).ok_or(FetchError::Protocol { url, problem: "its listing makes no sense".to_owned() })
}

fn parse_listing(text: &[u8]) -> Option<Vec<HubFile>> {
    let listing: Value = serde_json::from_slice(text).ok()?;
    let mut files = Vec::new();
    for entry in listing.as_array()? {
        let path = entry.get("path")?.as_str()?;
        if entry.get("type")?.as_str()? != "file" || !path.ends_with(".gguf") {
            continue;
        }
        let large = entry.get("lfs");
        let sha256 = large.and_then(|lfs| lfs.get("oid")?.as_str()?.parse().ok());
        files.push(HubFile { path: path.to_owned(), bytes: entry.get("size")?.as_u64()?, sha256 });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_two_names_and_a_path() {
        let endpoint: Url = HUB.parse().unwrap();
        let repository: Repository = "o/n.1/folder/m x.gguf".parse().unwrap();
        let url = repository.url_of(&endpoint, repository.file.as_ref().unwrap());
        assert_eq!(url.to_string(), "https://huggingface.co/o/n.1/resolve/main/folder/m%20x.gguf");
        let mirror: Url = "http://mirror:81/hub/".parse().unwrap();
        assert_eq!(repository.listing(&mirror).target(), "/hub/api/models/o/n.1/tree/main?recursive=true");
        for text in ["", "o", "o/", "/n", "o/../x", "o/n/../x", "o/n//x", "o/n/", "o n/x", "o/n/a\nb"] {
            text.parse::<Repository>().unwrap_err();
        }
        for known in KNOWN {
            let repository: Repository = known.name.parse().unwrap();
            assert_eq!(repository.file.as_deref(), Some(known.file));
        }
    }

    #[test]
    fn a_listing_gives_its_models() {
        let sum = "ab".repeat(32);
        let text = format!(
            r#"[{{"type":"directory","path":"x.gguf"}}, {{"type":"file","path":"README.md","size":1}},
                {{"type":"file","path":"m.gguf","size":7,"lfs":{{"oid":"{sum}"}}}}, {{"type":"file","path":"a.gguf","size":1}}]"#
        );
        let files = parse_listing(text.as_bytes()).unwrap();
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.gguf", "m.gguf"]);
        assert_eq!((files[1].bytes, files[1].sha256), (7, Some(sum.parse().unwrap())));
        for text in ["", "{}", "[1]", "[{\"type\":\"file\",\"path\":\"a.gguf\",\"size\":-1}]"] {
            assert_eq!(parse_listing(text.as_bytes()), None, "{text}");
        }
    }
}
