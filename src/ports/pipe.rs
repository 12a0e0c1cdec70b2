//! Pipes, as far as the standard library does not say it.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Whether nobody reads any more what is written to a stream, such as `head` after its last line. A write would say
/// so as well, but a command that waits for something to print does not write.
pub(crate) fn has_no_reader(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0]
            .revents()
            .is_some_and(|events| events.intersects(gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_has_no_reader_once_its_other_end_is_closed() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(!has_no_reader(&writer));
        drop(reader);
        assert!(has_no_reader(&writer));
        assert!(!has_no_reader(tempfile::tempfile().unwrap()));
    }
}
