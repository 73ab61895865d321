"""HTTP clients: each asks (METHOD, URL, BODY or None), and gives (STATUS or 0, BODY)."""
import base64
import json
import os
import subprocess
import tempfile

WORK = tempfile.mkdtemp(prefix="mediator-interop-")


def file(name, content=None):
    path = os.path.join(WORK, name)
    if content is not None:
        with open(path, "wb") as out:
            out.write(content)
    return path


def read(path):
    with open(path, "rb") as found:
        return found.read()


class Clients:
    """In a namespace."""

    def __init__(self, space):
        self.space = space
        self.all = {"curl": self.one_by_one(self.curl), "wget": self.one_by_one(self.wget),
                    "Java": self.one_by_one(self.java), "Chromium": self.chromium}

    def run(self, *command, timeout=60):
        with self.space.inside():
            return subprocess.run(command, capture_output=True, timeout=timeout)

    def one_by_one(self, ask):
        return lambda asked: [ask(*question) for question in asked]

    def curl(self, method, url, body, of_type="application/octet-stream"):
        out = file("curl.out", b"")
        words = ["curl", "-sS", "-m", "50", "-o", out, "-w", "%{http_code}"]
        words += ["-I"] if method == "HEAD" else ["-X", method]
        if body is not None:
            words += ["-H", f"Content-Type: {of_type}".strip(), "--data-binary", "@" + file("curl.in", body)]
        ended = self.run(*words, url)
        return (int(ended.stdout[-3:]) if ended.returncode == 0 else 0), read(out)

    def wget(self, method, url, body):
        out = file("wget.out", b"")
        words = ["wget", "-q", "-S", "-T", "50", "-t", "1", "--content-on-error", "--method", method, "-O", out]
        if body is not None:
            words += ["--header", "Content-Type: application/octet-stream", "--body-file", file("wget.in", body)]
        lines = [line for line in self.run(*words, url).stderr.decode().splitlines() if "HTTP/1.1" in line]
        return (int(lines[-1].split()[1]) if lines else 0), read(out)

    def java(self, method, url, body):
        out = file("java.out", b"")
        ended = self.run("java", "-cp", WORK, "Ask", method, url, "-" if body is None else file("java.in", body), out)
        return (int(ended.stdout) if ended.returncode == 0 else 0), read(out)

    def chromium(self, asked):
        """Its page comes from a CoAP server too, so what it asks for is of its own origin."""
        script = [[method, url, None if body is None else base64.b64encode(body).decode()] for method, url, body in asked]
        *base, server, _ = asked[0][1].split("/")
        # One for each, since it is fresh for a minute.
        page = "/".join([*base, "aiocoap", f"page-for-{server}"])
        found = self.shown(page, PAGE.replace("ASKED", json.dumps(script))) or [[0, ""]] * len(asked)
        return [(status, base64.b64decode(body)) for status, body in found]

    def events(self, base, path, number):
        """The data of the first events of an EventSource."""
        page = EVENTS.replace("PATH", path).replace("NUMBER", str(number))
        return self.shown(f"{base}/aiocoap/page-for-events", page) or []

    def shown(self, url, page):
        """What a page says in Chromium that is stored there. None if it says nothing."""
        # Without a type, so that it is served without one.
        assert self.curl("PUT", url, page.encode(), "")[0] in (201, 204)
        ended = self.run("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                         "--user-data-dir=" + os.path.join(WORK, "profile"), "--virtual-time-budget=30000", "--dump-dom", url)
        parts = ended.stdout.decode().split("@@")
        return json.loads(parts[1]) if len(parts) > 2 else None


PAGE = """<!DOCTYPE html><pre id=out></pre><script>
(async () => {
  const asked = ASKED, got = [];
  for (const [method, url, body] of asked) {
    const options = { method, cache: 'no-store' };
    if (body !== null) {
      options.body = Uint8Array.from(atob(body), c => c.charCodeAt(0));
      options.headers = { 'Content-Type': 'application/octet-stream' };
    }
    try {
      const response = await fetch(url, options);
      const bytes = new Uint8Array(await response.arrayBuffer());
      got.push([response.status, btoa(Array.from(bytes, b => String.fromCharCode(b)).join(''))]);
    } catch (error) { got.push([0, btoa(String(error))]); }
  }
  document.title = 'done';
  document.getElementById('out').textContent = '@@' + JSON.stringify(got) + '@@';
})()
</script>"""

EVENTS = """<!DOCTYPE html><pre id=out></pre><script>
const got = [], events = new EventSource('PATH');
events.onmessage = event => {
  got.push(event.data);
  if (got.length < NUMBER) return;
  events.close();
  document.getElementById('out').textContent = '@@' + JSON.stringify(got) + '@@';
};
</script>"""
