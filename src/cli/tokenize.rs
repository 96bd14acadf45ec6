//! `pled tokenize`: the token ids of a text.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::daemon::open_model;
use crate::tokenizer::{Specials, Tokenizer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Text; texts of special tokens become these tokens
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// Model file (GGUF) [default: home-mini, which is built in]
    #[arg(long, env = "PLED_MODEL", value_name = "FILE")]
    model: Option<PathBuf>,
    /// Print only the ids, as --prompt-ids takes them
    #[arg(long)]
    ids: bool,
    /// Put the model's beginning-of-sequence token in front, as generate does
    #[arg(long)]
    bos: bool,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let mut file = open_model(args.model.as_deref())?;
    let tokenizer = Tokenizer::from_metadata(&mut file.gguf.metadata)
        .with_context(|| file.path().display().to_string())?;
    let ids = match args.bos {
        true => tokenizer.encode_prompt(&args.text, Specials::Parse),
        false => tokenizer.encode(&args.text, Specials::Parse),
    };
    if args.ids {
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", words.join(","))?;
        return Ok(());
    }
    for id in ids {
        let piece = tokenizer.piece(id).unwrap_or_default();
        // Quoted: a piece may be a newline, or bytes that are no text.
        writeln!(out, "{id:>7}  {:?}", String::from_utf8_lossy(piece))?;
    }
    Ok(())
}
