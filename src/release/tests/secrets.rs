//! Secrets that only the app and its steps may see.

use super::*;

#[test]
fn secrets_reach_every_step_and_are_shown_nowhere() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let tell = |stage: &str| format!("{{run: 'printenv TOKEN > ../../shared/{stage}'}}");
    let all = format!(
        "secrets: {{TOKEN: hush-hush, PIN: 5839201}}\nsteps: [{}]\nassets: {}\nmigrate: {}\nhooks: {{before_activate: [{}]}}\n",
        tell("build"),
        tell("assets.txt"),
        tell("migrate"),
        tell("hook")
    );
    deploy_ok(&bench.spec(&sha, &all), &bench.host());
    for step in ["build", "assets.txt", "migrate", "hook"] {
        assert_eq!(bench.read(&format!("shared/{step}")), "hush-hush\n");
    }

    let two = bench.commit(&[("a", "2")]);
    let bad =
        "secrets: {TOKEN: hush-hush, PIN: 5839201, SHORT: s}\nsteps: [{run: 'env; exit 1'}]\n";
    let bad = bench.spec(&two, bad);
    bad.register_secrets();
    let planned = format!("{:?}", plan(&bad, &bench.host()));
    let failure = run_pass(&bad, &bench.host()).unwrap_err();
    for shown in [planned, format!("{failure:?}")] {
        assert!(
            !shown.contains("hush-hush") && !shown.contains("5839201"),
            "{shown}"
        );
    }
    assert!(failure.message.contains("TOKEN=(secret)"), "{failure}");
    // Masking a value this short would only make the rest unreadable.
    assert!(failure.message.contains("SHORT=s"), "{failure}");
    let record =
        std::fs::read_to_string(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
    assert!(!record.contains("hush-hush"), "{record}");
}

#[test]
fn changed_secret_rebuilds_nothing() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let steps = "steps: [{run: 'echo >> ../../shared/built'}, {run: 'test $TOKEN = good-one'}]\n";
    let spec = |token: &str| bench.spec(&sha, &format!("secrets: {{TOKEN: {token}}}\n{steps}"));
    assert!(run_pass(&spec("bad-one"), &bench.host()).is_err());
    deploy_ok(&spec("good-one"), &bench.host());
    assert_eq!(bench.read("shared/built"), "\n");
    assert_eq!(run_pass(&spec("new-one"), &bench.host()), Ok(None));
}

#[test]
fn password_of_the_lfs_server_is_redacted_in_the_output_of_steps() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let all = "lfs_url: https://ana:lfs-geheim@lfs.example/shop\nsteps: [{run: 'echo lfs-geheim; exit 1'}]\n";
    let spec = bench.spec(&sha, all);
    spec.register_secrets();
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(!failure.message.contains("lfs-geheim"), "{failure}");
}
