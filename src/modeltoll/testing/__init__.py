"""Fakes and conformance suites, public: the plug-ins of strangers use them."""
