"""Fonts of the machine that screens ask for: the others come with the kits.

A machine that lacks one shows another font in its place, and the screen of a seed is
not the one that it is elsewhere.
"""

import sys
from collections.abc import Sequence
from typing import Any

# Name → Debian's package of it; which font a seed draws depends on their order.
LOCAL = {
    "Open Sans": "fonts-open-sans",
    "Lato": "fonts-lato",
    "Liberation Sans": "fonts-liberation",
}
# A font that is not there is as wide as whichever stands after it.
ABSENT_JS = """
(names) => {
  const pen = document.createElement("canvas").getContext("2d");
  const width = (fonts) => {
    pen.font = `40px ${fonts}`;
    return pen.measureText("mmWWiill01").width;
  };
  return names.filter((name) =>
    ["monospace", "serif"].every((last) => width(`"${name}", ${last}`) === width(last))
  );
}
"""


def absent(browser: Any, names: Sequence[str]) -> list[str]:
    """Those of `names` that the browser does not find."""
    page = browser.new_page()
    try:
        return page.evaluate(ABSENT_JS, list(names))
    finally:
        page.close()


def note_absent(browser: Any) -> None:
    """Says on stderr which fonts are missing, and what brings them."""
    missing = absent(browser, list(LOCAL))
    if missing:
        packages = " ".join(LOCAL[name] for name in missing)
        print(
            f"note: {', '.join(missing)} not installed: screens that ask for it show "
            f"another font; on Debian: apt install {packages}",
            file=sys.stderr,
        )
