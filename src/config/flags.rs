//! The command line as fragments. clap splits the words; what they mean is decided where every other
//! source's values are, so that all sources have one syntax and one kind of error.

use clap::Args;

use super::fragment::{Field, Fragment, Origin};

/// Options of every command that runs a model.
#[derive(Debug, Clone, Default, Args)]
pub struct ModelFlags {
    /// Model file (GGUF); of a split model the first part [default: home-mini, which is built in]
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// Compute threads [default: the cores that this process may use]
    #[arg(short, long, value_name = "N")]
    threads: Option<String>,
    /// Context length in tokens [default: 4096, or the model's own if that is shorter]
    #[arg(long, value_name = "N")]
    n_ctx: Option<String>,
    /// How rows of the per-layer embeddings are read: auto, direct, mmap, resident [default: auto]
    #[arg(long, value_name = "MODE")]
    ple_mode: Option<String>,
    /// Memory for rows that were read, as in 64MiB [default: 64MiB]
    #[arg(long, value_name = "BYTES")]
    ple_cache_bytes: Option<String>,
    /// Refuse a model and context that would need more memory, as in 1.5GB [default: no limit]
    #[arg(long, value_name = "BYTES")]
    memory_limit_bytes: Option<String>,
    /// Element type of the KV cache: f16, or q8_0 for half the memory [default: f16]
    #[arg(long, value_name = "TYPE")]
    kv_type: Option<String>,
    /// Lock the weights in memory [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mlock: Option<String>,
    /// Keep a coarse copy of the output head where there is memory for it: answers come faster [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    coarse_head: Option<String>,
    /// Log level: off, error, warn, info, debug, trace [default: info in serve, else warn]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl ModelFlags {
    /// What the flags say.
    pub fn fragment(&self) -> Fragment {
        let mut fragment = Fragment::default();
        for (field, value) in [
            (Field::Model, &self.model),
            (Field::Threads, &self.threads),
            (Field::NCtx, &self.n_ctx),
            (Field::PleMode, &self.ple_mode),
            (Field::PleCacheBytes, &self.ple_cache_bytes),
            (Field::MemoryLimitBytes, &self.memory_limit_bytes),
            (Field::KvType, &self.kv_type),
            (Field::Mlock, &self.mlock),
            (Field::CoarseHead, &self.coarse_head),
            (Field::Log, &self.log),
        ] {
            say(&mut fragment, field, value);
        }
        fragment
    }
}

/// Options of the server alone.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerFlags {
    /// Address to listen on, as IP:PORT; may be repeated [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Sequences that are computed at a time [default: 4]
    #[arg(long, value_name = "N")]
    max_sessions: Option<String>,
    /// Requests that may wait for their turn [default: 8]
    #[arg(long, value_name = "N")]
    queue_depth: Option<String>,
    /// File of the tokens of which clients have to bring one [default: the credential tokens, if there is one]
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// File of the server's certificate in PEM: clients have to speak TLS [default: the credential tls-cert]
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<String>,
    /// File of its private key in PEM [default: the credential tls-key]
    #[arg(long, value_name = "FILE")]
    tls_key_file: Option<String>,
    /// File of certificates, of which one must have signed that of a client [default: the credential tls-client-ca]
    #[arg(long, value_name = "FILE")]
    tls_client_ca_file: Option<String>,
    /// Clients on this machine need neither token nor TLS [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_unauthenticated_loopback: Option<String>,
    /// Folder where prefixes and sessions outlast the daemon [default: none, nothing is written]
    #[arg(long, value_name = "FOLDER")]
    session_dir: Option<String>,
    /// The most that the folder takes, as in 2GiB [default: 1GiB]
    #[arg(long, value_name = "BYTES")]
    session_disk_bytes: Option<String>,
    /// The most that is written to the folder in a day, as in 500MB [default: 1GiB]
    #[arg(long, value_name = "BYTES")]
    session_daily_bytes: Option<String>,
    /// File with a prompt that is computed before the daemon is ready, and stays in memory; may be repeated
    #[arg(long, value_name = "FILE")]
    pinned_prompts: Vec<String>,
    /// Listen beyond loopback although anybody who reaches the port may use it [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_unauthenticated_lan: Option<String>,
    /// Announce the service by multicast DNS [default: whether it listens beyond loopback and knows its clients]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mdns: Option<String>,
}

impl ServerFlags {
    /// What the flags say.
    pub fn fragment(&self) -> Fragment {
        let mut fragment = Fragment::default();
        for (field, values) in [(Field::Listen, &self.listen), (Field::PinnedPrompts, &self.pinned_prompts)] {
            if !values.is_empty() {
                fragment.set(field, Origin::Flag(field), values.clone());
            }
        }
        for (field, value) in [
            (Field::MaxSessions, &self.max_sessions),
            (Field::QueueDepth, &self.queue_depth),
            (Field::TokenFile, &self.token_file),
            (Field::TlsCertFile, &self.tls_cert_file),
            (Field::TlsKeyFile, &self.tls_key_file),
            (Field::TlsClientCaFile, &self.tls_client_ca_file),
            (Field::AllowUnauthenticatedLoopback, &self.allow_unauthenticated_loopback),
            (Field::SessionDir, &self.session_dir),
            (Field::SessionDiskBytes, &self.session_disk_bytes),
            (Field::SessionDailyBytes, &self.session_daily_bytes),
            (Field::AllowUnauthenticatedLan, &self.allow_unauthenticated_lan),
            (Field::Mdns, &self.mdns),
        ] {
            say(&mut fragment, field, value);
        }
        fragment
    }
}

fn say(fragment: &mut Fragment, field: Field, value: &Option<String>) {
    if let Some(value) = value {
        fragment.set(field, Origin::Flag(field), vec![value.clone()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        model: ModelFlags,
        #[command(flatten)]
        server: ServerFlags,
    }

    fn fragment(words: &[&str]) -> Fragment {
        let line = Line::try_parse_from([&["pled"], words].concat()).unwrap();
        line.server.fragment().over(line.model.fragment())
    }

    #[test]
    fn every_option_has_its_flag_and_lands_in_its_field() {
        for field in Field::ALL {
            let word = format!("{}=text", field.flag());
            let given = fragment(&[&word]).get(field).cloned().unwrap();
            assert_eq!(given.values, ["text"], "{field}");
            assert_eq!(given.origin.to_string(), field.flag());
        }
    }

    #[test]
    fn switches_need_no_value_and_listen_repeats() {
        let given =
            fragment(&["--mlock", "--listen", "a", "--listen", "b", "--allow-unauthenticated-lan=false"]);
        assert_eq!(given.get(Field::Mlock).unwrap().values, ["true"]);
        assert_eq!(given.get(Field::Listen).unwrap().values, ["a", "b"]);
        assert_eq!(given.get(Field::AllowUnauthenticatedLan).unwrap().values, ["false"]);
        assert_eq!(fragment(&[]), Fragment::default());
    }
}
