"""The pages of the web view: each reads a snapshot, and renders its template."""
