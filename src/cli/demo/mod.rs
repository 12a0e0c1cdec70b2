//! `trueup demo`: deploys, repairs and refuses a broken commit for real in a scratch folder, without root or installation.

mod app;
mod host;
mod repository;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Output;
use super::args::DemoArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Session;
use crate::ports::exec::StopFlag;

pub(super) use app::serve;

/// Runs a command line, with the program as its first word.
type RunLine = fn(Vec<OsString>) -> Exit;

/// Time limit for the page to answer.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the demo; `run_line` runs a command line of trueup.
pub(super) fn run(
    args: &DemoArgs,
    output: &Output,
    run_line: RunLine,
) -> Result<Exit, CommandError> {
    let demo = Demo::prepare(args, output, run_line)?;
    let outcome = demo.run();
    if args.keep && outcome.is_ok() {
        demo.print_next_steps();
    } else {
        demo.clean_up();
    }
    outcome.map(|()| Exit::Converged)
}

struct Demo<'a> {
    folder: PathBuf,
    port: u16,
    shas: repository::Shas,
    keep: bool,
    output: &'a Output,
    run_line: RunLine,
}

impl<'a> Demo<'a> {
    fn prepare(
        args: &DemoArgs,
        output: &'a Output,
        run_line: RunLine,
    ) -> Result<Demo<'a>, CommandError> {
        let folder = host::create_folder(args.dir.as_deref())?;
        let port = host::free_port()?;
        let shas = repository::create(&folder.join("git/hello")).map_err(|error| {
            CommandError::failed(format!("cannot make a git repository: {error}"))
        })?;
        host::write_files(&folder, port)?;
        Ok(Demo {
            folder,
            port,
            shas,
            keep: args.keep,
            output,
            run_line,
        })
    }

    fn run(&self) -> Result<(), CommandError> {
        self.introduce();
        let service = self.deploy_first_commit()?;
        self.deploy_second_commit(&service)?;
        self.refuse_broken_commit()?;
        self.repair_edited_file()?;
        self.print_conclusion();
        Ok(())
    }

    fn introduce(&self) {
        let folder = self.folder.display();
        self.print_heading("A host in a folder");
        self.print(&format!("{folder} is the `/` of the host. It contains:"));
        self.print(
            "  etc/trueup/node.yml          the settings of this node: its roles, and the store",
        );
        self.print("  etc/trueup/roles/hello.yml   a role: the resources, as data");
        self.print("  store/                       the store; in production an S3 bucket");
        self.print(
            "  git/hello                    a git repository with three commits of a small web app",
        );
    }

    /// Returns the run of the service, which the second pass did not restart.
    fn deploy_first_commit(&self) -> Result<String, CommandError> {
        self.print_heading("CI publishes the first commit, and the host converges");
        self.publish(&self.shas.first, "first", &["--create"])?;
        self.run_command(&["converge"], Exit::Converged)?;
        self.expect_page("first")?;

        self.print_heading("A second pass finds no difference: no writes, no restarts");
        let before = self.service_run_id()?;
        self.run_command(&["converge"], Exit::Converged)?;
        self.expect_no_restart(&before)?;
        Ok(before)
    }

    fn deploy_second_commit(&self, before: &str) -> Result<(), CommandError> {
        self.print_heading(
            "CI publishes the second commit; `plan` shows what would happen, `converge` does it",
        );
        self.publish(&self.shas.second, "second", &[])?;
        self.run_command(&["plan"], Exit::Pending)?;
        self.run_command(&["converge"], Exit::Converged)?;
        self.expect_one_restart(before)?;
        self.expect_page("second")
    }

    fn refuse_broken_commit(&self) -> Result<(), CommandError> {
        self.print_heading(
            "CI publishes a broken commit: it fails beside the second, which goes on serving",
        );
        self.publish(&self.shas.broken, "broken", &[])?;
        self.run_command(&["converge"], Exit::RolledBack)?;
        self.expect_page("second")?;
        self.run_command(&["converge"], Exit::RolledBack)?;
        self.print("It is refused from now on. CI publishes the second commit again:");
        self.publish(&self.shas.second, "second", &[])?;
        self.run_command(&["converge"], Exit::Converged)
    }

    fn repair_edited_file(&self) -> Result<(), CommandError> {
        self.print_heading("Someone edits a file by hand; the next pass restores it");
        let motd = self.folder.join("etc/motd");
        host::edit_by_hand(&motd)?;
        self.print(&format!("$ echo 'this host is mine' > {}", motd.display()));
        self.run_command(&["plan"], Exit::Pending)?;
        self.run_command(&["converge"], Exit::Converged)?;
        self.run_command(&["status"], Exit::Converged)
    }

    fn print_conclusion(&self) {
        self.print_heading("What next");
        self.print(
            "On a real host the same three files describe real users, services, nginx and puma:",
        );
        self.print("see \"A real host\" in the README.");
        if !self.keep {
            self.print("`trueup demo --keep` keeps all this running, to explore and to break.");
        }
    }

    fn print_heading(&self, title: &str) {
        self.output.print_line("");
        self.output
            .print_line(self.output.paint.strong(&format!("== {title}")));
    }

    fn print(&self, text: &str) {
        self.output.print_line(text);
    }

    /// Runs a trueup command as a person would type it, and shows its output.
    fn run_command(&self, args: &[&str], expected: Exit) -> Result<(), CommandError> {
        let paint = self.output.paint;
        let root = self.folder.display().to_string();
        self.print(&paint.faint(&format!("$ trueup --root {root} {}", args.join(" "))));
        let line = ["trueup", "--root", &root]
            .into_iter()
            .chain(args.iter().copied());
        let exit = (self.run_line)(line.map(Into::into).collect());
        if exit == expected {
            Ok(())
        } else {
            Err(CommandError::failed(format!(
                "`trueup {}` ended with {} ({}), expected {}",
                args.join(" "),
                exit.code(),
                exit.word(),
                expected.code()
            )))
        }
    }

    fn publish(&self, sha: &str, reference: &str, more: &[&str]) -> Result<(), CommandError> {
        let pair = format!("hello={sha}");
        let args = ["publish", "demo", &pair, "--ref", reference];
        self.run_command(&[&args, more].concat(), Exit::Converged)
    }

    fn expect_page(&self, word: &str) -> Result<(), CommandError> {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let page = app::fetch_page(self.port, PAGE_TIMEOUT)
            .map_err(|error| CommandError::failed(format!("{url} does not answer: {error}")))?;
        self.print(&self.output.paint.faint(&format!("$ curl {url}")));
        self.print(page.trim());
        if page.contains(&format!("the {word} commit")) {
            Ok(())
        } else {
            Err(CommandError::failed(format!(
                "{url} does not show the {word} commit"
            )))
        }
    }

    /// Identifies the current run of the service.
    fn service_run_id(&self) -> Result<String, CommandError> {
        let session = self.session()?;
        let status = session.host.services.status("hello");
        let status = status.map_err(|error| CommandError::failed(error.to_string()))?;
        status
            .run_id
            .ok_or_else(|| CommandError::failed("the service hello does not run"))
    }

    fn expect_no_restart(&self, before: &str) -> Result<(), CommandError> {
        if self.service_run_id()? == before {
            self.print("The service is the same process as before.");
            Ok(())
        } else {
            Err(CommandError::failed(
                "the service was restarted although nothing had changed",
            ))
        }
    }

    fn expect_one_restart(&self, before: &str) -> Result<(), CommandError> {
        let starts = host::count_starts(&self.folder)?;
        if self.service_run_id()? != before && starts == 2 {
            self.print("Exactly one service was restarted, once.");
            Ok(())
        } else {
            Err(CommandError::failed(format!(
                "the service was started {starts} times in all, expected 2"
            )))
        }
    }

    fn session(&self) -> Result<Session, CommandError> {
        let paths = crate::pass::resolve_paths(None, Some(&self.folder), None);
        Ok(Session::open(&paths, StopFlag::default())?)
    }

    fn print_next_steps(&self) {
        let folder = self.folder.display();
        // Without an installation, `trueup` alone is no valid command.
        let program = std::env::current_exe().unwrap_or_else(|_| "trueup".into());
        let program = program.display();
        self.print("");
        self.print(&format!(
            "It is still running: http://127.0.0.1:{}/",
            self.port
        ));
        self.print(&format!("  try    {program} --root {folder} status"));
        self.print(&format!(
            "  edit   {folder}/etc/trueup/roles/hello.yml, then converge"
        ));
        self.print(&format!("  end    {program} demo --stop {folder}"));
    }

    fn clean_up(&self) {
        stop_service(&self.folder);
        host::remove(&self.folder);
    }
}

/// Stops a demo that was kept.
pub(super) fn stop_kept_demo(folder: &Path, output: &Output) -> Result<Exit, CommandError> {
    let folder = host::require_demo_folder(folder)?;
    stop_service(&folder);
    host::remove(&folder);
    output.print_line(format!("the demo in {} is gone", folder.display()));
    Ok(Exit::Converged)
}

fn stop_service(folder: &Path) {
    let paths = crate::pass::resolve_paths(None, Some(folder), None);
    if let Ok(session) = Session::open(&paths, StopFlag::default()) {
        let _ = session.host.services.stop("hello");
    }
}
