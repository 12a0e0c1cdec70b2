//! A client of Git LFS: its batch API with the `basic` transfer.
//!
//! trueup does not run git-lfs, which would take a password on its command line, run the transfer agent that
//! its configuration names, and contact any address that a commit's `.lfsconfig` names. Here the address
//! derives from `repo` or `lfs_url` alone, and each download is limited to the size in the commit and checked
//! against its sha256.
//!
//! See <https://github.com/git-lfs/git-lfs/blob/main/docs/api/README.md>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use super::Fetcher;
use crate::desired::Repo;
use crate::digest::Hasher;
use crate::ports::exec::Exec;
use crate::ports::http::{HttpClient, HttpError, Request};
use crate::ports::root::{Attrs, Root};
use crate::resource::Failure;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Maximum number of files per batch request, as in git-lfs.
const BATCH_SIZE: usize = 100;

/// Maximum size of a batch response, in bytes.
const MAX_RESPONSE: u64 = 4 << 20;

/// Maximum size of the output of `git-lfs-authenticate`, in bytes.
const MAX_AUTHENTICATE_OUTPUT: u64 = 64 << 10;

/// Maximum length of its error output in messages, in characters.
const MAX_SHOWN_STDERR: usize = 2000;

/// Space to leave free on the disk after the download, in bytes.
const MIN_FREE_SPACE: u64 = 64 << 20;

/// A file that LFS stores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LfsObject {
    /// The sha256 of the content, in hexadecimal.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}

impl LfsObject {
    /// Path of the content, relative to an LFS store.
    pub(crate) fn store_path(&self) -> PathBuf {
        [&self.digest[..2], &self.digest[2..4], &self.digest]
            .iter()
            .collect()
    }
}

/// The address of the API, and the headers that authenticate requests to it.
#[derive(Debug, Deserialize)]
struct Endpoint {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct BatchRequest<'a> {
    operation: &'static str,
    transfers: [&'static str; 1],
    objects: Vec<RequestedObject<'a>>,
}

#[derive(Serialize)]
struct RequestedObject<'a> {
    oid: &'a str,
    size: u64,
}

#[derive(Deserialize)]
struct BatchResponse {
    objects: Vec<OfferedObject>,
}

#[derive(Deserialize)]
struct OfferedObject {
    oid: String,
    error: Option<ObjectError>,
    #[serde(default)]
    actions: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    #[serde(default)]
    message: String,
}

impl Fetcher<'_> {
    /// Fetches these files into the host's store at `store`.
    pub(crate) fn fetch_lfs_objects(
        &self,
        objects: &[&LfsObject],
        store: &Path,
    ) -> Result<(), Failure> {
        let root = &self.deployment.host.root;
        root.create_dir_all(store, &Attrs::mode(0o700))?;
        let need = objects.iter().map(|object| object.size);
        let need = need.fold(MIN_FREE_SPACE, u64::saturating_add);
        let free = root.disk_space(store)?.map_or(u64::MAX, |space| space.free);
        if need > free {
            return Err(Failure::new(format!(
                "not enough space in {} for Git LFS files: {} MiB needed, {} MiB free",
                store.display(),
                need >> 20,
                free >> 20
            ))
            .hint("free space on that filesystem"));
        }
        let repo = self
            .deployment
            .spec
            .lfs_url
            .as_ref()
            .unwrap_or(&self.deployment.spec.repo);
        if let Some(folder) = repo.local_path() {
            return self.copy_lfs_from_folder(&folder, objects, store);
        }
        let http = match repo.ssh() {
            Some(server) => HttpClient::for_server(&format!("ssh://{}", server.host)),
            None => HttpClient::for_server(repo.url()),
        };
        let endpoint = self.lfs_endpoint(repo)?;
        for objects in objects.chunks(BATCH_SIZE) {
            let offered = self.request_batch(&http, &endpoint, objects)?;
            for object in objects {
                let found = offered.iter().find(|offered| offered.oid == object.digest);
                let found = found
                    .ok_or_else(|| self.lfs_failure("the server's answer leaves out a file"))?;
                self.download(&http, &endpoint, object, found, store)?;
            }
        }
        Ok(())
    }

    fn lfs_failure(&self, why: impl std::fmt::Display) -> Failure {
        let repo = self
            .deployment
            .spec
            .lfs_url
            .as_ref()
            .unwrap_or(&self.deployment.spec.repo);
        Failure::new(format!("cannot fetch Git LFS files of {repo}: {why}")).hint(
            "check that the LFS server is reachable and the files are pushed (`git lfs push --all origin`). If it is not beside the repository, set `lfs_url` of the release; `.lfsconfig` is ignored",
        )
    }

    fn lfs_endpoint(&self, repo: &Repo) -> Result<Endpoint, Failure> {
        let (Some(ssh), Some(server)) = (&self.ssh, repo.ssh()) else {
            let href = match &self.deployment.spec.lfs_url {
                Some(url) => url.url().to_owned(),
                None => default_api_url(repo.url()),
            };
            return Ok(Endpoint {
                href,
                header: BTreeMap::new(),
            });
        };
        let deadline = self.deadline();
        let mut talk = Exec
            .spawn_piped(&ssh.lfs_authenticate_command(server), deadline)
            .map_err(|error| self.lfs_failure(error))?;
        let mut output = Vec::new();
        let read = Read::by_ref(&mut talk)
            .take(MAX_AUTHENTICATE_OUTPUT)
            .read_to_end(&mut output);
        let (ended, stderr) = talk.finish();
        read.map_err(|error| self.lfs_failure(error))?;
        let ticket: Endpoint = serde_json::from_slice(&output).map_err(|_| {
            self.lfs_failure(format!(
                "`git-lfs-authenticate` on the server {ended} and returned no address: {}",
                stderr
                    .trim()
                    .chars()
                    .take(MAX_SHOWN_STDERR)
                    .collect::<String>()
            ))
        })?;
        Ok(ticket)
    }

    fn request_batch(
        &self,
        http: &HttpClient,
        endpoint: &Endpoint,
        objects: &[&LfsObject],
    ) -> Result<Vec<OfferedObject>, Failure> {
        let question = BatchRequest {
            operation: "download",
            transfers: ["basic"],
            objects: objects
                .iter()
                .map(|object| RequestedObject {
                    oid: &object.digest,
                    size: object.size,
                })
                .collect(),
        };
        let body = serde_json::to_vec(&question).expect("plain data is always JSON");
        let mut headers = allowed_headers(&endpoint.header);
        headers.extend([("accept", MEDIA_TYPE), ("content-type", MEDIA_TYPE)]);
        let request = Request {
            url: &format!("{}/objects/batch", endpoint.href.trim_end_matches('/')),
            headers: &headers,
            body: Some(body),
            follow_redirects: true,
        };
        let response = self.send_request(http, request)?;
        let mut answer = Vec::new();
        let read = response.take(MAX_RESPONSE).read_to_end(&mut answer);
        read.map_err(|error| self.read_failure(error))?;
        let answer: BatchResponse = serde_json::from_slice(&answer)
            .map_err(|_| self.lfs_failure("the server is not a Git LFS server"))?;
        Ok(answer.objects)
    }

    fn send_request(
        &self,
        http: &HttpClient,
        request: Request<'_>,
    ) -> Result<impl Read + use<>, Failure> {
        let response = http.send(request, &self.deadline());
        let response = response.map_err(|error| self.lfs_failure(error))?;
        match response.status {
            200 => Ok(response),
            401 | 407 => Err(self.lfs_failure("the server asks for a user name and password")),
            status => Err(self.lfs_failure(format!("the server answered {status}"))),
        }
    }

    fn read_failure(&self, error: io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(HttpError::Deadline(_)) if self.deployment.host.stop.is_set() => {
                Failure::stopped()
            }
            Some(error) => self.lfs_failure(error),
            None => self.lfs_failure(error),
        }
    }

    fn download(
        &self,
        http: &HttpClient,
        endpoint: &Endpoint,
        object: &LfsObject,
        offered: &OfferedObject,
        store: &Path,
    ) -> Result<(), Failure> {
        if let Some(error) = &offered.error {
            let message = error.message.chars().filter(|c| !c.is_control()).take(200);
            let message: String = message.collect();
            return Err(self.lfs_failure(format!("it lacks a file ({} {message})", error.code)));
        }
        let action = offered.actions.get("download");
        let action = action.ok_or_else(|| self.lfs_failure("the server offers no download"))?;
        let is = |url: &str, scheme: &str| Url::parse(url).is_ok_and(|url| url.scheme() == scheme);
        if is(&endpoint.href, "https") && is(&action.href, "http") {
            return Err(self.lfs_failure("the server redirects from https to http for a file"));
        }
        let headers = allowed_headers(&action.header);
        let let_in = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let url = match let_in {
            true => action.href.clone(),
            false => with_credentials(&action.href, &endpoint.href),
        };
        let request = Request {
            url: &url,
            headers: &headers,
            body: None,
            follow_redirects: true,
        };
        let mut from = self.send_request(http, request)?;
        self.store_object(object, &mut from, store)
    }

    /// Copies from the LFS store of a repository on this host. Root does not own it, so trueup follows no
    /// links and waits for no pipes there.
    fn copy_lfs_from_folder(
        &self,
        repository: &Path,
        objects: &[&LfsObject],
        store: &Path,
    ) -> Result<(), Failure> {
        let machine = Root::real()?;
        let stores = ["lfs/objects", ".git/lfs/objects"].map(|inner| repository.join(inner));
        for object in objects {
            let open = |store: &PathBuf| -> Result<Option<File>, Failure> {
                let path = store.join(object.store_path());
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                    return Ok(None);
                };
                match machine.open_folder(folder)? {
                    Some(folder) => Ok(folder.open_file(name)?),
                    None => Ok(None),
                }
            };
            let mut found = None;
            for store in &stores {
                found = found.or(open(store)?);
            }
            let mut found = found.ok_or_else(|| self.lfs_failure("it lacks a file"))?;
            self.store_object(object, &mut found, store)?;
        }
        Ok(())
    }

    /// Writes a download into the store, if it matches the object.
    fn store_object(
        &self,
        object: &LfsObject,
        from: &mut dyn Read,
        store: &Path,
    ) -> Result<(), Failure> {
        let root = &self.deployment.host.root;
        let path = store.join(object.store_path());
        let unfinished = store.join("unfinished");
        root.remove_tree(&unfinished)?;
        let mut to = root.open_append(&unfinished, &Attrs::mode(0o600))?;
        let kept = self.copy_verified(object, from, &mut to);
        if kept.is_err() {
            root.remove_tree(&unfinished)?;
        }
        kept?;
        to.sync_all()
            .map_err(|error| self.lfs_failure(format!("{}: {error}", path.display())))?;
        if let Some(folder) = path.parent() {
            root.create_dir_all(folder, &Attrs::mode(0o700))?;
        }
        Ok(root.rename(&unfinished, &path)?)
    }

    fn copy_verified(
        &self,
        object: &LfsObject,
        from: &mut dyn Read,
        to: &mut File,
    ) -> Result<(), Failure> {
        let (mut hasher, mut left) = (Hasher::default(), object.size);
        let mut piece = vec![0; 256 << 10];
        loop {
            if !self.may_continue() {
                return Err(self.take_failure().unwrap_or_else(|| self.timed_out()));
            }
            let count = from
                .read(&mut piece)
                .map_err(|error| self.read_failure(error))?;
            if count == 0 {
                break;
            }
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| self.lfs_failure("a file is larger than the commit says"))?;
            hasher.update(&piece[..count]);
            to.write_all(&piece[..count])
                .map_err(|error| self.lfs_failure(format!("cannot write it: {error}")))?;
        }
        match left == 0 && hasher.finish() == object.digest {
            true => Ok(()),
            false => {
                Err(self.lfs_failure("a file differs from the one in the commit (sha256 mismatch)"))
            }
        }
    }
}

/// The default address of a repository's API, as the LFS documentation defines it.
fn default_api_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.ends_with(".git") {
        true => format!("{url}/info/lfs"),
        false => format!("{url}.git/info/lfs"),
    }
}

/// The headers that a server may set for a request: those that authenticate at it or at an object store.
/// Others could have side effects at the recipient (`Cookie`, `Metadata-Flavor`, `Host`).
fn allowed_headers(headers: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    const NAMES: [&str; 2] = ["accept", "authorization"];
    const BEGINNINGS: [&str; 5] = ["x-amz-", "x-cos-", "x-goog-", "x-ms-", "x-oss-"];
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let usable = headers.filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        NAMES.contains(&name.as_str()) || BEGINNINGS.iter().any(|begin| name.starts_with(begin))
    });
    usable.collect()
}

/// Adds the user name and password of the API's address to another address on the same server.
fn with_credentials(href: &str, api: &str) -> String {
    let with = || {
        let (mut url, api) = (Url::parse(href).ok()?, Url::parse(api).ok()?);
        if url.origin() != api.origin() {
            return None;
        }
        url.set_username(api.username()).ok()?;
        url.set_password(api.password()).ok()?;
        Some(url.into())
    };
    with().unwrap_or_else(|| href.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_sent_to_another_server() {
        let api = "https://ana:geheim@host/shop.git/info/lfs";
        assert_eq!(
            with_credentials("https://host/x", api),
            "https://ana:geheim@host/x"
        );
        for other in [
            "https://elsewhere/x",
            "http://host/x",
            "https://host:8443/x",
        ] {
            assert_eq!(with_credentials(other, api), other);
        }
    }

    #[test]
    fn default_api_url_follows_the_repository_url() {
        for url in [
            "https://h/shop",
            "https://h/shop.git",
            "https://h/shop.git/",
        ] {
            assert_eq!(default_api_url(url), "https://h/shop.git/info/lfs");
        }
    }
}
