"""The tables of the documents, each made from the results alone."""
