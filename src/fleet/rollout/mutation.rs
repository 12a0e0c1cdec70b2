//! Rules of the protocol that a test can switch off one at a time: the model has to notice each of them. In the
//! program that ships, all rules hold and this is nothing.

/// A rule that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "only the model breaks rules of its hosts")
)]
pub(super) enum Mutation {
    /// The slot is given back before the failure is recorded.
    SlotFreedBeforeFailure,
    /// A host does not ask again after it has won a slot.
    NoSecondAssessment,
    /// A host does not ask again before the switch although it stood still.
    NoAssessmentAfterPause,
    /// All free slots have the same bytes, and so the same ETag.
    FreeSlotWithoutNonce,
    /// A slot belongs to whoever has the name of its holder.
    OwnershipByName,
    /// A held slot counts as free after a while.
    SlotExpires,
    /// The slot is noted after the write instead of before.
    SlotNotedAfterWrite,
    /// A slot whose write may still arrive is not written again before it is forgotten.
    LateSlotWriteForgotten,
    /// A host keeps the mark of its old sha until it is proven at the new one.
    MarkKeptOnTrial,
    /// A slot that its host has begun to give back counts as held while it looks so.
    FreeSlotUnderWayForgotten,
    /// No canary is found, and the entry goes on.
    EmptyCanaryPasses,
    /// A canary passes before it is proven.
    CanaryPassesWithoutProof,
    /// A failure is counted once for each write.
    FailureWithoutKey,
    /// A claim does not look for a success that was recorded meanwhile.
    ClaimWithoutSecondRead,
    /// A claim is released before the result of its step is recorded.
    ClaimReleasedBeforeResult,
    /// There may be a claim for each sha.
    ClaimPerSha,
    /// A manifest older than the register may open entries.
    OldManifestOpens,
    /// A quarantine is lifted without counting its epoch.
    LiftWithoutEpoch,
    /// A host that failed before the lift counts after it.
    FailureWithoutEpoch,
    /// An entry is done without asking for the marks of all hosts.
    DoneWithoutMarks,
    /// An operator breaks whatever holds the slot by then.
    BreakWithoutNonce,
    /// Two hosts of different groups that find each other both give their slots back.
    BothGroupsYield,
    /// Only the host that opened an entry counts the hosts.
    OnlyOpenerCounts,
    /// A claim stays when its host may not go on.
    ClaimKeptWhileBlocked,
    /// A host whose entry ended does not ask again when the manifest changes.
    EndedForEver,
}

/// Whether a rule is switched off.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn is_active(_mutation: Mutation) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Whether a rule is switched off.
#[cfg(test)]
pub(super) fn is_active(mutation: Mutation) -> bool {
    ACTIVE.get() == Some(mutation)
}

/// Switches a rule off on this thread, or all rules on.
#[cfg(test)]
pub(super) fn activate(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}
