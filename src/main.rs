//! The `pled` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    pled::cli::main()
}
