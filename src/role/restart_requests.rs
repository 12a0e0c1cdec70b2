//! Rolling restarts that operators ask for in the manifest, as a cause of restarts like any other.

use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::resource::Resource;
use crate::resource::{Duty, Stamp, Trigger};

impl Catalog {
    /// Lets the services of each app restart for a request. Those of apps without one, too: a service that was
    /// started before the first request has to be on record as such.
    pub(super) fn add_restart_requests(&mut self) {
        let releases = self.releases();
        let releases: Vec<(String, String)> = releases
            .map(|(resource, spec)| (resource.id.clone(), restart_cause(&spec.app)))
            .collect();
        for (release, cause) in releases {
            let users = self.resources.iter_mut();
            for service in users.filter(|user| user.restarts_with(&release)) {
                let mut triggers = service.triggers.iter_mut();
                match triggers.find(|trigger| trigger.duty == Duty::Restart) {
                    Some(trigger) => trigger.on.push(cause.clone()),
                    None => service.triggers.push(Trigger {
                        duty: Duty::Restart,
                        on: vec![cause.clone()],
                    }),
                }
            }
        }
    }

    /// The stamps of the requests, also of apps for which the manifest has none, or none any more. They have no time: no
    /// clock of an operator decides about a restart.
    pub(crate) fn restart_requests(&self) -> BTreeMap<String, Stamp> {
        let requests = self.releases().map(|(_, spec)| {
            let requested_at = spec.restart_requested_at.map(|at| at.to_string());
            let stamp = Stamp {
                fingerprint: requested_at.unwrap_or_default(),
                changed_at: None,
                is_request: true,
            };
            (restart_cause(&spec.app), stamp)
        });
        requests.collect()
    }
}

impl Resource {
    /// Whether it is a service that a new release of the resource `release` restarts. One that its processes run in is
    /// restarted for other reasons even if a new release only reloads it: a process that hangs reloads nothing.
    pub(crate) fn restarts_with(&self, release: &str) -> bool {
        let Some(service) = self.body.service() else {
            return false;
        };
        let on_it = |trigger: &&Trigger| trigger.on.iter().any(|on| on == release);
        let mut triggers = self.triggers.iter().filter(on_it);
        match service.serves() {
            Some(_) => triggers.next().is_some(),
            None => triggers.any(|trigger| trigger.duty == Duty::Restart),
        }
    }
}

/// What a restart that was asked for is because of, where the id of a resource stands for other causes.
pub(crate) fn restart_cause(app: &str) -> String {
    format!("a rolling restart of {app}")
}

#[cfg(test)]
mod tests {
    use crate::resource::Duty;
    use crate::role::tests::catalog;

    #[test]
    fn request_restarts_what_a_release_restarts_and_no_shared_service() {
        let role = "
resources:
  - release: {id: code, app: shop, repo: \"https://git/shop\", deploy_to: /srv/www/shop}
  - file: {id: conf, path: /etc/x, content: x}
  - service: {name: worker, restart_on: [code, conf]}
  - service: {name: puma, reload_on: [code], serves: /srv/www/shop/current}
  - service: {name: nginx, reload_on: [code], restart_on: [conf]}
";
        let catalog = catalog(role, "", &[]).unwrap();
        let restarts_on = |service: &str| {
            let service = catalog.find(service).unwrap();
            let mut triggers = service.triggers.iter();
            let trigger = triggers.find(|trigger| trigger.duty == Duty::Restart);
            trigger.map_or_else(Vec::new, |trigger| trigger.on.clone())
        };
        let cause = super::restart_cause("shop");
        assert_eq!(restarts_on("service:worker"), ["code", "conf", &*cause]);
        assert_eq!(restarts_on("service:puma"), [&*cause]);
        assert_eq!(restarts_on("service:nginx"), ["conf"]);
        let requests = catalog.restart_requests();
        assert!(requests[&cause].is_request && requests[&cause].fingerprint.is_empty());
    }
}
