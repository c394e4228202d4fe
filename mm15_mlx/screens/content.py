"""Seeded words, names, numbers and colours for one screen."""

from datetime import date, timedelta
from functools import lru_cache
from random import Random
from typing import Any

from . import labels, labels_kept

ACCENTS = (
    "#007aff", "#34c759", "#ff3b30", "#ff9500", "#5856d6", "#af52de", "#ff2d55",
    "#00897b", "#1a73e8", "#6750a4", "#c2185b", "#0b8043", "#e65100", "#455a64",
    "#0097a7", "#795548", "#3f51b5", "#d81b60",
)  # fmt: skip


USUAL, KEPT = WORDS = ("usual", "kept")  # kept: for test screens only
LOCALES = {USUAL: "en_US", KEPT: "en_IN"}  # names and places of other people
INSTEAD = {  # by identity: options of layouts may hold what has no hash
    id(getattr(labels, name)): words
    for name, words in vars(labels_kept).items()
    if name.isupper()
}


@lru_cache
def _faker(locale: str) -> Any:
    """One Faker for the process: building it is slow, reseeding it is not."""
    try:
        from faker import Faker
    except ImportError as error:
        raise RuntimeError(
            "mm15-mlx data screens needs faker: pip install 'mm15-mlx[screens]'"
        ) from error
    return Faker(locale)


class Content:
    """What a screen says. Every draw comes from `rng`, so a seed is a screen.

    words: usual or kept; then other lists stand for those of `labels`.
    """

    def __init__(self, rng: Random, words: str = USUAL) -> None:
        self.rng, self.kept = rng, words == KEPT
        self.fake = _faker(LOCALES[words])
        self.fake.seed_instance(rng.getrandbits(64))
        self.app = self.pick(labels.APPS)

    def words(self, options: Any) -> Any:
        """`options`, or what stands for that list."""
        return INSTEAD.get(id(options), options) if self.kept else options

    def pick(self, options: Any) -> Any:
        """One of `options`."""
        return self.rng.choice(self.words(options))

    def some(self, options: Any, low: int, high: int) -> list:
        """Between `low` and `high` different entries, in random order."""
        options = list(self.words(options))
        count = min(len(options), self.rng.randint(low, high))
        return self.rng.sample(options, count)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def named(self, options: tuple[str, ...], low: int, high: int) -> list:
        """Different (label, icon) pairs from a list of "label:icon"."""
        pairs = self.some(options, low, high)
        return [tuple(pair.split(":")) if ":" in pair else (pair, "") for pair in pairs]

    def name(self) -> str:
        return f"{self.fake.first_name()} {self.fake.last_name()}"

    def first(self) -> str:
        return self.fake.first_name()

    def email(self) -> str:
        return self.fake.ascii_safe_email() if self.chance(0.5) else self.fake.email()

    def price(self, low: float = 1, high: float = 400) -> str:
        """A price such as $19.99, sometimes in another currency."""
        value = self.rng.uniform(low, high)
        cents = self.pick((0.99, 0.5, 0.0, 0.95, self.rng.random()))
        sign = self.pick("$$$$$€£")
        amount = f"{int(value):,}.{int(cents * 100):02d}"
        return f"{sign}{int(value):,}" if self.chance(0.15) else f"{sign}{amount}"

    def time(self) -> str:
        """A clock time in 12 or 24 hour style."""
        hour, minute = self.rng.randrange(24), self.rng.randrange(60)
        if self.chance(0.4):
            return f"{hour}:{minute:02d}"
        return f"{(hour - 1) % 12 + 1}:{minute:02d} {'AM' if hour < 12 else 'PM'}"

    def date(self) -> str:
        """A date in one of the styles that phones use."""
        # Not Faker's: its dates end today, so a seed would change overnight.
        day = date(2017, 1, 1) + timedelta(self.rng.randrange(4000))
        month, short = day.strftime("%B"), day.strftime("%b")
        return self.pick((
            f"{short} {day.day}",
            f"{short} {day.day}, {day.year}",
            f"{day.month:02d}/{day.day:02d}/{day.year % 100:02d}",
            f"{day:%a}, {short} {day.day}",
            f"{month} {day.day}",
        ))  # fmt: skip

    def when(self) -> str:
        """How long ago, as lists of messages put it."""
        kind = self.rng.randrange(5)
        if kind == 0:
            return self.pick(("Now", "Yesterday", "Just now", "Today"))
        if kind == 1:
            return f"{self.rng.randint(1, 59)}{self.pick(('m', ' min', 'm ago'))}"
        if kind == 2:
            return self.pick(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))
        return self.time() if kind == 3 else self.date()

    def number(self, high: int = 9999) -> str:
        """A whole number, skewed to small ones."""
        return f"{int(self.rng.random() ** 2 * high):,}"

    def size(self) -> str:
        """A file size."""
        unit = self.pick(("KB", "MB", "MB", "GB"))
        return f"{self.rng.uniform(1, 999):.{self.rng.randint(0, 1)}f} {unit}"

    def duration(self) -> str:
        return f"{self.rng.randint(0, 9)}:{self.rng.randrange(60):02d}"

    def sentence(self, low: int = 4, high: int = 12) -> str:
        """Real words in the shape of a sentence, from several domains."""
        kind = self.rng.randrange(5)
        if kind == 2 or (kind < 2 and self.kept):  # Faker has these in one locale
            return self.message()
        if kind == 0:
            return self.fake.catch_phrase()
        if kind == 1:
            return self.fake.bs().capitalize()
        count = self.rng.randint(low, high)
        return self.fake.sentence(nb_words=count, variable_nb_words=False)

    def paragraph(self, sentences: int = 3) -> str:
        lines = [self.sentence(6, 14) for _ in range(sentences)]
        return " ".join(s if s[-1] in ".?!" else s + "." for s in lines)

    def message(self) -> str:
        return self.pick(labels.MESSAGES).replace(" 👍", "")

    def product(self) -> str:
        return f"{self.pick(labels.ADJECTIVES)} {self.pick(labels.PRODUCTS)}"

    def filename(self) -> str:
        stem, end = self.pick(labels.FILES), self.pick(labels.EXTENSIONS)
        tail = self.pick(
            ("", f"_{self.rng.randint(1, 99)}", f"-{self.first().lower()}")
        )
        return f"{stem}{tail}.{end}"

    def fill(self, template: str) -> str:
        """A label with its {slots} filled."""
        if "{" not in template:
            return template
        return template.format(
            app=self.app,
            name=self.name(),
            first=self.first(),
            message=self.message(),
            number=self.rng.randint(10, 9999),
            price=self.price(),
            city=self.fake.city(),
            time=self.time(),
            date=self.date(),
            percent=self.rng.randint(5, 90),
            version=f"{self.rng.randint(1, 12)}.{self.rng.randint(0, 9)}",
            minute=self.rng.randint(2, 25),
            flight=f"{self.fake.lexify('??').upper()} {self.rng.randint(10, 999)}",
            product=self.product(),
            event=self.pick(self.words(labels.EVENTS)[:2]),
        )

    def button(self) -> str:
        return self.pick(labels.BUTTONS)

    def color(self) -> str:
        return self.pick(ACCENTS)
