//! Lists the releases of the apps of a host.

use serde::Serialize;

use crate::operate::CommandError;
use crate::pass::Session;
use crate::release::{self, Inventory};

/// The document of `releases list --output`.
#[derive(Debug, Serialize)]
pub(crate) struct InventoryReport {
    version: u32,
    pub apps: Vec<Inventory>,
}

/// Lists the releases of one app, or of all.
pub(crate) fn list(session: &Session, app: Option<&str>) -> Result<InventoryReport, CommandError> {
    let mut inventories = Vec::new();
    for app in session.apps()?.select(app)? {
        inventories.push(release::inventory(app.spec, &session.host)?);
    }
    Ok(InventoryReport {
        version: crate::report::VERSION,
        apps: inventories,
    })
}
