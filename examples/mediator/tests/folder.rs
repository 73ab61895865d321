//! The folder in which two portions meet: whoever may write into it can have the proxy believe anything.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use byway_mediator::portion::{Exchange, Role};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("byway-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_folder_is_its_owners_alone() {
    let folder = Folder::new("mode");
    let meet = folder.0.join("meet/here");
    assert!(Exchange::open(&meet, Role::ToServer).is_ok());
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&meet), mode(&folder.0.join("meet"))), (0o700, 0o700), "it is created for its owner");
    for bad in [0o777, 0o770, 0o701, 0o710, 0o755, 0o1777] {
        fs::set_permissions(&meet, Permissions::from_mode(bad)).unwrap();
        for role in [Role::ToServer, Role::ToClient] {
            let error = Exchange::open(&meet, role).unwrap_err();
            assert!(error.contains("here") && error.contains("chmod 700"), "{bad:o}: {error}");
        }
    }
    assert!(!meet.join("to-client").exists(), "nothing was created in it");
    fs::set_permissions(&meet, Permissions::from_mode(0o700)).unwrap();
    assert!(Exchange::open(&meet, Role::ToClient).is_ok());
}

#[test]
fn what_is_no_folder_or_only_leads_to_one_is_refused() {
    let folder = Folder::new("kind");
    let (file, link) = (folder.0.join("file"), folder.0.join("link"));
    fs::write(&file, "").unwrap();
    assert!(Exchange::open(&file, Role::ToServer).unwrap_err().contains("file"));
    // Whoever owns the link can have it lead elsewhere.
    symlink(&folder.0, &link).unwrap();
    assert!(Exchange::open(&link, Role::ToServer).unwrap_err().contains("symbolic link"));
}

/// Only root can give a folder away, so elsewhere there is nothing to try.
#[test]
fn a_folder_of_somebody_else_is_refused() {
    let folder = Folder::new("owner");
    if std::os::unix::fs::chown(&folder.0, Some(65_534), None).is_err() {
        // Whoever runs this test then owns no folder of others; `/` is one.
        assert!(Exchange::open(&PathBuf::from("/"), Role::ToServer).is_err());
        return;
    }
    let error = Exchange::open(&folder.0, Role::ToServer).unwrap_err();
    assert!(error.contains("65534"), "{error}");
}
