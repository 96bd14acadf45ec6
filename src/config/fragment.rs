//! What one source says, and how sources are laid over each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// An option. Its name is the same word everywhere: `--ple-mode`, `PLED_PLE_MODE`, `ple_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Path of the model file.
    Model,
    /// Addresses that the server listens on.
    Listen,
    /// Compute threads.
    Threads,
    /// Context length, tokens.
    NCtx,
    /// How rows of the per-layer embedding table are read.
    PleMode,
    /// Bound of the row cache, bytes.
    PleCacheBytes,
    /// Bound of what the process plans to hold in memory, bytes.
    MemoryLimitBytes,
    /// Element type of the KV cache.
    KvType,
    /// Sequences that are computed at a time.
    MaxSessions,
    /// Requests that may wait.
    QueueDepth,
    /// Folder where prefixes and sessions outlast the process.
    SessionDir,
    /// Bound of that folder, bytes.
    SessionDiskBytes,
    /// Bound of what is written there in a day, bytes.
    SessionDailyBytes,
    /// Files of prompts that are computed before the server is ready, and stay in memory.
    PinnedPrompts,
    /// Lock the weights in memory.
    Mlock,
    /// Keep a coarse copy of the output head.
    CoarseHead,
    /// Log level.
    Log,
    /// File of the tokens of which clients have to bring one.
    TokenFile,
    /// File of the server's certificate.
    TlsCertFile,
    /// File of the certificate's private key.
    TlsKeyFile,
    /// File of the certificates of which one must have signed a client's.
    TlsClientCaFile,
    /// Clients on this machine need neither token nor certificate.
    AllowUnauthenticatedLoopback,
    /// Listen beyond loopback although no client has to prove who it is.
    AllowUnauthenticatedLan,
    /// Announce the service on the local network.
    Mdns,
}

impl Field {
    /// Every option, in the order of the documentation.
    pub const ALL: [Field; 24] = [
        Field::Model,
        Field::Listen,
        Field::Threads,
        Field::NCtx,
        Field::PleMode,
        Field::PleCacheBytes,
        Field::MemoryLimitBytes,
        Field::KvType,
        Field::MaxSessions,
        Field::QueueDepth,
        Field::SessionDir,
        Field::SessionDiskBytes,
        Field::SessionDailyBytes,
        Field::PinnedPrompts,
        Field::Mlock,
        Field::CoarseHead,
        Field::Log,
        Field::TokenFile,
        Field::TlsCertFile,
        Field::TlsKeyFile,
        Field::TlsClientCaFile,
        Field::AllowUnauthenticatedLoopback,
        Field::AllowUnauthenticatedLan,
        Field::Mdns,
    ];

    /// The name as the configuration file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Model => "model",
            Field::Listen => "listen",
            Field::Threads => "threads",
            Field::NCtx => "n_ctx",
            Field::PleMode => "ple_mode",
            Field::PleCacheBytes => "ple_cache_bytes",
            Field::MemoryLimitBytes => "memory_limit_bytes",
            Field::KvType => "kv_type",
            Field::MaxSessions => "max_sessions",
            Field::QueueDepth => "queue_depth",
            Field::SessionDir => "session_dir",
            Field::SessionDiskBytes => "session_disk_bytes",
            Field::SessionDailyBytes => "session_daily_bytes",
            Field::PinnedPrompts => "pinned_prompts",
            Field::Mlock => "mlock",
            Field::CoarseHead => "coarse_head",
            Field::Log => "log",
            Field::TokenFile => "token_file",
            Field::TlsCertFile => "tls_cert_file",
            Field::TlsKeyFile => "tls_key_file",
            Field::TlsClientCaFile => "tls_client_ca_file",
            Field::AllowUnauthenticatedLoopback => "allow_unauthenticated_loopback",
            Field::AllowUnauthenticatedLan => "allow_unauthenticated_lan",
            Field::Mdns => "mdns",
        }
    }

    /// The option with this name in the configuration file.
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }

    /// The name as a flag.
    pub fn flag(self) -> String {
        format!("--{}", self.name().replace('_', "-"))
    }

    /// The name as an environment variable.
    pub fn variable(self) -> String {
        format!("PLED_{}", self.name().to_ascii_uppercase())
    }

    /// Whether the option may have several values.
    pub const fn is_list(self) -> bool {
        matches!(self, Field::Listen | Field::PinnedPrompts)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a value stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag, named after its field.
    Flag(Field),
    /// An environment variable, named after its field.
    Environment(Field),
    /// A line of the configuration file.
    File {
        /// The configuration file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
    },
    /// A credential that the service manager gives, by its name.
    Credential(&'static str),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(field) => f.write_str(&field.flag()),
            Origin::Environment(field) => f.write_str(&field.variable()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Credential(name) => write!(f, "the credential {name}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The text that a source gave for an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Where it stood.
    pub origin: Origin,
    /// One text; for a list option any number.
    pub values: Vec<String>,
}

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    given: BTreeMap<Field, Given>,
}

impl Fragment {
    /// Says `values` of `field`; an earlier word of the same source is replaced.
    pub fn set(&mut self, field: Field, origin: Origin, values: Vec<String>) {
        assert!(field.is_list() || values.len() == 1, "{field} takes one value, got {}", values.len());
        self.given.insert(field, Given { origin, values });
    }

    /// What was said of `field`.
    pub fn get(&self, field: Field) -> Option<&Given> {
        self.given.get(&field)
    }

    /// This fragment where it says something, `below` where it does not. A list replaces a list.
    pub fn over(mut self, below: Fragment) -> Fragment {
        for (field, given) in below.given {
            self.given.entry(field).or_insert(given);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_holds_every_field_once_and_names_read_back() {
        for (i, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(Field::from_name(field.name()), Some(field));
            assert!(!Field::ALL[..i].contains(&field));
        }
        assert_eq!(Field::PleCacheBytes.flag(), "--ple-cache-bytes");
        assert_eq!(Field::PleCacheBytes.variable(), "PLED_PLE_CACHE_BYTES");
    }

    #[test]
    fn the_upper_fragment_wins_field_by_field() {
        let mut upper = Fragment::default();
        upper.set(Field::Threads, Origin::Flag(Field::Threads), vec!["2".into()]);
        let mut lower = Fragment::default();
        lower.set(Field::Threads, Origin::Environment(Field::Threads), vec!["3".into()]);
        lower.set(Field::Log, Origin::Environment(Field::Log), vec!["warn".into()]);
        let merged = upper.over(lower);
        assert_eq!(merged.get(Field::Threads).unwrap().values, ["2"]);
        assert_eq!(merged.get(Field::Log).unwrap().origin, Origin::Environment(Field::Log));
        assert_eq!(merged.get(Field::Model), None);
    }
}
