"""Arguments of jobs: written as JSON, read by the type hints of the function, and proved to arrive equal."""
