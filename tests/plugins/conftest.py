"""The tests of the package beside this file are run in a process of their own, where that package is installed."""

collect_ignore = ["stranger"]
