//! The examples as programs, for tests that run several of them against each other, and their key file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program: `["byway-examples", "--example", NAME]`, or of another package. Returns where it lies.
///
/// `cargo test` of one package builds the program with other features of the library than of all packages, and so everything that
/// it needs again. Where all packages are built already, `BYWAY_PROGRAMS` names the folder with their programs.
pub fn built(program: &[&str]) -> PathBuf {
    if let Some(folder) = std::env::var_os("BYWAY_PROGRAMS") {
        let (name, kind) = (program[2], if program[1] == "--example" { "examples" } else { "" });
        return Path::new(&folder).join(kind).join(name);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--message-format", "json", "--package"]).args(program);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    let (_, rest) = text.rsplit_once("\"executable\":\"").expect("cargo has built it");
    PathBuf::from(rest.split_once('"').expect("the name ends").0)
}

/// Writes a key file that only its owner can read, into this folder.
pub fn key_file(folder: &str, name: &str, id: u16, secret: &[u8; 32]) -> PathBuf {
    let path = Path::new(folder).join(name);
    let digits: String = secret.iter().map(|o| format!("{o:02x}")).collect();
    std::fs::write(&path, format!("{id} {digits}\n")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}
