//! The drain of an app: before its services are restarted, load balancers take the host out.
//!
//! While the app's file is there, the web server answers the path of its health check with 503, and everything else as
//! before. The app serves until the balancers have noticed, and the requests in progress end. A balancer brings the
//! host back by itself, once the file is gone and the health check answers again; the pass waits for that too, because the
//! next host may be drained as soon as it ends.
//!
//! Where the hosts of the app may all be out at a time, such as a single one, balancers would have nobody to send visitors
//! to, for longer than a restart takes: there is no drain.
//!
//! A drain is no condition of a deployment: if the file cannot be written, a few requests may fail, but a fix that is not
//! deployed costs more.

use std::time::Duration;

use crate::ports::root::RootError;
use crate::ports::{Host, backoff, listeners};
use crate::release::app::spec::ReleaseSpec;
use crate::release::record::drain as file;
use crate::resource::Failure;

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long the app's port has to be without connections. A moment may lie between two requests of a balancer that
/// has not noticed yet.
const QUIET: Duration = Duration::from_secs(1);

/// Drains an app, if its role says so and it is not drained yet, and waits until balancers have taken the host out.
/// Fails only if trueup is asked to stop meanwhile; then the app is not drained.
pub(crate) fn drain(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
    let app = &spec.app;
    let Some(drain) = spec.drain().filter(|_| !is_drained(spec, host)) else {
        return Ok(());
    };
    if host.permissions.of(app).others_serve() == Some(false) {
        tracing::info!(
            target: "progress",
            "{app}: not drained: load balancers may be left with no other host that serves it"
        );
        return Ok(());
    }
    if let Err(error) = file::begin(&host.root, app, host.clock.now()) {
        tracing::warn!(
            "{app}: it cannot be drained, so requests may fail while its services are restarted: {}",
            Failure::from(error)
        );
        return Ok(());
    }
    let limit = drain.wait();
    tracing::info!(
        target: "progress",
        "{app}: drained; waits until load balancers have taken this host out, at most {} s",
        limit.as_secs()
    );
    let left = wait_until_left(spec.port, drain.notice(), limit, host);
    if host.stop.is_set() {
        end_drain(spec, host);
        return Err(Failure::stopped());
    }
    if let Some(left) = left {
        tracing::info!(
            target: "progress",
            "{app}: connections left after {} s: {left}; goes on",
            limit.as_secs()
        );
    }
    Ok(())
}

/// Waits at least `notice` and at most `limit`, until the app's port has no connections or trueup is asked to stop.
/// Returns how many are left at the limit, if that is known.
fn wait_until_left(
    port: Option<u16>,
    notice: Duration,
    limit: Duration,
    host: &Host,
) -> Option<usize> {
    let began = host.clock.monotonic_now();
    let mut quiet_since = None;
    loop {
        let now = host.clock.monotonic_now();
        let waited = now.saturating_duration_since(began);
        // Not counted before they matter: the kernel lists every connection of the host.
        let is_counted = waited + QUIET >= notice.min(limit);
        let open = port
            .filter(|_| is_counted)
            .and_then(|port| listeners::count_connections(port).ok());
        match open {
            Some(0) => {
                let since = *quiet_since.get_or_insert(now);
                let is_quiet = now.saturating_duration_since(since) >= QUIET;
                if is_quiet && waited >= notice {
                    return None;
                }
            }
            _ => quiet_since = None,
        }
        if host.stop.is_set() || waited >= limit {
            return open.filter(|open| *open > 0);
        }
        backoff::sleep(POLL_INTERVAL.min(limit.saturating_sub(waited)));
    }
}

/// Whether an app is drained.
pub(crate) fn is_drained(spec: &ReleaseSpec, host: &Host) -> bool {
    file::is_drained(&host.root, &spec.app)
}

/// Ends the drain of an app, if it is drained. Logs a failure: the end of the pass tries again, and so does the next one.
pub(crate) fn end_drain(spec: &ReleaseSpec, host: &Host) {
    if is_drained(spec, host)
        && let Err(error) = file::end(&host.root, &spec.app)
    {
        tracing::warn!("{}: it stays drained: {}", spec.app, Failure::from(error));
    }
}

/// Ends the drain of an app that has shown that it serves, or cannot, and waits until balancers have brought the host
/// back, or trueup is asked to stop.
pub(crate) fn return_from_drain(spec: &ReleaseSpec, host: &Host) {
    end_drain(spec, host);
    let Some(drain) = spec.drain() else { return };
    let began = host.clock.monotonic_now();
    let mut left = drain.back();
    while !left.is_zero() && !host.stop.is_set() {
        backoff::sleep(POLL_INTERVAL.min(left));
        let waited = host.clock.monotonic_now().saturating_duration_since(began);
        left = drain.back().saturating_sub(waited);
    }
}

/// Ends the drains of all apps, at the start and at the end of a pass; returns which apps were drained. The caller holds
/// the lock of the passes.
pub(crate) fn end_all_drains(host: &Host) -> Result<Vec<String>, RootError> {
    let apps = file::drained_apps(&host.root)?;
    for app in &apps {
        file::end(&host.root, app)?;
    }
    Ok(apps)
}
