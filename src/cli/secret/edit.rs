//! `trueup secret edit`.

use std::path::{Path, PathBuf};

use super::identity::OperatorKey;
use super::opened::{Changed, OpenedTarget, confirm_protected};
use super::recipients::require_known;
use super::set;
use crate::cli::Output;
use crate::cli::args::SecretEditArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret;
use crate::pass::Paths;
use crate::ports::exec::{Command, Exec};
use crate::ports::root::{Attrs, Root};
use crate::ports::secrets::add_secret;
use crate::problem::Problem;
use crate::resource::Failure;
use crate::secrets::MAX_VALUE_BYTES;

pub(super) fn run(
    args: &SecretEditArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let opened = OpenedTarget::open(&args.target, paths)?;
    let current = opened.target().read()?;
    let identities = OperatorKey::require(&args.key)?.unlock()?;
    let before = secret::edit_value(&opened.target(), &current, &args.name, &identities)?;
    add_secret(&before);
    let after = edit_text(&args.name, &before)?;
    if after == before {
        let unchanged = Changed {
            name: Some(&args.name),
            ..Changed::default()
        };
        opened.print_unchanged(&format!("{} stays as it is", args.name), unchanged, output);
        return Ok(Exit::Converged);
    }
    add_secret(&after);
    confirm_protected(&args.target, &current, &format!("set `{}`", args.name))?;
    require_known(
        &opened,
        &current.recipients,
        &[],
        &args.accept.accept,
        output,
    )?;
    set::store(&opened, &current, &args.name, &after, None, output)
}

/// A folder that is removed with all that an editor leaves in it.
struct PrivateFolder<'a> {
    root: &'a Root,
    path: PathBuf,
}

impl Drop for PrivateFolder<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.root.remove_tree(&self.path) {
            tracing::error!(
                "remove {} yourself, it holds a secret: {error}",
                self.path.display()
            );
        }
    }
}

/// Lets the operator change a text in an editor.
fn edit_text(name: &str, text: &str) -> Result<String, CommandError> {
    let root = Root::real()?;
    let folder = PrivateFolder {
        path: root.create_memory_folder("trueup-secret-")?,
        root: &root,
    };
    let file = folder.path.join(name);
    root.write_atomic(&file, text.as_bytes(), &Attrs::mode(0o600))?;
    let command = editor_command(&file);
    let succeeded = Exec.run_at_terminal(&command).map_err(Failure::from)?;
    if !succeeded {
        let problem = Problem::new("the editor failed: nothing was changed");
        return Err(CommandError::Failed(problem));
    }
    let body = root.read(&file, MAX_VALUE_BYTES)?;
    let body = body.ok_or_else(|| CommandError::failed("the editor removed the file"))?;
    String::from_utf8(body).map_err(|_| CommandError::failed("the value is no UTF-8 text"))
}

/// The operator's editor, which may be a command with arguments. Only the path of the file is an argument.
#[expect(
    clippy::disallowed_methods,
    reason = "an editor is the operator's own program, with the operator's environment"
)]
fn editor_command(file: &Path) -> Command {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = variable("VISUAL").or_else(|| variable("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".into());
    let mut command = Command::new(["/bin/sh", "-c", &format!("{editor} \"$0\"")]);
    command.argv.push(file.into());
    command.env = std::env::vars_os().collect();
    command.umask = 0o077;
    command
}
