//! The rule by which root acts on entries of other users.

/// Whether root may treat an entry of `inner` in a folder of `outer` as one of `outer`'s own.
pub(super) fn is_same_owner_or_root(outer: u32, inner: u32) -> bool {
    outer == inner || outer == 0
}
