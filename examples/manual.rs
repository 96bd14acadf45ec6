//! Writes the manual pages and the shell completions, from the definitions that `--help` comes from:
//!
//!     cargo run --example manual -- MAN_FOLDER COMPLETIONS_FOLDER

use std::error::Error;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || folders.next().ok_or("give a folder for manual pages and one for completions");
    let (man, completions) = (next()?, next()?);
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let mut command = pled::cli::command();
    clap_mangen::generate_to(command.clone(), man)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "pled", &completions)?;
    }
    Ok(())
}
