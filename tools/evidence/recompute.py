#!/usr/bin/env python3
"""Recompute a report's figures with NumPy and SciPy, from logits that `qins logits` writes.

For each prompt the model reads the prompt and the tokens that the report says the plain model wrote, once with plain weights and
once encoded; every figure of the table "after the baseline's greedy words" is computed anew from the two files, by its
definition, and compared with the report. So are the exact intervals of whole texts. Exit code 1 when one is off by more than
1e-6 (relative above 1).

  python3 -m venv VENV && VENV/bin/pip install numpy scipy safetensors
  VENV/bin/python recompute.py report.json --qins target/debug/qins --candidate q8 [--model DIR]
"""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import load_file
from scipy.special import log_softmax
from scipy.stats import beta


def predictions(args, ids, skip, options):
    """Logits, in float64, by which ids[skip:] are predicted."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.safetensors")
        command = [args.qins, "logits", "--prompt-ids", ",".join(map(str, ids)), "--out", out]
        command += ["--model", args.model] if args.model else []
        subprocess.run(command + options, check=True, stderr=subprocess.DEVNULL)
        return load_file(out)["logits"].astype(np.float64)[skip - 1 : len(ids) - 1]


def same_draw(p, q):
    """1 / sum_j max(p_j / p_i, q_j / q_i), summed over i: all pairs where those are few, else along the sorted ratios."""
    order = np.argsort(p / q)
    p, q = p[order], q[order]
    # Behind i the ratio p/q is larger, so that p_j / p_i is the larger of the two.
    behind, before = p.sum() - np.cumsum(p), np.cumsum(q)
    return (1 / (behind / p + before / q)).sum()


def figures(p, q, ids):
    lp, lq = log_softmax(p, axis=1), log_softmax(q, axis=1)
    at = np.arange(len(ids))
    top = lambda x: np.argsort(-x, axis=1, kind="stable")[:, :10]
    return {
        "same_top_rate": p.argmax(1) == q.argmax(1),
        "mean_kl": (np.exp(lp) * (lp - lq)).sum(1),
        "top10_overlap": np.array([len(set(a) & set(b)) / 10 for a, b in zip(top(p), top(q))]),
        "cosine": (p * q).sum(1) / np.sqrt((p * p).sum(1) * (q * q).sum(1)),
        "same_draw": np.array([same_draw(a, b) for a, b in zip(np.exp(lp), np.exp(lq))]),
        "probability_change": np.exp(lq[at, ids]) - np.exp(lp[at, ids]),
        "ln_perplexity_ratio": lp[at, ids] - lq[at, ids],
        "baseline_surprise": -lp[at, ids],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report")
    parser.add_argument("--qins", required=True)
    parser.add_argument("--candidate", default="q8")
    parser.add_argument("--model")
    parser.add_argument("--first", type=int, help="only so many prompts, and of the figures those of each prompt")
    args = parser.parse_args()
    report = json.load(open(args.report))
    candidate = next(c for c in report["candidates"] if c["name"] == args.candidate)
    options = ["--scheme", candidate["scheme"], "--targets", candidate["targets"]]
    found = {}
    for text in report["baseline"]["texts"][: args.first]:
        read, written = text["input_ids"], text["generated_ids"]
        rows = [predictions(args, read + written, len(read), o) for o in ([], options)]
        for name, values in figures(*rows, np.array(written)).items():
            found.setdefault(name, []).append(values.astype(np.float64))
    flat = {name: np.concatenate(values) for name, values in found.items()}
    kl = np.sort(flat["mean_kl"])
    rank = lambda share: kl[max(int(np.ceil(share * len(kl))), 1) - 1]
    forced = candidate["figures"]["forced"]
    checks = {} if args.first else whole(flat, kl, rank, forced, candidate)
    for prompt, kl, same in zip(candidate["prompts"], found["mean_kl"], found["same_top_rate"]):
        checks[f"mean KL, {prompt['id']}"] = (kl.mean(), prompt["mean_kl"])
        checks[f"same likeliest, {prompt['id']}"] = (same.mean(), prompt["same_top_rate"])
    worst = max(abs(a - b) / max(1, abs(a)) for a, b in checks.values())
    for name, (here, there) in checks.items():
        print(f"{name:28} NumPy {here:.12g}  report {there:.12g}  apart {abs(here - there):.1e}")
    print(f"{len(checks)} figures over {len(flat['mean_kl'])} positions; the farthest apart by {worst:.1e}")
    sys.exit(0 if worst < 1e-6 else 1)


def whole(flat, kl, rank, forced, candidate):
    """The figures of all prompts together: NumPy's, and the report's."""
    checks = {name: (flat[name].mean(), forced[name]["value"]) for name in flat if name != "baseline_surprise"}
    checks |= {
        "median_kl": (rank(0.5), forced["median_kl"]),
        "p99_kl": (rank(0.99), forced["p99_kl"]),
        "p999_kl": (rank(0.999), forced["p999_kl"]),
        "max_kl": (kl[-1], forced["max_kl"]),
        "rms_probability_change": (np.sqrt((flat["probability_change"] ** 2).mean()), forced["rms_probability_change"]),
        "baseline_perplexity": (np.exp(flat["baseline_surprise"].mean()), forced["baseline_perplexity"]),
        "perplexity": (np.exp((flat["baseline_surprise"] + flat["ln_perplexity_ratio"]).mean()), forced["perplexity"]),
    }
    greedy = candidate["figures"]["greedy"]
    texts, alike = len(candidate["prompts"]), sum(p["greedy"]["divergence"] is None for p in candidate["prompts"])
    low = beta.ppf(0.025, alike, texts - alike + 1) if alike else 0.0
    high = beta.ppf(0.975, alike + 1, texts - alike) if alike < texts else 1.0
    exact = greedy["exact_match"]
    checks |= {"exact_match": (alike / texts, exact["value"]), "its interval, low": (low, exact["low"])}
    checks |= {"its interval, high": (high, exact["high"])}
    return checks


if __name__ == "__main__":
    main()
