"""Golden vectors of the evaluation statistics: scikit-learn, statsmodels and scipy.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy scipy scikit-learn statsmodels
    /tmp/venv/bin/python scripts/goldens/evaluation.py

Writes operators/evaluation/tests/goldens/evaluation.json. `papers` holds made-up ratings of 200 items by three raters whose kappas round to those
that the MedGen paper prints; the paper's own ratings are not published.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import scipy
import sklearn
import statsmodels
from scipy import stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

warnings.filterwarnings("ignore")
random = np.random.default_rng(20250708)
OUT = Path(__file__).parents[2] / "operators/evaluation/tests/goldens/evaluation.json"


def number(x):
    return None if x is None or math.isnan(x) else float(x)


def kappas(a, b, labels):
    return {w or "unweighted": number(cohen_kappa_score(a, b, labels=labels, weights=w)) for w in (None, "linear", "quadratic")}


def noisy(truth, labels, keep):
    """A rater who says the truth with probability `keep`, else a neighbour on the scale."""
    step = random.choice([-1, 1], len(truth))
    moved = np.clip(truth + step, 0, labels - 1)
    return np.where(random.random(len(truth)) < keep, truth, moved)


def kappa_cases():
    out = []
    for labels in (2, 3, 4, 5):
        for n in (3, 20, 200):
            truth = random.integers(0, labels, n)
            a, b = noisy(truth, labels, 0.8), noisy(truth, labels, 0.6)
            out.append(dict(labels=labels, a=a.tolist(), b=b.tolist(), kappa=kappas(a, b, list(range(labels)))))
    one = [0] * 5
    out.append(dict(labels=2, a=one, b=one, kappa=kappas(one, one, [0, 1])))
    out.append(dict(labels=2, a=one, b=[0, 0, 1, 0, 0], kappa=kappas(one, [0, 0, 1, 0, 0], [0, 1])))
    out.append(dict(labels=3, a=[0, 1, 2], b=[2, 1, 0], kappa=kappas([0, 1, 2], [2, 1, 0], [0, 1, 2])))
    return out


def macro_cases():
    out = []
    for labels, n in ((2, 10), (3, 7), (4, 9), (4, 60), (6, 7)):
        truth, predicted = random.integers(0, labels, n), random.integers(0, labels, n)
        p, r, f, _ = precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
        percent = [100 * float(x) for x in (accuracy_score(truth, predicted), p, r, f)]
        out.append(dict(truth=truth.tolist(), predicted=predicted.tolist(), percent=percent))
    return out


def test_cases():
    out = []
    for n, shift, spread in ((2, 0.5, 1), (5, 0, 1), (12, 1.5, 2), (200, 0.2, 3), (200, 5, 1), (1000, 0.001, 1)):
        a = random.normal(60, 8, n)
        b = a + random.normal(shift, spread, n)
        found = stats.ttest_rel(b, a)
        interval = found.confidence_interval(0.95)
        d = b - a
        out.append(dict(a=a.tolist(), b=b.tolist(), t=float(found.statistic), p=float(found.pvalue), degrees=int(found.df),
                        interval=[float(interval.low), float(interval.high)], effect=float(d.mean() / d.std(ddof=1))))
    return out


def holm_case():
    a = random.normal(0, 1, (30, 5))
    b = a + random.normal([0.0, 0.2, 0.4, 0.6, 1.2], 1, (30, 5))
    p = [float(stats.ttest_rel(b[:, i], a[:, i]).pvalue) for i in range(5)]
    return dict(a=a.tolist(), b=b.tolist(), p=p, p_holm=[float(x) for x in multipletests(p, method="holm")[1]])


def like_a_paper(wanted, labels=4, n=200, tries=2_000_000):
    """Three raters with these kappas (1-2, 1-3, 2-3), to two decimals: changes one rating at a time as long as it comes nearer."""
    truth = random.integers(0, labels, n)
    raters = [noisy(truth, labels, 0.9) for _ in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]

    def kappa(a, b):
        p_o = np.mean(a == b)
        p_e = sum(np.mean(a == c) * np.mean(b == c) for c in range(labels))
        return (p_o - p_e) / (1 - p_e)

    def far():
        return sum(abs(kappa(raters[i], raters[j]) - w) for (i, j), w in zip(pairs, wanted))

    best = far()
    for _ in range(tries):
        if all(abs(kappa(raters[i], raters[j]) - w) < 0.004 for (i, j), w in zip(pairs, wanted)):
            break
        who, item = random.integers(3), random.integers(n)
        before = raters[who][item]
        raters[who][item] = random.integers(labels)
        now = far()
        if now <= best:
            best = now
        else:
            raters[who][item] = before
    found = [float(cohen_kappa_score(raters[i], raters[j])) for i, j in pairs]
    assert [round(k, 2) for k in found] == wanted, found
    return dict(raters=[r.tolist() for r in raters], printed=wanted, kappa=found)


wilson = [dict(hits=k, of=n, interval=[float(x) for x in proportion_confint(k, n, method="wilson")])
          for k, n in ((190, 200), (0, 10), (10, 10), (37, 61), (1, 1), (458, 1000), (3, 100000))]
goldens = dict(
    versions={m.__name__: m.__version__ for m in (np, scipy, sklearn, statsmodels)},
    kappa=kappa_cases(), wilson=wilson, macro=macro_cases(), tests=test_cases(), holm=holm_case(),
    papers=[like_a_paper([0.83, 0.81, 0.78]), like_a_paper([0.82, 0.79, 0.77])],
)
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(goldens) + "\n")
print(OUT, OUT.stat().st_size, "bytes")
