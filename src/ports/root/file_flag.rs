//! Attributes of a file or folder that forbid changes even to root.

/// A reason for the kernel to refuse a change to root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFlag {
    Immutable,
    AppendOnly,
}

impl FileFlag {
    /// The letter that `lsattr` shows and `chattr` takes.
    pub(super) fn letter(self) -> char {
        match self {
            FileFlag::Immutable => 'i',
            FileFlag::AppendOnly => 'a',
        }
    }
}

impl std::fmt::Display for FileFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileFlag::Immutable => "immutable",
            FileFlag::AppendOnly => "append-only",
        })
    }
}
