#!/usr/bin/env python3
"""Plays clips in several players and says what each showed: PyAV (libavformat and libavcodec), torchcodec, and Chromium.

    benches/playback.py CLIP.mp4...

Needs `pip install av numpy torch torchcodec` and, for the browser, `apt-get install chromium`; what is not installed is said and left out. A
line per clip and player: frames, first and last time, errors. In the browser the clip is played to its end, then pictures at eight times are
compared with PyAV's (mean of each colour channel on a 16 x 9 grid). Ends with 1 if any player shows another number of frames than PyAV, or other
pictures.
"""
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path

BROWSER_SECONDS = 120
GRID = (16, 9)
MOST_DIFFERENCE = 12.0  # of 255, mean over the grid: browsers convert colours in their own way

PAGE = """<!doctype html><video muted playsinline></video><script>
const video = document.querySelector("video"), shown = [];
const wait = (name) => new Promise((ok) => video.addEventListener(name, ok, { once: true }));
const say = (what) => fetch("/report", { method: "POST", body: JSON.stringify(what) });
video.onerror = () => say({ error: video.error.message || String(video.error.code) });
(async () => {
  video.src = "/clip.mp4";
  await wait("loadeddata");
  const seen = new Set();
  const note = (now, frame) => { seen.add(Math.round(frame.mediaTime * 1e6)); video.requestVideoFrameCallback(note); };
  video.requestVideoFrameCallback(note);
  video.playbackRate = 0.5;
  video.play();
  await wait("ended");
  const played = video.getVideoPlaybackQuality();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [GRID_W, GRID_H];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (const time of TIMES) {
    video.currentTime = time;
    await wait("seeked");
    await new Promise((ok) => setTimeout(ok, 200));
    context.drawImage(video, 0, 0, GRID_W, GRID_H);
    shown.push(Array.from(context.getImageData(0, 0, GRID_W, GRID_H).data));
  }
  say({ duration: video.duration, width: video.videoWidth, height: video.videoHeight, decoded: played.totalVideoFrames,
        dropped: played.droppedVideoFrames, distinct: seen.size, shown });
})();
</script>"""


def with_av(path):
    import av

    with av.open(str(path)) as clip:
        frames = [(float(f.time), f) for f in clip.decode(video=0)]
    return frames


def with_torchcodec(path):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode="exact")
    times = [float(decoder[i].float().mean()) for i in range(len(decoder))]
    stamps = decoder.get_frames_in_range(0, len(decoder)).pts_seconds
    return len(times), float(stamps[0]), float(stamps[-1])


def grid(frame):
    return frame.reformat(width=GRID[0], height=GRID[1], format="rgb24", interpolation="AREA").to_ndarray().astype(float)


def with_chromium(path, times):
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        raise ImportError("chromium is not installed")
    page = PAGE.replace("GRID_W", str(GRID[0])).replace("GRID_H", str(GRID[1])).replace("TIMES", json.dumps(times))
    reported, done = {}, threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            at = urllib.parse.urlparse(self.path).path
            if at not in ("/", "/clip.mp4"):
                self.send_error(404)
                return
            body, kind = (path.read_bytes(), "video/mp4") if at == "/clip.mp4" else (page.encode(), "text/html")
            asked = self.headers.get("Range", "")
            start, size = 0, len(body)
            if asked.startswith("bytes="):
                first, _, last = asked[6:].partition("-")
                start, end = int(first or 0), int(last) if last else size - 1
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
                body = body[start:end + 1]
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            reported.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        browser = subprocess.Popen(
            [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required",
             f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done.wait(BROWSER_SECONDS)
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
    server.shutdown()
    return reported or {"error": f"no answer within {BROWSER_SECONDS} s"}


def main(paths):
    import numpy

    wrong = False
    for path in map(Path, paths):
        frames = with_av(path)
        count = len(frames)
        print(f"{path.name}: PyAV {count} frames, {frames[0][0]:.4f} to {frames[-1][0]:.4f} s")
        try:
            got, first, last = with_torchcodec(path)
            wrong |= got != count
            print(f"{path.name}: torchcodec {got} frames, {first:.4f} to {last:.4f} s{'' if got == count else ' WRONG'}")
        except (ImportError, RuntimeError) as e:
            print(f"{path.name}: torchcodec not tried: {str(e).splitlines()[0]}")
        picks = [frames[k * (count - 1) // 7] for k in range(8)]
        try:
            answer = with_chromium(path, [time + 0.005 for time, _ in picks])
        except ImportError as e:
            print(f"{path.name}: Chromium not tried: {e}")
            continue
        if "error" in answer:
            wrong = True
            print(f"{path.name}: Chromium WRONG: {answer['error']}")
            continue
        shown = [numpy.array(p, float).reshape(GRID[1], GRID[0], 4)[..., :3] for p in answer.pop("shown")]
        differences = [float(abs(grid(frame) - got).mean()) for (_, frame), got in zip(picks, shown)]
        fits = max(differences) <= MOST_DIFFERENCE and answer["decoded"] >= count
        wrong |= not fits
        print(f"{path.name}: Chromium {answer}, pictures differ by {', '.join(f'{d:.1f}' for d in differences)}{'' if fits else ' WRONG'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
