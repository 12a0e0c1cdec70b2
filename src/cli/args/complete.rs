//! The options of `trueup completions`, and of the hidden command behind the scripts.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

/// A shell that trueup completes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The packages bring the scripts. Elsewhere, as `source <(trueup completions bash)` in ~/.bashrc, or zsh likewise, or \
                  `trueup completions fish | source`.\n\n\
                  Names of environments, apps, nodes and releases come from what this host has kept of its last passes: \
                  completing asks neither the store nor the network."
)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: CompletionShell,
}

/// What a script passes on of the command line.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    #[arg(value_enum)]
    pub shell: CompletionShell,
    /// Which of the words is completed, from 0
    pub index: usize,
    #[arg(last = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}
