//! `trueup demo`: the main job, for real, in a scratch folder: nothing installed, no root.

mod app;
mod host;
mod repository;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::DemoArgs;
use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::Session;
use crate::ports::exec::StopFlag;
use crate::problem::Problem;

pub(super) use app::serve;

/// The page is asked for this long before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &DemoArgs, output: &Output) -> Result<Exit, edge::Error> {
    let demo = Demo::prepare(args, output)?;
    let told = demo.tell();
    if args.keep && told.is_ok() {
        demo.farewell();
    } else {
        demo.clean_up();
    }
    told.map(|()| Exit::Converged)
}

struct Demo<'a> {
    folder: PathBuf,
    port: u16,
    shas: repository::Shas,
    keep: bool,
    output: &'a Output,
}

fn failed(message: impl Into<String>) -> edge::Error {
    edge::Error::Failed(Problem::new(message))
}

impl<'a> Demo<'a> {
    fn prepare(args: &DemoArgs, output: &'a Output) -> Result<Demo<'a>, edge::Error> {
        let folder = host::folder(args.dir.as_deref())?;
        let port = host::free_port()?;
        let shas = repository::make(&folder.join("git/hello"))
            .map_err(|error| failed(format!("cannot make a git repository: {error}")))?;
        host::furnish(&folder, port)?;
        Ok(Demo {
            folder,
            port,
            shas,
            keep: args.keep,
            output,
        })
    }

    fn tell(&self) -> Result<(), edge::Error> {
        let place = self.folder.display();
        self.chapter("A host in a folder");
        self.say(&format!("{place} stands for `/`. In it:"));
        self.say("  etc/trueup/node.yml          what this node is, and where the store is");
        self.say("  etc/trueup/roles/hello.yml   a role: the resources, as data");
        self.say("  store/                       the store; in production an S3 bucket");
        self.say(
            "  git/hello                    a git repository with three commits of a small web app",
        );

        self.chapter("CI publishes the first commit, and the host converges");
        self.publish(&self.shas.first, "first", &["--create"])?;
        self.trueup(&["converge"], Exit::Converged)?;
        self.page_says("first")?;

        self.chapter("A second pass finds everything right: no writes, no restarts");
        let before = self.service_run()?;
        self.trueup(&["converge"], Exit::Converged)?;
        self.same_run(&before)?;

        self.chapter(
            "CI publishes the second commit; `plan` shows what would happen, `converge` does it",
        );
        self.publish(&self.shas.second, "second", &[])?;
        self.trueup(&["plan"], Exit::Pending)?;
        self.trueup(&["converge"], Exit::Converged)?;
        self.restarted_once(&before)?;
        self.page_says("second")?;

        self.chapter("CI publishes a commit that does not work: the host takes it back, and stays at the second");
        self.publish(&self.shas.broken, "broken", &[])?;
        self.trueup(&["converge"], Exit::RolledBack)?;
        self.page_says("second")?;
        self.trueup(&["converge"], Exit::RolledBack)?;
        self.say("It is refused from now on. CI publishes the second commit again:");
        self.publish(&self.shas.second, "second", &[])?;
        self.trueup(&["converge"], Exit::Converged)?;

        self.chapter("Somebody changes a file by hand; the next pass mends it");
        let motd = self.folder.join("etc/motd");
        host::scribble(&motd)?;
        self.say(&format!("$ echo 'this host is mine' > {}", motd.display()));
        self.trueup(&["plan"], Exit::Pending)?;
        self.trueup(&["converge"], Exit::Converged)?;
        self.trueup(&["status"], Exit::Converged)?;

        self.chapter("What next");
        self.say(
            "On a real host the same three files describe real users, services, nginx and puma:",
        );
        self.say("see \"A real host\" in the README.");
        if !self.keep {
            self.say("`trueup demo --keep` leaves all this running, to look around and to break.");
        }
        Ok(())
    }

    fn chapter(&self, title: &str) {
        self.output.line("");
        self.output
            .line(self.output.paint.strong(&format!("== {title}")));
    }

    fn say(&self, text: &str) {
        self.output.line(text);
    }

    /// Runs a command of our own as somebody would type it, and shows what it prints.
    fn trueup(&self, args: &[&str], expected: Exit) -> Result<(), edge::Error> {
        let paint = self.output.paint;
        let root = self.folder.display().to_string();
        self.say(&paint.faint(&format!("$ trueup --root {root} {}", args.join(" "))));
        let line = ["trueup", "--root", &root]
            .into_iter()
            .chain(args.iter().copied());
        let exit = super::run(line.map(Into::into));
        if exit == expected {
            Ok(())
        } else {
            Err(failed(format!(
                "`trueup {}` ended with {} ({}), expected {}",
                args.join(" "),
                exit.code(),
                exit.word(),
                expected.code()
            )))
        }
    }

    fn publish(&self, sha: &str, reference: &str, more: &[&str]) -> Result<(), edge::Error> {
        let pair = format!("hello={sha}");
        let args = ["publish", "demo", &pair, "--ref", reference];
        self.trueup(&[&args, more].concat(), Exit::Converged)
    }

    fn page_says(&self, word: &str) -> Result<(), edge::Error> {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let page = app::get(self.port, PATIENCE)
            .map_err(|error| failed(format!("{url} does not answer: {error}")))?;
        self.say(&self.output.paint.faint(&format!("$ curl {url}")));
        self.say(page.trim());
        if page.contains(&format!("the {word} commit")) {
            Ok(())
        } else {
            Err(failed(format!("{url} does not show the {word} commit")))
        }
    }

    /// Which run of the service this is.
    fn service_run(&self) -> Result<String, edge::Error> {
        let session = self.session()?;
        let status = session.host.services.status("hello");
        let status = status.map_err(|error| failed(error.to_string()))?;
        status
            .run
            .ok_or_else(|| failed("the service hello does not run"))
    }

    fn same_run(&self, before: &str) -> Result<(), edge::Error> {
        if self.service_run()? == before {
            self.say("The service is the same process as before.");
            Ok(())
        } else {
            Err(failed(
                "the service was restarted although nothing had changed",
            ))
        }
    }

    fn restarted_once(&self, before: &str) -> Result<(), edge::Error> {
        let starts = host::starts(&self.folder)?;
        if self.service_run()? != before && starts == 2 {
            self.say("Exactly one service was restarted, once.");
            Ok(())
        } else {
            Err(failed(format!(
                "the service was started {starts} times in all, expected 2"
            )))
        }
    }

    fn session(&self) -> Result<Session, edge::Error> {
        let places = crate::pass::places(None, Some(&self.folder), None);
        Ok(Session::open(&places, StopFlag::default())?)
    }

    fn farewell(&self) {
        let place = self.folder.display();
        // Where nothing is installed, `trueup` alone is no command.
        let program = std::env::current_exe().unwrap_or_else(|_| "trueup".into());
        let program = program.display();
        self.say("");
        self.say(&format!(
            "It is still running: http://127.0.0.1:{}/",
            self.port
        ));
        self.say(&format!("  try    {program} --root {place} status"));
        self.say(&format!(
            "  edit   {place}/etc/trueup/roles/hello.yml, then converge"
        ));
        self.say(&format!("  end    {program} demo --stop {place}"));
    }

    fn clean_up(&self) {
        stop(&self.folder);
        host::remove(&self.folder);
    }
}

/// Ends a demo that was kept.
pub(super) fn end(folder: &Path, output: &Output) -> Result<Exit, edge::Error> {
    let folder = host::must_be_ours(folder)?;
    stop(&folder);
    host::remove(&folder);
    output.line(format!("the demo in {} is gone", folder.display()));
    Ok(Exit::Converged)
}

fn stop(folder: &Path) {
    let places = crate::pass::places(None, Some(folder), None);
    if let Ok(session) = Session::open(&places, StopFlag::default()) {
        let _ = session.host.services.stop("hello");
    }
}
