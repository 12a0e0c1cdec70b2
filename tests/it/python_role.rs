//! When releases of the role `python` share their virtual environment.

use std::path::Path;
use std::process::Command;

/// Whether the virtual environment of a release with these files is its own.
fn is_not_shared(files: &[(&str, &str)], environment: &[(&str, &str)]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => std::fs::write(path, text).unwrap(),
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/python/dependencies.py");
    let ran = Command::new("python3")
        .arg(script)
        .current_dir(folder.path())
        .env("RELEASE_PATH", "its-own-path")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{files:?}: {ran:?}");
    String::from_utf8_lossy(&ran.stdout).contains("its-own-path")
}

#[test]
fn virtual_environment_of_published_packages_is_shared() {
    for requirements in [
        "",
        "flask==3.1\n",
        " flask\n\tdjango[argon2, bcrypt] ~=5.0 ; python_version < \"3.13\"\r\n",
        "# ./not/used\nflask # see a/b\n",
        "--index-url https://pypi.example/simple\n--pre\nflask\n",
        "git+https://git.example/x/y@1#egg=y\nz @ https://a.example/z.whl\n",
        "-c constraints.txt\n--constraint=constraints.txt\nflask\n",
        "-r requirements/base.txt\n-rrequirements/base.txt\n",
        "flask==3.1 \\\n  --hash=sha256:abc \\\n  --hash=sha256:def\n",
    ] {
        let files = [
            ("requirements.txt", requirements),
            ("requirements/base.txt", "-c ../constraints.txt\nflask\n"),
            ("constraints.txt", "flask<4,>=3\n"),
            ("lib/setup.py", ""),
        ];
        assert!(!is_not_shared(&files, &[]), "{requirements}");
    }
    let flask = [("requirements.txt", "flask\n")];
    assert!(!is_not_shared(&flask, &[("PIP_FIND_LINKS", "/srv/wheels")]));
    assert!(!is_not_shared(&[("app.py", "")], &[]));
}

#[test]
fn virtual_environment_that_may_contain_files_of_the_release_is_its_own() {
    for requirements in [
        "-e .\n",
        "\t-e .\n",
        ".\n",
        "./lib\n",
        "lib/shop\n",
        "lib/shop # note: ours\n",
        "shop-1.0.tar.xz\n",
        "-r missing.txt\n",
        "-r ../other.txt\n",
        "-r linked/requirements.txt\n",
        "-r requirements/base.txt\n",
        "shop @ file:///srv/shop\n",
        "shop @ ./shop\n",
        "--find-links wheels\nflask\n",
        "-f wheels\nflask\n",
        "flask\0\n-e .\n",
        "fl\u{e4}sk\n",
        "-> deps.txt",
    ] {
        let files = [
            ("requirements.txt", requirements),
            ("requirements/base.txt", "flask\n-e ../lib"),
            ("linked", "-> lib"),
            ("lib/requirements.txt", "flask\n"),
            ("shop-1.0.tar.xz", ""),
            ("deps.txt", "flask\n"),
        ];
        assert!(is_not_shared(&files, &[]), "{requirements}");
    }
    let flask = ("requirements.txt", "flask\n");
    assert!(is_not_shared(&[flask], &[("PIP_FIND_LINKS", "wheels")]));
    assert!(is_not_shared(&[flask, ("uv.toml", "")], &[]));
    assert!(is_not_shared(&[("pyproject.toml", "")], &[]));
}
