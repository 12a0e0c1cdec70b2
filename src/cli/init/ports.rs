//! Checks that each app has a valid port, where its role has no default for one.

use serde_json::Value;

use crate::checks::Check;
use crate::problem::Problem;
use crate::role::{self, ItemList};
use crate::settings::Settings;

/// One line for each of `apps`, names in the parameter of `list`, whose port is missing or invalid.
pub(super) fn check_ports(settings: &Settings, list: &ItemList, apps: &[String]) -> Vec<Check> {
    let unset = |key: &str| list.settings.iter().any(|(name, set)| name == key && !set);
    let value = |app: &str, key: &str| {
        let explained = role::explain(settings, &format!("{}.{app}.{key}", list.name)).ok()?;
        let value = explained.layers.into_iter().next_back()?.value;
        (value != Value::Null).then_some(value)
    };
    // An app without a command is static files, which nginx serves itself.
    let is_static = |app: &str| unset("command") && value(app, "command").is_none();
    let missing = |app: &&String| unset("port") && value(app, "port").is_none() && !is_static(app);
    let told = |app: &String| {
        let key = format!("{}.{app}.port", list.name);
        let problem = Problem::new(format!(
            "{key} is not set: the port on which the app listens"
        ));
        Check::bad(
            "settings",
            problem.hint(format!("such as `--set {key}=3000`")),
        )
    };
    let wrong = |app: &String| {
        let port = value(app, "port")?;
        let is_port = port
            .as_u64()
            .is_some_and(|port| (1..=65535).contains(&port));
        let key = format!("{}.{app}.port", list.name);
        let problem = Problem::new(format!("{key}: {port} is not a port; expected 1 to 65535"));
        (unset("port") && !is_port).then(|| {
            Check::bad(
                "settings",
                problem.hint(format!("such as `--set {key}=3000`")),
            )
        })
    };
    let missing = apps.iter().filter(missing).map(told);
    missing.chain(apps.iter().filter_map(wrong)).collect()
}
