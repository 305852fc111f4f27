"""Reference results for operators/heads/tests: scikit-learn fits, SciPy intervals, ONNX Runtime scores.

    pip install scikit-learn scipy onnx onnxruntime
    python scripts/goldens/heads.py

Writes operators/heads/tests/goldens/heads.json, and reference.onnx (a head as other tools write it). The files exported-*.onnx there are written by
`UPDATE_GOLDENS=1 cargo test -p curette-heads onnx_runtime`; this script checks them with the ONNX checker and scores them with ONNX Runtime.
The samples (head_samples.py) come from the formula of operators/heads/src/synthetic.rs.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import scipy
import sklearn
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import binomtest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from head_samples import ROWS, samples

FOLDER = Path(__file__).resolve().parents[2] / "operators/heads/tests/goldens"


def fits():
    x, y = samples()
    x = x.astype(np.float64)
    out = []
    for c in [1.0, 10.0]:
        model = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(x, y)
        p = model.predict_proba(x)[:, 1]
        # Calibrated on rows that were not trained on.
        held_x, held_y = samples(ROWS + 1000)
        held_x, held_y = held_x[ROWS:].astype(np.float64), held_y[ROWS:]
        calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(held_x, held_y)
        platt = calibrated.calibrated_classifiers_[0].calibrators[0]
        out.append({
            "c": c,
            "probabilities_every_10": [round(float(v), 7) for v in p[::10]],
            "weights_every_16": [round(float(v), 6) for v in model.coef_[0][::16]],
            "bias": round(float(model.intercept_[0]), 6),
            "held_out_scores": [round(float(v), 6) for v in model.decision_function(held_x)[:300]],
            "held_out_positive": [bool(v) for v in held_y[:300]],
            # p = 1 / (1 + exp(a s + b)) on the first 300
            "platt": platt_of(model, held_x[:300], held_y[:300]),
            "platt_of_1000": [-float(platt.a_), -float(platt.b_)],
        })
    return out


def platt_of(model, x, y):
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(x, y)
    platt = calibrated.calibrated_classifiers_[0].calibrators[0]
    return [-float(platt.a_), -float(platt.b_)]


def intervals():
    pairs = [(190, 200), (0, 10), (10, 10), (37, 61), (1, 3)]
    found = [binomtest(k, n).proportion_ci(method="wilson") for k, n in pairs]
    return [{"hits": k, "of": n, "low": float(c.low), "high": float(c.high)} for (k, n), c in zip(pairs, found)]


def vectors():
    return [[float(np.float32(((i * 31 + k * 17) % 23) / 11 - 1)) for i in range(5)] for k in range(20)] + [[0.0] * 5]


def scores(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: np.array(vectors(), np.float32)})
    return [[float(v) for v in row] for row in output]


def reference():
    """A two-layer head as exporters write it: MatMul and Add, not Gemm."""
    rng = np.random.default_rng(5)
    w1, b1 = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    w2, b2 = rng.normal(size=(4, 1)).astype(np.float32), rng.normal(size=1).astype(np.float32)
    named = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Add", ["h", "b1"], ["hb"]),
        helper.make_node("Tanh", ["hb"], ["t"]),
        helper.make_node("MatMul", ["t", "w2"], ["z"]),
        helper.make_node("Add", ["b2", "z"], ["zb"]),
        helper.make_node("Sigmoid", ["zb"], ["p"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in named.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, FOLDER / "reference.onnx")


def main():
    reference()
    found = {
        "versions": {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__, "onnx": onnx.__version__,
                     "onnxruntime": onnxruntime.__version__},
        "fits": fits(),
        "wilson": intervals(),
        "vectors": vectors(),
        "onnx": {path.stem: scores(path) for path in sorted(FOLDER.glob("*.onnx"))},
    }
    (FOLDER / "heads.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
