//! The machine that trueup runs on: names, processors, memory, mounted filesystems, network addresses.
//!
//! Unlike the other ports it always describes the real machine: these values do not belong to a root folder.

use std::ffi::OsString;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::PathBuf;

use nix::errno::Errno;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

use super::interfaces::{self, InterfaceAddress};

/// A value that the operating system does not provide.
#[derive(Debug, thiserror::Error)]
#[error("cannot determine {value}")]
pub(crate) struct MachineError {
    value: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl MachineError {
    fn of<E: std::error::Error + Send + Sync + 'static>(value: &'static str) -> impl Fn(E) -> Self {
        move |source| MachineError {
            value,
            source: Box::new(source),
        }
    }
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize {
    pub total: u64,
    /// What new processes can have without swapping.
    pub available: u64,
    pub swap: u64,
}

/// A mounted filesystem with storage; its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountedFilesystem {
    pub mount_point: PathBuf,
    pub device: OsString,
    /// `ext4`, `xfs`, …
    pub filesystem: OsString,
    pub total: u64,
}

/// The host's name as the kernel has it, perhaps with its domain.
pub(crate) fn hostname() -> Result<String, MachineError> {
    System::host_name().map_err(MachineError::of("the name of the host"))
}

pub(crate) fn kernel_version() -> Result<String, MachineError> {
    System::kernel_version().map_err(MachineError::of("the version of the kernel"))
}

/// The number of CPUs that the scheduler lets this process use, control groups included.
pub(crate) fn usable_cpus() -> Result<usize, MachineError> {
    let cpus = std::thread::available_parallelism();
    cpus.map(usize::from)
        .map_err(MachineError::of("the number of processors"))
}

pub(crate) fn memory() -> Result<MemorySize, MachineError> {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system =
        System::new_with_specifics(kind).map_err(MachineError::of("the size of the memory"))?;
    Ok(MemorySize {
        total: system.total_memory(),
        available: system.available_memory(),
        swap: system.total_swap(),
    })
}

pub(crate) fn mounted_filesystems() -> Result<Vec<MountedFilesystem>, MachineError> {
    let kind = DiskRefreshKind::nothing().with_storage();
    let disks = Disks::new_with_refreshed_list_specifics(kind)
        .map_err(MachineError::of("the mounted filesystems"))?;
    let filesystems = disks.iter().map(|disk| MountedFilesystem {
        mount_point: disk.mount_point().to_owned(),
        device: disk.name().to_owned(),
        filesystem: disk.file_system().to_owned(),
        total: disk.total_space(),
    });
    Ok(filesystems.collect())
}

/// The addresses of all interfaces, in the kernel's order, without loopback and link-local ones.
pub(crate) fn interface_addresses() -> Result<Vec<InterfaceAddress>, MachineError> {
    interfaces::addresses().map_err(MachineError::of("the network addresses"))
}

/// Whether the kernel knows IPv6 at all: where it does not (`ipv6.disable=1`), no program can listen on `[::]`.
pub(crate) fn has_ipv6() -> bool {
    let opened = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let missing = Some(Errno::EAFNOSUPPORT as i32);
    !opened.is_err_and(|error| error.raw_os_error() == missing)
}
