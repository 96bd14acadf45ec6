//! Fragments become settings: flags over environment over file over credentials over defaults.
//!
//! Every source says its piece as a [`Fragment`]: option names with the text that was given and the
//! place where it stood. Fragments are laid over each other, and only what remains is parsed, by the
//! same rules whatever its source. So an error can always name the place, the option and the value.
//!
//! Deliberately absent: reading a model (a limit that only the model knows is checked by whoever
//! opens it, who reports it through [`Settings::reject`]), and any use of the settings below this
//! level: the rooms underneath take small options of their own.

mod credentials;
mod environment;
mod error;
mod file;
mod flags;
mod fragment;
mod settings;
mod value;

pub use credentials::from_credentials;
pub use environment::from_environment;
pub use error::ConfigError;
pub use file::from_file;
pub use flags::{ModelFlags, ServerFlags};
pub use fragment::{Field, Fragment, Given, Origin};
pub use settings::{DEFAULT_N_CTX, Settings};
