//! The `trueup` command: parse, call, map the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    trueup::cli::run(std::env::args_os()).into()
}
