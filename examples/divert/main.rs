//! The main job: a download moves to another server half-way, and the client never notices.
//!
//! Everything happens in this process and in simulated time: a client, two mirror servers and the proxy between them,
//! each a smoltcp stack or a translator at the end of a line that has a delay and a rate. It needs no rights, no set-up,
//! and no second run to give the same result.
//!
//! | module | what |
//! | --- | --- |
//! | `scenario` | the story: two downloads, each moved half-way. Read first |
//! | `proxy` | the translator and what is around it: the few lines that a user of the library writes |
//! | `network`, `host` | lines, stacks, and the loop that moves time |
//! | `client`, `server`, `content` | the two ends, and what they say to each other |
//! | `observer`, `capture` | who looks on, and what is written down |
//! | `report` | what is printed |

mod arguments;
mod capture;
mod client;
mod content;
mod host;
mod network;
mod observer;
mod proxy;
mod report;
mod scenario;
mod server;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("divert: {error} (--help shows what is possible)");
            return ExitCode::from(2);
        }
    };
    let story = match scenario::run(&arguments) {
        Ok(story) => story,
        Err(error) => {
            eprintln!("divert: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A reader who has seen enough, such as `head`, has no wish to hear of it.
    let _ = report::print(&mut std::io::stdout().lock(), &story, &arguments);
    if story.fault().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
