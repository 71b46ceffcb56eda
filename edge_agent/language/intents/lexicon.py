"""The English words that the rules know."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FILLERS = _words(
    "the a an my our your his her their that this those these both please thanks hey hi ok okay just also some kindly "
    "quickly away me oh so well alexa computer ah hm uh um then pretty all front back main"
)
"""Words that the model never sees."""
JOINERS = _words("and but plus")
PRONOUNS = _words("it them")
NEGATIONS = _words("not never no nope nobody none nothing without neither nor avoid refrain cancel forget undo")
FUNCTION = _words("to in at of for from with too as right now again there inside thank you")
"""Words that alone say nothing of what is to be done."""
PREPOSITIONS = _words("in at of from for inside")
"""Words that are left out with the place after them."""
WHERE_IN, WHERE_AT = _words("in inside"), _words("on at by near above under behind beside over")
"""Before an unknown word, they make it a place; those of the second set after a device, since "on" is not only that."""
WEATHER = _words("warm cold hot humid damp dry freezing dark bright loud time timer")
"""Beside them, `it` is no device: "tell me how warm it is"."""
CONDITIONS = _words(
    "if when whenever unless until till once before after while except tomorrow monday tuesday wednesday thursday "
    "friday saturday sunday weekend weekday every each daily weekly week day days sunset sunrise dusk dawn "
    "second seconds later instead"
)
"""Conditions, and times that an intent can't hold: an action must not be done at once instead."""
EVERYWHERE = _words("everywhere")
WHERE = _words("in across throughout around all over of inside")
DETERMINERS = _words("the a my our your this that whole entire all")
EACH = _words("each every single")
HOME = _words("house home apartment flat room rooms area areas space place building")
"""With `WHERE` before them, and `DETERMINERS` and `EACH` in between: no place of the list is meant."""
OF_HOME = _words("house home apartment room")
""""The house lights" are those of the house."""
ALL_OF = _words("all each every both any")
LIGHT = "light"
LIGHT_UP = _words("light illuminate brighten")
"""With a place after it, it is about the light there; `light` also needs `up`."""
BEFORE_VERB = _words("you please and then not never to us")
"""A verb follows them."""
SWITCH = _words("turn switch put shut power")
SETTERS = _words("set put turn change make bring adjust get dim to at on in i want")
"""With these words alone, a percentage of a place is that of the light there."""
TIMER_CHANGES = _words(
    "remove take decrease reduce subtract shorten lower deduct add increase extend lengthen raise longer shorter more "
    "less cancel delete stop end pause resume unpause continue restart status left remaining check off kill quit clear "
    "abort dismiss silence finish reset change adjust"
)
"""A timer is set, and nothing else can be done with one."""
SECONDS = _words("second seconds sec secs s")
QUESTIONS = _words("is are was were did does has have what who why how which where")
AS_IT_IS = _words("leave keep")
""" "Leave it off" asks for nothing to be done."""
TEMPERATURE = _words("temperature warm cold hot degrees thermometer freezing warmed cooled")
HUMIDITY = _words("humidity humid damp moist dry")
ORDINARY = _words(
    "star stare smart chose clone stitch looked tuned lover loser waiter lunge sturdy blind later perch widow ratio "
    "changer older poker remain house horse word world work week weather water watch walk nice music movie table stone "
    "store story street strong thing think three through"
)
"""Words that one letter makes another word: they are no typing mistakes."""

ONES = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
MINUTES = _words("minute minutes min mins")
HOURS = _words("hour hours h hrs")
QUANTITIES = frozenset((*ONES, *TENS)) | MINUTES | HOURS
MOST, LEAST = _words("max maximum highest"), _words("min minimum lowest")
"""The ends of what a device can be set to."""
LEVELS = _words("brightness volume speed power")
QUANTITIES |= _words("hundred minus percent degrees celsius fahrenheit noon midnight tonight quarter half past oclock")
QUANTITIES |= _words("am pm quarters point full") | MOST | LEAST
QUANTITIES |= _words("morning afternoon evening night")
"""All words that quantities are made of."""

NOT = _words("doesnt didnt isnt arent wasnt werent shouldnt mustnt couldnt wouldnt neednt hasnt havent dont")
CONTRACTIONS = {word: (word.removesuffix("nt"), "not") for word in NOT} | {
    "wont": ("will", "not"),
    "cant": ("can", "not"),
    "cannot": ("can", "not"),
    "lets": ("let", "us"),
    "let's": ("let", "us"),
    "whats": ("what", "is"),
    "hows": ("how", "is"),
    "wheres": ("where", "is"),
    "im": ("i", "am"),
    "ive": ("i", "have"),
    "id": ("i", "would"),
    "ill": ("i", "will"),
    "pls": ("please",),
    "plz": ("please",),
    "thx": ("thanks",),
    "telly": ("tv",),
    "temp": ("temperature",),
    "locks": ("doors",),
    "°": ("degrees",),
    "%": ("percent",),
    "per": (),
    "cent": ("percent",),
}
CONTRACTIONS |= {
    verb + particle: (verb, particle)
    for verb in ("turn", "switch", "shut", "power")
    for particle in ("on", "off", "up", "down")
}
ENDINGS = {"s": "is", "re": "are", "d": "would", "ll": "will", "ve": "have", "m": "am"}
"""After an apostrophe."""
