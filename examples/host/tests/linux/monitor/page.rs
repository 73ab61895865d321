//! The monitor's page in Chromium: what it shows, by keyboard and on a phone, and that other pages cannot use it.

use crate::watched::browser::Browser;
use crate::watched::*;

#[test]
fn the_page_shows_previews_and_does() {
    let served = translator(anywhere(), true);
    let monitor = Monitor::start("page", &[served.at]);
    let _traffic = Traffic::start(&served, [5, 9, 60]);
    wait("it listens", || monitor.says("show").contains("edge-1"));
    let page = format!("http://{}", monitor.page);

    // Without the token it asks for it.
    let Some(mut browser) = Browser::start(&monitor.folder, &page) else { return };
    browser.wait("!document.getElementById('login').hidden && document.getElementById('main').hidden");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|text| text.contains("401")), "{complaints:?}");
    browser.go("about:blank");
    browser.go(&format!("{page}/#{}", monitor.token()));
    browser.wait(
        "document.querySelectorAll('.server').length === 3 && document.getElementById('status').textContent === 'live'",
    );
    assert_eq!(browser.value("location.hash"), "", "the token is not left in the address");
    wait("a decision of the model", || monitor.says("log").contains("the model expects requests to take"));
    browser.wait(
        "document.querySelectorAll('#decisions li').length >= 2 && document.querySelectorAll('rect.bar').length > 12",
    );
    std::thread::sleep(core::time::Duration::from_secs(3));

    // Light, dark, and a phone: nothing is cut off, and everything can be hit with a finger.
    for (name, width, scheme) in [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "dark")] {
        browser.picture(width, 900, scheme, &monitor.folder.join(format!("{name}.png")));
        assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
        let small = "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.getBoundingClientRect().height < 40).length";
        assert_eq!(browser.value(small), 0, "{name}");
    }
    // Text stands out from what is behind it, in both: at least 4.5 to 1 (WCAG 1.4.3).
    for scheme in ["light", "dark"] {
        browser.picture(1280, 900, scheme, &monitor.folder.join("contrast.png"));
        let least = browser.value(CONTRAST).as_f64().unwrap();
        assert!(least >= 4.5, "{scheme}: {least}");
    }

    // By keyboard alone: preview, cancel; preview, do it; undo.
    let drain = "document.activeElement.dataset.key === 'web 20.0.0.1:80 drain'";
    browser.tab_to(drain);
    browser.press("Enter");
    browser.wait("document.getElementById('dialog').open && document.getElementById('d-body').textContent.includes('edge-1: updated')");
    assert!(browser.value("document.getElementById('d-body').textContent").as_str().unwrap().contains("→ 0 %"));
    browser.press("Escape");
    browser.wait("!document.getElementById('dialog').open");
    browser.wait(drain);
    assert!(weights(&served)[0] > 0, "a preview changes nothing");
    browser.press("Enter");
    browser.wait("!document.getElementById('d-do').disabled");
    browser.tab_to("document.activeElement.id === 'd-do'");
    browser.press("Enter");
    wait("it is drained", || weights(&served)[0] == 0);
    browser.wait("document.body.innerText.includes('gets nothing new: the operator')");
    // The model may have decided something since.
    let log = monitor.says("log");
    let drained = log.lines().find(|line| line.contains("the operator has drained")).unwrap();
    let number = drained.split(' ').next().unwrap();
    browser.tab_to(&format!("document.activeElement.dataset.key === 'undo {number}'"));
    browser.press("Enter");
    browser.wait("!document.getElementById('d-do').disabled");
    browser.tab_to("document.activeElement.id === 'd-do'");
    browser.press("Enter");
    wait("it is undone", || weights(&served)[0] > 0);
    // By click: a pin.
    browser.value("document.querySelector('[data-key=\"web 20.0.0.2:80 pin\"]').click()");
    browser.wait("document.getElementById('in-share')");
    browser
        .value("(() => { const input = document.getElementById('in-share'); input.value = 70; input.onchange(); })()");
    browser.wait(
        "document.getElementById('d-body').textContent.includes('→ 70 %') && !document.getElementById('d-do').disabled",
    );
    browser.value("document.getElementById('d-do').click()");
    wait("it is pinned", || {
        let all = weights(&served);
        let sum: f64 = all.iter().map(|weight| f64::from(*weight)).sum();
        (f64::from(all[1]) / sum - 0.7).abs() < 0.01
    });
    assert_eq!(browser.complaints(), [] as [String; 0]);

    // A page from elsewhere, even if it knows the token, and a form that needs no permission.
    let held = weights(&served);
    browser.go("data:text/html,<p>another page</p>");
    browser.wait("document.body.innerText.includes('another page')");
    let token = monitor.token();
    let fetch = |path: &str, more: &str| {
        format!(
            "fetch('{page}/api/{path}', {{ headers: {{ Authorization: 'Bearer {token}' }}, {more} }}).then((r) => r.status, (e) => e.name)"
        )
    };
    assert_eq!(browser.value(&fetch("state", "")), "TypeError");
    let drain = "{\\\"do\\\":\\\"release\\\",\\\"service\\\":\\\"web\\\"}";
    assert_eq!(browser.value(&fetch("command", &format!("method: 'POST', body: '{drain}'"))), "TypeError");
    let silent = format!(
        "fetch('{page}/api/command', {{ method: 'POST', mode: 'no-cors', body: '{drain}' }}).then((r) => r.type, (e) => e.name)"
    );
    assert_eq!(browser.value(&silent), "TypeError");
    std::thread::sleep(core::time::Duration::from_secs(1));
    assert_eq!(weights(&served)[1], held[1]);
    assert!(!monitor.says("log").contains("leaves everything to the model"));

    // A second monitor watches, says so, and tells whoever wants something of it where to go.
    let second = Monitor::configured("page-watching", &[served.at], "rank = 200\n", "");
    wait("it watches", || second.says("show").starts_with("watching: "));
    browser.go(&format!("http://{}/#{}", second.page, second.token()));
    browser
        .wait("document.getElementById('status').textContent.startsWith('watching: the monitor of rank 100 started')");
    browser.value("document.querySelector('[data-key=\"web 20.0.0.1:80 drain\"]').click()");
    browser.wait("document.getElementById('d-body').textContent.includes('watching: the monitor of rank 100 started')");
    assert_eq!(browser.value("document.getElementById('d-do').disabled"), true);
    assert_eq!(weights(&served)[1], held[1]);
}

/// The least contrast between the colour of a text and that behind it.
const CONTRAST: &str = "(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => { for (; one; one = one.parentElement) { const c = parts(getComputedStyle(one).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let least = 21;
  for (const one of document.querySelectorAll('h1, h2, h3, p, dt, dd, li, button')) {
    if (!one.offsetParent || !one.textContent.trim()) continue;
    const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
})()";
