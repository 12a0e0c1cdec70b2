//! What systemd's properties mean.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use zbus::Variant;

use super::bus::Properties;
use crate::ports::services::{Active, Enabled, Status, Tick, Timer, moment};

/// The two halves of what systemd knows about a unit.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) unit: Properties,
    /// Empty unless the unit is a service.
    pub(super) service: Properties,
}

impl Reading {
    pub(super) fn status(&self) -> Status {
        let active = self.active();
        let runs = !matches!(active, Active::Stopped | Active::Failed);
        let started = self.started().filter(|_| runs);
        // A reload of an earlier run says nothing about this one.
        let reloaded = self.reloaded().filter(|at| Some(*at) >= started && runs);
        Status {
            known: self.known(),
            active,
            enabled: self.enabled(),
            main_pid: number(&self.service, "MainPID")
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid != 0),
            run: self.invocation().filter(|_| runs),
            started_at: started.and_then(moment::of_monotonic),
            reloaded_at: reloaded.and_then(moment::of_monotonic),
            load: reloaded.map(|at| at.as_micros().to_string()),
            can_reload: flag(&self.unit, "CanReload"),
            stale_definition: flag(&self.unit, "NeedDaemonReload"),
            definition: Some(self.word("FragmentPath"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            environment_files: self.environment_files(),
            revived: self.revived(),
        }
    }

    /// A definition that systemd could not make sense of (`bad-setting`, `error`) is one too: its
    /// start fails, and says why.
    pub(super) fn known(&self) -> bool {
        !matches!(self.word("LoadState"), "not-found" | "stub" | "")
    }

    pub(super) fn masked(&self) -> bool {
        self.word("LoadState") == "masked" || self.enabled() == Enabled::Masked
    }

    /// What is wrong with the definition, if systemd has an objection.
    pub(super) fn objection(&self) -> Option<String> {
        if !matches!(self.word("LoadState"), "bad-setting" | "error") {
            return None;
        }
        let error = self.unit.get("LoadError").map(|error| match &**error {
            Variant::Structure(parts) => parts.fields().last().map(ToString::to_string),
            _ => None,
        });
        Some(
            error
                .flatten()
                .unwrap_or_else(|| self.word("LoadState").to_owned()),
        )
    }

    /// The name that systemd itself uses: an alias stands for another unit.
    pub(super) fn id(&self) -> &str {
        self.word("Id")
    }

    pub(super) fn active(&self) -> Active {
        match self.word("ActiveState") {
            "active" | "reloading" | "refreshing" => Active::Running,
            // Waiting for an automatic restart is `activating` too.
            "activating" => Active::Starting,
            "deactivating" => Active::Stopping,
            "failed" | "maintenance" => Active::Failed,
            _ => Active::Stopped,
        }
    }

    /// One that it is about to make counts as made.
    fn revived(&self) -> u32 {
        let made = number(&self.service, "NRestarts").and_then(|made| u32::try_from(made).ok());
        made.unwrap_or(0)
            .saturating_add(u32::from(self.waits_for_restart()))
    }

    pub(super) fn waits_for_restart(&self) -> bool {
        self.word("SubState").starts_with("auto-restart")
    }

    fn enabled(&self) -> Enabled {
        match self.word("UnitFileState") {
            "enabled" => Enabled::Yes,
            "masked" | "masked-runtime" => Enabled::Masked,
            // `…-runtime` and `linked` units do not come back at the next boot by themselves.
            "disabled" | "enabled-runtime" | "linked" | "linked-runtime" | "bad" | "invalid" => {
                Enabled::No
            }
            _ => Enabled::Static,
        }
    }

    /// Whether its supervisor calls the service started before it can know that it stays up.
    pub(super) fn starts_blindly(&self) -> bool {
        let kind = text(&self.service, "Type");
        matches!(kind, "simple" | "exec" | "idle")
    }

    /// How the last run ended, if it did not end well.
    pub(super) fn end(&self) -> Option<String> {
        const EXITED: i32 = 1;
        let status = integer(&self.service, "ExecMainStatus").unwrap_or(0);
        let exited = integer(&self.service, "ExecMainCode") == Some(EXITED);
        Some(match text(&self.service, "Result") {
            "" | "success" => return None,
            "timeout" => "it took longer than its unit allows".into(),
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

    pub(super) fn conditions_met(&self) -> bool {
        // A unit that was never started has no result and no time of the check.
        number(&self.unit, "ConditionTimestampMonotonic").unwrap_or(0) == 0
            || flag(&self.unit, "ConditionResult")
    }

    fn invocation(&self) -> Option<String> {
        let id = self.unit.get("InvocationID")?.try_clone().ok()?;
        let bytes = Vec::<u8>::try_from(id).ok()?;
        let known = bytes.iter().any(|byte| *byte != 0);
        known.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Of the main process where there is one, else of the unit as a whole.
    fn started(&self) -> Option<Duration> {
        let main = micros(&self.service, "ExecMainStartTimestampMonotonic");
        let whole = || micros(&self.unit, "ActiveEnterTimestampMonotonic");
        main.or_else(whole)
    }

    /// When the last of the `ExecReload=` commands was started, on systemd's own clock.
    fn reloaded(&self) -> Option<Duration> {
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

    fn word(&self, property: &str) -> &str {
        text(&self.unit, property)
    }
}

/// What a timer is about to do, and how often it does; `None`: there is no such timer.
pub(super) fn timer(unit: &Properties, timer: &Properties) -> Option<Timer> {
    if matches!(text(unit, "LoadState"), "not-found" | "stub" | "") {
        return None;
    }
    let is_on = text(unit, "ActiveState") == "active";
    // Of one that is masked systemd has a part of what it read before, and defaults for the rest.
    let nothing = Properties::new();
    let definition = match text(unit, "LoadState") {
        "masked" => &nothing,
        _ => timer,
    };
    let late = |property| micros(definition, property).unwrap_or_default();
    Some(Timer {
        tick: tick(unit, timer),
        // One that is masked cannot be told from one that was enabled before.
        expected: is_on || text(unit, "UnitFileState") != "disabled",
        period: period(definition),
        leeway: late("RandomizedDelayUSec") + late("AccuracyUSec"),
        on_since: micros(unit, "ActiveEnterTimestampMonotonic").filter(|_| is_on),
    })
}

/// Nothing planned on a clock is 0 or all ones.
fn planned(timer: &Properties, property: &str) -> Option<u64> {
    number(timer, property).filter(|micros| *micros != 0 && *micros != u64::MAX)
}

/// The shortest distance that it says itself, else what lies between its last start and the next.
fn period(timer: &Properties) -> Option<Duration> {
    let said = match timer.get("TimersMonotonic").map(|value| &**value) {
        // base, distance, next
        Some(Variant::Array(timers)) => timers.iter().filter_map(|timer| match timer {
            Variant::Structure(parts) => match parts.fields() {
                [Variant::Str(base), Variant::U64(micros), ..] => Some((base.as_str(), *micros)),
                _ => None,
            },
            _ => None,
        }),
        _ => return between(timer),
    };
    let repeats = ["OnUnitInactiveUSec", "OnUnitActiveUSec"];
    let said = said.filter(|(base, micros)| repeats.contains(base) && *micros > 0);
    let shortest = said.map(|(_, micros)| Duration::from_micros(micros)).min();
    shortest.or_else(|| between(timer))
}

fn between(timer: &Properties) -> Option<Duration> {
    let next = planned(timer, "NextElapseUSecRealtime")?;
    let last = planned(timer, "LastTriggerUSec")?;
    next.checked_sub(last).map(Duration::from_micros)
}

fn tick(unit: &Properties, timer: &Properties) -> Tick {
    if text(unit, "ActiveState") != "active" {
        return Tick::Off;
    }
    if text(unit, "SubState") == "running" {
        return Tick::Underway;
    }
    let planned = |property| planned(timer, property);
    let wall = planned("NextElapseUSecRealtime")
        .and_then(|micros| i64::try_from(micros).ok())
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let counted = planned("NextElapseUSecMonotonic")
        .and_then(|micros| moment::of_monotonic(Duration::from_micros(micros)));
    let next = wall.into_iter().chain(counted).min();
    next.map_or(Tick::Off, Tick::At)
}

fn text<'a>(of: &'a Properties, property: &str) -> &'a str {
    match of.get(property).map(|value| &**value) {
        Some(Variant::Str(text)) => text.as_str(),
        _ => "",
    }
}

fn flag(of: &Properties, property: &str) -> bool {
    matches!(
        of.get(property).map(|value| &**value),
        Some(Variant::Bool(true))
    )
}

fn number(of: &Properties, property: &str) -> Option<u64> {
    match &**of.get(property)? {
        Variant::U32(number) => Some(u64::from(*number)),
        Variant::U64(number) => Some(*number),
        _ => None,
    }
}

fn integer(of: &Properties, property: &str) -> Option<i32> {
    match &**of.get(property)? {
        Variant::I32(number) => Some(*number),
        _ => None,
    }
}

fn micros(of: &Properties, property: &str) -> Option<Duration> {
    number(of, property)
        .filter(|micros| *micros > 0)
        .map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use zbus::OwnedVariant;

    use super::*;

    fn reading(words: &[(&str, &str)]) -> Reading {
        let word = |value: &str| OwnedVariant::try_from(Variant::new(value.to_owned())).unwrap();
        let unit = words
            .iter()
            .map(|(key, value)| ((*key).to_owned(), word(value)));
        Reading {
            unit: unit.collect(),
            service: Properties::new(),
        }
    }

    #[test]
    fn systemd_states_map_to_port_states() {
        for (word, active) in [
            ("active", Active::Running),
            ("reloading", Active::Running),
            ("activating", Active::Starting),
            ("deactivating", Active::Stopping),
            ("inactive", Active::Stopped),
            ("failed", Active::Failed),
        ] {
            assert_eq!(reading(&[("ActiveState", word)]).active(), active, "{word}");
        }
        for (word, enabled) in [
            ("enabled", Enabled::Yes),
            ("enabled-runtime", Enabled::No),
            ("disabled", Enabled::No),
            ("linked", Enabled::No),
            ("static", Enabled::Static),
            ("generated", Enabled::Static),
            ("indirect", Enabled::Static),
            ("", Enabled::Static),
            ("masked-runtime", Enabled::Masked),
        ] {
            let status = reading(&[("UnitFileState", word)]).status();
            assert_eq!(status.enabled, enabled, "{word}");
        }
    }

    fn plain(values: Vec<(&str, Variant<'static>)>) -> Properties {
        let own = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        let values = values.into_iter();
        values
            .map(|(key, value)| (key.to_owned(), own(value)))
            .collect()
    }

    #[test]
    fn timer_period_is_known_while_the_timer_is_inactive() {
        const SECOND: u64 = 1_000_000;
        let monotonic = vec![
            ("OnUnitInactiveUSec", 30 * SECOND, 0_u64),
            ("OnBootUSec", 10 * SECOND, 0),
        ];
        let counted = plain(vec![
            ("TimersMonotonic", Variant::from(monotonic)),
            ("RandomizedDelayUSec", Variant::U64(5 * SECOND)),
            ("AccuracyUSec", Variant::U64(SECOND)),
        ]);
        let stopped = reading(&[
            ("LoadState", "loaded"),
            ("ActiveState", "inactive"),
            ("UnitFileState", "enabled"),
        ]);
        let seen = timer(&stopped.unit, &counted).unwrap();
        assert_eq!(seen.tick, Tick::Off);
        assert_eq!(seen.period, Some(Duration::from_secs(30)));
        assert_eq!(seen.leeway, Duration::from_secs(6));
        assert!(seen.expected && seen.on_since.is_none());
        let disabled = reading(&[("LoadState", "loaded"), ("UnitFileState", "disabled")]);
        assert!(!timer(&disabled.unit, &counted).unwrap().expected);
        let masked = reading(&[("LoadState", "masked"), ("UnitFileState", "masked")]);
        let masked = timer(&masked.unit, &counted).unwrap();
        assert!(masked.expected && masked.period.is_none());
        let hourly = plain(vec![
            ("LastTriggerUSec", Variant::U64(1_000 * SECOND)),
            ("NextElapseUSecRealtime", Variant::U64(4_600 * SECOND)),
        ]);
        let seen = timer(&stopped.unit, &hourly).unwrap();
        assert_eq!(seen.period, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn unit_with_an_invalid_definition_is_known() {
        let known = |word| reading(&[("LoadState", word)]).status().known;
        assert!(known("loaded") && known("masked") && known("bad-setting"));
        assert!(!known("not-found") && !known(""));
    }
}
