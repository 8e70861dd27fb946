"""Support tickets of five classes, made of sentences, for benchmarks/review_rounds.py.

Greetings, asides and endings belong to no class, and one ticket in eight mentions the matter of another
class, too.
"""

import numpy as np
import pandas as pd

MATTERS = {
    "account": (
        "I cannot log in to my account",
        "my password reset mail never arrives",
        "please change the e-mail address of my profile",
        "my account has been locked after three attempts",
        "I want to delete my user profile and all data",
        "two-factor code is not accepted",
        "how do I merge two accounts",
        "my name is spelled wrong in the profile",
    ),
    "billing": (
        "I was charged twice this month",
        "the invoice shows the wrong VAT number",
        "please send me the invoice for {month}",
        "my credit card was declined although it is valid",
        "the discount code was not applied to the bill",
        "why did the monthly price go up",
        "I need a refund of the duplicate payment",
        "the direct debit failed and a fee was added",
    ),
    "delivery": (
        "my parcel has not arrived yet",
        "the tracking says delivered but there is nothing here",
        "can you deliver to another address",
        "the courier left the box in the rain",
        "when will order {number} be shipped",
        "the package is stuck in customs",
        "the driver did not ring the bell",
        "part of my order is missing from the parcel",
    ),
    "returns": (
        "I would like to send the {item} back",
        "the {item} does not fit and I want another size",
        "how do I get a return label",
        "I returned the {item} two weeks ago and heard nothing",
        "the {item} is not what I ordered, please exchange it",
        "is it possible to return an opened {item}",
        "I changed my mind about the {item}",
        "the return portal does not list my {item}",
    ),
    "technical": (
        "the app crashes when I open the {item} page",
        "the {item} does not turn on any more",
        "the website shows error {number}",
        "bluetooth keeps disconnecting from the {item}",
        "after the update the {item} is very slow",
        "the screen of the {item} flickers",
        "I cannot install the software on my laptop",
        "the {item} does not connect to the wifi",
    ),
}
_OPENINGS = ("Hello, ", "Hi there, ", "Good morning. ", "", "", "Dear team, ", "Third time I write: ")
_ASIDES = (
    *("", "", "", " and nobody answers the phone", " since {month}", ", which is really annoying"),
    *(", and I also have a question about my {item}", " although I paid for order {number}"),
)
_ENDINGS = (
    *(". Please help.", ". Thanks in advance.", "! This is urgent.", ". I have been a customer for years."),
    *(".", ". Best regards", "? Please answer by {month}.", ". My order is {number}, a {item}."),
)
_WORDS = {
    "month": ("January", "March", "May", "July", "October"),
    "item": ("lamp", "headphones", "router", "jacket", "keyboard", "shoes", "printer", "watch"),
    "number": ("404", "10233", "77120", "500", "83011", "20456"),
}
_TWO_MATTERS = 0.12


def tickets(n: int, seed: int) -> pd.DataFrame:
    """Make n different tickets: their text and their true_label, all classes about equally likely."""
    rng = np.random.default_rng(seed)
    classes = [str(name) for name in rng.choice(list(MATTERS), 2 * n)]
    table = pd.DataFrame({"text": [_ticket(name, rng) for name in classes], "true_label": classes})
    return table.drop_duplicates("text").head(n)


def _ticket(name: str, rng: np.random.Generator) -> str:
    matter = str(rng.choice(MATTERS[name]))
    if rng.random() < _TWO_MATTERS:
        other = rng.choice([each for each in MATTERS if each != name])
        matter += f" and {rng.choice(MATTERS[other])}"
    text = "".join((str(rng.choice(_OPENINGS)), matter, str(rng.choice(_ASIDES)), str(rng.choice(_ENDINGS))))
    return text.format(**{word: rng.choice(values) for word, values in _WORDS.items()})
