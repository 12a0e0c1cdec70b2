//! Parses service names into systemd unit names.

use super::ServiceError;

/// Unit type suffixes; a name with one of them is a full unit name.
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "timer",
    "target",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

/// Longest name that systemd accepts, in bytes.
const MAX_NAME_LENGTH: usize = 255;

/// The full name of a unit: `nginx` means `nginx.service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName(String);

impl UnitName {
    pub(super) fn new(name: &str) -> Result<UnitName, ServiceError> {
        let bad = |why: &str| {
            Err(ServiceError::Unknown {
                name: name.to_owned(),
                hint: why.to_owned(),
            })
        };
        if name.is_empty() || name.starts_with('.') {
            return bad("a name starts with a letter or a digit");
        }
        let usable = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if let Some(odd) = name.chars().find(|c| !usable(*c)) {
            return bad(&format!("a name cannot contain {odd:?}"));
        }
        let typed = name
            .rsplit_once('.')
            .is_some_and(|(_, suffix)| UNIT_TYPES.contains(&suffix));
        let full = if typed {
            name.to_owned()
        } else {
            format!("{name}.service")
        };
        if full.len() > MAX_NAME_LENGTH {
            return bad("it is longer than 255 bytes");
        }
        Ok(UnitName(full))
    }

    /// With its suffix: `nginx.service`.
    pub(super) fn full(&self) -> &str {
        &self.0
    }

    /// Without its suffix: `nginx`.
    pub(super) fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }

    /// Whether the unit is a service and so has a main process.
    pub(super) fn is_service(&self) -> bool {
        self.0.ends_with(".service")
    }

    /// The service that a timer starts; `None`: it is no timer.
    pub(super) fn triggered_service(&self) -> Option<UnitName> {
        let stem = self.0.strip_suffix(".timer")?;
        Some(UnitName(format!("{stem}.service")))
    }

    /// For messages and file names: without the suffix `.service`.
    pub(super) fn short(&self) -> &str {
        if self.is_service() {
            self.stem()
        } else {
            &self.0
        }
    }

    /// For `puma@shop.service`: the template `puma@.service` and the instance `shop`.
    pub(super) fn template(&self) -> Option<(String, &str)> {
        let (prefix, instance) = self.stem().split_once('@')?;
        let suffix = &self.0[self.stem().len()..];
        (!instance.is_empty()).then(|| (format!("{prefix}@{suffix}"), instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_suffix_is_a_service() {
        let full = |name| UnitName::new(name).unwrap().full().to_owned();
        assert_eq!(full("nginx"), "nginx.service");
        assert_eq!(full("puma-shop.socket"), "puma-shop.socket");
        assert_eq!(full("php8.2-fpm"), "php8.2-fpm.service");
        let instance = UnitName::new("puma@shop").unwrap();
        assert_eq!(instance.template(), Some(("puma@.service".into(), "shop")));
    }

    #[test]
    fn a_timer_starts_the_service_of_its_name() {
        let timer = UnitName::new("app-shop:cron:nightly.timer").unwrap();
        let service = timer.triggered_service().unwrap();
        assert_eq!(service.full(), "app-shop:cron:nightly.service");
        assert_eq!(service.triggered_service(), None);
        let instance = UnitName::new("app-shop:worker.1").unwrap();
        assert_eq!(instance.full(), "app-shop:worker.1.service");
    }

    #[test]
    fn name_cannot_contain_path_separators() {
        for name in ["", ".", "..", "../x", "a/b", "a b", "a\0"] {
            assert!(UnitName::new(name).is_err(), "{name:?}");
        }
    }
}
