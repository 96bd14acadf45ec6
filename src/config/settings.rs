//! The settings that the merged fragments amount to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use log::LevelFilter;

use super::error::ConfigError;
use super::fragment::{Field, Fragment, Origin};
use super::value::{self, Fault};
use crate::access::CertificateFiles;
use crate::engine::EngineOptions;
use crate::model::KvType;
use crate::ple;

/// Where the server listens if nobody says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50051);
/// Context length if nobody says otherwise, tokens; a model trained for less has its own.
pub const DEFAULT_N_CTX: usize = EngineOptions::DEFAULT.n_ctx;

/// What lies in the folder of sessions at most, and is written there in a day at most, if nobody says otherwise: some
/// fifty prefixes of 2,500 tokens of E2B. Written every day that is 4 TB in ten years.
const DEFAULT_SESSION_BYTES: u64 = 1 << 30;

/// Every option, checked as far as it can be without the model.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path of the model file, if one was given; else the embedded model is meant.
    pub model: Option<PathBuf>,
    /// Addresses to listen on, at least one. All on loopback unless clients have to prove
    /// who they are, or `allow_unauthenticated_lan`.
    pub listen: Vec<SocketAddr>,
    /// Compute threads.
    pub threads: usize,
    /// Context length in tokens, if one was given; see [`Settings::n_ctx`].
    pub n_ctx: Option<usize>,
    /// How rows of the per-layer embedding table are read.
    pub ple_mode: ple::Mode,
    /// Bound of the row cache, bytes.
    pub ple_cache_bytes: usize,
    /// Bound of what the process may plan to hold in memory, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Sequences that are computed at a time.
    pub max_sessions: usize,
    /// Requests that may wait for their turn.
    pub queue_depth: usize,
    /// How keys and values are kept: f16, which is F32 for models with F32 weights, or q8_0.
    pub kv_type: KvType,
    /// Where prefixes and sessions outlast the process, if anywhere.
    pub session_dir: Option<PathBuf>,
    /// The most that may lie there, bytes.
    pub session_disk_bytes: u64,
    /// The most that is written there in a day, bytes.
    pub session_daily_bytes: u64,
    /// Files of prompts that are computed before the server is ready, and stay in memory.
    pub pinned_prompts: Vec<PathBuf>,
    /// Lock the weights in memory.
    pub mlock: bool,
    /// Keep a coarse copy of the output head, where there is memory for it: tokens then read less.
    pub coarse_head: bool,
    /// Log level, if one was given: each command has its own default.
    pub log: Option<LevelFilter>,
    /// File of the tokens of which clients have to bring one.
    pub token_file: Option<PathBuf>,
    /// Certificates, if clients have to speak TLS.
    pub certificates: Option<CertificateFiles>,
    /// Whether clients that come to a loopback address need neither token nor TLS.
    pub allow_unauthenticated_loopback: bool,
    /// Whether addresses beyond loopback are taken although no client has to prove who it is.
    pub allow_unauthenticated_lan: bool,
    /// Whether the service is announced on the local network. Only if an address of `listen` is beyond loopback and clients
    /// have to prove who they are: what is open to everybody is not cried out besides.
    pub mdns: bool,
    given: Fragment,
}

impl Settings {
    /// Parses what the merged fragments say; fields that nobody mentions get their defaults.
    pub fn resolve(given: Fragment) -> Result<Settings, ConfigError> {
        let read = Reader { given: &given };
        let allow_unauthenticated_lan =
            read.one(Field::AllowUnauthenticatedLan, value::parse_bool)?.unwrap_or(false);
        let token_file = read.one(Field::TokenFile, |text| parse_path(text, "file of tokens"))?;
        let certificates = read.certificates()?;
        let knows_clients =
            token_file.is_some() || certificates.as_ref().is_some_and(|files| files.client_ca.is_some());
        let listen = read.listen(allow_unauthenticated_lan || knows_clients)?;
        let may_announce = knows_clients && !listen.iter().all(|address| is_loopback(*address));
        let settings = Settings {
            model: read.one(Field::Model, |text| parse_path(text, "GGUF file"))?,
            listen,
            threads: read
                .one(Field::Threads, |text| value::parse_count(text, 1..=256))?
                .unwrap_or_else(usable_cores),
            n_ctx: read.one(Field::NCtx, |text| value::parse_count(text, 8..=1 << 20))?,
            ple_mode: read
                .one(Field::PleMode, |text| value::parse_word(text, "auto, direct, mmap, resident"))?
                .unwrap_or(ple::Options::DEFAULT.mode),
            ple_cache_bytes: read
                .one(Field::PleCacheBytes, parse_size)?
                .unwrap_or(ple::Options::DEFAULT.cache_bytes),
            memory_limit_bytes: read
                .one(Field::MemoryLimitBytes, |text| value::parse_byte_count(text, 1 << 20))?,
            max_sessions: read
                .one(Field::MaxSessions, |text| value::parse_count(text, 1..=64))?
                .unwrap_or(EngineOptions::DEFAULT.max_sessions),
            queue_depth: read
                .one(Field::QueueDepth, |text| value::parse_count(text, 1..=4096))?
                .unwrap_or(EngineOptions::DEFAULT.queue_depth),
            kv_type: read.one(Field::KvType, value::parse_kv_type)?.unwrap_or(KvType::F16),
            session_dir: read.one(Field::SessionDir, |text| parse_path(text, "folder"))?,
            session_disk_bytes: read
                .one(Field::SessionDiskBytes, |text| value::parse_byte_count(text, 1 << 20))?
                .unwrap_or(DEFAULT_SESSION_BYTES),
            session_daily_bytes: read
                .one(Field::SessionDailyBytes, |text| value::parse_byte_count(text, 0))?
                .unwrap_or(DEFAULT_SESSION_BYTES),
            pinned_prompts: read
                .all(Field::PinnedPrompts, |text| parse_path(text, "file with a prompt"))?
                .unwrap_or_default(),
            mlock: read.one(Field::Mlock, value::parse_bool)?.unwrap_or(false),
            coarse_head: read.one(Field::CoarseHead, value::parse_bool)?.unwrap_or(true),
            log: read
                .one(Field::Log, |text| value::parse_word(text, "off, error, warn, info, debug, trace"))?,
            token_file,
            certificates,
            allow_unauthenticated_loopback: read
                .one(Field::AllowUnauthenticatedLoopback, value::parse_bool)?
                .unwrap_or(false),
            allow_unauthenticated_lan,
            mdns: read.one(Field::Mdns, value::parse_bool)?.unwrap_or(may_announce),
            given,
        };
        if allow_unauthenticated_lan && knows_clients {
            // Two options that say the contrary of each other.
            let field = if settings.token_file.is_some() { Field::TokenFile } else { Field::TlsClientCaFile };
            let problem = format!("{field} is given, so that clients have to prove who they are");
            return Err(settings.reject(Field::AllowUnauthenticatedLan, problem, "leave out one of both"));
        }
        if settings.mdns && !may_announce {
            let problem =
                "only a service beyond loopback whose clients have to prove who they are is announced";
            let advice = format!(
                "give {} an address of the network and {} or {}, or leave this out",
                Field::Listen,
                Field::TokenFile,
                Field::TlsClientCaFile
            );
            return Err(settings.reject(Field::Mdns, problem, advice));
        }
        Ok(settings)
    }

    /// The context length for a model that was trained for `n_ctx_train` tokens.
    /// Asking for more than that is an error; the default just stays below.
    pub fn n_ctx(&self, n_ctx_train: usize) -> Result<usize, ConfigError> {
        match self.n_ctx {
            None => Ok(DEFAULT_N_CTX.min(n_ctx_train)),
            Some(n_ctx) if n_ctx <= n_ctx_train => Ok(n_ctx),
            Some(_) => Err(self.reject(
                Field::NCtx,
                format!("the model was trained for {n_ctx_train} tokens"),
                format!("give at most {n_ctx_train}"),
            )),
        }
    }

    /// The options that `other` was given in another way.
    pub fn changed(&self, other: &Settings) -> Vec<Field> {
        let values = |given: &Fragment, field| given.get(field).map(|given| given.values.clone());
        Field::ALL.into_iter().filter(|&f| values(&self.given, f) != values(&other.given, f)).collect()
    }

    /// The error for a value that parsed but cannot be had, as only its user can know.
    pub fn reject(&self, field: Field, problem: impl Into<String>, advice: impl Into<String>) -> ConfigError {
        let given = self.given.get(field);
        ConfigError::Value {
            origin: given.map_or(Origin::Default, |given| given.origin.clone()),
            field,
            value: given.map_or_else(String::new, |given| given.values.join(", ")),
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}

/// Reads fields of the merged fragments.
struct Reader<'a> {
    given: &'a Fragment,
}

impl Reader<'_> {
    fn one<T>(
        &self,
        field: Field,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, ConfigError> {
        Ok(self.all(field, parse)?.map(|mut values| values.remove(0)))
    }

    fn all<T>(
        &self,
        field: Field,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(given) = self.given.get(field) else { return Ok(None) };
        let parse_one = |text: &String| {
            parse(text).map_err(|Fault { problem, advice }| ConfigError::Value {
                origin: given.origin.clone(),
                field,
                value: text.clone(),
                problem,
                advice,
            })
        };
        given.values.iter().map(parse_one).collect::<Result<Vec<T>, _>>().map(Some)
    }

    /// The files of TLS: certificate and key together, that of clients only with them.
    fn certificates(&self) -> Result<Option<CertificateFiles>, ConfigError> {
        let cert = self.one(Field::TlsCertFile, |text| parse_path(text, "certificate in PEM"))?;
        let key = self.one(Field::TlsKeyFile, |text| parse_path(text, "private key in PEM"))?;
        let client_ca = self.one(Field::TlsClientCaFile, |text| parse_path(text, "certificate in PEM"))?;
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(CertificateFiles { cert, key, client_ca })),
            (None, None) if client_ca.is_none() => Ok(None),
            (None, _) => Err(ConfigError::Missing { field: Field::TlsCertFile }),
            (_, None) => Err(ConfigError::Missing { field: Field::TlsKeyFile }),
        }
    }

    fn listen(&self, beyond_loopback: bool) -> Result<Vec<SocketAddr>, ConfigError> {
        let checked = |text: &str| {
            let address = value::parse_address(text)?;
            if is_loopback(address) || beyond_loopback {
                return Ok(address);
            }
            Err(Fault {
                problem: "not on loopback, and no client has to prove who it is".to_owned(),
                advice: format!(
                    "listen on {DEFAULT_LISTEN}, know clients by {} or {}, or let everybody on the network \
                     in with {} (file: {} = true)",
                    Field::TokenFile.flag(),
                    Field::TlsClientCaFile.flag(),
                    Field::AllowUnauthenticatedLan.flag(),
                    Field::AllowUnauthenticatedLan
                ),
            })
        };
        match self.all(Field::Listen, checked)? {
            None => Ok(vec![DEFAULT_LISTEN]),
            Some(addresses) if addresses.is_empty() => Err(ConfigError::Missing { field: Field::Listen }),
            Some(addresses) => Ok(addresses),
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn parse_path(text: &str, of: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() {
        return Err(Fault { problem: "no path".to_owned(), advice: format!("give the path of a {of}") });
    }
    Ok(PathBuf::from(text))
}

/// A size that must fit the address space.
fn parse_size(text: &str) -> Result<usize, Fault> {
    let bytes = value::parse_byte_count(text, 0)?;
    usize::try_from(bytes).map_err(|_| Fault {
        problem: "more than this machine can address".to_owned(),
        advice: "give less".to_owned(),
    })
}

fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(256)
}

#[cfg(test)]
mod tests {
    use super::super::{from_environment, from_file};
    use super::*;

    fn flags(pairs: &[(Field, &str)]) -> Fragment {
        let mut fragment = Fragment::default();
        for &(field, text) in pairs {
            fragment.set(field, Origin::Flag(field), vec![text.to_owned()]);
        }
        fragment
    }

    fn message(pairs: &[(Field, &str)]) -> String {
        let message = Settings::resolve(flags(pairs)).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    #[test]
    fn defaults() {
        let settings = Settings::resolve(Fragment::default()).unwrap();
        assert_eq!(settings.listen, [DEFAULT_LISTEN]);
        assert_eq!(settings.ple_mode, ple::Mode::Auto);
        assert!(settings.threads >= 1);
        assert!(!settings.allow_unauthenticated_lan && !settings.mlock);
        assert_eq!(settings.n_ctx(131_072).unwrap(), DEFAULT_N_CTX);
        assert_eq!(settings.n_ctx(128).unwrap(), 128);
        assert_eq!(settings.model, None);
    }

    #[test]
    fn flags_over_environment_over_file_over_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pled.toml");
        std::fs::write(&path, "threads = 3\nn_ctx = 100\nmax_sessions = 5\n").unwrap();
        let environment = from_environment(|name| match name {
            "PLED_THREADS" => Some("2".into()),
            "PLED_N_CTX" => Some("200".into()),
            _ => None,
        });
        let merged =
            flags(&[(Field::Threads, "1")]).over(environment.unwrap()).over(from_file(&path).unwrap());
        let settings = Settings::resolve(merged).unwrap();
        assert_eq!((settings.threads, settings.n_ctx, settings.max_sessions), (1, Some(200), 5));
        assert_eq!(settings.queue_depth, EngineOptions::DEFAULT.queue_depth);
    }

    #[test]
    fn an_error_names_place_option_value_and_what_to_do() {
        assert_eq!(
            message(&[(Field::PleMode, "fast")]),
            "--ple-mode: ple_mode = \"fast\": not a known word; give one of auto, direct, mmap, resident"
        );
        assert_eq!(
            message(&[(Field::Threads, "0")]),
            "--threads: threads = \"0\": out of range; give a number from 1 to 256"
        );
        assert_eq!(
            message(&[(Field::PleCacheBytes, "64M")]),
            "--ple-cache-bytes: ple_cache_bytes = \"64M\": M alone could mean 1000 or 1024; \
             give bytes, or a number with a unit as in 512MiB or 1.5GB"
        );
        assert!(message(&[(Field::KvType, "q4_0")]).contains("give f16 or q8_0"));
        assert!(message(&[(Field::Listen, "localhost")]).contains("give IP:PORT"));
        assert!(message(&[(Field::Log, "loud")]).contains("give one of off, error"));
    }

    #[test]
    fn announced_where_clients_are_known_and_can_come() {
        let token = (Field::TokenFile, "/etc/pled/tokens");
        let lan = (Field::Listen, "0.0.0.0:50051");
        let [cert, key, client_ca] =
            [(Field::TlsCertFile, "c"), (Field::TlsKeyFile, "k"), (Field::TlsClientCaFile, "ca")];
        assert!(Settings::resolve(flags(&[token, lan])).unwrap().mdns);
        assert!(Settings::resolve(flags(&[lan, cert, key, client_ca])).unwrap().mdns);
        assert!(!Settings::resolve(flags(&[cert, key, client_ca])).unwrap().mdns);
        assert!(!Settings::resolve(flags(&[token, lan, (Field::Mdns, "false")])).unwrap().mdns);
        assert!(!Settings::resolve(flags(&[token])).unwrap().mdns);
        assert!(!Settings::resolve(flags(&[lan, (Field::AllowUnauthenticatedLan, "true")])).unwrap().mdns);
        let open = (Field::AllowUnauthenticatedLan, "true");
        for wrong in [&[token][..], &[open, lan]] {
            let text = message(&[wrong, &[(Field::Mdns, "true")]].concat());
            assert!(text.starts_with("--mdns: mdns = \"true\": only a service beyond loopback"), "{text}");
        }
    }

    #[test]
    fn beyond_loopback_only_with_the_option() {
        for address in ["0.0.0.0:50051", "192.168.1.5:50051", "[::]:50051", "[::ffff:10.0.0.1]:1"] {
            let text = message(&[(Field::Listen, address)]);
            assert!(text.contains("--allow-unauthenticated-lan"), "{text}");
            let allowed = flags(&[(Field::Listen, address), (Field::AllowUnauthenticatedLan, "true")]);
            assert_eq!(Settings::resolve(allowed).unwrap().listen, [address.parse().unwrap()]);
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:50051", "[::ffff:127.0.0.1]:1"] {
            Settings::resolve(flags(&[(Field::Listen, address)])).unwrap();
        }
    }

    #[test]
    fn beyond_loopback_with_tokens_and_not_with_both() {
        let lan = (Field::Listen, "192.168.1.5:50051");
        let tokens = (Field::TokenFile, "/etc/pled/tokens");
        let settings = Settings::resolve(flags(&[lan, tokens])).unwrap();
        assert_eq!(settings.token_file.unwrap().to_str(), Some("/etc/pled/tokens"));
        assert!(!settings.allow_unauthenticated_loopback);
        assert_eq!(
            message(&[lan, tokens, (Field::AllowUnauthenticatedLan, "true")]),
            "--allow-unauthenticated-lan: allow_unauthenticated_lan = \"true\": token_file is given, so that \
             clients have to prove who they are; leave out one of both"
        );
    }

    #[test]
    fn beyond_loopback_with_certificates_of_clients_and_not_with_the_servers_alone() {
        let lan = (Field::Listen, "192.168.1.5:50051");
        let [cert, key, client_ca] =
            [(Field::TlsCertFile, "c"), (Field::TlsKeyFile, "k"), (Field::TlsClientCaFile, "ca")];
        let settings = Settings::resolve(flags(&[lan, cert, key, client_ca])).unwrap();
        let files = settings.certificates.unwrap();
        assert_eq!((files.cert, files.key), ("c".into(), "k".into()));
        assert_eq!(files.client_ca, Some("ca".into()));
        assert!(message(&[lan, cert, key]).contains("--tls-client-ca-file"));
        assert!(message(&[cert]).starts_with("no tls_key_file given"));
        assert!(message(&[key]).starts_with("no tls_cert_file given"));
        assert!(message(&[client_ca]).starts_with("no tls_cert_file given"));
        assert!(
            message(&[lan, cert, key, client_ca, (Field::AllowUnauthenticatedLan, "true")])
                .contains("leave out")
        );
    }

    #[test]
    fn more_context_than_the_model_knows_is_refused_with_its_place() {
        let settings = Settings::resolve(flags(&[(Field::NCtx, "4096")])).unwrap();
        assert_eq!(settings.n_ctx(8192).unwrap(), 4096);
        assert_eq!(
            settings.n_ctx(128).unwrap_err().to_string(),
            "--n-ctx: n_ctx = \"4096\": the model was trained for 128 tokens; give at most 128"
        );
    }
}
