//! The failure of a repository that needs more memory than git may take.

use crate::ports::git_memory;
use crate::resource::Failure;

/// The failure to report when an allocation of libgit2 fails.
pub(crate) fn too_much_memory() -> Failure {
    Failure::new(format!(
        "the repository needs more than the {} MiB of memory that git may use",
        git_memory::limit() >> 20
    ))
    .hint("find a very large or malicious file or folder in the repository; `max_file` of the release raises this limit too")
}
