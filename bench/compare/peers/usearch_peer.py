"""usearch: the graph in memory, vectors as float16, which holds bytes exactly."""

import os

import numpy as np
from usearch.index import Index


class Peer:
    api = "search of a block, its threads"

    def __init__(self, parameters, search):
        self.parameters = parameters

    def empty(self):
        return Index(
            ndim=self.parameters["dimension"],
            metric="l2sq",
            dtype=self.parameters["dtype"],
            connectivity=self.parameters["links"],
            expansion_add=self.parameters["complexity"],
        )

    def build(self, base, directory, threads):
        vectors = np.memmap(base, np.uint8, "r", offset=8).reshape(-1, self.parameters["dimension"])
        index = self.empty()
        for start in range(0, len(vectors), 100_000):
            block = np.asarray(vectors[start : start + 100_000], np.float16)
            index.add(np.arange(start, start + len(block)), block, threads=threads)
        index.save(os.path.join(directory, "index.usearch"))

    def open(self, directory, threads):
        self.index = self.empty()
        self.index.load(os.path.join(directory, "index.usearch"))

    def search(self, queries, k, setting, threads):
        self.index.expansion_search = int(setting)
        return self.index.search(np.asarray(queries, np.float16), k, threads=threads).keys

    def search_one(self, query, k, setting):
        self.index.expansion_search = int(setting)
        return self.index.search(np.asarray(query, np.float16), k, threads=1).keys
