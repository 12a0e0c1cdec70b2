//! Extended attributes: what a file carries besides content, owner and mode.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;

use super::*;

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    let (path, name) = (c_string(path), CString::new(name).unwrap());
    // SAFETY: two NUL-terminated strings, and a buffer of the size that is passed.
    unsafe {
        nix::libc::setxattr(
            path.as_ptr(),
            name.as_ptr().cast::<c_char>(),
            value.as_ptr().cast(),
            value.len(),
            0,
        ) == 0
    }
}

fn get_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (c_string(path), CString::new(name).unwrap());
    let mut value = vec![0; 1024];
    // SAFETY: as above.
    let length = unsafe {
        nix::libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

const ACL: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// `u::rw u:33:r g::- m::r o::-`, in the kernel's format.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 33),
        (4, 0, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn mode(root: &Root) -> u32 {
    root.meta(Path::new("/etc/file")).unwrap().unwrap().mode
}

/// A sandbox with a file in a folder of this user, if ACLs are supported here.
fn with_acl() -> Option<(tempfile::TempDir, Root, PathBuf)> {
    let (dir, root) = sandbox();
    root.create_dir_all(Path::new("/etc"), &Attrs::mode(0o755))
        .unwrap();
    root.write_atomic(Path::new("/etc/file"), b"old", &Attrs::mode(0o640))
        .unwrap();
    let file = dir.path().join("etc/file");
    // The folder that stands for `/` is the test's own; the folders above it do not count.
    if !set_xattr(&file, ACL, &acl()) {
        crate::ports::testing::skip_test("ACLs", "this filesystem has none");
        return None;
    }
    Some((dir, root, file))
}

#[test]
fn replaced_file_keeps_acl_label_and_user_xattrs_but_no_capabilities() {
    let Some((_dir, root, file)) = with_acl() else {
        return;
    };
    assert!(set_xattr(&file, "user.note", b"kept"));
    // Without SELinux it is an attribute like any other, which only root may set.
    let label = b"system_u:object_r:httpd_config_t:s0\0";
    let labelled = set_xattr(&file, "security.selinux", label);
    let powers = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let powerful = set_xattr(&file, "security.capability", powers);
    root.write_atomic(Path::new("/etc/file"), b"new", &Attrs::mode(0o640))
        .unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    assert_eq!(get_xattr(&file, ACL), Some(acl()));
    assert_eq!(get_xattr(&file, "user.note").as_deref(), Some(&b"kept"[..]));
    let kept = get_xattr(&file, "security.selinux");
    assert!(!labelled || kept.as_deref() == Some(&label[..]));
    assert!(!powerful || get_xattr(&file, "security.capability").is_none());
    assert_eq!(mode(&root), 0o640, "the next pass would change it again");
    // The mode that is declared limits what the ACL grants.
    root.write_atomic(Path::new("/etc/file"), b"new", &Attrs::mode(0o600))
        .unwrap();
    assert_eq!(mode(&root), 0o600);
    root.set_attrs(Path::new("/etc/file"), &Attrs::mode(0o640))
        .unwrap();
    assert_eq!((get_xattr(&file, ACL), mode(&root)), (Some(acl()), 0o640));
}

#[test]
fn default_acl_of_the_folder_is_not_applied_to_replaced_files() {
    let Some((dir, root, file)) = with_acl() else {
        return;
    };
    assert!(set_xattr(&dir.path().join("etc"), DEFAULT, &acl()));
    root.remove_file(Path::new("/etc/file")).unwrap();
    root.write_atomic(Path::new("/etc/file"), b"one", &Attrs::mode(0o640))
        .unwrap();
    assert_eq!(mode(&root), 0o640);
    assert!(
        get_xattr(&file, ACL).is_some(),
        "a new one gets the folder's"
    );
    let plain = CString::new(ACL).unwrap();
    // SAFETY: two NUL-terminated strings.
    unsafe { nix::libc::removexattr(c_string(&file).as_ptr(), plain.as_ptr()) };
    root.write_atomic(Path::new("/etc/file"), b"two", &Attrs::mode(0o640))
        .unwrap();
    assert_eq!((get_xattr(&file, ACL), mode(&root)), (None, 0o640));
}

#[test]
fn planted_acl_does_not_grant_access_to_the_replacement() {
    let Some((dir, root, file)) = with_acl() else {
        return;
    };
    let folder = dir.path().join("etc");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    root.write_atomic(Path::new("/etc/file"), b"secret", &Attrs::mode(0o640))
        .unwrap();
    assert_eq!(get_xattr(&file, ACL), None);
}
