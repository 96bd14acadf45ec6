//! The commands: words of the command line in, text on stdout, one line on stderr when it goes wrong.
//!
//! Deliberately absent: computing. A command opens a model or starts a daemon and prints what comes.

mod bench;
mod chat;
mod checksums;
mod client;
mod demo;
mod doctor;
mod exit;
mod generate;
mod inspect;
mod logits;
mod machine;
mod npy;
mod perplexity;
mod prompt;
mod pull;
mod serve;
mod settings;
mod terminal;
mod tokenize;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Serves a language model from a small computer.
#[derive(Debug, Parser)]
#[command(name = "pled", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Talk to a simulated house: a daemon, a conversation over gRPC, and the calls that come of it
    Demo(demo::Args),
    /// Run the daemon: serve a model over gRPC and HTTP
    Serve(serve::Args),
    /// Talk to a running daemon in the terminal
    Chat(chat::Args),
    /// Complete one prompt in this process, without a server
    Generate(generate::Args),
    /// Show the token ids and pieces of a text
    Tokenize(tokenize::Args),
    /// Show what a model file holds, what lies in memory, and which boards it fits
    Inspect(inspect::Args),
    /// Measure how fast prompts are computed and answers decoded
    Bench(bench::Args),
    /// Measure how well a model foretells a text
    Perplexity(perplexity::Args),
    /// Download a model file from a hub or a web server
    Pull(pull::Args),
    /// Look for what on this board keeps pled from serving well, and say what to do
    Doctor(doctor::Args),
}

/// The definition of the command line, for manual pages and the completions of shells.
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line of this process; returns its exit code.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) if !error.use_stderr() => {
            // Help or version, to stdout. A reader that has gone has seen enough.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                // No command at all: the whole help, on stderr.
                let _ = error.print();
            } else {
                complain(&exit::usage_line(&error));
            }
            return ExitCode::from(exit::BAD_CONFIGURATION);
        }
    };
    match run(&line.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{}{}", exit::one_line(&error), exit::advice_on(&error)));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match command {
        Command::Demo(args) => demo::run(args, &mut out)?,
        Command::Serve(args) => serve::run(args)?,
        Command::Chat(args) => chat::run(args, &mut out)?,
        Command::Generate(args) => generate::run(args, &mut out)?,
        Command::Tokenize(args) => tokenize::run(args, &mut out)?,
        Command::Inspect(args) => inspect::run(args, &mut out)?,
        Command::Bench(args) => bench::run(args, &mut out)?,
        Command::Perplexity(args) => perplexity::run(args, &mut out)?,
        Command::Pull(args) => {
            let done = pull::run(args, &mut out);
            // Models to choose from are shown although none was named.
            out.flush()?;
            done?;
        }
        Command::Doctor(args) => {
            let done = doctor::run(args, &mut out);
            // What was found is printed also when it is an error.
            out.flush()?;
            done?;
        }
    }
    out.flush()?;
    Ok(())
}

/// One line on stderr; that it cannot be written there is nowhere to be told.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "pled: {line}");
}
