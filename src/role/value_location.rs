//! The place of a value that a template refuses.

use crate::problem::Location;
use crate::yaml::Node;

/// Where operators set the value that a message begins with, as in `keepalived.addresses: expected …`: the value itself, or
/// what is there instead of it. `layers`: the one that overrides first. `None`: nobody has set such a value.
pub(super) fn value_location(message: &str, layers: &[&Node]) -> Option<Location> {
    let (path, _) = message.split_once(": ")?;
    let mut names = path.split('.');
    let parameter = names.next()?;
    let mut node = layers.iter().find_map(|layer| layer.get(parameter))?;
    for name in names {
        let Some(inner) = node.get(name) else {
            break;
        };
        node = inner;
    }
    Some(node.at.clone())
}
