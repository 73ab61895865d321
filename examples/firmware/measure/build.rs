//! Tells the linker where the memory of the machine is.

use std::{env, fs, path::Path};

/// The MPS2 with AN386: program and data in the two fast SRAMs.
const ARM: &str = "MEMORY
{
    FLASH : ORIGIN = 0x00000000, LENGTH = 4M
    RAM : ORIGIN = 0x20000000, LENGTH = 4M
}
";

/// QEMU's `virt` machine loads the whole image into RAM.
const RISCV: &str = r#"MEMORY
{
    RAM : ORIGIN = 0x80000000, LENGTH = 8M
}

REGION_ALIAS("REGION_TEXT", RAM);
REGION_ALIAS("REGION_RODATA", RAM);
REGION_ALIAS("REGION_DATA", RAM);
REGION_ALIAS("REGION_BSS", RAM);
REGION_ALIAS("REGION_HEAP", RAM);
REGION_ALIAS("REGION_STACK", RAM);
"#;

fn main() {
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    let arm = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "arm");
    fs::write(Path::new(&out).join("memory.x"), if arm { ARM } else { RISCV }).expect("it can be written");
    println!("cargo:rustc-link-search={out}");
    if arm {
        println!("cargo:rustc-link-arg-bins=--nmagic");
    } else {
        println!("cargo:rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}
