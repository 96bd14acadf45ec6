//! `pled pull`: a model file from a hub or a web server, proven before it has its name; then the checksums of its rows.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::checksums;
use super::exit::UsageError;
use super::inspect::size;
use super::terminal::tame;
use crate::daemon::open_model;
use crate::fetch::{
    Done, FetchError, HUB, Job, Options, Repository, Sha256Sum, Stage, Url, download, list_files,
};
use crate::gguf;
use crate::model::{ModelFile, read_hparams};
use crate::storage::DataFile;

/// Where the service looks for models.
const SERVICE_MODELS: &str = "/var/lib/pled/models";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// OWNER/NAME or OWNER/NAME/FILE of a repository, a URL, or a short name: gemma4-e2b (3.35 GB), gemma4-e4b (5.15 GB)
    #[arg(value_name = "REPO[/FILE]")]
    source: String,
    /// SHA-256 that the file must have [default: the one that the hub announces, if it does]
    #[arg(long, value_name = "HEX", value_parser = parse_sum)]
    sha256: Option<Sha256Sum>,
    /// Another hub with the layout of Hugging Face
    #[arg(long, value_name = "URL", default_value = HUB)]
    endpoint: String,
    /// Folder for the file [default: /var/lib/pled/models if it is there, else the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn parse_sum(text: &str) -> Result<Sha256Sum, String> {
    text.parse()
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start downloading")?;
    let ended = runtime.block_on(async {
        tokio::select! {
            done = pull(args, out) => done,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot listen for ctrl-C")?;
                Err(anyhow::anyhow!("interrupted; what has arrived is kept, the same command goes on from there"))
            }
        }
    });
    // A file that is still being summed need not be waited for.
    runtime.shutdown_background();
    ended
}

async fn pull(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let options = Options::default();
    let dir = args.dir.clone().unwrap_or_else(default_dir);
    anyhow::ensure!(
        dir.is_dir(),
        UsageError(format!("{} is not a folder; make it, or give another with --dir", dir.display()))
    );
    let (urls, token) = urls(args, &options, out).await?;
    if urls.len() > 1 && args.sha256.is_some() {
        return Err(UsageError("--sha256 is of one file, and this model has several parts".to_owned()).into());
    }
    let mut targets = Vec::new();
    let mut received = 0;
    for url in urls {
        let name =
            url.file_name().ok_or_else(|| UsageError(format!("{url} does not end with a file's name")))?;
        let job = Job { url, token: token.clone(), sha256: args.sha256, target: dir.join(name) };
        let done = download(&job, &options, progress_line(), |part| admit(part, &job.target)).await?;
        tell(&job, done, out)?;
        received += done.received;
        targets.push(job.target);
    }
    // The table of rows may lie in any part; the first one names the model.
    let first = targets.swap_remove(0);
    if is_model(&first) {
        let is_new = received > 0;
        let line = tokio::task::spawn_blocking(move || sum_rows(&first, is_new));
        writeln!(out, "{}", line.await.context("cannot make checksums of the rows")?)?;
    }
    Ok(())
}

fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// Makes checksums of the rows of a model that is new or has none. The line to tell of it: the download was good
/// also if pled cannot run what came, such as the encoder of a model.
fn sum_rows(first: &Path, is_new: bool) -> String {
    let opened = || -> anyhow::Result<_> {
        let file: ModelFile = open_model(Some(first))?;
        let hparams = read_hparams(&file)?;
        Ok((file, hparams))
    };
    let (file, hparams) = match opened() {
        Ok(opened) => opened,
        Err(error) => return tame(&format!("pled cannot run it: {error:#}")).into_owned(),
    };
    let written = || -> anyhow::Result<_> {
        match !is_new && checksums::are_there(&file, &hparams)? {
            true => Ok(None),
            false => checksums::write(&file, &hparams),
        }
    };
    match written() {
        Ok(Some(path)) => format!("{} has the checksums of its rows", tame(&path.to_string_lossy())),
        Ok(None) => "its rows need no new checksums".to_owned(),
        Err(error) => tame(&format!("no checksums of its rows: {error:#}")).into_owned(),
    }
}

fn default_dir() -> PathBuf {
    match Path::new(SERVICE_MODELS).is_dir() {
        true => PathBuf::from(SERVICE_MODELS),
        false => PathBuf::from("."),
    }
}

/// Every file that belongs to what was asked for, and the token for their host.
async fn urls(
    args: &Args,
    options: &Options,
    out: &mut impl Write,
) -> anyhow::Result<(Vec<Url>, Option<String>)> {
    if args.source.contains("://") {
        // Nobody said that this host may know the token.
        return Ok((vec![args.source.parse()?], None));
    }
    let repository: Repository = args.source.parse()?;
    let endpoint: Url = args.endpoint.parse()?;
    let token = token(args.endpoint == HUB)?;
    let file = match &repository.file {
        Some(file) => file.clone(),
        None => {
            let files = list_files(&endpoint, &repository, token.clone(), options).await?;
            // Encoders of images and sound lie beside the models.
            let models: Vec<_> = files.iter().filter(|file| !file.path.contains("mmproj")).collect();
            match models.as_slice() {
                [only] => only.path.clone(),
                [] => return Err(UsageError(format!("{} has no GGUF file", args.source)).into()),
                several => {
                    for file in several {
                        writeln!(out, "{:>9}  {}/{}", size(file.bytes), args.source, tame(&file.path))?;
                    }
                    out.flush()?;
                    return Err(
                        UsageError("the repository has several models; give one of them".to_owned()).into()
                    );
                }
            }
        }
    };
    Ok((parts_of(&file).iter().map(|part| repository.url_of(&endpoint, part)).collect(), token))
}

/// The names of all parts of a split model, given its first part; else the name alone.
fn parts_of(file: &str) -> Vec<String> {
    let n_parts = file
        .strip_suffix(".gguf")
        .and_then(|stem| stem.rsplit_once("-00001-of-"))
        .filter(|(_, count)| count.len() == 5)
        .and_then(|(stem, count)| Some((stem, count, count.parse::<u32>().ok()?)));
    match n_parts {
        Some((stem, count, n)) if (1..=1000).contains(&n) => {
            (1..=n).map(|i| format!("{stem}-{i:05}-of-{count}.gguf")).collect()
        }
        _ => vec![file.to_owned()],
    }
}

/// The token of the environment; for the hub itself also that of the file where its own tools keep it.
fn token(is_hub: bool) -> anyhow::Result<Option<String>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let tidy = |text: String, place: &str| {
        let token = text.trim().to_owned();
        let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        match is_plain {
            true => Ok(Some(token).filter(|token| !token.is_empty())),
            false => Err(UsageError(format!("{place} holds no token"))),
        }
    };
    if let Some(token) = variable("HF_TOKEN") {
        return Ok(tidy(token, "HF_TOKEN")?);
    }
    if !is_hub {
        return Ok(None);
    }
    let folder = variable("HF_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/huggingface")));
    let file =
        variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| folder.map(|folder| folder.join("token")));
    match file.map(|file| (std::fs::read_to_string(&file), file)) {
        Some((Ok(text), file)) => Ok(tidy(text, &file.display().to_string())?),
        _ => Ok(None),
    }
}

/// A file that calls itself a model must be one: a page that says "log in" must not take its place. The checksums of a
/// model that it replaces go first, so that they are never beside a model that they were not made of.
fn admit(part: &Path, target: &Path) -> Result<(), String> {
    if !is_model(target) {
        return Ok(());
    }
    let file = DataFile::open(part).map_err(|error| error.to_string())?;
    gguf::read(&mut file.reader(0), file.len()).map(drop).map_err(|error| format!("no model: {error}"))?;
    checksums::remove(target).map_err(|error| format!("the checksums of an older file stay: {error}"))
}

/// One line on the terminal that is written over and over; where there is no terminal, only what went wrong and is tried
/// again.
fn progress_line() -> impl Fn(Stage<'_>) + Send + Sync + 'static {
    let is_terminal = std::io::stderr().is_terminal();
    let begin: Mutex<Option<(Instant, u64, Instant)>> = Mutex::new(None);
    move |stage| {
        // A terminal that has gone is no reason to stop.
        let (done, total) = match stage {
            Stage::Waiting { url, problem } => {
                let over_progress = if is_terminal { "\r\u{1b}[K" } else { "" };
                let _ = writeln!(
                    std::io::stderr(),
                    "{over_progress}{}: {}; trying again",
                    tame(url),
                    tame(problem)
                );
                return;
            }
            Stage::Receiving { done, total } if is_terminal => (done, total),
            Stage::Comparing if is_terminal => {
                let _ = writeln!(std::io::stderr(), "comparing with the checksum");
                return;
            }
            Stage::Receiving { .. } | Stage::Comparing => return,
        };
        let now = Instant::now();
        let mut begin = begin.lock().expect("nothing here panics");
        let (since, before, shown) =
            begin.get_or_insert((now, done, now.checked_sub(Duration::from_secs(1)).unwrap_or(now)));
        if done < total && now - *shown < Duration::from_millis(200) {
            return;
        }
        *shown = now;
        let rate = (done - (*before).min(done)) as f64 / (now - *since).as_secs_f64().max(0.001);
        let left = ((total - done) as f64 / rate.max(1.0)).min(359_999.0) as u64;
        let line = format!(
            "{:>3} %  {} of {}  {}/s  {}:{:02}:{:02} left",
            done * 100 / total,
            size(done),
            size(total),
            size(rate as u64),
            left / 3600,
            left / 60 % 60,
            left % 60
        );
        let end = if done == total { "\n" } else { "" };
        let _ = write!(std::io::stderr(), "\r{line}\u{1b}[K{end}");
    }
}

fn tell(job: &Job, done: Done, out: &mut impl Write) -> Result<(), std::io::Error> {
    let is_old = done.received == 0;
    let proof = match done.sha256 {
        Some(sum) => format!("SHA-256 {sum} is right"),
        None if is_old => {
            "as long as the server's, which gives no checksum; to download it anew, remove it".to_owned()
        }
        None => "not compared with a checksum: the server gives none".to_owned(),
    };
    let how = if is_old { "is already there" } else { "is complete" };
    writeln!(out, "{} {how}: {}, {proof}", tame(&job.target.to_string_lossy()), size(done.bytes))
}

/// The errors that are the command line's fault.
pub(super) fn is_usage(error: &FetchError) -> bool {
    matches!(error, FetchError::Url { .. } | FetchError::Repository { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::KNOWN;

    #[test]
    fn a_split_model_is_all_of_its_parts() {
        assert_eq!(parts_of("a/m.gguf"), ["a/m.gguf"]);
        let parts = parts_of("a/m-00001-of-00003.gguf");
        assert_eq!(parts, ["a/m-00001-of-00003.gguf", "a/m-00002-of-00003.gguf", "a/m-00003-of-00003.gguf"]);
        for odd in
            ["m-00001-of-3.gguf", "m-00001-of-00000.gguf", "m-00001-of-99999.gguf", "m-00002-of-00003.gguf"]
        {
            assert_eq!(parts_of(odd), [odd]);
        }
    }

    #[test]
    fn help_tells_every_short_name_with_its_size() {
        use clap::CommandFactory;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let help =
            Line::command().render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        for known in KNOWN {
            assert!(help.contains(&format!("{} ({:.2} GB)", known.name, known.gb)), "{help}");
        }
    }
}
