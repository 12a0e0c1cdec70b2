//! Writes what a host needs for its first pass, and starts the timer.

use std::path::Path;

use super::deploy_key::DEPLOY_KEY;
use super::{Init, InitReport, NodeSettings, credentials, timer};
use crate::checks::Check;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::ports::root::{Attrs, FileKind, Meta, Root};

impl Init<'_> {
    /// Writes the files and starts the timer, unless a check failed.
    pub(crate) fn finish(mut self) -> Result<InitReport, CommandError> {
        let mut written = Vec::new();
        let mut timer = false;
        let is_bad = self.checks.iter().any(Check::is_bad);
        if !is_bad {
            written = self.write_files()?;
            timer = self.start_timer();
        }
        Ok(InitReport {
            version: crate::report::VERSION,
            outcome: if is_bad {
                Exit::Failed
            } else {
                Exit::Converged
            },
            checks: self.checks,
            written,
            timer,
        })
    }

    /// Returns the written files.
    fn write_files(&self) -> Result<Vec<String>, CommandError> {
        let root = &self.target.root;
        let mut written = Vec::new();
        if let Some(key) = &self.request.deploy_key {
            key.install(root, DEPLOY_KEY)?;
            let path = root.machine_path(Path::new(DEPLOY_KEY));
            written.push(path.display().to_string());
        }
        if let Some(keys) = &self.new_credentials {
            credentials::save(root, keys)?;
            written.push(credentials::CREDENTIALS_FILE.to_owned());
        }
        written.extend(self.write_settings()?);
        Ok(written)
    }

    fn write_settings(&self) -> Result<Vec<String>, CommandError> {
        let config = &self.target.paths.config;
        let mut written = Vec::new();
        let real = Root::real()?;
        if let Some(base) = config.parent() {
            real.create_dir_all(base, &Attrs::mode(0o755))?;
        }
        let body = self.settings.render(self.deploy_key_path());
        let before = real.read_with_meta(config, 1 << 20)?;
        let attrs = settings_attrs(&self.settings, before.as_ref().map(|(meta, _)| meta));
        if let Some((_, before)) = before.filter(|_| self.request.replace) {
            let old = config.with_extension("yml.old");
            real.write_atomic(&old, &before, &Attrs::mode(0o600))?;
            written.push(old.display().to_string());
        }
        real.write_atomic(config, body.as_bytes(), &attrs)?;
        let secret = match self.settings.has_secrets() {
            true => " (readable by root only: it contains secrets)",
            false => "",
        };
        written.push(format!("{}{secret}", config.display()));
        Ok(written)
    }

    /// Starts the timer of a real host, unless the request leaves it alone. Returns whether it is active.
    fn start_timer(&mut self) -> bool {
        if !self.target.root.is_real() || !self.request.start_timer {
            return false;
        }
        match timer::start(&self.target.root) {
            Ok(()) => true,
            Err(problem) => {
                self.checks.push(Check::note("timer", problem));
                false
            }
        }
    }
}

/// Settings are world-readable so that any user can run `status`, unless they hold secrets or the previous
/// file was stricter.
fn settings_attrs(settings: &NodeSettings, before: Option<&Meta>) -> Attrs {
    let usual = if settings.has_secrets() { 0o600 } else { 0o644 };
    let Some(before) = before.filter(|before| before.kind == FileKind::File) else {
        return Attrs::mode(usual);
    };
    let mode = usual & before.mode;
    Attrs {
        // The previous file's group keeps its access.
        gid: (mode & 0o077 != usual & 0o077).then_some(before.gid),
        ..Attrs::mode(mode)
    }
}
