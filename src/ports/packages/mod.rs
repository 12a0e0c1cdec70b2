//! Installed packages, from the database of the host's package manager, read once a pass.

mod dpkg;
mod error;
mod family;
mod package;
mod rpm;

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::path::Path;

use super::exec::Exec;
use super::root::Root;

pub(crate) use error::PackagesError;
pub(crate) use family::PackageFamily;
pub(crate) use package::Package;
pub(crate) use rpm::split_architecture;

/// The packages of one host, read on first use.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    cached: RefCell<Option<HashMap<String, Package>>>,
    family: Cell<Option<PackageFamily>>,
}

impl Packages {
    /// Drops the cache; required after packages were changed.
    pub(crate) fn invalidate(&self) {
        self.cached.replace(None);
        self.family.set(None);
    }

    /// The family of the host; that of Debian if nothing tells.
    pub(crate) fn family(&self, root: &Root) -> PackageFamily {
        let known = self.family.get();
        let family = known
            .or_else(|| PackageFamily::detect(root))
            .unwrap_or(PackageFamily::Debian);
        self.family.set(Some(family));
        family
    }

    /// The package of this name, which may end in `:architecture` on Debian, in `.architecture` elsewhere.
    /// Without one, prefers the host's own architecture.
    pub(crate) fn get(
        &self,
        root: &Root,
        exec: &Exec,
        name: &str,
    ) -> Result<Option<Package>, PackagesError> {
        Ok(self.load(root, exec)?.get(name).cloned())
    }

    /// The package that has this file. Expensive, and only for a note: where it cannot be found out, there is
    /// none.
    pub(crate) fn owner(&self, root: &Root, exec: &Exec, path: &Path) -> Option<String> {
        match self.family(root) {
            PackageFamily::Debian => dpkg::owner(root, path).ok()?,
            PackageFamily::RedHat => rpm::owner(root, exec, path).ok()?,
        }
    }

    fn load(
        &self,
        root: &Root,
        exec: &Exec,
    ) -> Result<Ref<'_, HashMap<String, Package>>, PackagesError> {
        if self.cached.borrow().is_none() {
            let packages = match self.family(root) {
                PackageFamily::Debian => dpkg::read(root)?,
                PackageFamily::RedHat => rpm::query(root, exec)?,
            };
            self.cached.replace(Some(packages));
        }
        Ok(Ref::map(self.cached.borrow(), |known| {
            known.as_ref().expect("filled just above")
        }))
    }
}
