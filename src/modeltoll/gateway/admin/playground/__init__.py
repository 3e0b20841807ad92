"""The page to try the toll; ``files`` is made from ``clients/js/page``."""
