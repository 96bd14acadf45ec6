//! The model that is part of the program: home-mini, which makes tool calls of plain home commands. It serves who
//! gives no other model; `models/home-mini` tells how it is made and what it cannot do.

use std::path::Path;

use crate::model::{ModelError, ModelFile};

/// What logs and errors call it in place of a path.
pub const EMBEDDED_NAME: &str = "home-mini (built in)";

const FILE: &[u8] = include_bytes!("../../models/home-mini/home-mini.gguf");

/// Opens the model file at `path`; without one, the model that is part of the program.
pub fn open_model(path: Option<&Path>) -> Result<ModelFile, ModelError> {
    match path {
        Some(path) => ModelFile::open(path),
        None => ModelFile::of_constant(EMBEDDED_NAME, FILE),
    }
}
