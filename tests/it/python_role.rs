//! When releases of the role `python` share their virtual environment.

use std::path::Path;
use std::process::Command;

/// The command that tells virtual environments apart, as in the role.
fn key_command() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("roles/python.yml");
    let role: serde_yaml::Value =
        serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let key = role["defaults"]["steps"][0]["outputs"]["key"].as_str();
    key.unwrap().replace("{{ app.python }}", "echo")
}

/// Whether the whole commit counts as an input of a repository with these files.
fn depends_on_the_commit(files: &[(&str, &str)]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => std::fs::write(path, text).unwrap(),
        }
    }
    let ran = Command::new("/bin/sh")
        .args(["-e", "-c", &key_command()])
        .current_dir(folder.path())
        .env("REVISION", "the-commit")
        .env("PIP_NO_INDEX", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{files:?}: {ran:?}");
    String::from_utf8_lossy(&ran.stdout).contains("the-commit")
}

#[test]
fn virtual_environment_of_published_packages_depends_on_requirements_alone() {
    for requirements in [
        "flask==3.1\n",
        " flask\n\tdjango ; python_version < \"3.9\"\n",
        "# ./not/used\nflask # see a/b\n",
        "--index-url https://pypi.example/simple\nflask\n",
        "git+https://git.example/x/y@1#egg=y\nz @ https://a.example/z.whl\n",
        "-c constraints.txt\n--constraint=constraints.txt\nflask\n",
        "flask \\\n  --hash=sha256:abc\n",
    ] {
        let files = [("requirements.txt", requirements), ("lib/setup.py", "")];
        assert!(!depends_on_the_commit(&files), "{requirements}");
    }
    let nested = [
        ("requirements.txt", "-r requirements/base.txt\n"),
        ("requirements/base.txt", "flask\n"),
    ];
    assert!(!depends_on_the_commit(&nested));
    assert!(!depends_on_the_commit(&[("app.py", "")]));
}

#[test]
fn virtual_environment_with_files_of_the_repository_depends_on_the_commit() {
    for requirements in [
        "-e .\n",
        ".\n",
        "./lib\n",
        "lib/shop\n",
        "shop-1.0.whl\n",
        "shop-1.0.tar.gz\n",
        "-r prod.txt\n",
        "-rprod.txt\n",
        "--requirement=prod.txt\n",
        "shop @ file:///srv/shop\n",
        "shop @ ./shop\n",
        "--find-links wheels/\nflask\n",
        "-> deps.txt",
    ] {
        let files = [("requirements.txt", requirements), ("deps.txt", "flask\n")];
        assert!(depends_on_the_commit(&files), "{requirements}");
    }
    let nested = [
        ("requirements.txt", "-r requirements/base.txt\n"),
        ("requirements/base.txt", "-e ../lib\n"),
    ];
    assert!(depends_on_the_commit(&nested));
    assert!(depends_on_the_commit(&[("pyproject.toml", "")]));
}
