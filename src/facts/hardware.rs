//! Processors, memory and disks.

use serde::Serialize;

use super::known::known;
use crate::ports::machine;

/// Sizes in bytes; 0 where they are unknown, which a template can test for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    pub total: u64,
    pub swap: u64,
}

/// A mounted filesystem; sizes in bytes. Free space is left out on purpose: a fact that changes by itself
/// would make every file that shows it change in every pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    pub mount: String,
    pub device: String,
    pub filesystem: String,
    pub total: u64,
}

/// At least 1, so that templates can divide by it.
pub(super) fn cpus() -> usize {
    known(machine::usable_cpus()).unwrap_or(1)
}

pub(super) fn memory() -> Memory {
    let memory = known(machine::memory());
    Memory {
        total: memory.map_or(0, |memory| memory.total),
        swap: memory.map_or(0, |memory| memory.swap),
    }
}

pub(super) fn disks() -> Vec<Disk> {
    let filesystems = known(machine::mounted_filesystems()).unwrap_or_default();
    let mut disks: Vec<Disk> = filesystems
        .into_iter()
        .map(|filesystem| Disk {
            mount: filesystem.mount_point.display().to_string(),
            device: filesystem.device.to_string_lossy().into_owned(),
            filesystem: filesystem.filesystem.to_string_lossy().into_owned(),
            total: filesystem.total,
        })
        .collect();
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks
}
