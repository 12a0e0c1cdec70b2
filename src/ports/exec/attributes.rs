//! Process attributes of a child, the same no matter how trueup was started: a build run by the timer, from
//! an interactive shell or under `nohup` makes the same files and has the same access.
//!
//! | inherited attribute | value in the child |
//! | --- | --- |
//! | session, controlling terminal, process group | its own session without a terminal, so that it can neither open `/dev/tty` and inject input (TIOCSTI) nor signal the caller's group; `exec` at a terminal: its own pty ([`super::console`]) |
//! | standard streams | `/dev/null` and pipes or log files of trueup; `exec`: the caller's, except terminals |
//! | other descriptors | only [`super::Command::extra_fds`]: all others are closed before the child switches to another user, who could stop it before its program begins ([`super::descriptors`]) |
//! | environment, working directory | exactly those of the [`super::Command`]. The child enters the folder as its user, so that it cannot get into a folder that the user cannot reach |
//! | umask | [`super::Command::umask`], 022 unless an app sets another |
//! | signal mask, ignored signals | none blocked, none ignored |
//! | user, group, supplementary groups | the [`super::Identity`]; without one, root has only root's group |
//! | resource limits | systemd's defaults; those that depend on the host's memory (processes, pending signals) are PID 1's |
//! | nice, scheduler, I/O class, CPUs | 0, `SCHED_OTHER`, none, those of PID 1 |
//! | `oom_score_adj` | 200, as in `trueup.service`: a host short of memory should lose a build rather than an app. A service that outlives trueup, and an interactive command: 0 |
//! | ambient capabilities | none |
//! | session keyring | a new one: a build does not possess the keys of root's session, even if its user has used up the key quota |
//! | personality, timer slack | Linux defaults |
//! | parent-death signal | SIGKILL, except for services that outlive trueup |
//! | dumpable, secure computing of exec | reset by `execve` |
//! | bounding set, securebits, `no_new_privs`, seccomp, namespaces, cgroup, audit session | inherited: they only restrict or attribute, and `trueup.service` sets some on purpose |
//!
//! Nothing here may allocate or take a lock after the fork: [`ProcessAttributes::apply`] makes only system
//! calls.

use std::io;

use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

const MIB: u64 = 1 << 20;

const NOFILE_LIMIT: (u64, u64) = (1024, 524_288);

/// Soft and hard limits: systemd's defaults for a service that sets none.
const DEFAULT_LIMITS: [(Resource, u64, u64); 14] = [
    (Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY),
    // A core dump of a build would contain its secrets.
    (Resource::RLIMIT_CORE, 0, RLIM_INFINITY),
    (Resource::RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_LOCKS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_MEMLOCK, 8 * MIB, 8 * MIB),
    (Resource::RLIMIT_MSGQUEUE, 819_200, 819_200),
    (Resource::RLIMIT_NICE, 0, 0),
    (Resource::RLIMIT_NOFILE, NOFILE_LIMIT.0, NOFILE_LIMIT.1),
    (Resource::RLIMIT_RSS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_RTPRIO, 0, 0),
    (Resource::RLIMIT_RTTIME, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_STACK, 8 * MIB, RLIM_INFINITY),
];

/// Limits that depend on the host's memory.
const INIT_LIMITS: [Resource; 2] = [Resource::RLIMIT_NPROC, Resource::RLIMIT_SIGPENDING];

/// The highest signal number of Linux.
const LAST_SIGNAL: libc::c_int = 64;

/// The use of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Part of a pass.
    Task,
    /// A service that outlives trueup.
    Service,
    /// An interactive command of an operator.
    Console,
}

/// All attributes that replace inherited ones, collected before the fork.
pub(super) struct ProcessAttributes {
    umask: Mode,
    oom_score_adj: &'static [u8],
    init_limits: [Option<(u64, u64)>; INIT_LIMITS.len()],
    cpus: Option<libc::cpu_set_t>,
}

impl ProcessAttributes {
    pub(super) fn new(mask: u32, purpose: Purpose) -> ProcessAttributes {
        ProcessAttributes {
            umask: Mode::from_bits_truncate(mask),
            oom_score_adj: match purpose {
                Purpose::Task => b"200",
                Purpose::Service | Purpose::Console => b"0",
            },
            init_limits: INIT_LIMITS.map(limit_of_init),
            cpus: cpus_of_init(),
        }
    }

    /// Replaces the inherited attributes, in the child while it still has trueup's privilege. Ignores those
    /// that the kernel refuses to an unprivileged process.
    pub(super) fn apply(&self) {
        umask(self.umask);
        reset_signals();
        for (resource, soft, hard) in DEFAULT_LIMITS {
            set_limit(resource, soft, hard);
        }
        for (resource, known) in INIT_LIMITS.into_iter().zip(self.init_limits) {
            if let Some((soft, hard)) = known {
                set_limit(resource, soft, hard);
            }
        }
        // SAFETY: async-signal-safe calls; the pointers are to values that live through each call.
        unsafe {
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &std::mem::zeroed());
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
            const WHO_PROCESS: libc::c_int = 1;
            libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, 0);
            if let Some(cpus) = &self.cpus {
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus);
            }
            libc::personality(0);
            libc::prctl(libc::PR_SET_TIMERSLACK, 50_000);
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_CLEAR_ALL,
                0,
                0,
                0,
            );
            let file = libc::open(
                c"/proc/self/oom_score_adj".as_ptr(),
                libc::O_WRONLY | libc::O_CLOEXEC,
            );
            if file >= 0 {
                let adj = self.oom_score_adj;
                libc::write(file, adj.as_ptr().cast(), adj.len());
                libc::close(file);
            }
        }
    }
}

/// Leaves the caller's session and its terminal.
pub(super) fn new_session() -> io::Result<()> {
    // SAFETY: async-signal-safe, and takes no pointer.
    match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Joins a new session keyring, owned by the current user. Errors are ignored: a kernel without keyrings, or
/// a container that forbids them, has no session keyring to leave.
pub(super) fn new_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null pointer asks for a keyring without a name.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
}

/// Resets inherited attributes that would affect trueup itself: the umask (modes of files that libraries
/// make), blocked signals (they end a pass), an ignored SIGCHLD (it hides the exit of children) and a limit
/// of too few descriptors. Other limits and the priority stay as the caller set them. SIGHUP stays ignored
/// under `nohup`.
pub(crate) fn reset_inherited_attributes() {
    umask(Mode::from_bits_truncate(0o022));
    if getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(soft, _)| soft < NOFILE_LIMIT.0) {
        set_limit(Resource::RLIMIT_NOFILE, NOFILE_LIMIT.0, NOFILE_LIMIT.1);
    }
    // SAFETY: a mask on the stack, and signal dispositions that are numbers.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

fn reset_signals() {
    // The kernel's own `struct sigaction`: no handler, no flags, no mask. libc's call refuses two signals
    // that it reserves for itself.
    let default = [0_u64; 8];
    const SET_BYTES: usize = 8;
    // SAFETY: async-signal-safe. The struct is larger than the kernel's on any architecture, and zeroes
    // are its default; SIGKILL and SIGSTOP are refused.
    unsafe {
        for signal in 1..=LAST_SIGNAL {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                old,
                SET_BYTES,
            );
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Sets a limit, or the nearest that the current hard limit allows if the hard limit cannot be raised.
fn set_limit(resource: Resource, soft: u64, hard: u64) {
    if setrlimit(resource, soft, hard).is_err()
        && let Ok((_, most)) = getrlimit(resource)
    {
        let hard = hard.min(most);
        let _ = setrlimit(resource, soft.min(hard), hard);
    }
}

fn limit_of_init(resource: Resource) -> Option<(u64, u64)> {
    // SAFETY: a null pointer sets nothing, and the other points to a local value.
    unsafe {
        let mut now: libc::rlimit = std::mem::zeroed();
        let asked = libc::prlimit(1, resource as _, std::ptr::null(), &mut now);
        (asked == 0).then_some((now.rlim_cur, now.rlim_max))
    }
}

fn cpus_of_init() -> Option<libc::cpu_set_t> {
    // SAFETY: the pointer is to a local value of the size that is passed.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        let asked = libc::sched_getaffinity(1, size_of::<libc::cpu_set_t>(), &mut cpus);
        (asked == 0).then_some(cpus)
    }
}
