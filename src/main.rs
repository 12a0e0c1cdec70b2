//! The `trueup` command: parses the arguments, runs the command and maps its outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    trueup::cli::run(std::env::args_os()).into()
}
