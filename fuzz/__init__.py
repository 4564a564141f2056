"""Fuzz targets: each has ``one_input(data)``, which raises when a rule is broken.

The tests play the seed corpus through them; ``python -m fuzz`` lets Atheris look
for more.
"""
