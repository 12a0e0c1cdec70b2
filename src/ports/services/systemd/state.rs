//! Maps systemd's properties to the port's types.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use zbus::Variant;

use super::bus::Properties;
use crate::digest::hex;
use crate::ports::services::{
    ActiveState, EnabledState, NextTrigger, ScheduledJob, ServiceStatus, Timer, kernel_clock,
};

/// The longest time that a pass waits for a service to stop, whatever its unit allows.
const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(3600);

/// The properties of a unit.
#[derive(Debug)]
pub(super) struct UnitState {
    pub(super) unit: Properties,
    /// Empty unless the unit is a service.
    pub(super) service: Properties,
}

impl UnitState {
    pub(super) fn status(&self) -> ServiceStatus {
        let active = self.active_state();
        let runs = !matches!(active, ActiveState::Stopped | ActiveState::Failed);
        let started = self.start_time().filter(|_| runs);
        // A reload of an earlier run does not count for this one.
        let reloaded = self.reload_time().filter(|at| Some(*at) >= started && runs);
        ServiceStatus {
            known: self.is_known(),
            active,
            enabled: self.enabled_state(),
            ends_by_itself: string_property(&self.service, "Type") == "oneshot"
                && !bool_property(&self.service, "RemainAfterExit"),
            main_pid: u64_property(&self.service, "MainPID")
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid != 0),
            run_id: self.invocation_id().filter(|_| runs),
            started_at: started.and_then(kernel_clock::from_monotonic),
            reloaded_at: reloaded.and_then(kernel_clock::from_monotonic),
            reload_id: reloaded.map(|at| at.as_micros().to_string()),
            can_reload: bool_property(&self.unit, "CanReload"),
            reloading: self.reloading(),
            stale_definition: bool_property(&self.unit, "NeedDaemonReload"),
            definition_file: Some(self.unit_property("FragmentPath"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            environment_files: self.environment_files(),
            last_failure: self.failure_reason(),
            restarts: self.restarts(),
        }
    }

    /// A definition that systemd cannot parse (`bad-setting`, `error`) counts as known: its start fails with
    /// the reason.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.unit_property("LoadState"), "not-found" | "stub" | "")
    }

    pub(super) fn is_masked(&self) -> bool {
        self.unit_property("LoadState") == "masked" || self.enabled_state() == EnabledState::Masked
    }

    /// The error in the definition, if systemd reports one.
    pub(super) fn load_error(&self) -> Option<String> {
        if !matches!(self.unit_property("LoadState"), "bad-setting" | "error") {
            return None;
        }
        let error = self.unit.get("LoadError").map(|error| match &**error {
            Variant::Structure(parts) => parts.fields().last().map(ToString::to_string),
            _ => None,
        });
        Some(
            error
                .flatten()
                .unwrap_or_else(|| self.unit_property("LoadState").to_owned()),
        )
    }

    /// The name that systemd itself uses: an alias names another unit.
    pub(super) fn id(&self) -> &str {
        self.unit_property("Id")
    }

    pub(super) fn active_state(&self) -> ActiveState {
        match self.unit_property("ActiveState") {
            "active" | "reloading" | "refreshing" => ActiveState::Running,
            // `activating` includes waiting for an automatic restart.
            "activating" => ActiveState::Starting,
            "deactivating" => ActiveState::Stopping,
            "failed" | "maintenance" => ActiveState::Failed,
            _ => ActiveState::Stopped,
        }
    }

    /// Only a service that signals its readiness also signals that it reloads.
    fn reloading(&self) -> Option<bool> {
        let signals = string_property(&self.service, "Type").starts_with("notify");
        let reloads = matches!(
            self.unit_property("ActiveState"),
            "reloading" | "refreshing"
        );
        signals.then_some(reloads)
    }

    /// Counts a restart that is about to happen.
    fn restarts(&self) -> u32 {
        let made =
            u64_property(&self.service, "NRestarts").and_then(|made| u32::try_from(made).ok());
        made.unwrap_or(0)
            .saturating_add(u32::from(self.waits_for_restart()))
    }

    pub(super) fn waits_for_restart(&self) -> bool {
        self.unit_property("SubState").starts_with("auto-restart")
    }

    fn enabled_state(&self) -> EnabledState {
        match self.unit_property("UnitFileState") {
            "enabled" => EnabledState::Yes,
            "masked" | "masked-runtime" => EnabledState::Masked,
            // `…-runtime` and `linked` units do not start at the next boot by themselves.
            "disabled" | "enabled-runtime" | "linked" | "linked-runtime" | "bad" | "invalid" => {
                EnabledState::No
            }
            _ => EnabledState::Static,
        }
    }

    /// Whether systemd counts the service as started before it can know that it stays up.
    pub(super) fn has_no_readiness_signal(&self) -> bool {
        let kind = string_property(&self.service, "Type");
        matches!(kind, "simple" | "exec" | "idle")
    }

    /// Why the last run failed, if it did.
    pub(super) fn failure_reason(&self) -> Option<String> {
        const EXITED: i32 = 1;
        let status = i32_property(&self.service, "ExecMainStatus").unwrap_or(0);
        let exited = i32_property(&self.service, "ExecMainCode") == Some(EXITED);
        Some(match string_property(&self.service, "Result") {
            "" | "success" => return None,
            "timeout" => "it took longer than the timeout of its unit".into(),
            "exit-code" if exited && status != 0 => {
                format!("its main process exited with {status}")
            }
            "exit-code" => "one of its commands failed".into(),
            "signal" | "core-dump" if !exited && status != 0 => {
                format!("its main process was killed by signal {status}")
            }
            "oom-kill" => "it ran out of memory".into(),
            other => format!("it failed ({other})"),
        })
    }

    /// Whether a program defined it, and no file does.
    pub(super) fn is_transient(&self) -> bool {
        bool_property(&self.unit, "Transient")
    }

    /// Whether the main process was ended by SIGKILL, or a process for want of memory.
    pub(super) fn was_killed(&self) -> bool {
        const SIGKILL: i32 = 9;
        let status = i32_property(&self.service, "ExecMainStatus");
        match string_property(&self.service, "Result") {
            "oom-kill" => true,
            "signal" => status == Some(SIGKILL),
            _ => false,
        }
    }

    /// How long a stop may take before systemd kills what is left.
    pub(super) fn stop_timeout(&self) -> Duration {
        let timeout = duration_property(&self.service, "TimeoutStopUSec");
        timeout.unwrap_or_default().min(MAX_STOP_TIMEOUT)
    }

    pub(super) fn conditions_met(&self) -> bool {
        // A unit that was never started has no result and no time of the check.
        u64_property(&self.unit, "ConditionTimestampMonotonic").unwrap_or(0) == 0
            || bool_property(&self.unit, "ConditionResult")
    }

    fn invocation_id(&self) -> Option<String> {
        let id = self.unit.get("InvocationID")?.try_clone().ok()?;
        let bytes = Vec::<u8>::try_from(id).ok()?;
        let known = bytes.iter().any(|byte| *byte != 0);
        known.then(|| hex(&bytes))
    }

    /// Start of the main process if there is one, else of the unit as a whole.
    fn start_time(&self) -> Option<Duration> {
        let main = duration_property(&self.service, "ExecMainStartTimestampMonotonic");
        let unit_start = || duration_property(&self.unit, "ActiveEnterTimestampMonotonic");
        main.or_else(unit_start)
    }

    /// Start of the last `ExecReload=` command, on the monotonic clock.
    fn reload_time(&self) -> Option<Duration> {
        let Variant::Array(commands) = &**self.service.get("ExecReload")? else {
            return None;
        };
        let last = commands
            .iter()
            .filter_map(|command| match command {
                // path, argv, ignore failure, started (wall, monotonic), …
                Variant::Structure(parts) => parts.fields().get(4),
                _ => None,
            })
            .filter_map(|started| match started {
                Variant::U64(micros) if *micros > 0 => Some(*micros),
                _ => None,
            })
            .max()?;
        Some(Duration::from_micros(last))
    }

    fn environment_files(&self) -> Vec<PathBuf> {
        let Some(Variant::Array(files)) = self.service.get("EnvironmentFiles").map(|of| &**of)
        else {
            return Vec::new();
        };
        let path = |file: &Variant<'_>| match file {
            Variant::Structure(parts) => match parts.fields().first() {
                Some(Variant::Str(path)) => Some(PathBuf::from(path.as_str())),
                _ => None,
            },
            _ => None,
        };
        files.iter().filter_map(path).collect()
    }

    fn unit_property(&self, property: &str) -> &str {
        string_property(&self.unit, property)
    }
}

/// The next start and the interval of a timer; `None` if there is no such timer.
pub(super) fn timer(unit: &Properties, timer: &Properties) -> Option<Timer> {
    if matches!(
        string_property(unit, "LoadState"),
        "not-found" | "stub" | ""
    ) {
        return None;
    }
    let is_on = string_property(unit, "ActiveState") == "active";
    // For a masked timer systemd keeps only a part of what it had loaded, and reports defaults for the rest.
    let nothing = Properties::new();
    let definition = match string_property(unit, "LoadState") {
        "masked" => &nothing,
        _ => timer,
    };
    let late = |property| duration_property(definition, property).unwrap_or_default();
    Some(Timer {
        next: next_trigger(unit, timer),
        // A masked timer does not show whether it was enabled before.
        expected: is_on || string_property(unit, "UnitFileState") != "disabled",
        period: period(definition),
        max_delay: late("RandomizedDelayUSec") + late("AccuracyUSec"),
        active_since: duration_property(unit, "ActiveEnterTimestampMonotonic").filter(|_| is_on),
    })
}

/// The job of a timer.
pub(super) fn scheduled_job(
    unit: &Properties,
    timer: &Properties,
    service: &UnitState,
) -> ScheduledJob {
    // An operator may have started it by hand since.
    let starts = [
        timestamp_property(timer, "LastTriggerUSec"),
        timestamp_property(&service.service, "ExecMainStartTimestamp"),
    ];
    let last = starts.into_iter().flatten().max();
    let last = last.and_then(|micros| i64::try_from(micros).ok());
    let is_running = matches!(
        service.active_state(),
        ActiveState::Running | ActiveState::Starting
    );
    ScheduledJob {
        next: next_trigger(unit, timer),
        last_started: last.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        is_running,
        failure: service.failure_reason().filter(|_| !is_running),
    }
}

/// A time on a clock; 0 and all ones mean that nothing is planned.
fn timestamp_property(timer: &Properties, property: &str) -> Option<u64> {
    u64_property(timer, property).filter(|micros| *micros != 0 && *micros != u64::MAX)
}

/// The shortest interval that the timer defines, else the time from its last start to the next.
fn period(timer: &Properties) -> Option<Duration> {
    let intervals = match timer.get("TimersMonotonic").map(|value| &**value) {
        // base, interval, next
        Some(Variant::Array(timers)) => timers.iter().filter_map(|timer| match timer {
            Variant::Structure(parts) => match parts.fields() {
                [Variant::Str(base), Variant::U64(micros), ..] => Some((base.as_str(), *micros)),
                _ => None,
            },
            _ => None,
        }),
        _ => return last_interval(timer),
    };
    let repeats = ["OnUnitInactiveUSec", "OnUnitActiveUSec"];
    let intervals = intervals.filter(|(base, micros)| repeats.contains(base) && *micros > 0);
    let shortest = intervals
        .map(|(_, micros)| Duration::from_micros(micros))
        .min();
    shortest.or_else(|| last_interval(timer))
}

fn last_interval(timer: &Properties) -> Option<Duration> {
    let next = timestamp_property(timer, "NextElapseUSecRealtime")?;
    let last = timestamp_property(timer, "LastTriggerUSec")?;
    next.checked_sub(last).map(Duration::from_micros)
}

fn next_trigger(unit: &Properties, timer: &Properties) -> NextTrigger {
    if string_property(unit, "ActiveState") != "active" {
        return NextTrigger::Off;
    }
    if string_property(unit, "SubState") == "running" {
        return NextTrigger::Underway;
    }
    let planned = |property| timestamp_property(timer, property);
    let wall = planned("NextElapseUSecRealtime")
        .and_then(|micros| i64::try_from(micros).ok())
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let counted = planned("NextElapseUSecMonotonic")
        .and_then(|micros| kernel_clock::from_monotonic(Duration::from_micros(micros)));
    let next = wall.into_iter().chain(counted).min();
    next.map_or(NextTrigger::Off, NextTrigger::At)
}

fn string_property<'a>(of: &'a Properties, property: &str) -> &'a str {
    match of.get(property).map(|value| &**value) {
        Some(Variant::Str(text)) => text.as_str(),
        _ => "",
    }
}

fn bool_property(of: &Properties, property: &str) -> bool {
    matches!(
        of.get(property).map(|value| &**value),
        Some(Variant::Bool(true))
    )
}

fn u64_property(of: &Properties, property: &str) -> Option<u64> {
    match &**of.get(property)? {
        Variant::U32(number) => Some(u64::from(*number)),
        Variant::U64(number) => Some(*number),
        _ => None,
    }
}

fn i32_property(of: &Properties, property: &str) -> Option<i32> {
    match &**of.get(property)? {
        Variant::I32(number) => Some(*number),
        _ => None,
    }
}

fn duration_property(of: &Properties, property: &str) -> Option<Duration> {
    u64_property(of, property)
        .filter(|micros| *micros > 0)
        .map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use zbus::OwnedVariant;

    use super::*;

    fn unit_state(words: &[(&str, &str)]) -> UnitState {
        let word = |value: &str| OwnedVariant::try_from(Variant::new(value.to_owned())).unwrap();
        let unit = words
            .iter()
            .map(|(key, value)| ((*key).to_owned(), word(value)));
        UnitState {
            unit: unit.collect(),
            service: Properties::new(),
        }
    }

    #[test]
    fn systemd_states_map_to_port_states() {
        for (word, active) in [
            ("active", ActiveState::Running),
            ("reloading", ActiveState::Running),
            ("activating", ActiveState::Starting),
            ("deactivating", ActiveState::Stopping),
            ("inactive", ActiveState::Stopped),
            ("failed", ActiveState::Failed),
        ] {
            assert_eq!(
                unit_state(&[("ActiveState", word)]).active_state(),
                active,
                "{word}"
            );
        }
        for (word, enabled) in [
            ("enabled", EnabledState::Yes),
            ("enabled-runtime", EnabledState::No),
            ("disabled", EnabledState::No),
            ("linked", EnabledState::No),
            ("static", EnabledState::Static),
            ("generated", EnabledState::Static),
            ("indirect", EnabledState::Static),
            ("", EnabledState::Static),
            ("masked-runtime", EnabledState::Masked),
        ] {
            let status = unit_state(&[("UnitFileState", word)]).status();
            assert_eq!(status.enabled, enabled, "{word}");
        }
    }

    fn properties(values: Vec<(&str, Variant<'static>)>) -> Properties {
        let own = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        let values = values.into_iter();
        values
            .map(|(key, value)| (key.to_owned(), own(value)))
            .collect()
    }

    #[test]
    fn last_start_of_a_job_is_the_later_one_of_timer_and_operator() {
        let last = |triggered: u64, started: u64| {
            let timer = properties(vec![("LastTriggerUSec", Variant::U64(triggered))]);
            let job = UnitState {
                unit: Properties::new(),
                service: properties(vec![("ExecMainStartTimestamp", Variant::U64(started))]),
            };
            let last = scheduled_job(&Properties::new(), &timer, &job).last_started;
            last.map(|at| at.as_microsecond())
        };
        assert_eq!(last(0, 0), None);
        assert_eq!(last(0, 7), Some(7));
        assert_eq!(last(9, 7), Some(9));
        assert_eq!(last(5, 7), Some(7));
    }

    #[test]
    fn timer_period_is_known_while_the_timer_is_inactive() {
        const SECOND: u64 = 1_000_000;
        let monotonic = vec![
            ("OnUnitInactiveUSec", 15 * SECOND, 0_u64),
            ("OnBootUSec", 10 * SECOND, 0),
        ];
        let counted = properties(vec![
            ("TimersMonotonic", Variant::from(monotonic)),
            ("RandomizedDelayUSec", Variant::U64(3 * SECOND)),
            ("AccuracyUSec", Variant::U64(SECOND)),
        ]);
        let stopped = unit_state(&[
            ("LoadState", "loaded"),
            ("ActiveState", "inactive"),
            ("UnitFileState", "enabled"),
        ]);
        let status = timer(&stopped.unit, &counted).unwrap();
        assert_eq!(status.next, NextTrigger::Off);
        assert_eq!(status.period, Some(Duration::from_secs(15)));
        assert_eq!(status.max_delay, Duration::from_secs(4));
        assert!(status.expected && status.active_since.is_none());
        let disabled = unit_state(&[("LoadState", "loaded"), ("UnitFileState", "disabled")]);
        assert!(!timer(&disabled.unit, &counted).unwrap().expected);
        let masked = unit_state(&[("LoadState", "masked"), ("UnitFileState", "masked")]);
        let masked = timer(&masked.unit, &counted).unwrap();
        assert!(masked.expected && masked.period.is_none());
        let hourly = properties(vec![
            ("LastTriggerUSec", Variant::U64(1_000 * SECOND)),
            ("NextElapseUSecRealtime", Variant::U64(4_600 * SECOND)),
        ]);
        let status = timer(&stopped.unit, &hourly).unwrap();
        assert_eq!(status.period, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn unit_with_an_invalid_definition_is_known() {
        let known = |word| unit_state(&[("LoadState", word)]).status().known;
        assert!(known("loaded") && known("masked") && known("bad-setting"));
        assert!(!known("not-found") && !known(""));
    }
}
