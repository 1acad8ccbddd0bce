"""Arguments of jobs: written as JSON, read by the type hints of the function, and proved to arrive equal.

``codec.py`` writes and reads them. ``hints.py`` has the rules for types, ``models.py`` those for pydantic.
"""
