//! A real S3 server: a bucket for a test, and users of it with a policy.

use std::process::Command;

use crate::sandbox::isolated;

const REGION: &str = "eu-west-1";

/// A bucket that only one test uses.
pub struct Bucket {
    pub name: String,
    pub endpoint: String,
    /// Those of a user who may do everything there.
    pub keys: Keys,
}

/// The keys of a user.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
}

impl Keys {
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", &self.id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_REGION", REGION),
        ]
    }
}

impl Bucket {
    /// `None` without a server: then the test is skipped, which CI counts as a failure.
    pub fn new(purpose: &str) -> Option<Bucket> {
        let Ok(endpoint) = std::env::var("TRUEUP_TEST_S3_ENDPOINT") else {
            let why = "there is no S3 server: tests/s3-server starts one";
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}");
            return None;
        };
        let variable = |name| std::env::var(name).unwrap();
        let bucket = Bucket {
            name: format!("it-{purpose}-{}", std::process::id()),
            endpoint,
            keys: Keys {
                id: variable("AWS_ACCESS_KEY_ID"),
                secret: variable("AWS_SECRET_ACCESS_KEY"),
            },
        };
        let location = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        let url = format!("{}/{}", bucket.endpoint, bucket.name);
        bucket.request("s3", &["-X", "PUT", "--data", &location, &url]);
        Some(bucket)
    }

    /// `store:` of a node.
    pub fn settings(&self) -> String {
        format!(
            "{{url: \"s3://{}\", endpoint: \"{}\", path_style: true, region: {REGION}}}",
            self.name, self.endpoint
        )
    }

    /// A new user who may do what this policy says of `BUCKET`, and nothing else.
    pub fn user(&self, policy: &str) -> Keys {
        let user = format!("{}-user", self.name);
        let iam = |words: &[&str]| {
            let mut args = vec!["-X", "POST"];
            args.extend(words.iter().flat_map(|word| ["--data-urlencode", word]));
            let version = ["--data-urlencode", "Version=2010-05-08", &self.endpoint];
            args.extend(version);
            self.request("iam", &args)
        };
        let named = format!("UserName={user}");
        iam(&["Action=CreateUser", &named]);
        let policy = policy.replace("BUCKET", &self.name);
        let document = format!("PolicyDocument={policy}");
        iam(&["Action=PutUserPolicy", &named, "PolicyName=test", &document]);
        let answer = iam(&["Action=CreateAccessKey", &named]);
        let field = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        Keys {
            id: field("AccessKeyId"),
            secret: field("SecretAccessKey"),
        }
    }

    pub fn get(&self, key: &str) -> String {
        self.request("s3", &[&format!("{}/{}/{key}", self.endpoint, self.name)])
    }

    pub fn has(&self, key: &str) -> bool {
        self.status(&self.keys, "GET", key) == "200"
    }

    /// The status of a request for an object by a user.
    pub fn status(&self, user: &Keys, method: &str, key: &str) -> String {
        let url = format!("{}/{}/{key}", self.endpoint, self.name);
        let body: &[&str] = match method {
            "PUT" => &["--data-binary", "{}"],
            _ => &[],
        };
        let quiet = ["-o", "/dev/null", "-w", "%{http_code}", "-X", method];
        let args = [&["--no-fail-with-body"], &quiet[..], body, &[&url]].concat();
        self.request_as(user, "s3", &args)
    }

    fn request(&self, service: &str, args: &[&str]) -> String {
        self.request_as(&self.keys, service, args)
    }

    fn request_as(&self, user: &Keys, service: &str, args: &[&str]) -> String {
        let mut command = Command::new("curl");
        isolated(&mut command);
        let output = command
            .args(["-sS", "--fail-with-body", "--max-time", "20"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:{service}")])
            .args(["--user", &format!("{}:{}", user.id, user.secret)])
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{args:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}
