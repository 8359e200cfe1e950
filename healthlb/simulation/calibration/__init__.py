"""The simulator held against reality: the same scenario on real servers, through the real channel.

What differs is told, never fitted away. The first half of a run measures what the simulator cannot know
of this machine; the second half is what it is judged by.
"""
