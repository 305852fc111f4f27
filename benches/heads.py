"""Head training against scikit-learn: the same samples, the same tolerance, in turn, one thread each.

    cargo build --release -p curette-heads --benches --target-dir target/leaf
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benches/heads.py BINARY [REPEATS]

BINARY is target/leaf/release/deps/training-*. Prints the shortest processor times, their ratio and the largest difference of a probability.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]:
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts/goldens"))

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

import heads

binary, repeats = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
x, y = heads.samples()
# scikit-learn works in the type that it is given; ours sums in 64 bits, so the fair rival gets 64 bits.
x64 = x.astype(np.float64)
print(f"n={len(x)} d={x.shape[1]} scikit-learn {sklearn.__version__}, load {os.getloadavg()[0]:.1f}, min of {repeats}")
for c in [0.1, 1.0, 10.0, 100.0]:
    for tolerance in [1e-4, 1e-6]:
        ours, theirs, difference = [], [], 0.0
        for _ in range(repeats):
            with tempfile.NamedTemporaryFile() as out:
                done = subprocess.run([binary, str(c), str(tolerance), str(len(x)), str(x.shape[1]), out.name],
                                      check=True, capture_output=True, text=True)
                report = json.loads(done.stdout)
                probabilities = np.fromfile(out.name, "<f4")
            ours.append(report["seconds"])
            start = time.process_time()
            model = LogisticRegression(C=c, tol=tolerance, max_iter=10_000).fit(x64, y)
            theirs.append(time.process_time() - start)
            difference = max(difference, np.abs(model.predict_proba(x64)[:, 1] - probabilities).max())
        print(f"C={c:<6} tolerance {tolerance:.0e}: ours {min(ours) * 1e3:7.1f} ms ({report['iterations']} steps), scikit-learn "
              f"{min(theirs) * 1e3:7.1f} ms ({model.n_iter_[0]} steps), ratio {min(ours) / min(theirs):.2f}, largest difference {difference:.1e}")
