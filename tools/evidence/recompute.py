#!/usr/bin/env python3
"""Recompute the metrics of a report (version 3) with NumPy and SciPy, from logits that `qins logits` writes.

For each prompt, the model reads the prompt and the baseline's greedy text of the report, once with plain weights and once encoded.
Every teacher-forced metric on the greedy texts is computed from the two files by its definition, and compared with the report; so
is the exact binomial interval of the exact-match rate. Exit code 1 when one differs by more than 1e-6 (relative above 1).

  python3 -m venv VENV && VENV/bin/pip install numpy scipy safetensors
  VENV/bin/python recompute.py report.json --qins target/debug/qins --candidate q8 [--model DIR]
"""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import load_file
from scipy.special import log_softmax
from scipy.stats import beta


def predictions(args, ids, skip, options):
    """The logits in float64 that predict ids[skip:]."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.safetensors")
        command = [args.qins, "logits", "--prompt-ids", ",".join(map(str, ids)), "--out", out]
        command += ["--model", args.model] if args.model else []
        subprocess.run(command + options, check=True, stderr=subprocess.DEVNULL)
        return load_file(out)["logits"].astype(np.float64)[skip - 1 : len(ids) - 1]


def coupled_agreement(p, q):
    """Probability of the same token under the Gumbel-max coupling: sum_i 1 / sum_j max(p_j / p_i, q_j / q_i), along sorted ratios."""
    order = np.argsort(p / q)
    p, q = p[order], q[order]
    # For j after i the ratio p/q is larger, so that p_j / p_i is the larger of the two.
    after, before = p.sum() - np.cumsum(p), np.cumsum(q)
    return (1 / (after / p + before / q)).sum()


def figures(p, q, ids):
    lp, lq = log_softmax(p, axis=1), log_softmax(q, axis=1)
    at = np.arange(len(ids))
    top10 = lambda x: np.argsort(-x, axis=1, kind="stable")[:, :10]
    return {
        "top1_agreement": p.argmax(1) == q.argmax(1),
        "mean_kl": (np.exp(lp) * (lp - lq)).sum(1),
        "top10_overlap": np.array([len(set(a) & set(b)) / 10 for a, b in zip(top10(p), top10(q))]),
        "cosine": (p * q).sum(1) / np.sqrt((p * p).sum(1) * (q * q).sum(1)),
        "coupled_agreement": np.array([coupled_agreement(a, b) for a, b in zip(np.exp(lp), np.exp(lq))]),
        "probability_change": np.exp(lq[at, ids]) - np.exp(lp[at, ids]),
        "ln_perplexity_ratio": lp[at, ids] - lq[at, ids],
        "baseline_nll": -lp[at, ids],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report")
    parser.add_argument("--qins", required=True)
    parser.add_argument("--candidate", default="q8")
    parser.add_argument("--model")
    parser.add_argument("--first", type=int, help="only the first N prompts, and only the metrics of each prompt")
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
    forced = candidate["figures"]["teacher_forced"]
    checks = {} if args.first else whole(flat, kl, rank, forced, candidate)
    for prompt, kl, same in zip(candidate["prompts"], found["mean_kl"], found["top1_agreement"]):
        checks[f"mean KL divergence, {prompt['id']}"] = (kl.mean(), prompt["mean_kl"])
        checks[f"top-1 agreement, {prompt['id']}"] = (same.mean(), prompt["top1_agreement"])
    worst = max(abs(a - b) / max(1, abs(a)) for a, b in checks.values())
    for name, (here, there) in checks.items():
        print(f"{name:36} NumPy {here:.12g}  report {there:.12g}  difference {abs(here - there):.1e}")
    print(f"{len(checks)} metrics over {len(flat['mean_kl'])} positions; largest difference {worst:.1e}")
    sys.exit(0 if worst < 1e-6 else 1)


def whole(flat, kl, rank, forced, candidate):
    """The metrics of all prompts together: NumPy's, and the report's."""
    checks = {name: (flat[name].mean(), forced[name]["value"]) for name in flat if name != "baseline_nll"}
    checks |= {
        "median_kl": (rank(0.5), forced["median_kl"]),
        "p99_kl": (rank(0.99), forced["p99_kl"]),
        "p999_kl": (rank(0.999), forced["p999_kl"]),
        "max_kl": (kl[-1], forced["max_kl"]),
        "rms_probability_change": (np.sqrt((flat["probability_change"] ** 2).mean()), forced["rms_probability_change"]),
        "baseline_perplexity": (np.exp(flat["baseline_nll"].mean()), forced["baseline_perplexity"]),
        "perplexity": (np.exp((flat["baseline_nll"] + flat["ln_perplexity_ratio"]).mean()), forced["perplexity"]),
    }
    greedy = candidate["figures"]["greedy"]
    texts, matching = len(candidate["prompts"]), sum(p["greedy"]["divergence"] is None for p in candidate["prompts"])
    low = beta.ppf(0.025, matching, texts - matching + 1) if matching else 0.0
    high = beta.ppf(0.975, matching + 1, texts - matching) if matching < texts else 1.0
    exact = greedy["exact_match_rate"]
    checks |= {"exact_match_rate": (matching / texts, exact["value"]), "its interval, low": (low, exact["low"])}
    checks |= {"its interval, high": (high, exact["high"])}
    return checks


if __name__ == "__main__":
    main()
