"""Safety: what a prompt or a result contains that one may not want, found by rules and a model.

A `Decision` says what was found and what follows from it: nothing is ever changed in silence.
`text` judges words, `picture` judges pixels, `rules` reads the rules.
"""

from vermilion.seal.safety.decision import Decision, Setting
from vermilion.seal.safety.picture import check_picture
from vermilion.seal.safety.rules import Rule, Rules
from vermilion.seal.safety.text import check_text

__all__ = ["Decision", "Rule", "Rules", "Setting", "check_picture", "check_text"]
