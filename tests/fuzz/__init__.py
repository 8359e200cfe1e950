"""Bytes from outside, chosen by a fuzzer that watches which branches they take."""
