"""The tool that makes reports of the notebooks; built on `mnistlab`, which it shows."""

import sys

# nbformat imports jsonschema, which would build a grammar of web addresses with this
# package: two seconds of every process, for a check that no notebook needs
# (python-jsonschema/jsonschema issue 1428).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
