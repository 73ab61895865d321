//! byway as a Linux router process: see `byway --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return byway_host::cli::main(std::env::args_os().skip(1).collect());
    #[cfg(not(target_os = "linux"))]
    {
        let mut words: Vec<_> = std::env::args_os().skip(1).collect();
        if words.first().is_some_and(|word| word == "ctl") {
            words.remove(0);
            return byway_host::ctl::run(words);
        }
        eprintln!("byway: on this system there is only `byway ctl`; --help behind it says more");
        ExitCode::from(2)
    }
}
