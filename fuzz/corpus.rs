//! Packs the corpora into archives and unpacks them, in `fuzz/`:
//!
//! ```sh
//! cargo run --release --bin corpus -- pack FOLDER
//! cargo run --release --bin corpus -- unpack FOLDER
//! ```
//!
//! libFuzzer wants a folder of files, `FOLDER/TARGET`; what is committed is one archive a target, `corpus/TARGET.bin`.

use std::{env, fs, io};

use byway_testing::targets::archive;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (pack, folder) = match (arguments.next().as_deref(), arguments.next()) {
        (Some("pack"), Some(folder)) => (true, folder),
        (Some("unpack"), Some(folder)) => (false, folder),
        _ => return Err(io::Error::other("say pack or unpack, and which folder")),
    };
    let targets = [
        "translate",
        "operations",
        "records",
        "handover",
        "control_parsers",
        "control_answers",
        "control_session",
        "names",
        "relay",
        "mediator",
        "mediator_parsers",
    ];
    for target in targets {
        let (folder, file) = (format!("{folder}/{target}"), format!("corpus/{target}.bin"));
        // Who has worked on some of the targets has folders of those.
        if !fs::exists(if pack { &folder } else { &file })? {
            continue;
        }
        if pack {
            let mut paths: Vec<_> = fs::read_dir(&folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
            paths.sort();
            let inputs: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
            fs::create_dir_all("corpus")?;
            fs::write(&file, archive::pack(inputs.iter().map(Vec::as_slice)))?;
            println!("{file}: {} inputs", inputs.len());
        } else {
            fs::create_dir_all(&folder)?;
            for (number, input) in archive::unpack(&fs::read(&file)?).enumerate() {
                fs::write(format!("{folder}/{number:04}"), input)?;
            }
        }
    }
    Ok(())
}
