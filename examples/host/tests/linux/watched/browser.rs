//! Chromium without a window, told what to do over a pipe (the DevTools protocol).

use core::time::Duration;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value, json};

use crate::watched::PATIENCE;

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: String,
    number: u64,
    events: VecDeque<Value>,
}

impl Browser {
    /// `None`, and says so, where there is no Chromium.
    pub(crate) fn start(folder: &Path, address: &str) -> Option<Self> {
        if Command::new("chromium").arg("--version").stderr(Stdio::null()).output().is_err() {
            println!("SKIPPED: there is no chromium");
            return None;
        }
        let (to, from) = (folder.join("to-browser"), folder.join("from-browser"));
        for pipe in [&to, &from] {
            let _ = std::fs::remove_file(pipe);
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                      --disable-background-networking --disable-component-update --hide-scrollbars \
                      --user-data-dir=\"$1/profile\" --remote-debugging-pipe about:blank 3<\"$1/to-browser\" 4>\"$1/from-browser\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let to = OpenOptions::new().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let (said, received) = channel();
        std::thread::spawn(move || {
            for message in from.split(0).map_while(Result::ok) {
                if said.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Self { child, to, from: received, session: String::new(), number: 0, events: VecDeque::new() };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().into();
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser.go(address);
        Some(browser)
    }

    pub(crate) fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let said =
                self.from.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| panic!("{method}: {error}"));
            if said["id"] == self.number {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push_back(said);
        }
    }

    pub(crate) fn go(&mut self, address: &str) {
        self.ask("Page.navigate", json!({ "url": address }));
    }

    /// The value of an expression, also of one that is a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let said = self.ask("Runtime.evaluate", parameters);
        assert!(said["exceptionDetails"].is_null(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            // Until the page is there, there is nothing to ask about.
            let careful = format!("(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()");
            if self.value(&careful) == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = self.value("document.body.innerText");
        panic!("{expression} does not become true: {text}");
    }

    /// A size, a colour scheme, and a picture of that.
    pub(crate) fn picture(&mut self, width: u32, height: u32, scheme: &str, file: &Path) {
        let phone = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", features);
        std::thread::sleep(Duration::from_millis(700));
        let said = self.ask("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": phone }));
        std::fs::write(file, decode(said["data"].as_str().unwrap())).unwrap();
    }

    /// A key that is pressed and let go.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            _ => panic!("{key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Goes from one control to the next until one has this key.
    #[track_caller]
    pub(crate) fn tab_to(&mut self, wanted: &str) {
        for _ in 0..100 {
            self.press("Tab");
            if self.value(wanted) == true {
                return;
            }
        }
        panic!("no control is {wanted}");
    }

    /// What the page has complained about: exceptions, and what its own policy has forbidden.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let wrong = |event: &Value| {
            event["method"] == "Runtime.exceptionThrown"
                || (event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
        };
        self.events.drain(..).filter(wrong).map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64 (RFC 4648, section 4).
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
