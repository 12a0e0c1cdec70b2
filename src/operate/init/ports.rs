//! Checks that each app has a valid port, where its role has no default for one.

use serde_json::Value;

use crate::checks::Check;
use crate::problem::Problem;
use crate::role::{self, ItemList};
use crate::settings::Settings;

/// One line for each of `apps`, names in the parameter of `list`, whose port is missing or invalid.
pub(super) fn check_ports(settings: &Settings, list: &ItemList, apps: &[String]) -> Vec<Check> {
    let parameters = apps.iter().map(|app| AppParameters {
        settings,
        list,
        app,
    });
    let invalid = parameters.filter_map(|app| {
        let port = app.invalid_port()?;
        Some(app.port_problem(&format!(": {port} is not a port; expected 1 to 65535")))
    });
    missing_ports(settings, list, apps)
        .into_iter()
        .chain(invalid)
        .map(|problem| Check::bad("settings", problem))
        .collect()
}

/// One problem for each of `apps` that has no port.
pub(super) fn missing_ports(settings: &Settings, list: &ItemList, apps: &[String]) -> Vec<Problem> {
    let parameters = apps.iter().map(|app| AppParameters {
        settings,
        list,
        app,
    });
    parameters
        .filter(AppParameters::lacks_port)
        .map(|app| app.port_problem(" is not set: the port on which the app listens"))
        .collect()
}

/// The parameters of one app.
struct AppParameters<'a> {
    settings: &'a Settings,
    list: &'a ItemList,
    app: &'a str,
}

impl AppParameters<'_> {
    fn lacks_port(&self) -> bool {
        // An app without a command is static files, which nginx serves itself.
        let is_static = self.has_no_default("command") && self.value("command").is_none();
        self.has_no_default("port") && self.value("port").is_none() && !is_static
    }

    fn invalid_port(&self) -> Option<Value> {
        let port = self.value("port")?;
        let number = port.as_u64();
        let is_valid = number.is_some_and(|number| (1..=65535).contains(&number));
        (self.has_no_default("port") && !is_valid).then_some(port)
    }

    fn has_no_default(&self, name: &str) -> bool {
        let mut settings = self.list.settings.iter();
        settings.any(|(setting, has_value)| setting == name && !has_value)
    }

    fn value(&self, name: &str) -> Option<Value> {
        let explained = role::explain(self.settings, &self.key(name)).ok()?;
        let value = explained.layers.into_iter().next_back()?.value;
        (value != Value::Null).then_some(value)
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{}.{name}", self.list.name, self.app)
    }

    fn port_problem(&self, message: &str) -> Problem {
        let key = self.key("port");
        let problem = Problem::new(format!("{key}{message}"));
        problem.hint(format!("such as `--set {key}=3000`"))
    }
}
