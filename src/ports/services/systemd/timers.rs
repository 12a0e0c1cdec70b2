//! Timers, and the services that they start.

use std::time::Duration;

use super::state::{self, UnitState};
use super::{SystemdServices, bus};
use crate::ports::services::name::UnitName;
use crate::ports::services::{ScheduledJob, ServiceError, Timer};

/// Maximum time of a timer's status, which only informs an operator.
const TIMER_STATUS_TIMEOUT: Duration = Duration::from_secs(5);

impl SystemdServices {
    /// The current state of a timer; `None` if there is none of this name.
    pub(crate) fn timer(&self, name: &str) -> Result<Option<Timer>, ServiceError> {
        let (unit, timer) = self.timer_properties(&UnitName::new(name)?)?;
        Ok(state::timer(&unit, &timer))
    }

    /// What a timer starts; `None` if there is no timer of this name.
    pub(super) fn job_of_timer(
        &self,
        name: &UnitName,
    ) -> Result<Option<ScheduledJob>, ServiceError> {
        let Some(service) = name.triggered_service() else {
            return Ok(None);
        };
        let (unit, timer) = self.timer_properties(name)?;
        if state::timer(&unit, &timer).is_none() {
            return Ok(None);
        }
        let service = self.unit_state("status", &service)?;
        Ok(Some(state::scheduled_job(&unit, &timer, &service)))
    }

    /// Whether systemd would start the service of this timer with a definition that is not the one on disk.
    pub(super) fn is_job_stale(
        &self,
        verb: &'static str,
        name: &UnitName,
    ) -> Result<bool, ServiceError> {
        let Some(service) = name.triggered_service() else {
            return Ok(false);
        };
        let job: UnitState = self.unit_state(verb, &service)?;
        Ok(!job.is_known() || job.status().stale_definition)
    }

    fn timer_properties(
        &self,
        name: &UnitName,
    ) -> Result<(bus::Properties, bus::Properties), ServiceError> {
        self.call("status", name, TIMER_STATUS_TIMEOUT, async |bus| {
            let path = bus.load_unit(name.full()).await?;
            let unit = bus.get_properties(&path, bus::UNIT_INTERFACE).await?;
            let timer = bus.get_properties(&path, bus::TIMER_INTERFACE).await;
            Ok((unit, timer.unwrap_or_default()))
        })
    }
}
