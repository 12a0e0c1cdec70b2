//! Names, values and files of the kind `sysctl`.

use super::{Sysctl, SysctlSpec};
use crate::kind::conformance::parse_resource;
use crate::kind::{Condition, Kind};
use crate::ports::testing::Sandbox;

const FILE: &str = "/etc/sysctl.d/99-trueup-net.ipv4.tcp_rmem.conf";
const KERNEL: &str = "/proc/sys/net/ipv4/tcp_rmem";

fn spec(fields: serde_json::Value) -> SysctlSpec {
    serde_json::from_value(fields).unwrap()
}

fn buffers() -> SysctlSpec {
    spec(serde_json::json!({"name": "net.ipv4.tcp_rmem", "value": "4096  87380 6291456"}))
}

/// What a pass would do and does, as the fields of its change.
fn converge(spec: &SysctlSpec, sandbox: &Sandbox) -> Vec<String> {
    let state = Sysctl::inspect(spec, &sandbox.host).unwrap();
    let Some(diff) = Sysctl::diff(spec, &state) else {
        return Vec::new();
    };
    Sysctl::apply(spec, &diff.action, &sandbox.host).unwrap();
    let fields = diff.change.fields.iter();
    fields.map(|field| field.field.to_string()).collect()
}

fn notes(spec: &SysctlSpec, sandbox: &Sandbox) -> Vec<String> {
    let state = Sysctl::inspect(spec, &sandbox.host).unwrap();
    match Sysctl::condition(spec, &state) {
        Condition::Noted(notes) => notes,
        _ => Vec::new(),
    }
}

#[test]
fn value_with_several_numbers_is_compared_as_the_kernel_shows_it() {
    let sandbox = Sandbox::with_base_system();
    sandbox.write(KERNEL, "4096\t131072\t6291456\n");
    assert_eq!(converge(&buffers(), &sandbox), ["value", "at boot"]);
    assert_eq!(sandbox.read(KERNEL).trim(), "4096 87380 6291456");
    let file = "net.ipv4.tcp_rmem = 4096 87380 6291456\n";
    assert!(sandbox.read(FILE).ends_with(file));
    sandbox.write(KERNEL, "4096\t87380\t6291456\n");
    assert!(converge(&buffers(), &sandbox).is_empty());
    sandbox.write(FILE, "net.ipv4.tcp_rmem = 1 2 3\n");
    assert_eq!(converge(&buffers(), &sandbox), ["at boot"]);
    sandbox.write(KERNEL, "1\t2\t3\n");
    assert_eq!(converge(&buffers(), &sandbox), ["value"]);
}

#[test]
fn absent_setting_loses_its_file_and_keeps_its_value() {
    let sandbox = Sandbox::with_base_system();
    sandbox.write(KERNEL, "1\t2\t3\n");
    converge(&buffers(), &sandbox);
    let absent = spec(serde_json::json!({"name": "net.ipv4.tcp_rmem", "state": "absent"}));
    assert_eq!(converge(&absent, &sandbox), ["state"]);
    assert!(!sandbox.exists(FILE));
    assert_eq!(sandbox.read(KERNEL).trim(), "4096 87380 6291456");
    sandbox.remove(KERNEL);
    assert!(
        converge(&absent, &sandbox).is_empty(),
        "unknown to the kernel"
    );
}

#[test]
fn unknown_setting_is_an_error_that_names_it() {
    let sandbox = Sandbox::with_base_system();
    let error = Sysctl::inspect(&buffers(), &sandbox.host).err().unwrap();
    let wanted = "the kernel of this host has no setting `net.ipv4.tcp_rmem`";
    assert_eq!(error.message, wanted);
    assert!(error.hint.unwrap().contains("sysctl -a"));
}

#[test]
fn later_file_with_another_value_is_named() {
    let sandbox = Sandbox::with_base_system();
    sandbox.write(KERNEL, "1 2 3\n");
    converge(&buffers(), &sandbox);
    for (path, text, wins) in [
        (
            "/etc/sysctl.d/10-a.conf",
            "net.ipv4.tcp_rmem = 1 2 3",
            false,
        ),
        (
            "/etc/sysctl.d/99-zz.txt",
            "net.ipv4.tcp_rmem = 1 2 3",
            false,
        ),
        ("/usr/lib/sysctl.d/99-zz.conf", "net.ipv4.tcp_wmem=1", false),
        (
            "/usr/lib/sysctl.d/99-zz.conf",
            "# net.ipv4.tcp_rmem=1",
            false,
        ),
        (
            "/usr/lib/sysctl.d/99-zz.conf",
            "net.ipv4.tcp_rmem=4096\t87380 6291456",
            false,
        ),
        ("/usr/lib/sysctl.d/99-zz.conf", "-net/ipv4/tcp_rmem=1", true),
        (
            "/run/sysctl.d/local.conf",
            "net.ipv4.tcp_rmem = 1\nnet.ipv4.tcp_rmem = 2",
            true,
        ),
        // It replaces the one before.
        ("/etc/sysctl.d/local.conf", "", true),
        ("/etc/sysctl.d/99-zz.conf", "", false),
    ] {
        sandbox.write(path, text);
        let notes = notes(&buffers(), &sandbox);
        assert_eq!(notes.len(), usize::from(wins), "{path}: {text}: {notes:?}");
    }
    sandbox.write("/etc/sysctl.d/99-zz.conf", "net.ipv4.tcp_rmem = 2");
    assert_eq!(
        notes(&buffers(), &sandbox),
        [
            "/etc/sysctl.d/99-zz.conf sets net.ipv4.tcp_rmem to `2`: that wins at the next boot, because its name comes after /etc/sysctl.d/99-trueup-net.ipv4.tcp_rmem.conf"
        ]
    );
}

#[test]
fn name_leads_to_a_setting_and_nowhere_else() {
    let path = |name: &str| super::boot::kernel_file(name).display().to_string();
    assert_eq!(path("vm.swappiness"), "/proc/sys/vm/swappiness");
    assert_eq!(path("net/ipv4/ip_forward"), "/proc/sys/net/ipv4/ip_forward");
    assert_eq!(
        path("net.ipv4.conf.eth0/100.rp_filter"),
        "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"
    );
    for name in ["vm.swappiness", "net.ipv4.conf.eth0/100.rp_filter"] {
        let text = format!("sysctl: {{name: {name}, value: 1}}");
        assert!(parse_resource(&text).is_ok(), "{name}");
    }
    let long = format!("net.{}", "a".repeat(125));
    for name in [
        "",
        "vm",
        ".vm",
        "vm.",
        "vm..swappiness",
        "..",
        "net.//.x",
        "net./",
        "net.a/",
        "net/ipv4/a.b",
        "net.a//b",
        "vm.swap piness",
        "vm.swappiness=1",
        "../etc.passwd",
        "vm.\\n",
        &long,
    ] {
        let text = format!("sysctl: {{name: \"{name}\", value: 1}}");
        let problem = parse_resource(&text)
            .err()
            .unwrap_or_else(|| panic!("{name}"));
        assert!(problem.to_string().contains("name"), "{name}: {problem}");
    }
}

#[test]
fn value_is_a_number_or_one_line() {
    for value in [
        "1",
        "-1",
        "\"0x10\"",
        "\"a b\"",
        "fq_codel",
        "\"|/bin/core %p\"",
    ] {
        let text = format!("sysctl: {{name: vm.swappiness, value: {value}}}");
        assert!(parse_resource(&text).is_ok(), "{value}");
    }
    let long = format!("\"{}\"", "a".repeat(1025));
    for value in [
        "\"\"",
        "\" \"",
        "\"1\\nkernel.x = 2\"",
        "[1]",
        "true",
        &long,
    ] {
        let text = format!("sysctl: {{name: vm.swappiness, value: {value}}}");
        let problem = parse_resource(&text)
            .err()
            .unwrap_or_else(|| panic!("{value}"));
        assert!(problem.to_string().contains("value"), "{value}: {problem}");
    }
    let missing = parse_resource("sysctl: {name: vm.swappiness}")
        .err()
        .unwrap();
    assert!(
        missing.to_string().contains("expected a value"),
        "{missing}"
    );
}
