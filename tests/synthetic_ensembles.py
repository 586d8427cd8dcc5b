"""Invented ensembles of known effects, in the files that tables, claims and figures read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import synthetic

EPOCH = 4e15  # FLOPs of one dense epoch
SEEDS = 5
BINS = 15
SUFFIXES = ("", "_logits", "_parent", "_logits_parent", "_scaled", "_logits_scaled")
MEASURES = ("accuracy", "nll", "ece", "brier")
KINDS = ("gaussian_noise", "shot_noise", "defocus_blur", "motion_blur", "fog", "brightness", "contrast", "jpeg")

# name, method, masks, tuning, members; epochs, masked share of their FLOPs; members' accuracy, what combining adds,
# NLL, ECE, members' disagreement.
PAT, SSA = "PAT (AR)", "PAT (AR) + SSA"
LENET = (
    ("Independent", "independent", None, None, 1, 16, 1.0, 70.3, 0.0, 1.05, 6.0, None),
    ("Bagged", "independent", None, None, 8, 16, 1.0, 66.0, 5.0, 0.88, 4.0, 0.30),
    ("MC-dropout", "mc-dropout", None, None, 8, 16, 1.0, 69.4, 0.7, 0.92, 3.0, 0.10),
    ("Snapshot", "snapshot", None, None, 4, 16, 1.0, 70.0, 2.2, 0.86, 2.6, 0.16),
    ("PAT (R)", "prune-and-tune", "random", "one-shot", 8, 16, 0.75, 70.9, 4.6, 0.73, 2.1, 0.22),
    (PAT, "prune-and-tune", "anti-random", "one-shot", 8, 16, 0.75, 70.8, 4.9, 0.72, 2.0, 0.23),
    ("PAT (R) + SSA", "prune-and-tune", "random", "temperature", 8, 16, 0.79, 71.6, 4.7, 0.70, 1.8, 0.21),
    (SSA, "prune-and-tune", "anti-random", "temperature", 8, 16, 0.79, 71.5, 5.0, 0.69, 1.7, 0.22),
    ("Dense children", "dense-children", None, "dense", 8, 16, 1.0, 72.0, 2.0, 0.83, 3.4, 0.13),
    ("Deep ensemble", "independent", None, None, 4, 64, 1.0, 70.3, 6.0, 0.70, 1.9, 0.25),
)
WIDE = (
    ("WRN single", "independent", None, None, 1, 200, 1.0, 96.0, 0.0, 0.159, 2.3, None),
    ("WRN PAT", "prune-and-tune", "anti-random", "one-shot", 6, 200, 0.85, 95.8, 0.6, 0.115, 0.6, 0.036),
    ("WRN PAT + SSA", "prune-and-tune", "anti-random", "temperature", 6, 200, 0.87, 95.9, 0.7, 0.110, 0.5, 0.035),
)
GROUPS = (("cifar10", "lenet-l", LENET), ("cifar10", "wrn-28-10", WIDE))


def ensembles(seed: int = 0, seeds: int = SEEDS, effects: Mapping[str, float] | None = None) -> pd.DataFrame:
    """The rows of ensembles.csv, one for each ensemble and seed; ``effects`` are extra points of accuracy by name.

    Accuracy is the members', plus what combining adds, plus noise of the seed (sd 0.3, shared by a group's ensembles)
    and of the ensemble (sd 0.1); NLL and ECE vary by 0.005 nats and 0.1 points.
    """
    rng = np.random.default_rng(seed)
    rows = [
        _row(rng, dataset, model, entry, number, shift, (effects or {}).get(entry[0], 0.0))
        for dataset, model, entries in GROUPS
        for entry in entries
        for number, shift in enumerate(np.random.default_rng([seed, len(entries)]).normal(0, 0.3, seeds))
    ]
    return pd.DataFrame(rows)


def _row(
    rng: np.random.Generator, dataset: str, model: str, entry: tuple[Any, ...], seed: int, shift: float, extra: float
) -> dict[str, Any]:
    name, method, masks, tuning, members, epochs, share, alone, gain, nll, ece, disagreement = entry
    accuracy = alone + gain + extra + shift + rng.normal(0, 0.1)
    nll, ece = nll + rng.normal(0, 0.005), max(0.1, ece + rng.normal(0, 0.1))
    child = masks is not None or method == "dense-children"
    samples = 8 if method == "mc-dropout" else 1
    row: dict[str, Any] = {
        **{"study": "synthetic", "ensemble": name, "method": method, "masks": masks},
        **{"structure": "connections" if masks else None, "sparsity": 50.0 if masks else 0.0 if child else None},
        **{"tuning": tuning, "tau": 0.5 if tuning == "temperature" else None},
        **{"anneal_epochs": 0.5 if tuning == "temperature" else None},
        **{"lr_schedule": "constant" if child else None, "lr": 0.001 if child else None, "seed": seed},
        "dataset": dataset,
        **{"model": model, "train_images": 45000, "augment": False, "members": members, "samples": samples},
    }
    for suffix in SUFFIXES:
        if "parent" in suffix and not child:
            row |= dict.fromkeys(f"{head}{measure}{suffix}" for head in ("", "corrupted_") for measure in MEASURES)
            continue
        scores = (
            accuracy - 0.1 * ("logits" in suffix) + 0.05 * ("parent" in suffix),
            nll + 0.01 * ("logits" in suffix) - 0.02 * ("scaled" in suffix),
            ece * (0.5 if "scaled" in suffix else 1.0),
            0.012 * (100 - accuracy),
        )
        row |= dict(zip((f"{measure}{suffix}" for measure in MEASURES), scores, strict=True))
        corrupted = (scores[0] - 15, scores[1] + 0.6, scores[2] + 8, scores[3] + 0.15)
        row |= dict(zip((f"corrupted_{measure}{suffix}" for measure in MEASURES), corrupted, strict=True))
    one_pass = 2 * EPOCH / 3 / 45000 / 3
    return {
        **row,
        **{"temperature": 1.1, "temperature_logits": 1.2, "member_accuracy": alone + shift, "member_nll": nll + 0.2},
        **{"member_ece": ece + 2, "disagreement": disagreement, "kl": 2.5 * disagreement if disagreement else None},
        **{"q_statistic": 1 - disagreement if disagreement else None},
        **{"epochs": epochs, "dense_flops": epochs * EPOCH, "masked_flops": epochs * share * EPOCH},
        **{"train_seconds": 4.0 * epochs, "forward_passes": members, "parameters": 4_017_546},
        **{"inference_flops": one_pass * members, "inference_masked_flops": one_pass * members * (0.5 if masks else 1)},
        **{"corrupted_set": "benchmark-15", "corrupted_label": "generated", "corrupted_images": 10000},
        **{"diverged": False, "ensemble_id": f"{model}-{name}-{seed}", "device": "test device", "git_commit": "0" * 7},
    }


def sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ensemble_sizes.csv: scores go from a member's to the ensemble's as 1 - 1 / size does."""
    rows = []
    for row in frame.to_dict("records"):
        for size in range(1, row["members"] + 1):
            part = (1 - 1 / size) / (1 - 1 / row["members"]) if row["members"] > 1 else 1.0
            for convention in ("probabilities", "logits"):
                accuracy = row["member_accuracy"] + part * (row["accuracy"] - row["member_accuracy"])
                nll = row["member_nll"] + part * (row["nll"] - row["member_nll"]) + 0.01 * (convention == "logits")
                scores = {"accuracy": accuracy, "nll": nll, "ece": row["ece"], "brier": row["brier"]}
                rows.append({"ensemble_id": row["ensemble_id"], "size": size, "convention": convention, **scores})
    return pd.DataFrame(rows)


def bins(frame: pd.DataFrame, images: int = 10_000) -> pd.DataFrame:
    """The rows of ensemble_bins.csv: more images in surer bins, all of them too sure by the ensemble's ECE."""
    centres = (np.arange(BINS) + 0.5) / BINS
    rows = []
    for row in frame.to_dict("records"):
        for name, overconfident in (("clean", row["ece"]), ("corrupted", row["corrupted_ece"])):
            share = np.exp(4 * centres) * (centres > 0.15)
            counts = np.floor(images * share / share.sum()).astype(int)
            right = np.round(counts * np.clip(centres - overconfident / 100, 0, 1)).astype(int)
            for convention in ("probabilities", "logits"):
                head = {"ensemble_id": row["ensemble_id"], "set": name, "convention": convention}
                rows += [
                    {**head, "bin": i, "count": counts[i], "confidence": counts[i] * centres[i], "correct": right[i]}
                    for i in range(BINS)
                ]
    return pd.DataFrame(rows)


def corruptions(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of corruptions.csv: each kind costs its own points of accuracy per severity."""
    rows = []
    for row in frame.to_dict("records"):
        for i, kind in enumerate(KINDS):
            for severity in range(1, 6):
                for convention in ("probabilities", "logits"):
                    scores = {
                        "accuracy": row["accuracy"] - severity * (0.5 + 0.6 * i),
                        "nll": row["nll"] + 0.02 * severity * i,
                        "ece": row["ece"] + 0.3 * severity * i,
                        "brier": row["brier"] + 0.02 * severity,
                    }
                    head = {"ensemble_id": row["ensemble_id"], "label": row["corrupted_label"], "kind": kind}
                    rows.append({**head, "severity": severity, "convention": convention, **scores})
    return pd.DataFrame(rows)


def write(folder: Path, frame: pd.DataFrame | None = None) -> Path:
    """The invented study with the four files of its ensembles in ``folder``, which is returned."""
    frame = ensembles() if frame is None else frame
    synthetic.write(folder)
    for name, made in (
        ("ensembles", frame),
        ("ensemble_sizes", sizes(frame)),
        ("ensemble_bins", bins(frame)),
        ("corruptions", corruptions(frame)),
    ):
        made.to_csv(folder / f"{name}.csv", index=False)
    return folder
