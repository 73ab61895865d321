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
//! | `driven`, `instructions` | the same download in real time, while a person at another terminal says what moves |
//! | `network`, `host` | lines, stacks, and the loop that moves time |
//! | `client`, `server`, `content` | the two ends, and what they say to each other |
//! | `observer`, `capture` | who looks on, and what is written down |
//! | `report` | what is printed |

mod arguments;
mod capture;
mod client;
mod content;
mod driven;
mod instructions;
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
    let out = &mut std::io::stdout().lock();
    if let Some(driven) = &arguments.driven {
        return match driven::run(driven, &arguments, out) {
            Ok(chapter) => exit_code(chapter.broken().is_none()),
            Err(error) => fail(&error),
        };
    }
    let story = match scenario::run(&arguments) {
        Ok(story) => story,
        Err(error) => return fail(&error),
    };
    // A reader who has seen enough, such as `head`, has no wish to hear of it.
    let _ = report::print(out, &story, &arguments);
    exit_code(story.fault().is_none())
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("divert: {error}");
    ExitCode::FAILURE
}
