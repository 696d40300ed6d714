"""What the tests read of the pages of documentation."""

import re


def headings(text: str) -> list[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found]
