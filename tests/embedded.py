"""What pages of ours hold, and what they must not be led astray by."""

import json
import re

HOSTILE = "</script><script>document.title='owned'</script><b>&amp;\u2028\u2029{{data}}"


def embedded(text: str, part: str = "data") -> dict:
    """Data in the page, taken out as a browser does: up to the first closing tag."""
    found = re.search(rf'<script id="{part}" type="application/json">(.*?)</script', text, re.S)
    return json.loads(found[1])
