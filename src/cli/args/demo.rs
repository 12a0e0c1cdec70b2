//! Options of `trueup demo`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the demo running, and its folder
    #[arg(long)]
    pub keep: bool,
    /// The folder to use; it must be new or empty [default: one in the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stop a demo that was kept, and remove its folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["keep", "dir"])]
    pub stop: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DemoAppArgs {
    #[arg(long)]
    pub port: u16,
}
