//! A host's pass: what a real one does around the protocol.

use std::time::Duration;

use jiff::Timestamp;

use super::call::{Call, LocalStep, Reply};
use super::client::{Client, Progress, replay};
use super::scenario::Scenario;
use super::world::{HostState, Stage};
use crate::fleet::rollout::decide::Obstacle;
use crate::fleet::rollout::identity::Member;
use crate::fleet::rollout::mutation::{Mutation, is_active};
use crate::fleet::rollout::object::RolloutError;
use crate::fleet::rollout::once::OnceOutcome;
use crate::fleet::rollout::once_step::StepPermit;
use crate::fleet::rollout::participant::{Participant, Permit};
use crate::fleet::rollout::polling::Polling;
use crate::ports::permission::Purpose;

/// The name of the one step that one host runs for all.
pub(super) const STEP: &str = "migrate";

type Host<'a> = Participant<'a, Client<'a>, Client<'a>>;

/// Runs the stage of a host with the answers that it has. Its result is the next stage; `None`: the pass is over.
pub(super) fn run(
    scenario: &Scenario,
    number: usize,
    host: &HostState,
    fresh: u64,
) -> Progress<Option<Stage>> {
    let member = Member {
        node: scenario.node_name(number),
        machine: number.to_string(),
    };
    let polling = Polling::at(u32::try_from(number).unwrap_or(0));
    replay(&host.process, &host.begin, fresh, |client| {
        let participant = Participant {
            store: client,
            journals: client,
            member: &member,
            environment: "production",
            app: "shop",
            policy: scenario.policy_of(&host.wanted.shas[0]),
            sha: &host.wanted.shas[0],
            wanted: &host.wanted,
            group: scenario.group_of(number),
            now: Timestamp::UNIX_EPOCH,
            polling: &polling,
            // The model has no clock: any time may have passed between two looks.
            count_timeout: Duration::ZERO,
        };
        // A store that does not answer ends the pass.
        run_stage(scenario, host.stage, client, &participant).unwrap_or(None)
    })
}

fn run_stage(
    scenario: &Scenario,
    stage: Stage,
    client: &Client<'_>,
    participant: &Host<'_>,
) -> Result<Option<Stage>, RolloutError> {
    let sha = participant.sha;
    let disk = client.disk.borrow().clone();
    Ok(match stage {
        Stage::Begin => {
            // What is active and proven gets requests again, whatever happened.
            client.change(|disk| disk.is_drained &= !disk.is_proven);
            if disk.active.is_some() && !disk.is_proven {
                // A trial that an earlier pass began.
                return Ok(Some(Stage::Gate));
            }
            if disk.active.as_ref() == Some(sha) {
                return Ok((!participant.is_ended()?).then_some(Stage::Proven));
            }
            match participant.request(Purpose::Deploy, disk.serves)? {
                Permit::Granted if scenario.has_step => Some(Stage::Claim),
                Permit::Granted => Some(Stage::Drain),
                Permit::Denied(obstacle) => {
                    client.report(obstacle);
                    scenario.recounts.then_some(Stage::Recount)
                }
            }
        }
        Stage::Claim => match participant.claim_step(STEP)? {
            StepPermit::Succeeded => Some(Stage::Drain),
            StepPermit::Denied(obstacle) => {
                client.report(obstacle);
                Some(Stage::Leave)
            }
            StepPermit::Run { .. } => Some(Stage::RunStep),
        },
        Stage::RunStep => {
            client.change(|disk| disk.runs_step = true);
            let works = client.local(LocalStep::RunStep);
            client.change(|disk| disk.runs_step = false);
            let outcome = match works {
                true => OnceOutcome::Succeeded,
                false => OnceOutcome::Failed,
            };
            Some(match participant.record_step(outcome, "")? {
                true => Stage::Drain,
                false => Stage::Leave,
            })
        }
        Stage::Drain => {
            if is_active(Mutation::CanaryPassesWithoutProof) {
                participant.pass_canary()?;
            }
            if !client.may_go_on(participant)? {
                return Ok(None);
            }
            client.local(LocalStep::Drain);
            client.change(|disk| disk.is_drained = disk.serves);
            Some(Stage::Switch)
        }
        Stage::Switch => {
            if !client.may_go_on(participant)? {
                client.change(|disk| disk.is_drained = false);
                return Ok(None);
            }
            client.local(LocalStep::Switch);
            client.change(|disk| {
                disk.served = disk.serves;
                disk.active = Some(sha.clone());
                disk.is_proven = false;
            });
            Some(Stage::Gate)
        }
        Stage::Gate if client.local(LocalStep::Gate) => {
            client.change(|disk| {
                disk.previous = disk.active.clone();
                disk.serves = true;
                disk.is_proven = true;
                disk.is_drained = false;
            });
            Some(match disk.active.as_ref() == Some(sha) {
                true => Stage::Proven,
                false => Stage::Leave,
            })
        }
        Stage::Gate if disk.active == disk.previous => {
            client.report(participant.note_environment("it does not answer")?);
            None
        }
        Stage::Gate => {
            participant.note_failure("it does not answer", "", disk.served)?;
            client.local(LocalStep::Restore);
            client.change(|disk| disk.active = disk.previous.clone());
            Some(match disk.served {
                true => Stage::Gate,
                false => Stage::Leave,
            })
        }
        Stage::Proven => {
            participant.proven(disk.served)?;
            if participant.policy.canary.is_some() {
                participant.pass_canary()?;
            }
            participant.leave()?;
            Some(Stage::Finish)
        }
        Stage::Finish => {
            let is_over = participant.finish()?;
            (!is_over && scenario.recounts).then_some(Stage::Recount)
        }
        Stage::Recount => {
            participant.recount()?;
            None
        }
        Stage::Leave => {
            participant.leave()?;
            None
        }
    })
}

impl Client<'_> {
    /// Asks again if the last assessment is too old.
    fn may_go_on(&self, participant: &Host<'_>) -> Result<bool, RolloutError> {
        let is_late = matches!(self.call(Call::Clock), Reply::IsLate(true));
        if !is_late || is_active(Mutation::NoAssessmentAfterPause) {
            return Ok(true);
        }
        let serves = self.disk.borrow().serves;
        Ok(match participant.confirm(Purpose::Deploy, serves)? {
            Permit::Granted => true,
            Permit::Denied(obstacle) => {
                self.report(obstacle);
                false
            }
        })
    }

    fn report(&self, obstacle: Obstacle) {
        *self.obstacle.borrow_mut() = Some(obstacle);
    }

    fn local(&self, step: LocalStep) -> bool {
        match self.call(Call::Local(step)) {
            Reply::Works(works) => works,
            _ => true,
        }
    }
}
