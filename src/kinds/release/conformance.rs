//! How each field of a release is probed.

use super::Release;
use crate::kind::ConformanceProbes;
use crate::kind::conformance::Probe;
use crate::ports::testing::Sandbox;
use crate::resource::Verb;

/// Creates a repository outside the host with one commit; returns its address and the sha.
fn create_repository(sandbox: &Sandbox) -> (String, String) {
    let path = sandbox.machine_path("/outside/shop.git");
    let repository = git2::Repository::init_bare(&path).unwrap();
    let blob = repository.blob(b"hello\n").unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    tree.insert("page", blob, 0o100_644).unwrap();
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let author =
        git2::Signature::new("t", "t@example", &git2::Time::new(1_800_000_000, 0)).unwrap();
    let sha = repository
        .commit(Some("refs/heads/main"), &author, &author, "one", &tree, &[])
        .unwrap();
    (path.display().to_string(), sha.to_string())
}

impl ConformanceProbes for Release {
    fn sandbox_example(sandbox: &Sandbox) -> Option<String> {
        let (repo, sha) = create_repository(sandbox);
        sandbox.write("/srv/shop/shared/key", "k");
        Some(format!(
            "release:\n  app: shop\n  repo: {repo}\n  sha: {sha}\n  deploy_to: /srv/shop\n  \
             linked_dirs: [log]\n  linked_files: [key]\n  files: [{{path: .env, content: \"A=1\\n\"}}]\n  config_files: {{config/shop.yml: {{content: \"b: 1\\n\"}}}}\n  steps: [{{name: page, run: \"cp page built\"}}]\n  \
             assets: {{run: \"cp page public/assets/\", path: public/assets}}\n"
        ))
    }

    fn probes() -> Vec<Probe> {
        let built = "a release is built with it, and a built release is never changed";
        let gate = "it says when a release counts as good, and is asked of the next one";
        let whence = "it says how the code is had, not what is on the host";
        vec![
            Probe::not_set("app", "it says which app is meant"),
            Probe::not_set("repo", whence),
            Probe::drift("sha", |host| host.remove("/srv/shop/current")).expect_verb(Verb::Deploy),
            Probe::not_set("subdir", built),
            Probe::not_set("also", built),
            Probe::not_set("deploy_to", "it says where the app is"),
            Probe::not_set("user", built),
            Probe::not_set("group", built),
            Probe::not_set("umask", built),
            Probe::not_set("deploy_key", whence),
            Probe::not_set("known_hosts", whence),
            Probe::not_set("lfs_url", whence),
            Probe::not_set("allow_refs", "it says which shas may be deployed"),
            Probe::not_set("max_file", "it says which commits may be deployed"),
            Probe::not_set("filters", built),
            Probe::not_set("git_crypt_key", built),
            Probe::drift("linked_dirs", |host| host.remove("/srv/shop/current/log"))
                .reported_as("log"),
            Probe::drift("linked_files", |host| {
                host.link("/srv/shop/current/key", "elsewhere");
            })
            .reported_as("key"),
            Probe::drift("files", |host| {
                host.write("/srv/shop/current/.env", "A=2\n")
            })
            .reported_as(".env"),
            Probe::drift("config_files", |host| {
                host.write("/srv/shop/current/config/shop.yml", "b: 2\n")
            })
            .reported_as("config/shop.yml"),
            Probe::not_set("steps", built),
            Probe::not_set("assets", built),
            Probe::not_set("migrate", built),
            Probe::not_set("hooks", built),
            Probe::not_set("port", gate),
            Probe::not_set("health", gate),
            Probe::not_set("health_headers", gate),
            Probe::not_set("preflight", "it is about the next deployment"),
            Probe::not_set("drain", "it is about the next restart of the services"),
            Probe::not_set("gate_timeout", gate),
            Probe::not_set("bake", gate),
            Probe::not_set("build_deadline", whence),
            Probe::not_set("env", built),
            Probe::not_set("secrets", built),
            Probe::not_set("keep_releases", "releases are pruned after the next deploy"),
            Probe::not_set("spare", "it is about the release after this one"),
            Probe::not_set("fetch_timeout", whence),
        ]
    }

    fn effects() -> Vec<Probe> {
        vec![
            Probe::effect("the link of the active release", |host| {
                host.link("/srv/shop/current", "releases/20260101000000-0000000");
            }),
            Probe::effect("the folder of the active release", |host| {
                let root = &host.host.root;
                let current = root.read_link("/srv/shop/current".as_ref()).unwrap();
                let name = current.unwrap().file_name().unwrap().to_owned();
                host.remove(&format!("/srv/shop/releases/{}", name.display()));
            }),
        ]
    }
}
