//! Starts the timer that runs passes from now on.

use std::rc::Rc;

use crate::ports::root::Root;
use crate::ports::services::{self, EnabledState, ServiceManager};
use crate::problem::Problem;

const TIMER: &str = "trueup.timer";

/// Enables and starts the timer, which runs a pass at once.
pub(super) fn start(root: &Rc<Root>) -> Result<(), Problem> {
    let services = services::open(ServiceManager::Auto, root, &Rc::default(), &Rc::default());
    let timer = services.status(TIMER).map_err(timer_problem)?;
    if !timer.known {
        let problem = "there is no trueup.timer on this host: nothing starts passes";
        return Err(Problem::new(problem)
            .hint("the package contains it; `sudo trueup converge` runs one pass"));
    }
    if timer.enabled == EnabledState::Masked {
        let problem = "trueup.timer is masked";
        return Err(Problem::new(problem).hint("`sudo systemctl unmask trueup.timer` unmasks it"));
    }
    services.enable(TIMER).map_err(timer_problem)?;
    // A restarted timer triggers at once.
    services.restart(TIMER).map_err(timer_problem)
}

fn timer_problem(error: services::ServiceError) -> Problem {
    Problem::new(error.to_string()).hint(format!(
        "`sudo systemctl enable --now {TIMER}`, once that is fixed"
    ))
}
