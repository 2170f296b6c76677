"""The tool that makes reports of the notebooks; built on `mnistlab`, which it shows."""
