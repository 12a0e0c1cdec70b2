//! The checks of a role: commands that validate configuration files before a service reads them.

use std::path::PathBuf;

use serde::Deserialize;

use crate::problem::Problem;
use crate::resource::Argv;
use crate::yaml::{self, Node};

/// A check, in either form: `[nginx, -t]`, or `{run: [nginx, -t], covers: [/etc/nginx]}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigCheck {
    pub run: Argv,
    /// Files that it reads besides those of its resources, and folders for the files in them.
    #[serde(default)]
    pub covers: Vec<PathBuf>,
}

impl ConfigCheck {
    pub(super) fn decode(node: &Node) -> Result<ConfigCheck, Problem> {
        if node.as_map().is_none() {
            return Ok(ConfigCheck {
                run: yaml::decode(node)?,
                covers: Vec::new(),
            });
        }
        let check: ConfigCheck = yaml::decode(node)?;
        match check.covers.iter().find(|path| !path.is_absolute()) {
            Some(path) => Err(Problem::new(format!(
                "expected absolute paths, found `{}`",
                path.display()
            ))
            .at(&node.at)
            .field("covers")),
            None => Ok(check),
        }
    }
}
