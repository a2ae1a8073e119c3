"""Builds the corpus of real models as graphs.

    python -m benchmarks.data.real_graphs OUT                      # all that OUT does not have
    python -m benchmarks.data.real_graphs OUT --only resnet50 ...  # only these models
    python -m benchmarks.data.real_graphs OUT --limit 10           # only the first ten models
    python -m benchmarks.data.real_graphs OUT --guessed            # anew what was guessed at
    python -m benchmarks.data.real_graphs graphs/real --page       # write the page, build nothing

Needs torchvision, timm, transformers and diffusers beside the project's own packages. A model that
cannot be exported is named, with its reason, here and in the manifest.
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> int:
    """Write what is missing; 0 even if models are left out, for that is said."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--only", nargs="+", default=[], help="names of models")
    parser.add_argument("--family", nargs="+", default=[], help="families of models")
    parser.add_argument("--package", nargs="+", default=[], help="packages of models")
    parser.add_argument("--limit", type=int, help="at most so many models")
    parser.add_argument("--patience", type=int, default=240, help="seconds for a graph")
    parser.add_argument("--again", action="store_true", help="build anew what is there")
    parser.add_argument("--guessed", action="store_true", help="only models with guesses, anew")
    parser.add_argument("--list", action="store_true", help="only list the models")
    parser.add_argument("--page", action="store_true", help="write the page of those that ship")
    arguments = parser.parse_args()
    if arguments.page:
        from benchmarks.data.real_graphs.page import PAGE, page_text

        PAGE.write_text(page_text(), encoding="utf-8")
        return 0
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    from benchmarks.data.real_graphs.build import graph_of
    from benchmarks.data.real_graphs.catalogue import models
    from benchmarks.data.real_graphs.corpus import read_manifest, write_corpus

    chosen = [
        model
        for model in models()
        if not arguments.only or model.name in arguments.only
        if not arguments.family or model.family in arguments.family
        if not arguments.package or model.package in arguments.package
    ][: arguments.limit]
    if arguments.guessed:
        guessed = {row["name"] for row in read_manifest(arguments.out)["graphs"] if row["guesses"]}
        chosen = [model for model in chosen if guessed.intersection(model.graph_names)]
    if arguments.list:
        for model in chosen:
            print(f"{model.name:32} {model.family:20} {model.package}")
        return 0
    again = arguments.again or arguments.guessed
    write_corpus(
        chosen, graph_of, arguments.out, arguments.patience,
        lambda text: print(text, flush=True), again,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
