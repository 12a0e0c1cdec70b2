//! The log files that supervisord writes. Not over its socket: it answers with an error for text that is not UTF-8.

use std::path::Path;
use std::rc::Rc;

use super::actions::{Action, Result};
use crate::ports::root::Root;
use crate::ports::services::log_file::FileLog;
use crate::ports::services::{LogRange, ServiceLog};

/// Opens the logs of the processes of a name, one after the other.
pub(super) fn open(
    action: &Action<'_>,
    root: &Rc<Root>,
    range: LogRange,
) -> Result<Vec<ServiceLog>> {
    let processes = action.own_processes()?;
    if processes.is_empty() {
        action.require_known()?;
    }
    let is_alone = processes.len() == 1;
    let mut logs = Vec::new();
    for process in &processes {
        let name = match is_alone {
            true => action.requested_name.to_owned(),
            false => process.namespec(),
        };
        for file in &process.log_files {
            // supervisord knows the machine's paths; those of trueup begin at the root.
            let path = file.strip_prefix(root.path()).map_err(|_| {
                let (file, root) = (file.display(), root.path().display());
                action.failed(format!("its log {file} is not below {root}"))
            })?;
            let path = Path::new("/").join(path);
            logs.push(ServiceLog {
                name: name.clone(),
                reader: Box::new(FileLog::open(root, &path, &name, range)?),
            });
        }
    }
    if logs.is_empty() {
        return Err(action.failed("supervisord keeps no file of its output (stdout_logfile=)"));
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::services::conformance::{Fixture, wait_for};

    #[test]
    fn logs_are_those_of_all_processes_of_a_group() {
        let line = "command=/bin/sh -c 'echo out; printf \"\\377\\n\" >&2; exec sleep 60'\nstartsecs=0\nautostart=false\n";
        let Some(mut bench) = Fixture::supervisor() else {
            return;
        };
        bench.write_definition("app.conf", &format!(
        "[program:app]\n{line}process_name=%(program_name)s_%(process_num)d\nnumprocs=2\n\
         [program:one]\n{line}redirect_stderr=true\n[program:mute]\n{line}stdout_logfile=NONE\nstderr_logfile=NONE\n"
    ));
        for name in ["app:*", "one", "mute"] {
            bench.services.start(name).unwrap();
        }
        // Not UTF-8, which supervisord would not send.
        wait_for("all have printed", || {
            bench.read_logs("app:*", 9) == "out\n\u{fffd}\nout\n\u{fffd}\n"
                && bench.read_logs("one", 9) == "out\n\u{fffd}\n"
        });
        let range = LogRange {
            lines: 9,
            follow: false,
        };
        let logs = bench.services.open_logs("app:*", range).unwrap();
        let names: Vec<&str> = logs.iter().map(|log| log.name.as_str()).collect();
        assert_eq!(names, ["app:app_0", "app:app_0", "app:app_1", "app:app_1"]);
        let refused = |name| {
            bench
                .services
                .open_logs(name, range)
                .err()
                .unwrap()
                .to_string()
        };
        let why = refused("mute");
        assert!(
            why.contains("supervisord keeps no file of its output"),
            "{why}"
        );
        assert!(refused("nobody").contains("there is no service `nobody`"));
    }
}
