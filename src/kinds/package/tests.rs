use crate::digest::digest;
use crate::kind::AnyResource;
use crate::kind::conformance::parse_resource;
use crate::ports::exec::Command;
use crate::ports::testing::{Sandbox, machine_file, skip_test};
use crate::resource::{ApplyOutcome, Change, Failure};

const STATUS: &str = "/var/lib/dpkg/status";

pub(super) fn skip_reason(sandbox: &Sandbox) -> Option<&'static str> {
    if !sandbox.can_set_owners() {
        return Some("needs root");
    }
    let has = |program: &str| {
        let done = sandbox.host.exec.run(Command::new([program, "--version"]));
        done.is_ok_and(|done| done.success())
    };
    (!(has("apt-get") && has("dpkg-deb"))).then_some("needs apt-get and dpkg-deb")
}

/// Creates a repository with these packages as the sandbox's only source.
pub(super) fn create_repository(sandbox: &Sandbox, packages: &[(&str, &str)]) {
    let mut index = String::new();
    for (name, version) in packages {
        let tree = format!("/srv/build/{name}-{version}");
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@example.org>\nDescription: made by a test\n"
        );
        sandbox.write(&format!("{tree}/DEBIAN/control"), &control);
        sandbox.write(&format!("{tree}/usr/share/{name}/version"), version);
        let file = format!("{name}_{version}_all.deb");
        let deb = format!("/srv/packages/{file}");
        sandbox.make_dir("/srv/packages");
        let mut build = Command::new(["dpkg-deb", "--root-owner-group", "--build"]);
        build.argv.push(sandbox.machine_path(&tree).into());
        build.argv.push(sandbox.machine_path(&deb).into());
        sandbox.host.exec.run_checked(build).unwrap();
        let body = sandbox.bytes(&deb);
        let (size, sum) = (body.len(), digest(&body));
        index.push_str(&format!(
            "{control}Filename: ./{file}\nSize: {size}\nSHA256: {sum}\n\n"
        ));
    }
    sandbox.write("/srv/packages/Packages", index);
    let folder = sandbox.machine_path("/srv/packages");
    sandbox.write(
        "/etc/apt/sources.list",
        format!("deb [trusted=yes] file:{} ./\n", folder.display()),
    );
}

fn sandbox_with_repository(test: &str, packages: &[(&str, &str)]) -> Option<Sandbox> {
    let sandbox = Sandbox::with_base_system();
    if let Some(why) = skip_reason(&sandbox) {
        skip_test(test, why);
        return None;
    }
    create_repository(&sandbox, packages);
    Some(sandbox)
}

fn apply(resource: &dyn AnyResource, sandbox: &Sandbox) -> Result<ApplyOutcome, Failure> {
    let observed = resource.inspect(&sandbox.host)?;
    observed.change().expect("something to do");
    observed.apply(&sandbox.host)
}

fn pending_change(resource: &dyn AnyResource, sandbox: &Sandbox) -> Option<Change> {
    resource.inspect(&sandbox.host).unwrap().change().cloned()
}

#[test]
fn missing_packages_are_installed_and_present_ones_not_upgraded() {
    let Some(sandbox) = sandbox_with_repository("installing", &[("one", "1.0"), ("two", "1.0")])
    else {
        return;
    };
    let machine = machine_file("/var/lib/dpkg/status");
    let one = parse_resource("package: {names: [one]}").unwrap();
    assert_eq!(apply(&*one, &sandbox).unwrap(), ApplyOutcome::Done);
    assert_eq!(sandbox.read("/usr/share/one/version"), "1.0");
    create_repository(&sandbox, &[("one", "2.0"), ("two", "1.0")]);
    assert_eq!(pending_change(&*one, &sandbox), None);
    let both = parse_resource("package: {names: [one, two]}").unwrap();
    apply(&*both, &sandbox).unwrap();
    assert_eq!(pending_change(&*both, &sandbox), None);
    assert_eq!(sandbox.read("/usr/share/one/version"), "1.0");
    assert_eq!(machine_file("/var/lib/dpkg/status"), machine);
}

#[test]
fn version_is_upgraded_and_downgraded() {
    let Some(sandbox) = sandbox_with_repository("versions", &[("one", "1.0-1"), ("one", "1.1-1")])
    else {
        return;
    };
    for (version, found) in [("1.1-1", "1.1-1"), ("1.0*", "1.0-1"), ("1.*", "1.0-1")] {
        let text = format!("package: {{names: [one], version: \"{version}\"}}");
        let one = parse_resource(&text).unwrap();
        if pending_change(&*one, &sandbox).is_some() {
            apply(&*one, &sandbox).unwrap();
        }
        assert_eq!(pending_change(&*one, &sandbox), None, "{version}");
        assert_eq!(sandbox.read("/usr/share/one/version"), found, "{version}");
    }
}

#[test]
fn operators_hold_wins_unless_the_role_sets_held() {
    let Some(sandbox) = sandbox_with_repository("holds", &[("one", "1.0"), ("one", "2.0")]) else {
        return;
    };
    apply(
        &*parse_resource("package: {names: [one], version: '1.0', held: true}").unwrap(),
        &sandbox,
    )
    .unwrap();
    let held = sandbox.read(STATUS);
    assert!(held.contains("hold ok installed"), "{held}");
    for other in ["version: '2.0'", "state: absent"] {
        let text = format!("package: {{names: [one], {other}}}");
        let outcome = apply(&*parse_resource(&text).unwrap(), &sandbox).unwrap();
        let ApplyOutcome::Waiting(why) = outcome else {
            panic!("{other} was done");
        };
        assert!(why.contains("`one` is on hold"), "{why}");
    }
    assert_eq!(sandbox.read(STATUS), held);
    let pinned = parse_resource("package: {names: [one], version: '2.0', held: true}").unwrap();
    apply(&*pinned, &sandbox).unwrap();
    assert_eq!(pending_change(&*pinned, &sandbox), None);
    assert!(sandbox.read(STATUS).contains("hold ok installed"));
    let free = parse_resource("package: {names: [one], held: false}").unwrap();
    apply(&*free, &sandbox).unwrap();
    let absent = parse_resource("package: {names: [one], state: absent}").unwrap();
    apply(&*absent, &sandbox).unwrap();
    assert_eq!(pending_change(&*absent, &sandbox), None);
    assert!(!sandbox.exists("/usr/share/one/version"));
}

#[test]
fn unknown_package_fails_after_one_list_update() {
    let Some(sandbox) = sandbox_with_repository("an unknown package", &[("one", "1.0")]) else {
        return;
    };
    let failure = apply(
        &*parse_resource("package: {names: [nosuch]}").unwrap(),
        &sandbox,
    )
    .unwrap_err();
    assert!(failure.message.contains("Unable to locate package nosuch"));
    assert!(failure.hint.unwrap().contains("just updated"));
    let lists = sandbox.host.root.list("/var/lib/apt/lists".as_ref());
    let lists = lists.unwrap().unwrap();
    let taken = |name: &std::ffi::OsString| name.to_string_lossy().contains("Packages");
    assert!(lists.iter().any(taken), "{lists:?}");
}

#[test]
fn packages_of_an_interrupted_dpkg_are_configured_first() {
    let Some(sandbox) =
        sandbox_with_repository("an interrupted dpkg", &[("one", "1.0"), ("two", "1.0")])
    else {
        return;
    };
    apply(
        &*parse_resource("package: {names: [one]}").unwrap(),
        &sandbox,
    )
    .unwrap();
    let status = sandbox.read(STATUS);
    sandbox.write(
        "/var/lib/dpkg/updates/0001",
        status.replace("ok installed", "ok unpacked"),
    );
    let both = parse_resource("package: {names: [one, two]}").unwrap();
    apply(&*both, &sandbox).unwrap();
    assert_eq!(pending_change(&*both, &sandbox), None);
}

#[test]
fn sandbox_without_package_sources_fails_and_stays_empty() {
    let sandbox = Sandbox::empty();
    if let Some(why) = skip_reason(&sandbox) {
        return skip_test("no sources", why);
    }
    let failure = apply(
        &*parse_resource("package: {names: [one]}").unwrap(),
        &sandbox,
    )
    .unwrap_err();
    assert!(failure.message.contains("no package sources") && failure.hint.is_some());
    assert!(!sandbox.exists("/var"));
}

#[test]
fn ambiguous_package_names_are_rejected() {
    for bad in [
        "names: []",
        "names: ['nginx-']",
        "names: ['--purge']",
        "names: ['ngin*']",
        "names: ['nginx=1.0']",
        "names: ['nginx/stable']",
        "names: ['./nginx.deb']",
        "names: [nginx, nginx]",
        "names: [nginx, curl], version: '1.0'",
        "names: [nginx], version: '*'",
        "names: [nginx], version: '1.0 curl'",
        "names: [nginx], held: true, state: absent",
    ] {
        assert!(
            parse_resource(&format!("package: {{{bad}}}")).is_err(),
            "{bad}"
        );
    }
    for good in ["g++", "libstdc++6:amd64", "python3.11", "ca-certificates"] {
        assert!(
            parse_resource(&format!("package: {{names: ['{good}']}}")).is_ok(),
            "{good}"
        );
    }
}
