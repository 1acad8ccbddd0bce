"""Tests of the results of jobs, and of the calls that wait for them."""
