"""The words and sentences of the needle benchmark, which the demo models are trained on as well.

The form is that of RULER's `niah` tasks (NVIDIA/RULER, scripts/data/synthetic/niah.py), in a small vocabulary.
The order of random draws is part of the text: a change here changes the benchmark and needs a new `Needle.version`;
of `KEYS`, which the ruler benchmark uses too, a new `TEXT_VERSION` in ruler_text.py as well.
"""

from __future__ import annotations

import random
import re

__all__ = ["ANSWER_PREFIX", "INTRO", "KEYS", "NEEDLE", "QUESTION", "draw_filler"]

INTRO = "Some special magic numbers are hidden in the text below. Read it and answer the questions.\n\n"
NEEDLE = "The special magic number for {} is {}."
QUESTION = "\nWhat is the special magic number for {}?"
ANSWER_PREFIX = " The special magic number for {} is"

_KEYS = """
apple apricot banana cherry coconut grape lemon lime mango melon olive orange papaya peach pear plum pumpkin raisin
almond walnut cashew barley wheat clover daisy lily lotus maple orchid tulip violet willow cedar bamboo cactus badger
beaver bison camel cheetah cobra coyote crane dolphin donkey eagle falcon ferret gecko giraffe gorilla hamster hawk
heron hippo jackal jaguar koala lemur leopard lizard llama lobster lynx magpie moose octopus otter panda panther
parrot pelican penguin puffin python rabbit raccoon raven salmon seal shark spider squid swan tiger toucan turtle
walrus weasel whale wombat zebra agate amber beryl cobalt copper coral crystal emerald garnet granite iron ivory jade
marble nickel onyx opal pearl quartz ruby sapphire silver topaz zinc anchor basket blanket bottle bucket button candle
carpet compass cradle curtain dagger drum engine feather fiddle flute goblet guitar hammer harp helmet kettle ladder
lantern magnet mirror needle paddle pencil piano pillow ribbon rocket saddle scarf shovel tablet teapot trumpet violin
wagon whistle window
"""
KEYS: tuple[str, ...] = tuple(_KEYS.split())

_SLOTS = {
    "adjective": "old quiet small bright cold gentle busy narrow young tall green grey warm empty distant heavy",
    "person": "farmer teacher sailor baker painter doctor student gardener writer driver neighbor merchant soldier "
    "child singer traveler",
    "was": "walked waited worked rested sang talked stood arrived slept smiled studied traveled wandered played looked "
    "listened",
    "near": "near behind beside across beyond outside around toward",
    "place": "river market station garden bridge harbor library village forest mountain school museum church valley "
    "kitchen square",
    "time": "morning evening winter summer spring autumn afternoon night",
    "thing": "letter story meal song picture map book coat clock boat bread door table chair stone wall",
    "did": "bought found sold carried painted repaired forgot noticed",
}
_WORDS = {slot: words.split() for slot, words in _SLOTS.items()}

_FILLERS = (
    "The {adjective} {person} {was} {near} the {place}.",
    "In the {time} a {person} {did} the {adjective} {thing}.",
    "There was a {adjective} {thing} {near} the {place}.",
    "Nobody {did} the {thing} and the {person} {was} all {time}.",
    "It was a {adjective} {time}, so we {was} {near} the {adjective} {place}.",
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
)


def draw_filler(rng: random.Random) -> str:
    """A sentence that holds no needle (the last of the forms is RULER's own noise)."""
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(_WORDS[slot[1]]), rng.choice(_FILLERS))
