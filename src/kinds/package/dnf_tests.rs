use crate::kind::conformance::parse_resource;
use crate::ports::exec::Command;
use crate::ports::testing::{Sandbox, machine_file, skip_test};
use crate::resource::{ApplyOutcome, Change, Failure};

/// A package to build: its name, version and release, and one more line of its spec.
type Rpm = (&'static str, &'static str, &'static str);

fn skip_reason(sandbox: &Sandbox) -> Option<&'static str> {
    if !sandbox.can_set_owners() {
        return Some("needs root");
    }
    let has = |program: &str| {
        let done = sandbox.host.exec.run(Command::new([program, "--version"]));
        done.is_ok_and(|done| done.success())
    };
    let all = ["dnf", "rpm", "rpmbuild", "createrepo_c"];
    (!all.into_iter().all(has)).then_some("needs dnf, rpm, rpmbuild and createrepo_c")
}

/// A host of rpm's family with a repository of these packages as its only source.
fn sandbox_with_repository(test: &str, packages: &[Rpm]) -> Option<Sandbox> {
    let sandbox = Sandbox::with_base_system();
    if let Some(why) = skip_reason(&sandbox) {
        skip_test(test, why);
        return None;
    }
    sandbox.write("/etc/os-release", "ID=\"amzn\"\nID_LIKE=\"fedora\"\n");
    create_repository(&sandbox, packages);
    Some(sandbox)
}

fn create_repository(sandbox: &Sandbox, packages: &[Rpm]) {
    sandbox.make_dir("/srv/packages");
    let at = |path: &str| sandbox.machine_path(path).display().to_string();
    for (name, version, more) in packages {
        let (epoch, plain) = version.split_once(':').unwrap_or(("0", version));
        let (number, release) = plain.split_once('-').unwrap();
        let spec = format!("/srv/build/{name}.spec");
        sandbox.write(
            &spec,
            format!(
                "Name: {name}\nEpoch: {epoch}\nVersion: {number}\nRelease: {release}\nSummary: made by a test\nLicense: MIT\nBuildArch: noarch\n{more}\n\
                 %description\nx\n%install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho -n {number} >%{{buildroot}}/usr/share/{name}/version\n\
                 %files\n/usr/share/{name}\n"
            ),
        );
        let mut build = Command::new(["rpmbuild", "-bb", "--quiet", "--define"]);
        build.argv.extend([
            format!("_topdir {}", at("/srv/build")).into(),
            "--define".into(),
            format!("_rpmdir {}", at("/srv/packages")).into(),
            at(&spec).into(),
        ]);
        sandbox.host.exec.run_checked(build).unwrap();
    }
    let mut index = Command::new(["createrepo_c", "--quiet"]);
    index.argv.push(at("/srv/packages").into());
    sandbox.host.exec.run_checked(index).unwrap();
    sandbox.write(
        "/etc/yum.repos.d/local.repo",
        format!(
            "[local]\nname=local\nbaseurl=file://{}\ngpgcheck=0\n",
            at("/srv/packages")
        ),
    );
}

fn apply(text: &str, sandbox: &Sandbox) -> Result<ApplyOutcome, Failure> {
    let resource = parse_resource(text).unwrap();
    let observed = resource.inspect(&sandbox.host)?;
    observed.change().expect("something to do");
    observed.apply(&sandbox.host)
}

fn pending_change(text: &str, sandbox: &Sandbox) -> Option<Change> {
    let resource = parse_resource(text).unwrap();
    resource.inspect(&sandbox.host).unwrap().change().cloned()
}

#[test]
fn missing_rpms_are_installed_and_present_ones_not_upgraded() {
    let packages = [
        ("one", "1.0-1", ""),
        ("two", "1.0-1", "Requires: three"),
        ("three", "1.0-1", ""),
    ];
    let Some(sandbox) = sandbox_with_repository("installing rpms", &packages) else {
        return;
    };
    let machine = machine_file("/var/lib/dpkg/status");
    let one = "package: {names: [one]}";
    assert_eq!(apply(one, &sandbox).unwrap(), ApplyOutcome::Done);
    assert_eq!(pending_change(one, &sandbox), None);
    create_repository(&sandbox, &[("one", "2.0-1", "")]);
    let both = "package: {names: [one, two]}";
    apply(both, &sandbox).unwrap();
    assert_eq!(pending_change(both, &sandbox), None);
    assert_eq!(sandbox.read("/usr/share/one/version"), "1.0");
    apply("package: {names: [two], state: absent}", &sandbox).unwrap();
    assert!(!sandbox.exists("/usr/share/two/version"));
    assert!(
        sandbox.exists("/usr/share/three/version"),
        "a package that another resource may need is gone"
    );
    assert_eq!(machine_file("/var/lib/dpkg/status"), machine);
}

#[test]
fn rpm_version_is_upgraded_and_downgraded() {
    let packages = [
        ("one", "1.0-1", ""),
        ("one", "1.1-1.el9", ""),
        ("one", "1:1.2-3", ""),
        ("one-1x", "9.0-1", ""),
    ];
    let Some(sandbox) = sandbox_with_repository("versions of rpms", &packages) else {
        return;
    };
    for (version, found) in [
        ("1.1-1.el9", "1.1"),
        ("1.0*", "1.0"),
        ("1*", "1.0"),
        ("1.2", "1.2"),
        ("1.1", "1.1"),
        ("1:1.*", "1.2"),
        ("1.0-1", "1.0"),
    ] {
        let text = format!("package: {{names: [one], version: \"{version}\"}}");
        if pending_change(&text, &sandbox).is_some() {
            apply(&text, &sandbox).unwrap_or_else(|failure| panic!("{version}: {failure}"));
        }
        assert_eq!(pending_change(&text, &sandbox), None, "{version}");
        assert_eq!(sandbox.read("/usr/share/one/version"), found, "{version}");
    }
    assert!(
        !sandbox.exists("/usr/share/one-1x"),
        "a pattern matched another package"
    );
}

#[test]
fn unknown_rpm_fails_with_dnfs_own_words() {
    let Some(sandbox) = sandbox_with_repository("an unknown rpm", &[("one", "1.0-1", "")]) else {
        return;
    };
    for text in [
        "package: {names: [nosuch]}",
        "package: {names: [one], version: '7.0'}",
    ] {
        let failure = apply(text, &sandbox).unwrap_err();
        assert!(
            failure.message.contains("Unable to find a match"),
            "{failure}"
        );
        assert!(failure.hint.unwrap().contains("just updated"));
    }
    create_repository(&sandbox, &[("nosuch", "1.0-1", "")]);
    apply("package: {names: [nosuch]}", &sandbox).expect("the lists are updated once");
}

#[test]
fn unreachable_source_fails_only_packages_that_no_other_has() {
    let Some(sandbox) = sandbox_with_repository("a broken source", &[("one", "1.0-1", "")]) else {
        return;
    };
    sandbox.write(
        "/etc/yum.repos.d/broken.repo",
        "[broken]\nname=broken\nbaseurl=file:///nonexistent\ngpgcheck=0\n",
    );
    apply("package: {names: [one]}", &sandbox).unwrap();
    let failure = apply("package: {names: [two]}", &sandbox).unwrap_err();
    assert!(failure.message.contains("repo 'broken'"), "{failure}");
    assert!(failure.hint.unwrap().contains("/etc/yum.repos.d"));
    sandbox.remove("/etc/yum.repos.d/local.repo");
    sandbox.remove("/etc/yum.repos.d/broken.repo");
    let failure = apply("package: {names: [two]}", &sandbox).unwrap_err();
    assert!(failure.message.contains("no package sources"), "{failure}");
}

#[test]
fn what_dnf_does_not_know_is_refused_before_it_runs() {
    let sandbox = Sandbox::with_base_system();
    if !sandbox.can_set_owners() {
        return skip_test("unknown fields of dnf", "needs root");
    }
    let inspect = |text: &str| {
        let resource = parse_resource(text).unwrap();
        resource.inspect(&sandbox.host).err()
    };
    sandbox.write("/etc/os-release", "ID=debian\n");
    for capital in ["ImageMagick", "mod_ssl"] {
        let failure = inspect(&format!("package: {{names: [{capital}]}}")).unwrap();
        assert!(failure.message.contains("apt package"), "{failure}");
    }
    sandbox.write("/etc/os-release", "ID=fedora\n");
    let failure = inspect("package: {names: [one], held: true}").unwrap();
    assert!(failure.hint.unwrap().contains("versionlock"));
    let failure = inspect("package: {names: ['libc6:i386']}").unwrap();
    assert!(failure.hint.unwrap().contains("glibc.i686"));
}

#[test]
fn package_that_a_killed_upgrade_left_twice_is_repaired() {
    let packages = [("one", "1.0-1", ""), ("one", "2.0-1", "")];
    let Some(sandbox) = sandbox_with_repository("duplicate rpms", &packages) else {
        return;
    };
    let rpm = |args: &[&str]| {
        let mut command = Command::new(["rpm", "--root"]);
        command.argv.push(sandbox.machine_path("/").into());
        command.argv.extend(args.iter().map(Into::into));
        let output = sandbox
            .host
            .exec
            .run_checked(command)
            .unwrap()
            .output
            .text();
        sandbox.invalidate_caches();
        output
    };
    let file = |version: &str| {
        let path = format!("/srv/packages/noarch/one-{version}-1.noarch.rpm");
        sandbox.machine_path(&path).display().to_string()
    };
    let count = || rpm(&["-q", "one"]).lines().count();
    let one = "package: {names: [one]}";
    for text in [one, "package: {names: [one], version: '2.*'}"] {
        apply("package: {names: [one], version: '1.0'}", &sandbox).unwrap();
        rpm(&["-i", "--force", &file("2.0")]);
        assert_eq!(count(), 2);
        apply(text, &sandbox).unwrap();
        assert_eq!((pending_change(text, &sandbox), count()), (None, 1));
        assert_eq!(sandbox.read("/usr/share/one/version"), "2.0");
    }
    rpm(&["-i", "--force", "--oldpackage", &file("1.0")]);
    apply("package: {names: [one], state: absent}", &sandbox).unwrap();
    assert_eq!(rpm(&["-qa", "one"]), "");
}

#[test]
fn name_that_another_package_provides_counts_as_its_name() {
    let packages = [("ruby3.2", "3.2.2-1", "Provides: ruby = 3.2.2")];
    let Some(sandbox) = sandbox_with_repository("provided names", &packages) else {
        return;
    };
    let ruby = "package: {names: [ruby]}";
    apply(ruby, &sandbox).unwrap();
    assert_eq!(pending_change(ruby, &sandbox), None);
    apply("package: {names: [ruby], state: absent}", &sandbox).unwrap();
    assert!(!sandbox.exists("/usr/share/ruby3.2/version"));
}
