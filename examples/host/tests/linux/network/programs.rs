//! Programs that run while a test goes on.

use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use byway_host::lab::space::Space;

use super::{FOLDER, PATIENCE, command, run, www};

/// A program that runs as long as the test wants.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(space: &Space, mut command: Command) -> Self {
        Self(space.run(move || command.stdin(Stdio::null()).spawn()).expect("the program is installed"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that answers each line with a line.
pub(crate) struct Talk {
    program: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Talk {
    pub(crate) fn start(space: &Space, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = space.run(move || command.spawn()).expect("the program is installed");
        let questions = program.stdin.take().expect("it is piped");
        let answers = BufReader::new(program.stdout.take().expect("it is piped"));
        Self { program, questions, answers }
    }

    /// The next line that it says.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("text");
        assert!(line.ends_with('\n'), "it has ended: {:?}", self.program.wait());
        line.truncate(line.trim_end().len());
        line
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.questions.write_all(format!("{line}\n").as_bytes()).expect("it listens");
        self.line()
    }

    /// Closes its input, and waits until it has ended well.
    #[track_caller]
    pub(crate) fn end(self) {
        let Self { mut program, questions, .. } = self;
        drop(questions);
        let status = program.wait().expect("it was started");
        assert!(status.success(), "{status}");
    }
}

/// What Chromium is told in a test: no screen, no services of its own, and no sandbox, which has no place in a namespace.
pub(crate) const CHROMIUM: &str = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-sync \
    --disable-background-networking --disable-component-update";

/// Waits until a program on a mirror listens on a port of `tcp` or `udp`. Panics with `why_not` after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_for_port(space: &Space, protocol: &str, port: u16, why_not: impl Fn() -> String) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // No trial connection: iperf3 and sshd would take it for a client.
        if !run(space, &format!("ss --no-header --listening --numeric --{protocol} sport = :{port}")).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing listens on port {port}: {}", why_not());
}

/// Starts nginx on a mirror, with the files in [`www`]; its answers have its name in `X-Mirror`. What is in the folder
/// `slow` comes with 2 MiB in a second.
pub(crate) fn nginx(space: &Space) -> Program {
    let (name, folder) = (space.name(), Path::new(FOLDER).join(format!("nginx-{}", space.name())));
    std::fs::create_dir_all(folder.join("logs")).expect("a folder");
    let config = format!(
        "user root; daemon off; master_process off; pid {folder}/pid; error_log {folder}/logs/error.log;\n\
         events {{ worker_connections 12000; }}\n\
         http {{ access_log off; keepalive_timeout 600s; sendfile on; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;\n\
         fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5; default_type text/plain;\n\
         server {{ listen 80 backlog=4096; root {www}; add_header X-Mirror {name} always;\n\
         location /slow {{ limit_rate 2m; }} }} }}\n",
        folder = folder.display(),
        www = www().display(),
    );
    std::fs::write(folder.join("conf"), config).expect("a file");
    let program =
        Program::start(space, command(&format!("nginx -p {0} -e {0}/logs/error.log -c {0}/conf", folder.display())));
    wait_for_port(space, "tcp", 80, || std::fs::read_to_string(folder.join("logs/error.log")).unwrap_or_default());
    program
}
