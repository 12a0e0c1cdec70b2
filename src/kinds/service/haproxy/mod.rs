//! Changes of haproxy's servers without a reload.
//!
//! A reload ends nothing at once, but each one leaves a process behind that lives as long as its longest connection, and
//! loses what an operator has set by hand. So servers that join, leave or move go over the admin socket, if nothing else
//! of the file differs from what the process has loaded. The file is what counts: it is on disk before the first command,
//! and a reload at any moment leads to the same servers. What cannot be verified afterwards is reloaded.

mod config;
mod diff;
mod loaded;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::digest::digest;
use crate::kinds::path_field::validate_path;
use crate::ports::haproxy::{RuntimeError, RuntimeSocket, ServerId};
use crate::ports::root::{Attrs, RootError};
use crate::ports::services::Services;
use crate::ports::{Host, processes};
use crate::problem::Problem;
use config::Configuration;
use diff::{ServerChange, diff, verify};
use loaded::{LoadedConfig, LoadedStore, Worker};

/// The first version that deletes servers that its file has.
const OLDEST_VERSION: (u32, u32) = (2, 6);

/// Maximum size of a configuration, in bytes.
const MAX_CONFIG_BYTES: usize = 16 << 20;

/// haproxy reads the state file as root, before it drops its privileges.
const STATE_FILE_MODE: u32 = 0o600;

/// Content of a state file that says nothing; without a file haproxy warns.
const EMPTY_STATE: &str = "1\n";

/// Most changes that a report names.
const MAX_NAMED: usize = 12;

/// How long all changes of one update may take.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(30);

/// The program's name, of its workers too.
const PROGRAM: &str = "haproxy";

/// How trueup changes a running haproxy.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct HaproxyRuntime {
    /// Its only configuration file, also one of the resources in `reload_on`.
    pub config: PathBuf,
    /// Its admin socket: `stats socket PATH level admin`.
    pub socket: PathBuf,
    /// A file that trueup writes: the servers that an operator has drained, or put into maintenance, over the socket. The
    /// configuration has to load it: `server-state-file PATH`, and `load-server-state-from-file global`.
    pub state_file: PathBuf,
}

impl HaproxyRuntime {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        validate_path("runtime.haproxy.config", &self.config)?;
        validate_path("runtime.haproxy.socket", &self.socket)?;
        validate_path("runtime.haproxy.state_file", &self.state_file)
    }
}

/// A haproxy that runs as a service.
pub(super) struct Haproxy<'a> {
    spec: &'a HaproxyRuntime,
    service: &'a str,
    services: &'a dyn Services,
    host: &'a Host,
    socket: RuntimeSocket,
    store: LoadedStore<'a>,
}

impl<'a> Haproxy<'a> {
    pub(super) fn new(
        spec: &'a HaproxyRuntime,
        service: &'a str,
        services: &'a dyn Services,
        host: &'a Host,
    ) -> Haproxy<'a> {
        Haproxy {
            spec,
            service,
            services,
            host,
            socket: RuntimeSocket::new(&host.root, &spec.socket),
            store: LoadedStore::new(&host.root, service),
        }
    }

    /// Notes what the worker process has loaded, before a pass replaces it. `fingerprints`: of the files that the process
    /// is known to have loaded as they are on disk. Without a note the next change is a reload.
    pub(super) fn note_loaded(&self, fingerprints: &[&str]) {
        if let Err(why) = self.try_note_loaded(fingerprints) {
            tracing::debug!("{}: its servers cannot be changed: {why}", self.service);
        }
    }

    fn try_note_loaded(&self, fingerprints: &[&str]) -> Result<(), String> {
        let worker = self.worker()?;
        // A note stays true as long as its process runs: trueup updates it, and a file that differs is owed a reload.
        let known = self.store.load();
        if known.is_some_and(|known| known.worker == worker) {
            return Ok(());
        }
        let file = self.read_config()?;
        // An operator's reload that failed counts as one for the service manager, but leaves the process as it is.
        let is_older = processes::started_at(worker.pid).is_some_and(|at| file.changed_at < at);
        if !is_older || !fingerprints.contains(&file.fingerprint.as_str()) {
            return Err("it may have loaded another file".to_owned());
        }
        let configuration = file.configuration;
        let loaded = LoadedConfig::new(worker, &configuration);
        self.store.save(&loaded).map_err(|error| error.to_string())
    }

    /// Gives the running process the servers of the file, and returns what was done. `fingerprints`: of what changed since
    /// it was last loaded. `Err`: why it takes a reload.
    pub(super) fn update_servers(&self, fingerprints: &[&str]) -> Result<String, String> {
        let file = self.read_config()?;
        let changed = fingerprints.iter();
        if changed.copied().any(|changed| changed != file.fingerprint) {
            return Err("more than its configuration file changed".to_owned());
        }
        let wanted = file.configuration;
        let mut loaded = self.loaded_config()?;
        let changes = diff(&wanted, &loaded, &self.socket.servers().map_err(text)?)?;
        // First: whoever continues after this pass was killed has to know which state of a server is trueup's.
        loaded.extend(&wanted);
        for change in &changes {
            match change {
                ServerChange::Add { id, .. } | ServerChange::Return { id, .. } => {
                    loaded.leaving.remove(id);
                    loaded.joining.insert(id.clone());
                }
                ServerChange::Leave { id } => {
                    loaded.joining.remove(id);
                    loaded.leaving.insert(id.clone());
                }
                ServerChange::SetAddress { .. } => {}
            }
        }
        self.store.save(&loaded).map_err(text)?;
        let started = self.host.clock.monotonic_now();
        for change in &changes {
            self.make(change).map_err(text)?;
            if self.host.clock.monotonic_now() - started > UPDATE_TIMEOUT {
                return Err("it answers too slowly".to_owned());
            }
        }
        verify(&wanted, &loaded, &self.socket.servers().map_err(text)?)?;
        if self.worker()? != loaded.worker {
            return Err("it was reloaded meanwhile".to_owned());
        }
        loaded.settle(&wanted);
        self.store.save(&loaded).map_err(text)?;
        // The rest may fail without harm: the next pass tries it again.
        self.maintain();
        Ok(summary(&changes))
    }

    fn make(&self, change: &ServerChange) -> Result<(), RuntimeError> {
        let enable = |id: &ServerId, has_check: bool| {
            if has_check {
                self.socket.enable_checks(id)?;
            }
            self.socket.set_ready(id)
        };
        match change {
            ServerChange::Add {
                id,
                address,
                options,
                has_check,
            } => {
                self.socket.add_server(id, *address, options)?;
                enable(id, *has_check)
            }
            ServerChange::Return { id, has_check } => enable(id, *has_check),
            ServerChange::SetAddress { id, address } => self.socket.set_address(id, *address),
            ServerChange::Leave { id } => self.socket.set_maintenance(id),
        }
    }

    /// Keeps the state file up to date, so that the next process takes over what an operator has set by hand, whoever
    /// starts it; and deletes servers that left, once they have no connections.
    pub(super) fn maintain(&self) {
        let result = self.save_states().and_then(|()| self.delete_leaving());
        match result {
            Ok(()) | Err(RuntimeError::NotListening(_)) => {}
            Err(error) => tracing::warn!("{}: {error}", self.service),
        }
    }

    /// Creates the state file, if it is missing: haproxy would warn, and start without it.
    pub(super) fn prepare_start(&self) {
        let meta = self.host.root.meta(&self.spec.state_file);
        let result = match meta {
            Ok(None) => self.write_state_file(EMPTY_STATE),
            other => other.map(|_| ()),
        };
        if let Err(error) = result {
            tracing::warn!("{}: {error}", self.service);
        }
    }

    fn save_states(&self) -> Result<(), RuntimeError> {
        let running = self.socket.servers()?;
        let own_changes = self.own_changes()?;
        // Read only for a server that somebody has drained.
        let wanted = OnceCell::new();
        let port = |id: &ServerId| {
            if own_changes
                .as_ref()
                .is_some_and(|own| own.is_own_change(id))
            {
                return None;
            }
            let wanted = wanted.get_or_init(|| {
                let file = self.read_config().ok();
                file.map(|file| file.configuration)
            });
            match wanted.as_ref().filter(|wanted| wanted.blocker.is_none()) {
                Some(wanted) => {
                    let server = wanted.servers.get(id)?;
                    Some(server.address.map(|address| address.port()))
                }
                None => Some(None),
            }
        };
        let states = running.state_file(port);
        let path = &self.spec.state_file;
        let known = self.host.root.read(path, MAX_CONFIG_BYTES)?;
        match known.is_some_and(|known| known == states.as_bytes()) {
            true => Ok(()),
            false => Ok(self.write_state_file(&states)?),
        }
    }

    fn write_state_file(&self, states: &str) -> Result<(), RootError> {
        let attrs = Attrs::mode(STATE_FILE_MODE);
        self.host
            .root
            .write_atomic(&self.spec.state_file, states.as_bytes(), &attrs)
    }

    /// The changes that trueup has begun in the process that runs now, if any is open.
    fn own_changes(&self) -> Result<Option<LoadedConfig>, RuntimeError> {
        let Some(loaded) = self.store.load() else {
            return Ok(None);
        };
        if loaded.joining.is_empty() && loaded.leaving.is_empty() {
            return Ok(None);
        }
        let pid = self.socket.info()?.pid;
        if pid == loaded.worker.pid && processes::start_time(pid) == Some(loaded.worker.started) {
            return Ok(Some(loaded));
        }
        // They ended with their process.
        self.store.remove()?;
        Ok(None)
    }

    fn delete_leaving(&self) -> Result<(), RuntimeError> {
        let Some(mut loaded) = self.own_changes()? else {
            return Ok(());
        };
        for id in loaded.leaving.clone() {
            // Somebody may have made it ready again by hand; the file no longer has it.
            self.socket.set_maintenance(&id)?;
            if self.socket.delete_server(&id)? {
                tracing::info!("{}: {id} has left and was deleted", self.service);
                loaded.leaving.remove(&id);
                loaded.servers.remove(&id);
            }
        }
        Ok(self.store.save(&loaded)?)
    }

    /// What the worker process that answers has loaded.
    fn loaded_config(&self) -> Result<LoadedConfig, String> {
        let worker = self.worker()?;
        let loaded = self.store.load();
        let loaded = loaded.filter(|loaded| loaded.worker == worker);
        let loaded = loaded.ok_or("trueup has not seen what it has loaded")?;
        let info = self.socket.info().map_err(text)?;
        if info.pid != worker.pid {
            return Err(format!("process {} answers on its socket", info.pid));
        }
        if info.version < OLDEST_VERSION {
            return Err("it is older than haproxy 2.6".to_owned());
        }
        Ok(loaded)
    }

    /// The process that serves: the newest worker, or the main process if it has none.
    fn worker(&self) -> Result<Worker, String> {
        let status = self.services.status(self.service).map_err(text)?;
        let main = status.main_pid.ok_or("it does not run")?;
        let arguments = processes::arguments(main).unwrap_or_default();
        let config = self.host.root.machine_path(&self.spec.config);
        if !loads_only(&arguments, &config.display().to_string()) {
            return Err(format!("it loads other files than {}", config.display()));
        }
        let is_worker = |(pid, _): &(u32, u64)| {
            processes::program_name(*pid).is_some_and(|name| name == PROGRAM)
        };
        let workers = processes::child_runs(main).into_iter().filter(is_worker);
        let newest = workers.max_by_key(|(pid, started)| (*started, *pid));
        let main_run = || Some((main, processes::start_time(main)?));
        let (pid, started) = newest.or_else(main_run).ok_or("it has just ended")?;
        Ok(Worker { pid, started })
    }

    fn read_config(&self) -> Result<ConfigFile, String> {
        let path = &self.spec.config;
        let file = self.host.root.read_with_meta(path, MAX_CONFIG_BYTES);
        let file = file.map_err(text)?;
        let (meta, body) = file.ok_or_else(|| format!("there is no {}", path.display()))?;
        let content = std::str::from_utf8(&body);
        let content = content.map_err(|_| format!("{} is not UTF-8", path.display()))?;
        Ok(ConfigFile {
            fingerprint: digest(&body),
            changed_at: meta.ctime,
            configuration: Configuration::parse(content),
        })
    }
}

/// The configuration on disk.
struct ConfigFile {
    fingerprint: String,
    changed_at: Timestamp,
    configuration: Configuration,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Whether a command line of haproxy names this file and no other.
fn loads_only(arguments: &[String], config: &str) -> bool {
    let mut files = arguments
        .windows(2)
        .filter(|pair| pair[0] == "-f")
        .map(|pair| pair[1].as_str());
    let is_only = files.next() == Some(config) && files.next().is_none();
    is_only && !arguments.iter().any(|argument| argument == "--")
}

fn summary(changes: &[ServerChange]) -> String {
    if changes.is_empty() {
        return "it has these servers already".to_owned();
    }
    let named = changes.iter().take(MAX_NAMED).map(ServerChange::summary);
    let mut words: Vec<String> = named.collect();
    if changes.len() > MAX_NAMED {
        words.push(format!("and {} more", changes.len() - MAX_NAMED));
    }
    words.join(", ")
}
