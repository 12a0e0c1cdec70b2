//! Finds apps of one node that listen on the same port: the second one never starts.

use std::collections::BTreeMap;

use super::resource::Resource;
use crate::problem::Problem;

pub(super) fn check_unique_ports(resources: &[Resource], problems: &mut Vec<Problem>) {
    let mut users: BTreeMap<u16, &Resource> = BTreeMap::new();
    for resource in resources {
        let Some(port) = resource.body.release().and_then(|spec| spec.port) else {
            continue;
        };
        match users.get(&port) {
            Some(other) if other.app() != resource.app() => problems.push(
                Problem::new(format!(
                    "the app `{}` listens on {port} too",
                    other.app().unwrap_or_default()
                ))
                .at(&resource.at)
                .resource(resource.id.clone())
                .field("port")
                .hint("give each app of a node a port of its own"),
            ),
            Some(_) => {}
            None => {
                users.insert(port, resource);
            }
        }
    }
}
