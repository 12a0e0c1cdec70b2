use super::spec::{Proofs, RuntimeUpdates};
use super::state::STABLE_AFTER;
use super::*;
use crate::ports::services::{ManagedBy, Services};
use crate::ports::testing::Sandbox;

/// The service `demo` of the host.
fn demo(running: Option<bool>) -> ServiceSpec {
    ServiceSpec {
        name: "demo".into(),
        manager: ManagedBy::Host,
        enabled: None,
        running,
        unit: None,
        serves: None,
        after_gate: false,
        process: None,
        proves: Proofs::default(),
        coordinated: false,
        runtime: RuntimeUpdates::default(),
        restart_on: Vec::new(),
        reload_on: Vec::new(),
    }
}

#[test]
fn only_the_manager_of_a_service_is_called() {
    let sandbox = Sandbox::with_base_system();
    sandbox.supervisor.define("demo");
    let spec = |manager| ServiceSpec {
        manager,
        ..demo(Some(true))
    };
    let found = Service::inspect(&spec(ManagedBy::Supervisor), &sandbox.host).unwrap();
    let action = Service::diff(&spec(ManagedBy::Supervisor), &found)
        .unwrap()
        .action;
    Service::apply(&spec(ManagedBy::Supervisor), &action, &sandbox.host).unwrap();
    let triggered = spec(ManagedBy::Supervisor);
    triggered
        .fulfill(Duty::Restart, &[], &sandbox.host)
        .unwrap();
    assert_eq!(sandbox.supervisor.calls(), ["start demo", "restart demo"]);
    let unknown = Service::inspect(&spec(ManagedBy::Host), &sandbox.host);
    assert!(unknown.is_err_and(|failure| failure.is(crate::resource::FailureKind::NotReady)));
    assert!(sandbox.services.calls().is_empty());
}

#[test]
fn crash_looping_service_is_unhealthy_until_it_stays_up() {
    let sandbox = Sandbox::with_base_system();
    sandbox.services.define("demo");
    let unhealthy = |running| {
        let spec = demo(running);
        let found = Service::inspect(&spec, &sandbox.host).unwrap();
        assert!(Service::diff(&spec, &found).is_none());
        found.unhealthy_reason(&spec)
    };
    sandbox.services.start("demo").unwrap();
    sandbox.services.crash_and_restart("demo");
    assert!(unhealthy(Some(true)).is_none(), "once may happen");
    sandbox.services.crash_and_restart("demo");
    let failure = unhealthy(Some(true)).unwrap();
    assert!(
        failure.message.contains("crashed more than once"),
        "{failure}"
    );
    assert!(unhealthy(None).is_none(), "nobody wants it to run");
    sandbox.clock.advance(STABLE_AFTER.as_secs());
    assert!(unhealthy(Some(true)).is_none(), "it has been up for long");
    sandbox.services.crash_and_restart("demo");
    sandbox.services.restart("demo").unwrap();
    assert!(unhealthy(Some(true)).is_none(), "started on purpose");
}

#[test]
fn overriding_unit_file_is_reported() {
    let sandbox = Sandbox::with_base_system();
    sandbox.services.define("demo");
    let spec = ServiceSpec {
        unit: Some("/usr/local/lib/systemd/system/demo.service".into()),
        ..demo(None)
    };
    for (path, hides) in [
        ("/etc/systemd/system/demo.service", true),
        ("/usr/local/lib/systemd/system/demo.service", false),
    ] {
        sandbox.services.set_definition_file("demo", path);
        let found = Service::inspect(&spec, &sandbox.host).unwrap();
        let failure = found.unhealthy_reason(&spec);
        assert_eq!(
            failure.is_some_and(|failure| failure.message.contains(path)),
            hides
        );
    }
}

#[test]
fn environment_file_replaceable_by_others_is_reported() {
    if !Sandbox::empty().can_set_owners() {
        crate::ports::testing::skip_test("folders of another user", "needs root");
        return;
    }
    let unhealthy = |path: &str| {
        let sandbox = Sandbox::with_base_system();
        sandbox.write("/srv/www/shop/releases/1/.trueup/env", "");
        sandbox.chown("/srv/www/shop/releases/1", 65534, 65534);
        sandbox.link("/srv/www/shop/current", "releases/1");
        sandbox.write("/etc/default/shop", "");
        sandbox.make_dir("/etc/open");
        sandbox.chmod("/etc/open", 0o777);
        sandbox.link("/etc/open/shop", "/etc/default/shop");
        sandbox.services.define("demo");
        sandbox.services.start("demo").unwrap();
        sandbox
            .services
            .add_environment_file("demo", "/etc/default/shop");
        sandbox.services.add_environment_file("demo", path);
        let spec = ServiceSpec {
            name: "demo".into(),
            manager: ManagedBy::Host,
            enabled: None,
            running: Some(true),
            unit: None,
            serves: None,
            after_gate: false,
            process: None,
            proves: Proofs::default(),
            coordinated: false,
            runtime: RuntimeUpdates::default(),
            restart_on: Vec::new(),
            reload_on: Vec::new(),
        };
        let found = Service::inspect(&spec, &sandbox.host).unwrap();
        assert!(Service::diff(&spec, &found).is_none());
        found.unhealthy_reason(&spec)
    };
    for safe in ["/etc/default/other", "/etc/sysconfig/not/there"] {
        assert!(unhealthy(safe).is_none(), "{safe}");
    }
    for exposed in [
        "/srv/www/shop/current/.trueup/env",
        "/srv/www/shop/current/.trueup/not-there",
        "/srv/www/shop/releases/1/.trueup/env",
        "/etc/open/shop",
        "/etc/open/not-there/either",
    ] {
        let failure = unhealthy(exposed).unwrap();
        assert!(failure.message.contains(exposed), "{failure}");
    }
}

#[test]
fn oneshot_service_is_refused_instead_of_started_in_each_pass() {
    let sandbox = Sandbox::with_base_system();
    sandbox.services.define("prepare");
    sandbox.services.set_ends_by_itself("prepare");
    let inspect = |running: &str| {
        let text = format!("{{\"name\": \"prepare\", \"enabled\": true{running}}}");
        let spec: ServiceSpec = serde_json::from_str(&text).unwrap();
        Service::inspect(&spec, &sandbox.host).err()
    };
    let failure = inspect(", \"running\": true").unwrap();
    assert!(
        failure
            .message
            .starts_with("prepare ends when its work is done")
    );
    let hint = failure.hint.unwrap();
    for remedy in ["RemainAfterExit=yes", "prepare.timer", "`command`"] {
        assert!(hint.contains(remedy), "{hint}");
    }
    assert!(inspect(", \"running\": false").is_none());
    assert!(inspect("").is_none());
    assert!(sandbox.services.calls().is_empty());
}

#[test]
fn crashing_service_is_restarted_by_its_new_definition() {
    let sandbox = Sandbox::with_base_system();
    sandbox.services.define("demo");
    sandbox.services.start("demo").unwrap();
    sandbox.services.crash_loop("demo");
    let spec = demo(Some(true));
    let diff = || {
        let found = Service::inspect(&spec, &sandbox.host).unwrap();
        Service::diff(&spec, &found)
    };
    assert!(diff().is_none(), "its supervisor starts it again");
    // The definition on disk is replaced, and the supervisor does not know.
    sandbox.services.define("demo");
    let change = diff().unwrap();
    assert!(change.change.sets_running);
    Service::apply(&spec, &change.action, &sandbox.host).unwrap();
    assert!(diff().is_none());
    let status = sandbox.services.status("demo").unwrap();
    assert!(
        !status.stale_definition && status.restarts == 0,
        "{status:?}"
    );
}

/// Other hosts are in the way.
struct OthersFirst;

impl crate::ports::permission::ServicePermission for OthersFirst {
    fn request(&self) -> Result<(), String> {
        Err("lb1 goes first".into())
    }
}

#[test]
fn coordinated_service_is_not_restarted_before_its_turn() {
    let sandbox = Sandbox::with_base_system();
    sandbox.services.define("demo");
    sandbox.services.start("demo").unwrap();
    let before = sandbox.services.calls();
    let spec = |coordinated| ServiceSpec {
        coordinated,
        ..demo(Some(true))
    };
    let permissions = &sandbox.host.permissions;
    permissions.set_for_service("_demo", std::rc::Rc::new(OthersFirst));
    for duty in [Duty::Restart, Duty::Reload] {
        let deferred = spec(true).fulfill(duty, &[], &sandbox.host).unwrap_err();
        assert!(deferred.is(crate::resource::FailureKind::Deferred));
        assert_eq!(deferred.message, "lb1 goes first");
    }
    assert_eq!(sandbox.services.calls(), before);
    spec(false)
        .fulfill(Duty::Restart, &[], &sandbox.host)
        .unwrap();
    assert_ne!(sandbox.services.calls(), before);
}

#[test]
fn service_of_an_app_or_without_a_plain_name_is_not_coordinated() {
    let spec = |name: &str, serves: Option<&str>| ServiceSpec {
        name: name.into(),
        serves: serves.map(Into::into),
        coordinated: true,
        ..demo(None)
    };
    spec("haproxy", None).validate_coordinated().unwrap();
    let error = spec("web", Some("/srv/www/shop/current")).validate_coordinated();
    assert_eq!(error.unwrap_err().field.as_deref(), Some("coordinated"));
    for name in ["shop:*", "../x", ""] {
        let error = spec(name, None).validate_coordinated().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("name"), "{name}");
    }
}
