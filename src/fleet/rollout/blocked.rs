//! A rollout that does not go on: what it waits for, and the command that mends it.

use std::time::Duration;

use jiff::Timestamp;

use super::decide;
use super::remedy::{Command, CommandLine, Remedy};
use super::view::{HeldSlot, RolloutView};
use crate::exit::Exit;

impl RolloutView {
    /// Nobody has heard lately of the host that holds a slot, and no host gives it back by itself.
    pub(crate) fn wait_for_slot(&mut self, number: u32, node: String) {
        let remedy = Remedy::of_slots(&[decide::HeldSlot { number, node }]);
        self.waits_for = Some(remedy.describe(&self.environment, &self.app));
    }

    /// Nobody can go on for as long as a host is out that has been so for longer than `limit`, by its own clock.
    pub(crate) fn wait_for_long_holder(&mut self, now: Timestamp, limit: Duration) {
        if self.holders.len() < self.slots as usize {
            return;
        }
        let mut holders = self.holders.iter();
        let silence = |held: &HeldSlot| Duration::try_from(now.duration_since(held.holder.since));
        let is_long = |held: &&HeldSlot| silence(held).is_ok_and(|silence| silence >= limit);
        self.waits_for = holders.find(is_long).map(|held| {
            let node = &held.holder.member.node;
            let minutes = silence(held).unwrap_or_default().as_secs() / 60;
            let command = self.break_slot(held);
            format!(
                "waits for {node}, which has been out for {minutes} min (`trueup status` there shows why); `{command} --yes`, \
                 if the others are to go on without it"
            )
        });
    }

    fn break_slot(&self, held: &HeldSlot) -> String {
        let slot = Command::BreakSlot(decide::HeldSlot {
            number: held.number,
            node: held.holder.member.node.clone(),
        });
        let line = CommandLine {
            command: &slot,
            environment: &self.environment,
            app: &self.app,
        };
        line.to_string()
    }

    /// It makes no progress, for this reason: somebody has to look.
    pub(crate) fn set_overdue(&mut self, why: String) {
        self.overdue = Some(why);
        self.outcome = Exit::Failed;
        if self.waits_for.is_some() {
            return;
        }
        let (environment, app) = (&self.environment, &self.app);
        self.waits_for = Some(match self.holders.first() {
            None => format!(
                "waits for hosts that do not take it; `trueup fleet --env {environment} --app {app}` shows them"
            ),
            Some(held) => {
                let command = self.break_slot(held);
                let node = &held.holder.member.node;
                format!("waits for {node}, which is out; `{command}`, if it does not come back")
            }
        });
    }

    /// Nobody is at work but hosts that cannot take the sha and try again: somebody has to look.
    pub(crate) fn set_stuck(&mut self) {
        self.outcome = Exit::Failed;
        let why = describe_stuck(self);
        self.waits_for.get_or_insert(why);
    }

    /// Whether some hosts cannot take the sha, and no other one is at work: none deploys or is out, and no canary bakes.
    pub(crate) fn is_stuck_in_local_failures(&self) -> bool {
        let mut canaries = self.canaries.iter().filter(|canary| !canary.passed);
        let bakes = canaries.any(|canary| self.proven.contains(&canary.node));
        let is_at_work = !self.at_work.is_empty() || !self.holders.is_empty();
        let is_busy = is_at_work || self.claim.is_some() || bakes;
        self.halt.is_none() && !self.local_failures.is_empty() && !is_busy
    }
}

/// What a rollout waits for in which nobody is at work but hosts that try again.
fn describe_stuck(view: &RolloutView) -> String {
    const SHOWN: usize = 3;
    let nodes = view.local_failures.iter().map(|failure| &*failure.node);
    let shown: Vec<&str> = nodes.take(SHOWN).collect();
    let more = match view.local_failures.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (shown, publish) = (shown.join(", "), Command::Publish);
    let command = CommandLine {
        command: &publish,
        environment: &view.environment,
        app: &view.app,
    };
    format!("waits for {shown}{more} to try again; if the sha is at fault, `{command}`")
}
