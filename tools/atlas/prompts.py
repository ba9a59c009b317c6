"""The validation prompts. Facts are sure of themselves; glosses and prose are not, and show a
coarse encoding up first, so they make up about half."""


def user(question):
    return f"<|user|>\n{question}<|end|>\n<|assistant|>\n"


# Chosen with a clear lead at every step (0.001 of a logit), so that another order of float32
# additions gives the same tokens.
GOLDEN = {
    "fact": [
        "The capital of France is",
        "The capital of Japan is",
        "The capital city of Kenya is",
        "Ottawa is the capital of",
        "The city of Lima is the capital of",
        "Capital of Norway:",
        "Travellers to Italy often begin in the capital,",
        "Hungary lies in",
        "The currency of India is the",
        "In Switzerland people pay with the",
        "Portugal borders",
        "The population of Germany is about",
    ],
    "chat": [
        user("What is the capital of France?"),
        user("Which city is the capital of Egypt?"),
        user("On which continent is Brazil?"),
        user("Which countries border Austria?"),
        user("What does lantern mean?"),
        "<|system|>\nAnswer briefly.<|end|>\n" + user("Tell me the capital of Cuba."),
        user("What is the capital of Spain?")
        + "The capital of Spain is Madrid.<|end|>\n"
        + user("What is the currency of Spain?"),
    ],
    "gloss": [
        "river:",
        "a bird: a small",
        "happy:",
        "music:",
        "to walk: move",
        "forgive:",
        "physics: the science of",
    ],
    "prose": [
        "It is a truth universally acknowledged, that",
        "Emma was not",
        "Mr. Darcy bowed, and",
        "\"And pray, what is your opinion of",
        "\"My dear Mr. Bennet,\" said his lady",
        "Captain Wentworth was",
        "The next morning, as soon as breakfast was over,",
        "There was a great deal of",
        "Elinor could not",
        "When the letter came, she read it with",
    ],
}

MORE = {
    "fact": ["Nairobi is the capital of", "The capital of the Netherlands is", "The neighbours of Poland are"],
    "chat": [user("What is the currency of Japan?"), user("How many people live in Peru?")],
    "gloss": ["stone:", "violin: a musical instrument", "gentle:", "harbour: a sheltered", "quickly:"],
    "prose": [
        "Fanny sat down by the",
        "\"I am very sorry to hear it,\" said",
        "The house was large and",
        "The evening was spent in",
        "Catherine walked on with",
        "In the course of the week",
        "She had never been so",
    ],
}

# Few and short: a position costs 8 KB.
LOGITS = {"fact-01", "chat-01", "gloss-05", "prose-01"}
