//! Processors, memory and disks.

use serde::Serialize;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

/// Sizes in bytes.
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

/// The number of CPUs that the scheduler lets this process use, control groups included.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn memory() -> Memory {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    // Where /proc cannot be read the fact is 0, which a template can test for.
    let system = System::new_with_specifics(kind).ok();
    Memory {
        total: system.as_ref().map_or(0, System::total_memory),
        swap: system.as_ref().map_or(0, System::total_swap),
    }
}

pub(super) fn disks() -> Vec<Disk> {
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let mut found: Vec<Disk> = disks
        .iter()
        .flat_map(|disks| disks.iter())
        .map(|disk| Disk {
            mount: disk.mount_point().display().to_string(),
            device: disk.name().to_string_lossy().into_owned(),
            filesystem: disk.file_system().to_string_lossy().into_owned(),
            total: disk.total_space(),
        })
        .collect();
    found.sort_by(|a, b| a.mount.cmp(&b.mount));
    found
}
