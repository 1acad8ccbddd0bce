"""One small program for each library, all with the interface of ``benchmarks.program``."""
