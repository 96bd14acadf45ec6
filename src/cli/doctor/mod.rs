//! `pled doctor`: what on this board keeps pled from serving well, and what to do about it.
//!
//! What a few small files tell comes from the room `board`, and the daemon says it too when it starts. What must
//! be measured, or needs the model or the settings, is found here.

mod access;
mod measure;
mod model;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use log::LevelFilter;
use serde::Serialize;

use super::exit::one_line;
use super::settings::merge;
use crate::board::{Finding, Root, Surroundings, Verdict, findings};
use crate::config::{ModelFlags, ServerFlags, Settings};
use crate::ops::Kernels;
use crate::storage::page_size;
use crate::systemd::start_logging;

/// The configuration that the service runs with.
const SERVICE_CONFIG: &str = "/etc/pled/pled.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file (TOML) [default: /etc/pled/pled.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Folder that stands for / when facts about the system are read
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// The keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report<'a> {
    verdict: String,
    findings: Vec<Entry<'a>>,
    measured: model::Measured,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    id: &'static str,
    verdict: String,
    found: &'a str,
    advice: Option<&'a str>,
}

/// # Errors
/// Also if a finding is an error, so that a script sees it by the exit code.
pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let root = Root::folder(&args.root);
    // A clock before 1970 is as wrong as one that says 1970.
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut found = findings(&Surroundings {
        root: root.clone(),
        kernels: Kernels::detect().name(),
        page_bytes: page_size(),
        unix_s,
    });
    let mut measured = model::Measured::default();
    match settings(args, &root) {
        Err(error) => found.push(Finding::with_advice(
            "configuration",
            Verdict::Error,
            one_line(&error),
            "pled serve ends at once with this: correct it",
        )),
        Ok((settings, source)) => {
            start_logging(settings.log.unwrap_or(LevelFilter::Warn))?;
            found.push(Finding::ok("configuration", source));
            found.push(access::access(&settings));
            found.extend(access::certificate(&settings, unix_s));
            found.extend(model::findings(&root, &settings, &mut measured));
        }
    }
    let worst = found.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if args.json {
        let entry = |f: &'_ Finding| (f.id, f.verdict.to_string());
        let findings = found
            .iter()
            .map(|f| {
                let (id, verdict) = entry(f);
                Entry { id, verdict, found: &f.found, advice: f.advice.as_deref() }
            })
            .collect();
        serde_json::to_writer_pretty(&mut *out, &Report { verdict: worst.to_string(), findings, measured })?;
        writeln!(out)?;
    } else {
        print(&found, out)?;
    }
    let n_errors = found.iter().filter(|finding| finding.verdict == Verdict::Error).count();
    anyhow::ensure!(n_errors == 0, "{n_errors} of the findings are errors: pled cannot serve like this");
    Ok(())
}

/// The settings that the service would have, and where they come from.
fn settings(args: &Args, root: &Root) -> anyhow::Result<(Settings, String)> {
    let service = root.path(SERVICE_CONFIG);
    let file: Option<&Path> = match &args.config {
        Some(file) => Some(file),
        None => service.exists().then_some(service.as_path()),
    };
    let settings = merge(args.server.fragment().over(args.model.fragment()), file)?;
    let source = file.map_or_else(
        || "no file: flags, environment and defaults".to_owned(),
        |file| file.display().to_string(),
    );
    Ok((settings, source))
}

fn print(found: &[Finding], out: &mut impl Write) -> std::io::Result<()> {
    for finding in found {
        writeln!(out, "{:<8} {:<15} {}", finding.verdict, finding.id, finding.found)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "{:24} -> {advice}", "")?;
        }
    }
    Ok(())
}
