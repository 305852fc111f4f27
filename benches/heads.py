#!/usr/bin/env python3
"""Head training against scikit-learn: the same samples, the same tolerance, in turn, one thread each.

    benches/heads.py [--repeats 7] [--work out/bench-heads]

Makes its own Python environment below the work folder and builds the benchmark `training` of the crate curette-heads alone (release). Prints the shortest
processor times, their ratio and the largest difference of a probability. Exits 1 when a goal is missed: a ratio of at most 1, and, where both have
reached the minimum (tolerance 1e-6), probabilities within 1e-3.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ["numpy==2.4.6", "scikit-learn==1.9.1"]
ONE_THREAD = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
GOALS = {"ratio": 1.0, "difference at 1e-6": 1e-3}


def environment(work):
    """Re-executes this script inside an environment of its own, with one thread: BLAS reads the variables when it is loaded."""
    python = work / "venv/bin/python"
    ready = all(os.environ.get(variable) == "1" for variable in ONE_THREAD)
    if ready and Path(sys.prefix) == (work / "venv").resolve():
        return
    made = work / "venv/.made"
    if not made.exists() or made.read_text() != "\n".join(PINS):
        subprocess.run([sys.executable, "-m", "venv", "--clear", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PINS], check=True)
        made.write_text("\n".join(PINS))
    os.environ.update({variable: "1" for variable in ONE_THREAD})
    os.execv(python, [str(python), *sys.argv])


def build():
    """The benchmark's executable, as cargo names it."""
    command = ["cargo", "bench", "--no-run", "--message-format", "json", "--manifest-path", ROOT / "operators/heads/Cargo.toml", "--bench", "training",
               "--target-dir", ROOT / "target/leaf"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    (binary,) = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "training"]
    return binary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench-heads")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment(work)

    sys.path.insert(0, str(ROOT / "scripts/goldens"))
    import head_samples
    import numpy as np
    import sklearn
    from sklearn.linear_model import LogisticRegression

    binary = build()
    x, y = head_samples.samples()
    # scikit-learn works in the type that it is given; ours sums in 64 bits, so the fair rival gets 64 bits.
    x64 = x.astype(np.float64)
    probabilities_file = work / "probabilities"
    print(f"n={len(x)} d={x.shape[1]} scikit-learn {sklearn.__version__}, min of {options.repeats}, load {os.getloadavg()[0]:.1f}", flush=True)
    print("\n| C | tolerance | curette, ms (steps) | scikit-learn, ms (steps) | ratio | largest difference of a probability |\n|---|---|---|---|---|---|")
    worst = dict.fromkeys(GOALS, 0.0)
    for c in [0.1, 1.0, 10.0, 100.0]:
        for tolerance in [1e-4, 1e-6]:
            ours, theirs, difference = [], [], 0.0
            for _ in range(options.repeats):
                command = [binary, str(c), str(tolerance), str(len(x)), str(x.shape[1]), probabilities_file]
                report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                probabilities = np.fromfile(probabilities_file, "<f4")
                ours.append(report["seconds"])
                start = time.process_time()
                model = LogisticRegression(C=c, tol=tolerance, max_iter=10_000).fit(x64, y)
                theirs.append(time.process_time() - start)
                difference = max(difference, float(np.abs(model.predict_proba(x64)[:, 1] - probabilities).max()))
            ratio = min(ours) / min(theirs)
            worst["ratio"] = max(worst["ratio"], ratio)
            if tolerance == 1e-6:
                worst["difference at 1e-6"] = max(worst["difference at 1e-6"], difference)
            print(f"| {c:g} | {tolerance:.0e} | {min(ours) * 1e3:.1f} ({report['iterations']}) | {min(theirs) * 1e3:.1f} ({model.n_iter_[0]}) "
                  f"| {ratio:.2f} | {difference:.1e} |", flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    missed = 0
    for goal, value in worst.items():
        good = value <= GOALS[goal]
        missed += not good
        print(f"largest {goal}: {value:.2g} (goal: at most {GOALS[goal]:g}){'' if good else ' MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
