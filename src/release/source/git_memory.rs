//! The failure of a repository that needs more memory than git may take.

use crate::ports::git_memory;
use crate::resource::Failure;

/// The failure to report when an allocation of libgit2 fails.
pub fn too_much_memory() -> Failure {
    Failure::new(format!(
        "what the repository holds needs more than the {} MiB of memory that git may take",
        git_memory::limit() >> 20
    ))
    .hint("look for a very large file or folder in the repository, or for one that somebody made to do harm; `max_file` of the release raises this as well")
}
