//! Translates systemd's errors into messages and [`ServiceError`].

use zbus::fdo;

use crate::ports::services::ServiceError;
use crate::ports::services::name::UnitName;

/// Why a job did not end as `done`.
pub(super) fn job_failure_reason(result: &str, name: &UnitName) -> String {
    match result {
        "failed" => "it failed".to_owned(),
        "timeout" => "it took longer than the timeout of its unit".to_owned(),
        "dependency" => format!(
            "a dependency failed (`systemctl list-dependencies {}` shows which)",
            name.full()
        ),
        "canceled" => "another job replaced this one".to_owned(),
        "assert" => "an assertion of its unit does not hold".to_owned(),
        other => format!("systemd says `{other}`"),
    }
}

/// The start limit: systemd refuses all further starts, those of other callers too.
pub(super) fn start_limit_reason(name: &UnitName) -> String {
    format!(
        "it was started too often in a short time (`systemctl reset-failed {}` allows it again)",
        name.full()
    )
}

/// Translates a refusal by systemd or by the bus.
pub(super) fn from_call_error(
    verb: &'static str,
    name: &UnitName,
    error: &zbus::Error,
) -> ServiceError {
    let unreachable = || ServiceError::Unreachable {
        supervisor: "systemd",
        why: error.to_string(),
    };
    let failed = |why: String| ServiceError::failed(verb, name.short(), why);
    match error {
        zbus::Error::MethodError(kind, message, _) => {
            let message = message.clone().unwrap_or_else(|| kind.to_string());
            match kind.as_str() {
                "org.freedesktop.systemd1.NoSuchUnit" => ServiceError::Unknown {
                    name: name.short().to_owned(),
                    hint: message,
                },
                _ => failed(message),
            }
        }
        zbus::Error::FDO(refused) => match &**refused {
            fdo::Error::AccessDenied(message) => failed(format!("not permitted: {message}")),
            fdo::Error::InvalidArgs(message)
            | fdo::Error::FileNotFound(message)
            | fdo::Error::FileExists(message)
            | fdo::Error::Failed(message) => failed(message.clone()),
            _ => unreachable(),
        },
        _ => unreachable(),
    }
}
